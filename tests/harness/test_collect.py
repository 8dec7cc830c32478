"""Collecting: each scored episode is a trajectory, none is lost or doubled, no start is an evaluation's."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
import zlib
from collections import Counter
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from support.ready import ready_python

from lram.agents.api import AgentError, AgentInfo
from lram.agents.compute import Compute
from lram.agents.experts.baselines import RandomAgent
from lram.agents.experts.noise import Noise, NoisyAgent
from lram.agents.factory import create_agent
from lram.agents.trajectories import StoreWriter, Trajectory, TrajectoryStore
from lram.envs.registry import load_domain
from lram.harness.collection.collect import Notes, collect, collected_runs, resume_collection
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, _flushed, evaluate, resume
from lram.harness.gate.equivalence import as_model
from lram.harness.plan import labelled_specs
from lram.harness.rollout import loop as rollout
from lram.harness.storage.records import EpisodeRecord, Measured
from lram.harness.storage.run_folder import Run
from lram.reports import summarise

MACHINE = Machine(lanes=4, workers=2)
TASKS = "toy/slow,toy/reach,toy/image,toy/lives"
AGENTS = ("random", "half=random~0.5x3")
ARGUMENTS = [*AGENTS, "--tasks", TASKS, "-n", "8", "-s", "5", "-l", "6", "-w", "2", "-q"]

# A shell that starts the tests in the background has them ignore Ctrl-C, and children inherit that.
LRAM = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from lram.harness.storage import trajectory_sink as sink
from lram.harness.storage import run_folder as store
sink.COMMIT_S = {seconds}
{more}
from lram.harness.cli import main
main()
"""


def lram(*arguments: str, seconds: float = 0.05, more: str = "", **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*ready_python(), "-c", LRAM.format(seconds=seconds, more=more), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def finished(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    return output, errors


def committed(store: Path) -> int:
    index = store / "index.jsonl"
    if not index.exists():
        return 0
    lines = index.read_bytes().split(b"\n")[:-1]
    return sum(len(json.loads(line)["lengths"]) for line in lines)


def wait_for(condition: Any, what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


def contents(store: TrajectoryStore) -> dict[str, Trajectory]:
    """Return the trajectories by origin, their records without what depends on the moment."""
    found = {}
    blank = Measured(0, 0, 0, 0, 0, 0)
    for episode in store.episodes:
        trajectory = store.trajectory(episode.number)
        record = replace(record_of(trajectory), failures=0, measured=blank)
        found[trajectory.origin] = replace(trajectory, record=msgspec.json.encode(record).decode())
    return found


def record_of(trajectory: Trajectory) -> EpisodeRecord:
    return msgspec.json.decode(trajectory.record, type=EpisodeRecord)


def assert_equal(one: dict[str, Trajectory], other: dict[str, Trajectory]) -> None:
    assert one.keys() == other.keys()
    for origin in one:
        for field in fields(Trajectory):
            a, b = (getattr(side[origin], field.name) for side in (one, other))
            assert np.array_equal(a, b), (origin, field.name)


def records(run: Run) -> list[EpisodeRecord]:
    blank = Measured(0, 0, 0, 0, 0, 0)
    return [replace(record, failures=0, measured=blank) for record in run.records()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "store"
    finished(lram("collect", *ARGUMENTS, "-o", str(folder), seconds=1000))
    return folder


@pytest.mark.slow
def test_every_scored_episode_is_a_trajectory_and_agrees_with_its_record(whole: Path) -> None:
    store, (run,) = TrajectoryStore(whole), collected_runs(whole)
    store.verify()
    by_origin = {f"runs/0001|{record.item.id}": record for record in run.records()}
    assert len(by_origin) == 2 * 4 * 8
    assert {episode.origin for episode in store.episodes} == by_origin.keys()
    for episode in store.episodes:
        record, trajectory = by_origin[episode.origin], store.trajectory(episode.number)
        assert record_of(trajectory) == record
        assert trajectory.length == episode.length == record.length
        assert trajectory.episode_return == episode.episode_return == record.episode_return
        assert (episode.success_any, episode.success_last) == (record.success_any, record.success_last)
        assert (episode.terminated, episode.truncated) == (record.terminated, record.truncated)
        assert (
            (episode.seed, episode.protocol) == (record.seed, record.protocol) == (record.seed, "toy:plain@1")
        )
        assert episode.policy == {"random": "random", "half": "random~0.5x3"}[record.agent]


def test_the_stored_arrays_have_the_checksum_that_the_worker_gave(whole: Path) -> None:
    store = TrajectoryStore(whole)
    for episode in store.episodes:
        trajectory = store.trajectory(episode.number)
        checksum = zlib.crc32(trajectory.observations[0].tobytes())
        for action, reward, seen in zip(
            trajectory.actions, trajectory.rewards, trajectory.observations[1:], strict=True
        ):
            discrete = trajectory.task.action == "discrete"
            taken = int(action).to_bytes(4, "little") if discrete else action.tobytes()
            checksum = zlib.crc32(seen.tobytes(), zlib.crc32(reward.tobytes(), zlib.crc32(taken, checksum)))
        assert f"{checksum:08x}" == record_of(trajectory).trajectory


def test_a_trajectory_is_what_its_simulator_plays_again(whole: Path) -> None:
    store, domain = TrajectoryStore(whole), load_domain("toy")
    for task in ("toy/lives", "toy/reach", "toy/image"):
        number = next(episode.number for episode in store.episodes if episode.task == task)
        trajectory = store.trajectory(number)
        session = domain.make(task.partition("/")[2], domain.protocol(None))
        assert trajectory.seed is not None
        np.testing.assert_array_equal(session.reset(trajectory.seed), trajectory.observations[0])
        starts = [0]
        for decision in range(trajectory.length):
            action = trajectory.actions[decision]
            step = session.step(int(action) if trajectory.task.action == "discrete" else action)
            np.testing.assert_array_equal(step.observation, trajectory.observations[decision + 1])
            assert step.reward == trajectory.rewards[decision]
            assert np.float32(step.signal) == trajectory.signals[decision]
            assert step.success == (None if trajectory.success is None else trajectory.success[decision])
            starts += [decision + 1] if step.context_reset else []
        assert trajectory.context_starts == tuple(starts)
        assert (task == "toy/lives") == (len(starts) > 1)
        assert (step.terminated, step.truncated) == (trajectory.terminated, trajectory.truncated)


class InPlace(RandomAgent):
    """Changes what it is shown, as an agent that normalises in place does."""

    def act(self, state: Any, observations: Any, rewards: Any, lanes: Any) -> Any:
        for observation in observations:
            observation *= 0
        return super().act(state, observations, rewards, lanes)


def test_what_an_agent_makes_of_an_observation_is_not_what_is_stored(tmp_path: Path) -> None:
    for name, agent in (("clean", RandomAgent()), ("dirty", InPlace())):
        collect({"x": agent}, "toy/reach", tmp_path / name, episodes=3, machine=MACHINE)
    clean, dirty = (contents(TrajectoryStore(tmp_path / name)) for name in ("clean", "dirty"))
    assert_equal(clean, dirty)
    assert all(trajectory.observations.any() for trajectory in dirty.values())


def test_no_start_is_an_evaluations_or_another_agents(tmp_path: Path) -> None:
    run = collect(AGENTS, "toy/reach", tmp_path / "store", episodes=6, seed=3, machine=MACHINE)
    evaluated = evaluate(AGENTS, "toy/reach", tmp_path / "run", episodes=6, seed=3, machine=MACHINE)
    collected = [record.seed for record in run.records()]
    assert len(set(collected)) == 12
    assert not set(collected) & {record.seed for record in evaluated.records()}
    again = collect(AGENTS, "toy/reach", tmp_path / "other", episodes=6, seed=3, machine=MACHINE)
    assert records(again) == records(run)
    first, second = (TrajectoryStore(tmp_path / name) for name in ("store", "other"))
    assert_equal(contents(first), contents(second))


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(2))
def test_a_collection_killed_at_a_random_moment_goes_on_to_the_same_store(
    tmp_path: Path, whole: Path, moment: int
) -> None:
    folder, draw = tmp_path / "store", random.Random(moment)
    process = lram("collect", *ARGUMENTS, "-o", str(folder))
    target = draw.randrange(1, 30)
    wait_for(lambda: committed(folder) >= target, "trajectories")
    time.sleep(draw.random() * 0.1)
    process.kill()
    process.communicate()
    assert committed(folder) < 64, "the collection was over before it was killed"

    again = ["--resume", str(folder), "-q", "-l", "3"] if moment % 2 else [*ARGUMENTS, "-o", str(folder)]
    finished(lram("collect", *again))
    assert_settled(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("call", [0, 1, 30])
def test_what_is_committed_without_a_record_is_not_played_again(
    tmp_path: Path, whole: Path, call: int
) -> None:
    folder = tmp_path / "store"
    # Killed at a record, so that trajectories are there without theirs.
    die = f"""
write, left = store.RunWriter.append, [{call}]
def append(self, record):
    left[0] -= 1
    if left[0] < 0: os.kill(os.getpid(), 9)
    write(self, record)
store.RunWriter.append = append
"""
    finished(lram("collect", *ARGUMENTS, "-o", str(folder), seconds=0.4, more=die), -signal.SIGKILL)
    (run,) = collected_runs(folder)
    kept = {episode.origin: episode.seed for episode in TrajectoryStore(folder).episodes}
    assert len(run.records()) == call < len(kept)
    before = contents(TrajectoryStore(folder))

    # An agent or a simulator that plays one of them would take an origin that the store has already.
    finished(lram("collect", "--resume", str(folder), "-q"))
    assert_settled(folder, whole)
    after = contents(TrajectoryStore(folder))
    assert {origin: after[origin].record for origin in before} == {o: t.record for o, t in before.items()}


@cache
def contents_of(whole: Path) -> dict[str, Trajectory]:
    return contents(TrajectoryStore(whole))


def assert_settled(folder: Path, whole: Path) -> None:
    store = TrajectoryStore(folder)
    store.verify()
    assert set(Counter(episode.origin for episode in store.episodes).values()) == {1}
    assert_equal(contents(store), contents_of(whole))
    (run,), (expected,) = collected_runs(folder), collected_runs(whole)
    lines = [
        line for part in (run.path / "records").glob("*.jsonl") for line in part.read_bytes().splitlines()
    ]
    counts = Counter(msgspec.json.decode(line, type=EpisodeRecord).item for line in lines)
    assert set(counts.values()) == {1}
    assert records(run) == records(expected)
    assert {file for file in (folder / "parts").rglob("*") if file.is_file()} == {
        folder / line.part for line in store.parts
    }


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_keeps_what_was_finished_and_says_how_to_go_on(
    tmp_path: Path, whole: Path, how: signal.Signals
) -> None:
    folder = tmp_path / "store"
    process = lram("collect", *ARGUMENTS, "-o", str(folder), seconds=0.3, start_new_session=True)
    wait_for(lambda: committed(folder) >= 1, "trajectories")
    os.killpg(process.pid, how)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"continue with: lram collect --resume {folder}" in output
    (run,) = collected_runs(folder)
    assert len(run.records()) == len(TrajectoryStore(folder)) < 64
    finished(lram("collect", "--resume", str(folder), "-q"))
    assert_settled(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("call", [1, 6, 7])
def test_a_signal_between_a_trajectory_and_its_record_leaves_both(
    tmp_path: Path, whole: Path, call: int
) -> None:
    folder = tmp_path / "store"
    interrupt = f"""
from lram.agents.trajectories import StoreWriter
take, left = StoreWriter.append, [{call}]
def append(self, trajectory):
    taken = take(self, trajectory)
    left[0] -= 1
    if not left[0]: os.kill(os.getpid(), signal.SIGTERM)
    return taken
StoreWriter.append = append
"""
    finished(lram("collect", *ARGUMENTS, "-o", str(folder), seconds=1000, more=interrupt), 130)
    (run,) = collected_runs(folder)
    assert len(run.records()) == len(TrajectoryStore(folder)) == call
    finished(lram("collect", "--resume", str(folder), "-q"))
    assert_settled(folder, whole)


@pytest.mark.slow
def test_another_seed_adds_a_run_and_the_same_seed_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    collect("random", "toy/reach", folder, episodes=2, machine=MACHINE)
    collect("random", "toy/reach", folder, episodes=2, machine=MACHINE)
    assert len(TrajectoryStore(folder)) == 2
    with pytest.raises(LramError, match=r"already \(in runs/0001, 2 a task\); give another --seed"):
        collect("random", "toy/*", folder, episodes=3, machine=MACHINE)
    collect("random", "toy/reach", folder, episodes=3, seed=1, machine=MACHINE)
    collect("random", "toy/image", folder, episodes=1, machine=MACHINE)
    collect("other=random", "toy/reach", folder, episodes=1, machine=MACHINE)
    store = TrajectoryStore(folder)
    assert Counter(episode.origin.partition("|")[0] for episode in store.episodes) == {
        "runs/0001": 2,
        "runs/0002": 3,
        "runs/0003": 1,
        "runs/0004": 1,
    }
    assert len({episode.seed for episode in store.episodes}) == 7


def test_the_card_says_who_made_it_with_what(tmp_path: Path) -> None:
    notes = Notes("for a test", "CC0-1.0")
    collect(AGENTS, "toy/reach", tmp_path / "store", episodes=1, seed=7, machine=MACHINE, notes=notes)
    (said,) = TrajectoryStore(tmp_path / "store").card["additions"]
    assert said["name"] == "runs/0001"
    assert said["agents"]["half"]["policy"] == "random~0.5x3"
    assert "0.5 of its actions replaced" in said["agents"]["half"]["description"]
    assert (said["seed"], said["episodes"], said["protocols"]) == (7, 1, ["toy:plain@1"])
    assert (said["note"], said["license"]) == ("for a test", "CC0-1.0")
    corrected = Notes("for two tests")
    collect(AGENTS, "toy/reach", tmp_path / "store", episodes=1, seed=7, machine=MACHINE, notes=corrected)
    (again,) = TrajectoryStore(tmp_path / "store").card["additions"]
    assert again == {**said, "note": "for two tests"}
    assert said["simulators"]["toy"]["numpy"] == np.__version__
    assert "h5py" in said["packages"]


def test_errored_episodes_leave_a_record_and_no_trajectory(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    run = collect("random", "toy/raise,toy/reach", folder, episodes=2, machine=replace(MACHINE, attempts=1))
    status = {record.item.task: record.status for record in run.records()}
    assert status == {"toy/raise": "errored", "toy/reach": "scored"}
    assert {episode.task for episode in TrajectoryStore(folder).episodes} == {"toy/reach"}


@pytest.mark.slow
def test_a_repeated_attempt_is_stored_once_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    run = collect("random", "toy/flaky,toy/lives", folder, episodes=10, machine=MACHINE)
    scored = [record for record in run.records() if record.status == "scored"]
    assert any(record.measured.incidents for record in scored)
    store = TrajectoryStore(folder)
    assert len(store) == len(scored)
    assert {store.trajectory(e.number).length for e in store.episodes} == {e.length for e in store.episodes}


class Stubborn(RandomAgent):
    """Plays discrete tasks, until it is to raise."""

    info = AgentInfo("baseline", "raises at will")  # type: ignore[assignment]

    def __init__(self, decisions: int) -> None:
        self.left = decisions

    def refuses(self, task: Any) -> str | None:
        return None if task.action == "discrete" else "it knows discrete actions only"

    def act(self, state: Any, observations: Any, rewards: Any, lanes: Any) -> Any:
        self.left -= len(lanes)
        if self.left < 0:
            raise RuntimeError("enough")
        return super().act(state, observations, rewards, lanes)


def test_what_went_wrong_first_is_told_where_the_disk_is_full_as_well() -> None:
    def full() -> None:
        raise AgentError("cannot write to store: No space left on device")

    sink: Any = SimpleNamespace(flush=full)
    with pytest.raises(KeyboardInterrupt), _flushed(sink):
        raise KeyboardInterrupt
    with pytest.raises(AgentError, match="No space left"), _flushed(sink):
        pass


def test_an_agent_that_raises_costs_nothing_that_was_finished(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with pytest.raises(LramError, match="raised RuntimeError: enough"):
        collect({"mine": Stubborn(120)}, "toy/steps,toy/reach", folder, episodes=8, machine=MACHINE)
    (run,) = collected_runs(folder)
    kept = len(TrajectoryStore(folder))
    assert 0 < len(run.records()) == kept < 8
    (run,) = resume_collection(folder, agents={"mine": Stubborn(10**6)}, machine=lambda _: MACHINE)
    assert len(run.records()) == len(TrajectoryStore(folder)) == 8
    assert {episode.policy for episode in TrajectoryStore(folder).episodes} == {"mine"}
    assert run.plan.skipped[0].task == "toy/reach"


def test_a_collected_run_is_reported_apart_from_evaluations_and_resumed_as_a_collection(
    tmp_path: Path,
) -> None:
    run = collect(AGENTS, "toy/reach", tmp_path / "store", episodes=3, machine=MACHINE)
    summary = summarise([run])
    assert [agent.scored for agent in summary.agents] == [3, 3]
    assert "collected" in [caveat.kind for caveat in summary.caveats]
    evaluated = evaluate("random", "toy/reach", tmp_path / "run", episodes=3, machine=MACHINE)
    with pytest.raises(LramError, match="report on them apart"):
        summarise([evaluated, run])
    with pytest.raises(LramError, match=f"lram collect --resume {tmp_path / 'store'}"):
        resume(run)


def test_an_evaluation_notes_nothing_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("a trajectory was recorded")

    monkeypatch.setattr(rollout, "TrajectoryRecorder", refused)
    run = evaluate("random", "toy/reach", tmp_path / "run", episodes=1, machine=MACHINE)
    assert [record.status for record in run.records()] == ["scored"]


def test_noise_goes_with_evaluations_and_does_not_get_a_model_past_the_gate(tmp_path: Path) -> None:
    agents = ("scripted", "scripted~0.9")
    run = evaluate(agents, "toy/reach", tmp_path / "run", episodes=5, machine=MACHINE)
    returns = [record.episode_return for record in run.records()]
    assert sum(returns[:5]) > sum(returns[5:])  # type: ignore[arg-type]
    assert as_model(NoisyAgent(RandomAgent(), Noise(0.5))) is None
    noisy = create_agent("transformer[ring]-1M~0.5~0.1", compute=Compute(step="torch"))
    assert isinstance(noisy, NoisyAgent)
    assert isinstance(noisy.inner, NoisyAgent)
    assert as_model(noisy) is noisy.inner.inner


def test_a_checkpoint_with_noise_is_found_from_anywhere(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    assert labelled_specs(f"{folder}~0.3x5") == {"mine~0.3x5": f"{folder}~0.3x5"}
    assert labelled_specs(f"a={folder}~0.3") == {"a": f"{folder}~0.3"}
    assert labelled_specs("scripted~0.3") == {"scripted~0.3": "scripted~0.3"}


def test_the_command_shows_what_was_collected_and_what_is_next(tmp_path: Path) -> None:
    folder = str(tmp_path / "store")
    output, _ = finished(
        lram("collect", "random", "-t", "toy/reach,toy/image", "-n", "2", "-o", folder, "-q")
    )
    assert "toy/image" in output
    assert f"{folder}: 4 episodes" in output
    assert f"next: lram report {folder}/runs/0001 -o {folder}-report" in output
    again, _ = finished(lram("collect", "--resume", folder, "-q"))
    assert f"{folder}: 4 episodes" in again


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["random", "-t", "toy/reach"], "give agents, --tasks and the store's folder"),
        (["-o", "store"], "give agents, --tasks and the store's folder"),
        (["random", "--resume", "store"], "leave out agents"),
        (
            ["--resume", "store", "-n", "3", "-s", "0", "--note", "mine", "-l", "2"],
            "as it was begun; leave out --episodes, --seed, --note",
        ),
        (["--resume", "absent"], "is not a trajectory store"),
        (["random~3", "-t", "toy/reach", "-o", "new"], "is no noise"),
        (["random", "-t", "toy/reach", "-o", "."], "is no trajectory store"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "something").touch()
    _, errors = finished(lram("collect", *arguments, cwd=tmp_path), 2)
    assert words in " ".join(errors.split())
    assert errors.startswith("lram: ")
    assert "Traceback" not in errors


def test_a_store_in_use_is_not_written_to(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store"):
        _, errors = finished(lram("collect", *ARGUMENTS, "-o", str(tmp_path / "store")), 2)
    assert "in use by another process" in errors


@pytest.mark.slow
@pytest.mark.parametrize("replaced", [False, True], ids=["moved", "replaced"])
def test_a_store_that_is_moved_while_it_is_collected_into_is_whole_and_leaves_no_ghost(
    tmp_path: Path, replaced: bool
) -> None:
    folder, moved = tmp_path / "store", tmp_path / "moved"
    arguments = ("collect", "random", "--tasks", "toy/slow", "-n", "200", "-l", "4", "-w", "1", "-q")
    process = lram(*arguments, "-o", str(folder))
    wait_for(lambda: committed(folder) >= 2, "trajectories")
    folder.rename(moved)
    if replaced:
        folder.mkdir()
        (folder / "mine.txt").write_text("precious")
    _, errors = finished(process, 2)
    assert f"'lram collect --resume {moved}' continues there" in errors
    store, (run,) = TrajectoryStore(moved), collected_runs(moved)
    store.verify()
    assert 2 <= len(store) < 200
    assert {record.item.episode for record in run.records()} <= {
        int(episode.origin.rpartition("|")[2]) for episode in store.episodes
    }
    assert [file.name for file in folder.rglob("*")] == (["mine.txt"] if replaced else [])


@pytest.mark.slow
def test_a_collection_killed_before_its_plan_was_there_is_begun_again_under_the_same_name(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "store"
    die = """
def begin(*arguments): os._exit(9)
store.write_json = begin
from lram.harness.storage import segments
segments.write_json = begin
"""
    command = ("collect", "random", "--tasks", "toy/reach", "-n", "2", "-q", "-o", str(folder))
    finished(lram(*command, more=die), 9)
    assert (folder / "runs" / "0001").is_dir()
    assert collected_runs(folder) == []
    finished(lram(*command))
    (run,) = collected_runs(folder)
    assert run.path.name == "0001"
    assert len(TrajectoryStore(folder)) == len(run.records()) == 2
