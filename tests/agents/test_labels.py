from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lram.agents.api import AgentError, TaskSpec
from lram.agents.experts.heuristics import CONTROLLERS, toy_reach
from lram.agents.training.labels import EXPERTS, LabelledStore
from lram.agents.training.recipe_text import read_recipe
from lram.agents.training.run import Silent, Surroundings, go_on, start
from lram.agents.training.sources import open_data
from lram.agents.training.state import load_state
from lram.agents.trajectories.store import TrajectoryStore
from lram.agents.trajectories.trajectory import Trajectory
from lram.agents.trajectories.writer import StoreWriter

REACH = TaskSpec("toy/reach", "toy", "vector", (6,), "continuous", 2, 1.0, 1.0)
OTHER = TaskSpec("toy/unknown", "toy", "vector", (6,), "continuous", 2, 1.0, 1.0)


def played(task: TaskSpec, seed: int) -> Trajectory:
    rng = np.random.default_rng(seed)
    seen = rng.uniform(-0.2, 0.2, (9, 6)).astype(np.float32)
    actions = rng.uniform(-1, 1, (8, 2)).astype(np.float32)
    rewards = np.ones(8, np.float32)
    return Trajectory(task, seen, actions, rewards, rewards, False, True, policy="random")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "store"
    with StoreWriter(path) as writer:
        for seed in range(3):
            writer.append(played(REACH, seed))
        for seed in range(3):
            writer.append(played(OTHER, 10 + seed))
    return path


def test_windows_show_what_the_scripted_policy_would_have_done(path: Path) -> None:
    plain, store = TrajectoryStore(path), pickle.loads(pickle.dumps(LabelledStore(path)))  # as loaders get it
    for episode in plain.episodes:
        taken, shown = plain.window(episode.number, 2, 7), store.window(episode.number, 2, 7)
        assert np.array_equal(shown.observations, taken.observations)
        assert np.array_equal(shown.returns_to_go, taken.returns_to_go)
        if episode.task == "toy/reach":
            assert np.array_equal(shown.actions, [toy_reach(seen) for seen in taken.observations])
            assert shown.actions.dtype == np.float32
        else:
            assert np.array_equal(shown.actions, taken.actions)
    assert store.labelled(["toy/reach", "toy/unknown", "toy/absent"]) == {"scripted": ["toy/reach"]}


def test_a_store_that_goes_to_another_process_asks_the_same_experts(path: Path) -> None:
    for labels, asked in EXPERTS.items():
        store = pickle.loads(pickle.dumps(LabelledStore(path, labels=labels, cache_bytes=1 << 10)))
        assert set(store._experts) == set(asked)
        assert store._cache_bytes == 1 << 10


def test_a_recipe_learns_and_validates_on_the_labels_and_its_card_tells_of_which_tasks(path: Path) -> None:
    found = {}
    for labels in ("taken", "scripted"):
        settings = [
            f"data.stores={path}",
            f"data.labels={labels}",
            "sampling.context=4",
            "data.tasks=toy/reach",
        ]
        data = open_data(read_recipe(None, [*settings, "data.validation_share=0.4"]), 6)
        found[labels] = data.windows[0].classes, data.validation[0].classes, data.facts.get("labels")
    assert all(bool((found["taken"][n] != found["scripted"][n]).any()) for n in range(2))
    assert [found[labels][2] for labels in found] == [None, {"scripted": ["toy/reach"]}]


class _Stopping(Silent):
    """Ends a training after an update, as a process that is killed does."""

    def update(self, update: int, loss: float, tokens: int) -> None:
        if update == 2:
            raise KeyboardInterrupt


def test_a_training_does_not_go_on_where_its_expert_plays_other_tasks(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that lacks the package of one task's simulator."""
    both = tmp_path / "store"
    with StoreWriter(both) as writer:
        for seed in range(3):
            writer.append(played(REACH, seed))
            writer.append(played(replace(REACH, id="toy/copy"), 10 + seed))
    settings = [
        f"data.stores={both}",
        "data.labels=scripted",
        "model.backbone=gru",
        "model.width=16",
        "model.layers=1",
        "sampling.context=4",
        "sampling.sequences=2",
        "optimizer.updates=4",
        "optimizer.warmup_updates=0",
        "validation.windows=0",
        "saving.state_updates=1",
        "saving.trackers=[]",
    ]
    monkeypatch.setitem(CONTROLLERS, "toy/copy", toy_reach)
    with pytest.raises(KeyboardInterrupt):
        start(read_recipe(None, settings), tmp_path / "run", Surroundings(_Stopping()))
    found = load_state(tmp_path / "run")
    assert found is not None
    assert found[0].labels == {"scripted": ("toy/copy", "toy/reach")}
    monkeypatch.delitem(CONTROLLERS, "toy/copy")
    with pytest.raises(
        AgentError, match=r"scripted in 2 tasks .* would learn actions of scripted in 1 task \(toy/reach\)"
    ):
        go_on(tmp_path / "run")


def test_labels_that_nobody_gives_and_models_that_read_actions_are_refused(
    path: Path, tmp_path: Path
) -> None:
    settings = [f"data.stores={path}", "data.labels=scripted"]
    with pytest.raises(
        AgentError, match="none of the selected tasks is one with vector states that scripted plays"
    ):
        open_data(read_recipe(None, [*settings, "data.tasks=toy/unknown"]), 6)
    tiny = ["model.preset=xlstm-1M", "model.width=16", "model.layers=1", "model.actions_in_context=true"]
    with pytest.raises(AgentError, match="reads the actions that were taken in its context"):
        start(
            read_recipe(None, [*settings, *tiny, "optimizer.updates=1", "optimizer.warmup_updates=0"]),
            tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()
