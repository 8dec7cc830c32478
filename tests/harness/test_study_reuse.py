"""What another study has made is copied whole, and said; what is not the same is not taken."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.ready import ready_children

from lram.agents.backbones.cells import GRUConfig
from lram.agents.checkpoints.folder import load_checkpoint, save_checkpoint
from lram.agents.checkpoints.shipped import checkpoint_folder
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model
from lram.agents.trajectories import TrajectoryStore
from lram.harness.cli import app
from lram.harness.collection.collect import collect
from lram.harness.errors import LramError
from lram.harness.machine import Machine
from lram.harness.storage.json_files import write_json
from lram.harness.storage.trees import copied_tree, names_in
from lram.harness.studies.folder import CellFolder, StudyFolder, write_plan
from lram.harness.studies.initial_weights import check_initial_weights
from lram.harness.studies.records import CellEntry
from lram.harness.studies.reuse import opened_others, reuse_store, reuse_trainings
from lram.harness.studies.running import ablate
from lram.harness.studies.study import Study, read_study
from lram.reports.sections.study.section import section

STUDY = """
name = "NAME"
question = "Does the study run?"
seeds = [0]
[recipe.model]
width = 16
layers = 2
xlstm = { heads = 2, slstm_at = [] }
[recipe.data]
validation_share = 0.3
[recipe.sampling]
context = 5
sequences = 3
[recipe.optimizer]
updates = 4
warmup_updates = 1
learning_rate = RATE
[recipe.validation]
windows = 8
[recipe.saving]
trackers = []
[[axes]]
name = "past actions"
[[axes.levels]]
name = "BASE"
[[axes.levels]]
name = "on"
changes = { model.actions_in_context = true }
[data]
stores = ["store"]
[evaluation]
tasks = ["toy/reach"]
episodes = 2
[timing]
decisions = 5
"""


def study(folder: Path, name: str, base: str = "off", rate: str = "1e-3") -> Study:
    text = STUDY.replace("NAME", name).replace("BASE", base).replace("RATE", rate)
    (folder / f"{name}.toml").write_text(text)
    return read_study(folder / f"{name}.toml")


@pytest.fixture(scope="module", autouse=True)
def _ready() -> Iterator[None]:
    with ready_children():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    collect("random", "toy/reach", folder / "store", episodes=6, machine=Machine(workers=1))
    return folder


@pytest.fixture(scope="module")
def first(place: Path) -> StudyFolder:
    """A study of which one cell is made."""
    opened, failed = ablate(study(place, "first"), place / "first", only=["off"])
    assert not failed
    return opened


def _saved(folder: Path, seed: int, card: Mapping[str, Any]) -> str:
    """Save random weights; return their digest."""
    config = ModelConfig(16, 1, GRUConfig())
    shutil.rmtree(folder, ignore_errors=True)
    save_checkpoint(folder, build_model(config, seed), config, trained=True, card=card)
    return load_checkpoint(folder)[1].digest


def test_a_training_that_began_from_other_weights_is_not_the_cell_s(tmp_path: Path) -> None:
    """The key has the place of the initial checkpoint, whatever is in it."""
    init = tmp_path / "init"
    digest = _saved(init, 0, {})
    recipe = {"model": {"init_from": str(init)}}
    ours, theirs = (
        CellFolder(tmp_path / name, CellEntry(("on",), 0, "on, seed 0", "5" * 64, "on-seed0", recipe))
        for name in ("ours", "theirs")
    )
    _saved(theirs.checkpoint, 1, {"init_from": {"checkpoint": str(init), "digest": digest}})
    check_initial_weights([ours, theirs])
    _saved(init, 2, {})
    with pytest.raises(LramError, match=r"not that of the cell 'on, seed 0': it began from other weights"):
        check_initial_weights([ours, theirs])
    with pytest.raises(LramError, match=r"2 trainings in .* made anew: on-seed0 on-seed0$"):
        check_initial_weights([theirs, CellFolder(tmp_path / "theirs", theirs.entry)])
    init.rename(tmp_path / "away")
    check_initial_weights([ours, theirs])  # whole cells need it no more
    (tmp_path / "away").rename(init)
    other: Any = SimpleNamespace(
        cells=lambda: [theirs],
        path=tmp_path / "theirs",
        plan=SimpleNamespace(study=SimpleNamespace(name="s")),
    )
    told: list[str] = []
    reuse_trainings([ours], [other], told.append)
    assert "began from other weights" in told[0]
    assert not ours.train.exists()
    _saved(init, 0, {})
    reuse_trainings([ours], [other], told.append)
    assert ours.is_trained()
    _saved(init, 2, {})
    shutil.rmtree(ours.checkpoint)
    (ours.train / "began.json").write_text(f'{{"stores": [], "init_from": "{digest}"}}\n')  # interrupted
    with pytest.raises(LramError, match="began from other weights"):
        check_initial_weights([ours])


def test_a_cell_may_begin_from_a_model_that_comes_along(tmp_path: Path) -> None:
    digest = load_checkpoint(checkpoint_folder("small-mamba"))[1].digest
    recipe = {"model": {"init_from": "small-mamba"}}
    cell = CellFolder(tmp_path, CellEntry(("on",), 0, "on, seed 0", "5" * 64, "on-seed0", recipe))
    cell.train.mkdir(parents=True)
    for before, refused in ((digest, False), ("7" * 64, True)):
        (cell.train / "began.json").write_text(f'{{"stores": [], "init_from": "{before}"}}\n')
        with pytest.raises(LramError, match="than small-mamba holds now") if refused else nullcontext():
            check_initial_weights([cell])


@pytest.mark.slow
def test_a_training_that_another_study_has_made_is_copied_and_said(place: Path, first: StudyFolder) -> None:
    told: list[str] = []
    opened, failed = ablate(
        study(place, "second", base="without"),
        place / "second",
        only=["without"],
        reuse=[first.path],
        say=told.append,
    )
    assert not failed
    theirs, ours = first.cells()[0], opened.cells()[0]
    assert theirs.entry.key == ours.entry.key
    reused = ours.reused()
    assert reused is not None
    assert (reused.study, reused.cell) == ("first", "off, seed 0")
    assert f"1 training of the study first copied from {first.path}" in told
    weights = [one.checkpoint / "model.safetensors" for one in (theirs, ours)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert not (ours.train / "state").exists()
    done = [one.done() for one in (theirs, ours)]
    assert done[0] is not None
    assert done[1] is not None
    assert done[1].seconds["train"] == done[0].seconds["train"]
    returns = [
        [record.episode_return for record in run.records()] for one in (theirs, ours) if (run := one.run())
    ]
    assert len(returns) == 2
    assert returns[0] == returns[1]
    caveats = {caveat.kind: caveat for caveat in section([opened.path]).caveats}
    assert caveats["study_reused"].items == ("without, seed 0: of the study first",)
    assert "study_reused" not in {caveat.kind for caveat in section([first.path]).caveats}
    # Of a training that was copied, the study that made it stays the one that is named.
    third = StudyFolder(_planned(place, "third", opened))
    reuse_trainings(third.cells(), [opened], told.append)
    again = third.cells()[0].reused()
    assert again == reused


def _planned(place: Path, name: str, like: StudyFolder) -> Path:
    """Make a study's folder that has the plan of ``like``, and no cell."""
    (place / name).mkdir()
    plan = like.plan
    write_plan(place / name, replace(plan, study=replace(plan.study, name=name)))
    return place / name


@pytest.mark.slow
def test_another_recipe_an_unfinished_and_a_begun_training_are_not_taken(
    place: Path, first: StudyFolder, tmp_path: Path
) -> None:
    told: list[str] = []
    other = StudyFolder(_planned(place, "begun", first))
    for cell in other.cells():
        (cell.train / "state").mkdir(parents=True)
    reuse_trainings(other.cells(), [first], told.append)
    assert not any(cell.is_trained() for cell in other.cells())
    assert told == [f"made or begun here before, and in {first.path}, too: 1 training"]
    reuse_trainings([StudyFolder(_planned(place, "empty", first)).cells()[0]], [other], told.append)
    assert told[1] == f"{other.path} has no training that is to be made here: no cell of the same key"
    slower = study(place, "slower", rate="1e-4")
    shutil.copytree(place / "store", tmp_path / "store")
    with pytest.raises(LramError, match="no cell is called 'none'"):
        ablate(slower, place / "slower", only=["none"], reuse=[first.path])
    keys = {cell.entry.key for cell in first.cells()}
    opened = StudyFolder(_planned(place, "alike", first))
    assert keys == {cell.entry.key for cell in opened.cells()}


def test_collected_trajectories_are_copied_whole_or_refused(tmp_path: Path, first: StudyFolder) -> None:
    other = StudyFolder(_planned(tmp_path, "other", first))
    store = other.path / "data" / "abcd1234"
    collect("random", "toy/reach", store, episodes=2, machine=Machine(workers=1))
    told: list[str] = []
    mine = tmp_path / "mine" / "data"
    reuse_store("abcd1234", mine, [other], told.append)
    assert not mine.exists(), "it is not whole there as long as its digest is not written"
    digest = TrajectoryStore(store).digest
    write_json(other.path / "data" / "abcd1234.json", {"digest": digest})
    reuse_store("abcd1234", mine, [first, other], told.append)
    assert TrajectoryStore(mine / "abcd1234").digest == digest
    assert (mine / "abcd1234.json").read_bytes() == (other.path / "data" / "abcd1234.json").read_bytes()
    assert told == [f"the trajectories abcd1234 are those of the study other: copied from {store}"]
    write_json(other.path / "data" / "abcd1234.json", {"digest": "0" * 64})
    with pytest.raises(LramError, match="have changed since they were collected; leave out --reuse"):
        reuse_store("abcd1234", tmp_path / "else", [other], told.append)
    assert not (tmp_path / "else").exists()


def test_an_items_folder_is_its_study_and_what_is_none_is_refused(tmp_path: Path, first: StudyFolder) -> None:
    (tmp_path / "item").mkdir()
    shutil.copytree(first.path, tmp_path / "item" / "study")
    [found] = opened_others([tmp_path / "item"], tmp_path / "mine")
    assert found.path == tmp_path / "item" / "study"
    with pytest.raises(LramError, match="which is this study itself; name another one"):
        opened_others([first.path], first.path)
    with pytest.raises(LramError, match="is not a study"):
        opened_others([tmp_path], tmp_path / "mine")


def test_precisions_have_no_use_for_it(tmp_path: Path) -> None:
    words = ["ablate", "precision", "-o", str(tmp_path / "out"), "--reuse", str(tmp_path)]
    with pytest.raises(LramError, match="--reuse has no meaning for a study of precisions"):
        app(words, exit_on_error=False, print_error=False)


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "file").write_text("text")
    (source / "lock").write_text("")
    left = tmp_path / ".target.1.lram-new"  # of a process that was killed
    left.mkdir()
    with pytest.raises(FileNotFoundError), copied_tree(source, target, ["inner/file", "absent"]):
        pass
    assert [one.name for one in tmp_path.iterdir()] == ["source"]
    with copied_tree(source, target, names_in(source)) as copy:
        (copy / "more").write_text("more")
    assert names_in(target) == ["inner/file", "more"]
    with pytest.raises(OSError, match="not empty"), copied_tree(source, target, names_in(source)):
        pass
    assert names_in(target) == ["inner/file", "more"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["source", "target"]
