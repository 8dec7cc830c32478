"""Agents that compute on a device of their own: simulators step meanwhile, and no record differs for it.

The device is made up: a pass is computed when another one was launched after it. A driver that waits for a
result before it launches the next pass would wait until the device gives up, each time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.agents.api import Action, AgentInfo, Episode, LaunchingAgent, Observation, TaskSpec
from lram.envs.workers.process import Deadlines
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, evaluate
from lram.harness.rollout.groups import Groups
from lram.harness.storage.run_folder import Run

GIVES_UP_S = 0.2


class Device(LaunchingAgent):
    """Acts by a hash of all that a lane was shown, one lane a pass.

    Attributes:
        launches: Whether the driver launches, or calls ``act``.
        passes, alone: Launched, and computed only when the device gave up on a pass after them.
    """

    rows = 1
    launches = True

    def __init__(self, *, launches: bool = True, fault: BaseException | None = None) -> None:
        self.launches, self.fault = launches, fault
        self.passes = self.alone = 0
        self._next = threading.Event()

    info = AgentInfo("baseline", "computes elsewhere")

    def refuses(self, task: TaskSpec) -> str | None:
        return None

    def start(self, lanes: int) -> dict[int, Any]:
        return {}

    def reset(self, state: Any, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        for lane, episode in zip(lanes, episodes, strict=True):
            state[lane] = [episode.task, float(episode.seed % 97)]

    def act(
        self, state: Any, observations: Sequence[Observation], rewards: Sequence[float], lanes: Sequence[int]
    ) -> tuple[list[Action], Any]:
        actions: list[Action] = []
        for seen, reward, lane in zip(observations, rewards, lanes, strict=True):
            task, memory = state[lane]
            state[lane][1] = memory = (31.0 * memory + float(np.sum(seen)) + reward) % 1009.0
            actions.append(int(memory) % task.action_size)
        return actions, state

    def launch(
        self, state: Any, observations: Sequence[Observation], rewards: Sequence[float], lanes: Sequence[int]
    ) -> tuple[Pass, Any]:
        assert len(lanes) == 1
        actions, state = self.act(state, observations, rewards, lanes)
        for seen in observations:
            seen[:] = 0  # it was read
        self._next.set()
        self._next = threading.Event()
        self.passes += 1
        return Pass(self, actions, self._next), state

    def state_bytes(self, state: Any) -> int:
        return 0


class Pass:
    def __init__(self, device: Device, actions: list[Action], after: threading.Event) -> None:
        self._device, self._actions, self._after = device, actions, after
        self._waited = False

    def wait(self) -> None:
        if self._device.fault is not None:
            raise self._device.fault
        if not self._after.wait(GIVES_UP_S):
            self._device.alone += 1
        self._waited = True

    def actions(self) -> list[Action]:
        assert self._waited
        return self._actions


def play(output: Path, agent: Device, tasks: str = "toy/steps", **machine: Any) -> Run:
    how = Machine(**{"lanes": 2, "workers": 2, "deadlines": Deadlines(begin_s=60, step_s=20), **machine})
    return evaluate({"a": agent}, tasks, output, episodes=2, machine=how)


def kept(run: Run) -> list[Any]:
    """Return all of the records but what was measured, in the plan's order."""
    return sorted((replace(record, measured=None) for record in run.records()), key=lambda one: one.item.id)  # type: ignore[arg-type]


def test_lanes_step_and_are_asked_for_while_a_pass_is_computed(tmp_path: Path) -> None:
    agent = Device()
    run = play(tmp_path / "launched", agent)
    (session,) = run.provenance()
    lengths = sorted(record.length or 0 for record in run.records())
    assert agent.passes == sum(lengths)
    # Only where the other lane has no episode any more does the device have to give up.
    assert agent.alone <= lengths[-1] - lengths[0] + 4, session.settings["overlap"]
    told = [int(word) for word in session.settings["overlap"].split() if word.isdigit()]
    assert told[0] == agent.passes
    assert told[1] >= agent.passes - agent.alone - 4  # launched beside another
    assert told[2] >= min(lengths) - 4  # steps that arrived while a pass was computed
    assert kept(run) == kept(play(tmp_path / "waited for", Device(launches=False)))


def test_a_lane_whose_worker_dies_while_its_pass_is_computed_is_repeated(tmp_path: Path) -> None:
    tasks = "toy/steps,toy/crash"
    runs = [
        play(tmp_path / str(launches), Device(launches=launches), tasks, workers=1, attempts=1)
        for launches in (True, False)
    ]
    outcomes = [[(one.item.id, one.status, one.trajectory) for one in kept(run)] for run in runs]
    assert outcomes[0] == outcomes[1]
    assert {status for _, status, _ in outcomes[0]} == {"scored", "errored"}


def test_an_agent_that_raises_while_it_is_waited_for_is_named(tmp_path: Path) -> None:
    with pytest.raises(LramError, match="agent a raised ValueError: the device is lost"):
        play(tmp_path / "run", Device(fault=ValueError("the device is lost")))
    assert not [one for one in threading.enumerate() if one.name.startswith("passes of")]


def test_with_a_world_that_does_not_wait_the_agent_is_waited_for(tmp_path: Path) -> None:
    agent = Device()
    evaluate({"a": agent}, "toy/steps", tmp_path / "run", episodes=1, realtime_hz=1.0, machine=Machine())
    assert agent.passes == 0


def test_lanes_that_become_ready_during_a_pass_of_their_group_wait_for_its_end() -> None:
    class Item:
        agent = "a"

    class Lane:
        item = Item()

        def __init__(self, number: int) -> None:
            self.number = number

    groups, lanes = Groups(4, {"a": 2}), [Lane(number) for number in range(4)]
    for lane in lanes:
        groups.enter(lane)  # type: ignore[arg-type]
    groups.wait(lanes[0])  # type: ignore[arg-type]
    taken = groups.take()
    groups.launched(taken)
    for lane in lanes[1:3]:
        groups.wait(lane)  # type: ignore[arg-type]
    assert groups.take() == [lanes[2]]
    assert not groups
    groups.arrived(taken)
    assert groups.take() == [lanes[1]]
    groups.launched(taken)
    groups.wait(lanes[1])  # type: ignore[arg-type]
    groups.leave(lanes[1])  # type: ignore[arg-type]
    groups.arrived(taken)
    assert not groups
