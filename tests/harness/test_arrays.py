"""Arrays that cross a contract: what others make of them reaches nothing that is kept or shown again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lram.agents.experts.baselines import RandomAgent
from lram.agents.trajectories import StoreWriter, TrajectoryStore
from lram.agents.trajectories.trajectory import Trajectory
from lram.envs.domains import toy
from lram.envs.workers.worker import Worker
from lram.harness.evaluation import Machine, evaluate
from lram.harness.latency.feed import Feed
from lram.harness.timing.inputs import Inputs


class Spoiling(RandomAgent):
    """An agent that normalises in place, and notes what it was shown first."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[float] = []

    def act(self, state, observations, rewards, lanes):  # type: ignore[no-untyped-def]
        self.shown += [float(np.abs(seen).max()) for seen in observations]
        for seen in observations:
            seen[...] = 1e9
        return super().act(state, observations, rewards, lanes)


def test_the_decisions_of_a_warm_up_leave_the_first_observation_as_it_was(tmp_path: Path) -> None:
    agent = Spoiling()
    evaluate(
        {"a": agent}, "toy/reach", tmp_path / "run", episodes=1, realtime_hz=1e6, machine=Machine(workers=1)
    )
    assert agent.shown
    assert max(agent.shown) < 1e6


@pytest.fixture
def trajectory(tmp_path: Path) -> Trajectory:
    from lram.harness.collection.collect import collect

    collect(["random"], "toy/reach", tmp_path / "made", episodes=1, machine=Machine(workers=1))
    return TrajectoryStore(tmp_path / "made").trajectory(0)


def test_a_store_holds_what_a_trajectory_was_when_it_was_given(
    tmp_path: Path, trajectory: Trajectory
) -> None:
    before = {name: getattr(trajectory, name).copy() for name in ("observations", "actions", "rewards")}
    with StoreWriter(tmp_path / "store") as writer:
        assert not writer.append(trajectory)
        for name in before:
            getattr(trajectory, name)[...] = 0
    kept = TrajectoryStore(tmp_path / "store").trajectory(0)
    for name, array in before.items():
        np.testing.assert_array_equal(getattr(kept, name), array)


def test_the_windows_of_a_store_cannot_be_changed(tmp_path: Path, trajectory: Trajectory) -> None:
    window = TrajectoryStore(tmp_path / "made").window(0, 0, 2)
    for name in ("observations", "actions", "signals", "returns_to_go"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(window, name)[...] = 0


def test_an_agent_that_is_timed_changes_no_recorded_input() -> None:
    recorded = Inputs(np.ones((40, 3), np.float32), np.ones(40), np.zeros((40, 1), np.float32))
    feed = Feed(recorded, [2], 2, 3, distinct=False)
    for shown in (feed.past(0), feed.decision(2), feed.settling(0), feed.repeated()):
        for seen in shown[0]:
            seen[...] = 7
    assert (recorded.observations == 1).all()


def test_a_session_that_changes_its_action_leaves_the_trajectorys_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def name() -> bytes:
        worker = Worker(toy.DOMAIN)
        worker.begin(0, "reach", toy.DOMAIN.protocols[0].name, 3)
        worker.step(0, np.full(size, 0.5, np.float32))
        return worker._slots[0].trajectory  # type: ignore[return-value]

    size = next(task.action_size for task in toy.DOMAIN.tasks if task.name == "reach")
    expected = name()
    session = type(toy.DOMAIN.make("reach", toy.DOMAIN.protocols[0]))
    step = session.step

    def spoiling(self, action):  # type: ignore[no-untyped-def]
        taken = step(self, action.copy())
        action[...] = -1
        return taken

    monkeypatch.setattr(session, "step", spoiling)
    assert name() == expected
