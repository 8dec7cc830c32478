"""The parts of the loop alone: calls of agents, the batching timeout, measured times, settled episodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lram.envs.registry import all_tasks
from lram.harness.rollout import agent_calls, seeds
from lram.harness.rollout.agent_calls import AgentCalls, AgentRaisedError
from lram.harness.rollout.batching import LONGEST_S, BatchingTimeout
from lram.harness.rollout.failures import Tally
from lram.harness.rollout.lane import Lane
from lram.harness.rollout.measured_times import MeasuredTimes
from lram.harness.rollout.schedule import Attempt, Queue, WorkerSlot
from lram.harness.rollout.settling import Settling
from lram.harness.rollout.translation import task_spec
from lram.harness.storage.records import EpisodeRecord, Failure, PlannedTask, WorkItem

PLANNED = PlannedTask(all_tasks()["toy/steps"], "toy:plain@1")


def lane_of(number: int, agent: str = "a") -> Lane:
    attempt = Attempt(WorkItem(agent, "toy/steps", number))
    lane = Lane(
        number=number, worker_slot=WorkerSlot(), attempt=attempt, spec=task_spec(PLANNED), seed=number
    )
    lane.observation, lane.signal = np.full(3, number, np.float32), float(number)
    return lane


class Scripted:
    """Gives what it is told to, takes a second of a clock of its own, and notes what it is asked."""

    def __init__(self, clock: Any, gives: Any = None) -> None:
        self.clock, self.gives = clock, gives
        self.starts: list[int] = []
        self.resets: list[tuple[list[int], list[int]]] = []
        self.asked: list[tuple[list[float], list[float], list[int]]] = []

    def start(self, lanes: int) -> str:
        self.starts.append(lanes)
        return f"state {len(self.starts)}"

    def reset(self, state: str, lanes: list[int], episodes: Sequence[Any]) -> None:
        self.resets.append((lanes, [episode.seed for episode in episodes]))

    def act(self, state: str, observations: list[Any], rewards: list[float], lanes: list[int]) -> Any:
        self.clock.now += 1.0
        self.asked.append(([float(one[0]) for one in observations], rewards, lanes))
        for one in observations:
            one[:] = -1.0  # some agents do
        if isinstance(self.gives, BaseException):
            raise self.gives
        return (self.gives if self.gives is not None else [0] * len(lanes)), state


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(agent_calls.time, "perf_counter", lambda: clock.now)
    return clock


def calls_of(agent: Any, times: MeasuredTimes | None = None, *, warm_up: bool = False) -> AgentCalls:
    return AgentCalls({"a": agent}, 4, {"a": 7}, times or MeasuredTimes(), warm_up=warm_up)


def test_lanes_that_begin_are_reset_once_and_share_the_time_of_the_pass(clock: Any) -> None:
    agent, times = Scripted(clock), MeasuredTimes()
    calls, lanes = calls_of(agent, times), [lane_of(1), lane_of(3)]
    assert calls.ask("a", lanes) == [0, 0]
    assert agent.starts == [4]
    expected = [seeds.agent_seed(7, "toy/steps", number, 0) for number in (1, 3)]
    assert agent.resets == [([1, 3], expected)]
    assert agent.asked == [([1.0, 3.0], [1.0, 3.0], [1, 3])]
    assert [lane.agent_s for lane in lanes] == [0.5, 0.5]
    assert (calls.pass_s, times.decide) == ({"a": 1.0}, {}), "a first pass may have compiled something"
    calls.ask("a", lanes)
    assert len(agent.resets) == 1
    assert times.decide == {"a": pytest.approx(1.0, rel=0.05)}
    assert calls.longest_pass_s({"a", "unknown"}) == 1.0


def test_a_state_that_was_forgotten_is_made_anew(clock: Any) -> None:
    agent = Scripted(clock)
    calls = calls_of(agent)
    for _ in range(2):
        calls.ask("a", [lane_of(0)])
        calls.forget("a")
    assert agent.starts == [4, 4]


def test_a_warm_up_takes_no_time_of_the_episodes_and_leaves_what_is_seen_as_it_was(clock: Any) -> None:
    agent = Scripted(clock)
    calls, lane = calls_of(agent, warm_up=True), lane_of(2)
    calls.ask("a", [lane])
    assert len(agent.asked) == 6
    assert {seen for (seen,), _, _ in agent.asked} == {2.0}
    assert lane.agent_s == calls.pass_s["a"] == 1.0


@pytest.mark.parametrize(
    ("gives", "sentence"),
    [
        (
            ValueError("no"),
            r"agent a raised ValueError: no \(test_rollout_parts.py, line \d+; tasks toy/steps",
        ),
        ([0], "agent a gave 1 actions for 2 lanes"),
        ([0, 0, 0], "agent a gave more than 2 actions for 2 lanes"),
        (7, "agent a raised TypeError"),
    ],
)
def test_what_an_agent_does_wrong_is_told(clock: Any, gives: Any, sentence: str) -> None:
    with pytest.raises(AgentRaisedError, match=sentence) as caught:
        calls_of(Scripted(clock, gives)).ask("a", [lane_of(0), lane_of(1)])
    assert caught.value.label == "a"


def test_whoever_interrupts_is_not_taken_for_the_agent(clock: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        calls_of(Scripted(clock, KeyboardInterrupt())).ask("a", [lane_of(0)])


def test_lanes_are_waited_for_two_passes_while_workers_are_busy_and_a_quarter_from_where_one_idles() -> None:
    timeout = BatchingTimeout(10.0)
    assert timeout.left(10.0, 0.1, all_busy=True) == pytest.approx(0.2)
    assert timeout.left(10.15, 0.1, all_busy=True) == pytest.approx(0.05)
    assert timeout.left(10.16, 0.1, all_busy=False) == pytest.approx(0.025)
    assert timeout.left(10.18, 0.1, all_busy=False) == pytest.approx(0.005)
    # Busy again: what was idled is forgotten.
    assert timeout.left(10.19, 0.1, all_busy=True) == pytest.approx(0.01)
    assert timeout.left(10.2, 0.1, all_busy=False) == pytest.approx(0.025)
    assert BatchingTimeout(0.0).left(0.0, 60.0, all_busy=True) == LONGEST_S


def test_measured_times_follow_a_median_and_not_single_values() -> None:
    times = MeasuredTimes()
    times.stepped("toy", 0.01)
    typical = times.step["toy"]
    times.stepped("toy", 100.0)
    assert times.step["toy"] == pytest.approx(1.05 * typical)
    for _ in range(100):
        times.decided("a", 0.5)
    assert times.decide["a"] == pytest.approx(0.5, rel=0.06)


def settling_of(records: list[EpisodeRecord], attempts: int = 2) -> tuple[Settling, Queue, Tally]:
    queue, tally = Queue([], {"toy/steps": 100}, None), Tally(1, 1)
    made = Settling({"toy/steps": PLANNED}, attempts, queue, tally, records.append, None)
    return made, queue, tally


def test_a_failure_is_tried_again_and_then_recorded(tmp_path: Path) -> None:
    records: list[EpisodeRecord] = []
    settling, queue, tally = settling_of(records)
    lane, failure = lane_of(0), Failure("session", "it broke")
    assert not settling.fail(lane, failure)
    assert not records
    assert queue.has_work_of("a")
    assert settling.fail(lane, failure)
    (record,) = records
    assert (record.status, record.failure) == ("errored", failure)
    assert lane.attempt.incidents == ["attempt 1: it broke", "attempt 2: it broke"]
    assert tally.given_up(lane.item)


def test_what_an_agent_did_wrong_is_not_tried_again() -> None:
    records: list[EpisodeRecord] = []
    settling, queue, _ = settling_of(records)
    assert settling.fail(lane_of(0), Failure("agent", "no action"))
    assert len(records) == 1
    assert not queue.has_work_of("a")


def test_a_neighbour_is_repeated_at_no_charge() -> None:
    records: list[EpisodeRecord] = []
    settling, queue, _ = settling_of(records)
    lane = lane_of(0)
    settling.repeat(lane, "the worker died")
    assert (lane.attempt.failures, lane.attempt.losses, records) == (0, 1, [])
    assert lane.attempt.incidents == ["repeated: the worker died"]
    assert queue.has_work_of("a")
