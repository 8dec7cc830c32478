"""Trained actors: functions of the task's own entries of an observation, which score what their page says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from support.playing import play

from lram.agents.api import AgentError, Episode, TaskSpec
from lram.agents.experts import actors
from lram.agents.experts.actors import ActorAgent, actor_tasks, load_actor
from lram.agents.factory import create_agent
from lram.agents.training.labels import LabelledStore
from lram.agents.trajectories.store import TrajectoryStore
from lram.agents.trajectories.trajectory import Trajectory
from lram.agents.trajectories.writer import StoreWriter
from lram.envs.registry import select

TASKS = sorted(actor_tasks())
# Task, mean of random play, mean of the actor, as the module's text has them.
TABLE = {
    task: (float(chance), float(mean))
    for task, chance, mean in re.findall(
        r"^(dmcontrol/\S+) +(\S+) \+- \S+ +(\S+) \+- \S+ +\S+$", actors.__doc__ or "", re.M
    )
}


def test_the_table_has_every_actor() -> None:
    assert sorted(TABLE) == TASKS


@pytest.mark.parametrize("task", TASKS)
def test_an_actor_reads_its_entries_alone_and_stays_within_the_bounds(task: str) -> None:
    actor, rng = load_actor(task), np.random.default_rng(0)
    seen = rng.normal(size=204).astype(np.float32)
    action = actor(seen)
    assert action.dtype == np.float32
    assert np.all(np.abs(action) <= 1)
    other = rng.normal(size=204).astype(np.float32)
    other[actor.entries] = seen[actor.entries]
    assert np.array_equal(actor(other), action)
    assert not np.array_equal(actor(np.where(np.isin(np.arange(204), actor.entries), -seen, seen)), action)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_an_actor_scores_far_above_random_play(task: str) -> None:
    pytest.importorskip("dm_control", reason="needs lram-bench[dmcontrol]")
    returns = play(create_agent("sac"), task, (1100, 1101))
    chance, mean = TABLE[task]
    assert np.mean(returns) > chance + (mean - chance) / 2
    assert mean > (select(task)[0].score_reference or 0) * 0.7


def test_other_tasks_are_refused_by_name() -> None:
    other = TaskSpec("dmcontrol/lqr-lqr_2_1", "dmcontrol", "vector", (204,), "continuous", 1, None, 1)
    agent = ActorAgent()
    why = agent.refuses(other) or ""
    assert why.startswith("no actor was trained for dmcontrol/lqr-lqr_2_1; sac plays dmcontrol/")
    with pytest.raises(AgentError, match="no actor was trained"):
        agent.reset(agent.start(1), [0], [Episode(other, 0)])
    with pytest.raises(AgentError, match="sac takes no value"):
        create_agent("sac=1")


def test_experts_labels_are_the_scripted_policys_or_else_the_actors(tmp_path: Path) -> None:
    rng, stored = np.random.default_rng(1), {}
    tasks = {"dmcontrol/cartpole-swingup": 1, TASKS[0]: load_actor(TASKS[0]).layers[-1][1].size}
    with StoreWriter(tmp_path / "store") as writer:
        for name, size in {**tasks, "dmcontrol/lqr-lqr_2_1": 1}.items():
            task = TaskSpec(name, "dmcontrol", "vector", (204,), "continuous", size, 1.0, 1.0)
            seen = rng.normal(size=(6, 204)).astype(np.float32)
            actions = rng.uniform(-1, 1, (5, size)).astype(np.float32)
            rewards = np.ones(5, np.float32)
            stored[name] = Trajectory(task, seen, actions, rewards, rewards, False, True, policy="random")
            writer.append(stored[name])
    plain = TrajectoryStore(tmp_path / "store")
    expected = {"scripted": {"scripted": ["dmcontrol/cartpole-swingup"]}}
    expected["experts"] = {**expected["scripted"], "sac": [TASKS[0]]}
    for labels, known in expected.items():
        store = LabelledStore(tmp_path / "store", labels=labels)
        assert store.labelled(stored) == known
        asked = {task for some in known.values() for task in some}
        for episode in plain.episodes:
            shown, taken = store.window(episode.number, 1, 4), plain.window(episode.number, 1, 4)
            assert np.array_equal(shown.actions, taken.actions) == (episode.task not in asked)
            if episode.task in known.get("sac", ()):
                actor = load_actor(episode.task)
                assert np.array_equal(shown.actions, [actor(seen) for seen in taken.observations])
