"""A world that does not wait: what is sent while the agent thinks, and what is recorded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.agents.api import Action, AgentInfo, Episode, Observation, TaskSpec
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, evaluate
from lram.harness.rollout.lane import Lane, bins_of, still
from lram.harness.rollout.schedule import Attempt, WorkerSlot
from lram.harness.storage.records import WorkItem
from lram.reports.evidence.collect import collect
from lram.reports.summary.summarise import summarise

TASK = TaskSpec("toy/steps", "toy", "vector", (4,), "discrete", 4, None, 1.0)
MOVES = TaskSpec("toy/reach", "toy", "vector", (6,), "continuous", 2, None, 1.0)


class Thinker:
    """Gives the answer that toy/steps shows, after having thought for some seconds."""

    info = AgentInfo("baseline", "thinks, then answers")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.calls = 0
        self.rewards: list[float] = []

    def refuses(self, task: TaskSpec) -> str | None:
        return None

    def start(self, lanes: int) -> int:
        return lanes

    def reset(self, state: Any, lanes: Sequence[int], episodes: Sequence[Episode]) -> None: ...

    def act(
        self, state: Any, observations: Sequence[Observation], rewards: Sequence[float], lanes: Sequence[int]
    ) -> tuple[list[Action], Any]:
        time.sleep(self.seconds)
        self.calls += 1
        self.rewards += rewards
        return [int(np.argmax(observation)) for observation in observations], state

    def state_bytes(self, state: Any) -> int:
        return 0


def lane(spec: TaskSpec = TASK) -> Lane:
    return Lane(
        number=0, worker_slot=WorkerSlot(), attempt=Attempt(WorkItem("a", spec.id, 0)), spec=spec, seed=0
    )


def test_until_a_late_decision_is_there_the_world_goes_on_with_the_action_before() -> None:
    one = lane()
    sent = []
    for action, delay in ((3, 2), (1, 0), (2, 1)):
        following = one.decided(action, delay)
        while True:
            one.sent(following)
            sent.append(following)
            if one.ready:
                break
            following = one.next_action()
    assert sent == [0, 0, 3, 1, 1, 2]
    assert one.held == 3
    assert one.repeated == 2


def test_before_the_first_decision_nothing_moves() -> None:
    assert still(TASK) == 0
    np.testing.assert_array_equal(still(MOVES), np.zeros(2, dtype=np.float32))


def test_actions_are_the_same_where_all_their_bins_are() -> None:
    a = np.array([0.001, 0.5], dtype=np.float32)
    assert bins_of(a) == bins_of(a + np.float32(0.001))
    assert bins_of(a) != bins_of(np.array([0.001, 0.6], dtype=np.float32))
    assert bins_of(2) == bins_of(2)
    assert bins_of(2) != bins_of(3)


@pytest.mark.slow
def test_a_world_that_is_slower_than_the_agent_gives_what_a_waiting_one_gives(tmp_path: Path) -> None:
    waiting = evaluate({"t": Thinker(0)}, "toy/steps", tmp_path / "a", episodes=3).records()
    running = evaluate({"t": Thinker(0)}, "toy/steps", tmp_path / "b", episodes=3, realtime_hz=0.5).records()
    assert [r.trajectory for r in waiting] == [r.trajectory for r in running]
    assert [r.measured.held for r in running] == [0, 0, 0]
    assert [r.repeated for r in waiting] == [r.repeated for r in running]


@pytest.mark.slow
def test_a_late_agent_loses_score_and_the_record_tells_how_often_it_was_late(tmp_path: Path) -> None:
    agent = Thinker(0.12)
    run = evaluate({"t": agent}, "toy/steps", tmp_path / "run", episodes=1, realtime_hz=10)
    (record,) = run.records()
    assert run.plan.realtime_hz == 10
    assert record.agent == "t (10 Hz)"
    assert record.length is not None
    assert record.episode_return is not None
    assert record.measured.held >= record.length // 2 - 1
    assert record.episode_return < 0.8 * record.length
    # What was earned meanwhile is shown with the next decision, all of it.
    warm_up = agent.calls - len(agent.rewards[5:])
    assert warm_up == 5
    assert sum(agent.rewards[5:]) <= record.episode_return
    caveats = [caveat for caveat in summarise([run]).caveats if caveat.kind == "real time"]
    assert len(caveats) == 1
    assert "without a new decision" in caveats[0].items[0]
    assert collect([run]).realtime_hz == {"t (10 Hz)": 10}


def test_warming_up_is_not_part_of_the_episode(tmp_path: Path) -> None:
    agent = Thinker(0)
    (record,) = evaluate({"t": agent}, "toy/steps", tmp_path / "run", episodes=1, realtime_hz=1).records()
    assert agent.calls == 5 + (record.length or 0)


@pytest.mark.parametrize("hz", [-1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(tmp_path: Path, hz: float) -> None:
    with pytest.raises(LramError, match="the world's rate"):
        evaluate("random", "toy/steps", tmp_path / "run", realtime_hz=hz, machine=Machine())
    assert not (tmp_path / "run").exists()
