"""The loop: what an agent is shown, what is recorded, and what trouble costs."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.ready import ready_python

from lram.agents.api import Action, AgentInfo, Episode, Observation, TaskSpec
from lram.envs.registry import all_tasks
from lram.envs.workers.process import Deadlines, Died
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, evaluate, resume
from lram.harness.rollout.lane import Lane
from lram.harness.rollout.loop import Rollout, RolloutSettings
from lram.harness.rollout.schedule import Attempt
from lram.harness.rollout.translation import checked_action, task_spec
from lram.harness.storage.records import EpisodeRecord, PlannedTask, WorkItem
from lram.harness.storage.run_folder import Run

FAST = Deadlines(begin_s=60, step_s=1)


class Solver:
    """Solves toy/steps and toy/lives by their cue, and writes down all it is shown."""

    info = AgentInfo("baseline", "solves the toy tasks")

    def __init__(self, mistake: object = None) -> None:
        self.mistake = mistake
        self.resets: list[tuple[int, Episode]] = []
        self.calls: list[tuple[list[float], list[int]]] = []

    def refuses(self, task: TaskSpec) -> str | None:
        return None if task.action == "discrete" else "it knows discrete actions only"

    def start(self, lanes: int) -> dict[str, int]:
        return {"lanes": lanes}

    def reset(self, state: Any, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        self.resets += zip(lanes, episodes, strict=True)

    def act(
        self, state: Any, observations: Sequence[Observation], rewards: Sequence[float], lanes: Sequence[int]
    ) -> tuple[list[Any], Any]:
        assert len(set(lanes)) == len(lanes) <= state["lanes"]
        self.calls.append((list(rewards), list(lanes)))
        if isinstance(self.mistake, BaseException):
            raise self.mistake
        actions: list[Action] = [int(np.argmax(observation)) for observation in observations]
        return [self.mistake for _ in actions] if self.mistake is not None else actions, state

    def state_bytes(self, state: Any) -> int:
        return 0


def play(tmp_path: Path, agent: Solver, tasks: str, episodes: int = 2, **machine: Any) -> list[EpisodeRecord]:
    settings = Machine(**{"lanes": 4, "workers": 2, "deadlines": FAST, **machine})
    return evaluate({"solver": agent}, tasks, tmp_path / "run", episodes=episodes, machine=settings).records()


def test_a_solver_gets_the_reference_score_on_every_episode(tmp_path: Path) -> None:
    records = play(tmp_path, Solver(), "toy/steps", episodes=6)
    assert [record.status for record in records] == ["scored"] * 6
    assert all(record.episode_return == record.length for record in records)
    assert len({record.seed for record in records}) == 6
    assert all(record.truncated and not record.terminated for record in records)


def test_the_agent_is_shown_the_signal_and_the_record_holds_the_reward(tmp_path: Path) -> None:
    agent = Solver()
    (record,) = play(tmp_path, agent, "toy/lives", episodes=1)
    assert record.episode_return == 2.0 * record.length
    shown = [reward for rewards, _ in agent.calls for reward in rewards][1:]
    assert set(shown) == {1.0}


def test_a_context_reset_resets_the_agent_with_another_seed_and_not_the_score(tmp_path: Path) -> None:
    agent = Solver()
    (record,) = play(tmp_path, agent, "toy/lives", episodes=1)
    assert record.length is not None
    boundaries = (record.length - 1) // 8
    assert boundaries >= 2
    assert len(agent.resets) == 1 + boundaries
    assert len({episode.seed for _, episode in agent.resets}) == len(agent.resets)


def test_every_episode_begins_with_a_reset_of_its_lane(tmp_path: Path) -> None:
    agent = Solver()
    play(tmp_path, agent, "toy/steps", episodes=9)
    assert len(agent.resets) == 9
    assert {lane for lane, _ in agent.resets} <= set(range(4))


def test_lanes_that_are_ready_together_share_one_call(tmp_path: Path) -> None:
    agent = Solver()
    play(tmp_path, agent, "toy/slow", episodes=8, lanes=8, workers=2)
    assert max(len(lanes) for _, lanes in agent.calls) >= 2


@pytest.mark.slow
def test_an_agent_that_reads_lanes_in_passes_is_asked_for_the_lanes_of_one_pass_at_a_time(
    tmp_path: Path,
) -> None:
    class Passes(Solver):
        rows = 2

    agent = Passes()
    records = play(tmp_path, agent, "toy/slow,toy/steps", episodes=8, lanes=6, workers=2)
    assert [record.status for record in records] == ["scored"] * 16
    assert {number // 2 for _, lanes in agent.calls for number in lanes} == {0, 1, 2}
    assert all(len({number // 2 for number in lanes}) == 1 for _, lanes in agent.calls)
    assert max(len(lanes) for _, lanes in agent.calls) == 2
    plain = play(tmp_path / "plain", Solver(), "toy/slow,toy/steps", episodes=8, lanes=6, workers=2)

    def told(records: list[EpisodeRecord]) -> list[tuple[Any, ...]]:
        return sorted((record.item.id, record.trajectory, record.length) for record in records)

    assert told(records) == told(plain)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["crash", "hang", "nan", "raise"])
def test_a_task_that_always_fails_is_recorded_retried_and_given_up_and_the_run_ends(
    tmp_path: Path, fault: str
) -> None:
    kind = {"crash": "crash", "hang": "timeout", "nan": "session", "raise": "session"}[fault]
    records = play(tmp_path, Solver(), f"toy/{fault},toy/steps", episodes=5, lanes=1, workers=1)
    bad = [record for record in records if record.task == f"toy/{fault}"]
    good = [record for record in records if record.task == "toy/steps"]
    assert [record.status for record in good] == ["scored"] * 5
    assert [record.status for record in bad] == ["errored"] * 5
    kinds = [record.failure.kind for record in bad if record.failure]
    assert kinds == [kind] * 3 + ["quarantine"] * 2
    assert not any(record.failed_by_agent for record in records), "the simulator did it"
    assert [record.failures for record in bad] == [2, 2, 2, 0, 0]
    assert all(len(record.measured.incidents) == 2 for record in bad[:3])
    assert all(record.episode_return is None and record.length is None for record in bad)


@pytest.mark.slow
def test_neighbours_of_a_crash_are_repeated_and_lose_nothing(tmp_path: Path) -> None:
    records = play(tmp_path, Solver(), "toy/flaky,toy/slow", episodes=8, lanes=6, workers=1)
    slow = [record for record in records if record.task == "toy/slow"]
    assert [record.status for record in slow] == ["scored"] * 8
    assert [record.failures for record in slow] == [0] * 8
    assert any("busy with another episode" in note for record in slow for note in record.measured.incidents)
    flaky = [record for record in records if record.task == "toy/flaky"]
    assert {record.status for record in flaky} == {"scored", "errored"}
    assert all((record.status == "errored") == (record.seed % 4 == 0) for record in flaky)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("left", "gave 'left' for toy/steps, which needs an integer"),
        (4, "gave action 4 for toy/steps, which has actions 0 to 3"),
        (True, "needs an integer"),
        (1.0, "needs an integer"),
    ],
)
def test_what_is_no_action_is_the_agents_failure_and_named(
    tmp_path: Path, mistake: object, words: str
) -> None:
    records = play(tmp_path, Solver(mistake), "toy/steps", episodes=5, lanes=1, workers=1)
    assert [record.failure.kind for record in records if record.failure] == ["agent"] * 3 + ["quarantine"] * 2
    assert [record.failure.by_agent for record in records if record.failure] == [None] * 3 + [True] * 2
    assert all(words in record.failure.message for record in records if record.failure)
    assert all(record.failed_by_agent for record in records), "also those that were given up for it"


def test_an_agent_that_raises_stops_the_run_with_a_sentence_and_it_can_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(LramError, match=r"agent solver raised ValueError: bad day .*resume the run"):
        play(tmp_path, Solver(ValueError("bad day")), "toy/steps")
    assert "bad day" in Run(tmp_path / "run").provenance()[0].raised["solver"]
    run = resume(tmp_path / "run", agents={"solver": Solver()}, machine=Machine(lanes=2, workers=1))
    assert [record.status for record in run.records()] == ["scored"] * 2


class _Odd(BaseException):
    def __str__(self) -> str:
        raise _Odd


class _Number(int):
    def __ge__(self, other: object) -> bool:
        raise _Odd

    __le__ = __repr__ = __ge__  # type: ignore[assignment]


@pytest.mark.slow
def test_an_agent_that_raises_anything_stops_the_run_with_a_sentence(tmp_path: Path) -> None:
    for number, mistake in enumerate((_Odd(), SystemExit(0), GeneratorExit(), ValueError("\udcff\x1b[2J"))):
        with pytest.raises(LramError, match=f"agent solver raised {type(mistake).__name__}: ") as caught:
            play(tmp_path / str(number), Solver(mistake), "toy/steps")
        assert str(caught.value).isprintable()


def test_an_action_that_cannot_be_read_is_the_agents_failure(tmp_path: Path) -> None:
    records = play(tmp_path, Solver(_Number(1)), "toy/steps", episodes=1)
    assert [r.failure.message for r in records if r.failure] == [
        "agent solver gave a _Number for toy/steps that cannot be read"
    ]


@pytest.mark.parametrize(
    ("answer", "words"), [(5, "gave a int when asked"), (_Odd(), "raised _Odd when asked"), ("\x1b[2J", ".")]
)
def test_what_an_agent_says_of_tasks_is_a_text_or_named(tmp_path: Path, answer: object, words: str) -> None:
    class Odd(Solver):
        def refuses(self, task: TaskSpec) -> Any:
            if isinstance(answer, BaseException):
                raise answer
            return answer

    with pytest.raises(LramError, match=words) as caught:
        play(tmp_path, Odd(), "toy/steps")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("rows", ["8", -1, 1.5])
def test_an_agent_whose_rows_are_no_number_is_named(tmp_path: Path, rows: object) -> None:
    agent = Solver()
    agent.rows = rows  # type: ignore[attr-defined]
    with pytest.raises(LramError, match="agent solver has rows"):
        play(tmp_path, agent, "toy/steps")


def test_an_agent_with_the_wrong_number_of_actions_is_named(tmp_path: Path) -> None:
    class Short(Solver):
        def act(self, state: Any, observations: Any, rewards: Any, lanes: Any) -> tuple[list[Any], Any]:
            return [], state

    with pytest.raises(LramError, match="gave 0 actions for"):
        play(tmp_path, Short(), "toy/steps")


def test_tasks_that_an_agent_refuses_are_planned_as_skipped_with_the_reason(tmp_path: Path) -> None:
    records = play(tmp_path, Solver(), "toy/steps,toy/reach")
    assert {record.task for record in records} == {"toy/steps"}
    (skip,) = Run(tmp_path / "run").plan.skipped
    assert (skip.task, skip.reason) == ("toy/reach", "it knows discrete actions only")


def test_errored_episodes_are_played_again_only_when_asked(tmp_path: Path) -> None:
    play(tmp_path, Solver(9), "toy/steps")
    again = {"agents": {"solver": Solver()}, "machine": Machine(lanes=2, workers=1)}
    assert {r.status for r in resume(tmp_path / "run", **again).records()} == {"errored"}
    assert {r.status for r in resume(tmp_path / "run", retry_errors=True, **again).records()} == {"scored"}


SPEC = TaskSpec("x/y", "x", "vector", (3,), "continuous", 2, 1.0, 1.0)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (np.zeros(3, np.float32), "shape (3,)"),
        (np.array([0.0, np.nan], np.float32), "NaN"),
        (np.array([0.0, 1.01], np.float32), "outside [-1, 1] for x/y (1.01); clip it"),
        (None, "shape"),
        ("ab", "needs 2 numbers"),
    ],
)
def test_bad_continuous_actions_are_named(action: object, words: str) -> None:
    assert words in checked_action(SPEC, action)[1]


def test_rounding_beyond_one_is_clipped() -> None:
    action, wrong = checked_action(SPEC, [1.0000001, -1.0000001])
    assert not wrong
    np.testing.assert_array_equal(action, np.array([1, -1], np.float32))


# Three tasks of a domain whose sessions count as slow to build, and note in which process they are built.
WORKSHOP = """
import os
from dataclasses import replace
from lram.envs.domains import toy

STEPS = next(task for task in toy.DOMAIN.tasks if task.name == "steps")
TASKS = tuple(replace(STEPS, domain="workshop", name=name) for name in ("axe", "bow", "cup"))

def make(task_name, protocol):
    with open(os.environ["BUILDS"], "a") as file:
        print(os.getpid(), task_name, file=file)
    return toy.StepsSession("steps")

DOMAIN = replace(
    toy.DOMAIN, name="workshop", tasks=TASKS, make=make, start_s=float(os.environ["START_S"]), idle_sessions=0
)
"""


def built(tmp_path: Path, start_s: float) -> tuple[list[str], list[EpisodeRecord]]:
    """Return the tasks of the sessions that a run built, and its records."""
    site = tmp_path / "site"
    announced = site / "workshop-1.0.dist-info"
    announced.mkdir(parents=True, exist_ok=True)
    (announced / "METADATA").write_text("Metadata-Version: 2.1\nName: workshop\nVersion: 1.0\n")
    (announced / "entry_points.txt").write_text("[lram.domains]\nworkshop = workshop:DOMAIN\n")
    (site / "workshop.py").write_text(WORKSHOP)
    log, run = tmp_path / f"builds-{start_s}", tmp_path / f"run-{start_s}"
    command = [*ready_python(), "-m", "lram.harness.cli", "eval", "random", "--tasks", "workshop", "-q"]
    command += ["-o", str(run), "--episodes", "6", "--lanes", "4", "--workers", "2"]
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "BUILDS": str(log), "START_S": str(start_s)}
    subprocess.run(command, env=environment, check=True)
    return [line.split()[1] for line in log.read_text().splitlines()], Run(run).records()


@pytest.mark.slow
def test_a_session_that_is_slow_to_build_is_built_once_a_task_and_no_score_depends_on_it(
    tmp_path: Path,
) -> None:
    tasks, records = built(tmp_path, start_s=30.0)
    assert sorted(tasks) == ["axe", "bow", "cup"]
    assert Counter(record.task for record in records) == dict.fromkeys(
        ("workshop/axe", "workshop/bow", "workshop/cup"), 6
    )
    careless, again = built(tmp_path, start_s=0.0)
    assert len(careless) > 3
    outcome = {(record.item, record.episode_return, record.trajectory) for record in records}
    assert outcome == {(record.item, record.episode_return, record.trajectory) for record in again}


@pytest.mark.parametrize(
    ("culprit", "over", "charged"),
    [(0, False, [1, 0]), (1, False, [0, 1]), (None, False, [1, 1]), (0, True, [0, 0]), (7, False, [0, 0])],
)
def test_the_end_of_a_worker_is_charged_to_the_episode_that_is_to_blame(
    culprit: int | None, over: bool, charged: list[int]
) -> None:
    worker: Any = type("Worker", (), {"pid": 7, "domain": "toy", "culprit": None})()
    pool: Any = SimpleNamespace(stood_still_s=0.0)
    planned = PlannedTask(all_tasks()["toy/steps"], "toy:plain@1")
    rollout = Rollout({}, {"toy/steps": planned}, pool, RolloutSettings(seed=0, lanes=2, workers=1))
    rollout.start([], lambda record: None)
    (worker_slot,) = rollout._worker_slots
    worker_slot.worker = worker
    attempts = [Attempt(WorkItem("a", "toy/steps", number)) for number in range(2)]
    for slot, attempt in enumerate(attempts):
        lane = Lane(
            number=slot, worker_slot=worker_slot, attempt=attempt, spec=task_spec(planned), seed=0, slot=slot
        )
        rollout._groups.enter(lane)
        worker_slot.begin(slot, "toy/steps")
        rollout._flying[worker, slot] = lane
    rollout._bury(Died(worker, "session", "it answered twice", culprit, over))
    assert [attempt.failures for attempt in attempts] == charged
    assert all(len(attempt.incidents) == 1 for attempt in attempts)
    assert rollout._queue.has_work_of("a")
