"""The trained models that come with the package: they are there, whole, alike in size, and they act."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lram.agents.checkpoints.folder import load_checkpoint
from lram.agents.checkpoints.shipped import checkpoint_folder, shipped_checkpoints
from lram.agents.factory import create_agent, list_agents
from lram.agents.training.recipe_text import recipe_from_dict

BACKBONES = ("xlstm[1:0]", "xlstm[7:1]", "mamba", "transformer")
FAMILIES = ("small", "zoo")
TASKS = {"small": 17, "zoo": 49, "control": 53}
NAMES = (*(f"{kind}-{backbone}" for kind in FAMILIES for backbone in BACKBONES), "control-xlstm[1:0]")


def test_all_are_there_and_listed() -> None:
    assert tuple(shipped_checkpoints()) == NAMES
    listed = {row.name: row.description for row in list_agents()}
    assert all("trained" in listed[name] and "untrained" not in listed[name] for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_whole_and_says_how_it_was_made(name: str) -> None:
    model, meta = load_checkpoint(shipped_checkpoints()[name])
    assert meta.trained
    assert 1e6 < model.parameter_count < 3e6
    assert meta.card["recipe"]["optimizer"]["updates"] == meta.card["update"]
    assert set(meta.target_returns) == set(meta.card["data"]["tasks"])
    assert (shipped_checkpoints()[name] / "README.md").is_file()


def test_a_checkpoint_is_named_by_its_folder_or_as_one_that_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert checkpoint_folder("zoo-mamba") == shipped_checkpoints()["zoo-mamba"]
    assert checkpoint_folder("runs/x/checkpoint") == Path("runs/x/checkpoint")
    assert checkpoint_folder(Path("zoo-mamba")) == Path("zoo-mamba"), "a path object is a folder"
    (tmp_path / "zoo-mamba").mkdir()
    assert checkpoint_folder("zoo-mamba") == Path("zoo-mamba"), "recipes have always named folders"


@pytest.mark.parametrize("kind", FAMILIES)
def test_they_differ_in_the_model_alone(kind: str) -> None:
    names = [f"{kind}-{backbone}" for backbone in BACKBONES]
    cards = [load_checkpoint(shipped_checkpoints()[name])[1].card for name in names]
    sizes = [card["parameters"] for card in cards]
    assert max(sizes) < 1.12 * min(sizes)
    # As read: one of them may have been written before a field was there.
    recipes = [recipe_from_dict({**card["recipe"], "name": "", "model": {}}) for card in cards]
    assert all(recipe == recipes[0] for recipe in recipes)
    assert all(card["data"] == cards[0]["data"] for card in cards)


@pytest.mark.parametrize("name", NAMES)
def test_an_agent_by_name_is_the_checkpoint(name: str) -> None:
    agent = create_agent(name)
    _, meta = load_checkpoint(shipped_checkpoints()[name])
    assert agent.info.trained
    assert agent.info.digest == meta.digest
    known = TASKS[name.partition("-")[0]]
    assert f"its own for {known} tasks" in dict(agent.info.details)["return asked for"]
    assert np.isfinite(list(meta.target_returns.values())).all()
