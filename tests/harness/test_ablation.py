"""lram ablate: studies and their cells, what a cell measures, and studies that are interrupted or changed."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.ready import ready_children, ready_python
from support.ready.client import ADDRESS

from lram.agents.api import AgentError, AgentInfo, Episode, TaskSpec
from lram.agents.checkpoints.folder import load_checkpoint
from lram.agents.patterns import fits
from lram.agents.training.batches import Batch
from lram.agents.training.recipe import model_config
from lram.envs.errors import SelectionError
from lram.harness.cli import ablate as command
from lram.harness.cli import app
from lram.harness.collection.collect import collect
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine
from lram.harness.storage.json_files import read_json, write_json
from lram.harness.storage.seeds import evaluation_seed
from lram.harness.studies import child, running
from lram.harness.studies.cells import cells_of
from lram.harness.studies.copycat import counts
from lram.harness.studies.folder import CellFolder, StudyFolder
from lram.harness.studies.pace import CellPace, last_line
from lram.harness.studies.running import ablate
from lram.harness.studies.study import Study, read_study, shipped_studies, study_of
from lram.harness.studies.timing import RecordedLane, time_contexts
from lram.harness.timing.clock import Stopwatch

STUDY = """
name = "tiny"
question = "Does the study run?"
seeds = [0, 1]
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
updates = 30
warmup_updates = 5
learning_rate = 1e-3
[recipe.validation]
windows = 8
[recipe.saving]
state_updates = 5
trackers = []
[[axes]]
name = "past actions"
[[axes.levels]]
name = "off"
[[axes.levels]]
name = "on"
changes = { model.actions_in_context = true }
[data]
stores = ["store"]
[evaluation]
tasks = ["toy/reach"]
episodes = 2
[timing]
contexts = [10, 40]
batch = [1, 3]
decisions = 20
"""

STORES, PROTOCOLS = {"/a": "aa", "/b": "bb"}, ["toy:lram@1"]


@pytest.fixture(scope="module", autouse=True)
def _ready() -> Iterator[None]:
    with ready_children():
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    collect("random", "toy/reach", folder / "store", episodes=6, machine=Machine(workers=1))
    (folder / "tiny.toml").write_text(STUDY.replace("seeds = [0, 1]", "seeds = [0]"))
    return read_study(folder / "tiny.toml")


@pytest.fixture(scope="module")
def made(study: Study, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """The whole study, made by two processes at a time."""
    opened, failed = ablate(study, tmp_path_factory.mktemp("made") / "study", jobs=2)
    assert not failed, failed
    return opened


def text_of(study: Study) -> str:
    """Return the study's file, at home in any folder."""
    seeds = STUDY.replace("seeds = [0, 1]", "seeds = [0]")
    return seeds.replace('"store"', f'"{study.data.stores[0]}"')


def plain(**changes: Any) -> dict[str, Any]:
    import tomllib

    return {**tomllib.loads(STUDY), **changes}


def of(**changes: Any) -> Study:
    return study_of(plain(**changes), "a study", Path("/"))


def keys(study: Study, stores: dict[str, str] = STORES, protocols: list[str] = PROTOCOLS) -> dict[str, str]:
    return {cell.title: cell.key for cell in cells_of(study, stores, protocols)}


# What a study is


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 3}, "a study has a field seed that is not known"),
        ({"evaluation": {"tasks": ["toy/reach"], "episode": 3}}, "evaluation.episode that is not known"),
        ({"evaluation": {"tasks": ["toy/reach"], "episodes": 0}}, "evaluation.episodes does not fit"),
        ({"evaluation": {"tasks": []}}, "evaluation.tasks does not fit"),
        ({"seeds": [1, 1]}, "the seed 1 is there twice"),
        ({"data": {}}, "has no data"),
        ({"axes": [{"name": "a", "levels": [{"name": "one"}]}]}, "axes"),
        ({"axes": [{"name": "a", "levels": [{"name": "one"}, {"name": "one"}]}]}, "'one' is there twice"),
        ({"recipe": {"seed": 3}}, "sets recipe.seed"),
        (
            {"axes": [{"name": "a", "levels": [{"name": "x"}, {"name": "y", "changes": {"seed": 1}}]}]},
            "a level changes seed",
        ),
        ({"recipe": "missing.toml"}, "there is no recipe /missing.toml"),
    ],
)
def test_what_is_wrong_with_a_study_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((LramError, AgentError)) as error:
        of(**changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": "of"}, "about the level 'of', which no axis has; the levels are off, on"),
        ({"against": "on"}, "holds on against 'on'; name another level of"),
        ({"measure": "validation_loss", "against": "chance"}, "against chance, which only scores have"),
        (
            {"measure": "repeated_in_play"},
            "calls on worse in repeated_in_play, of which neither way is better",
        ),
        ({"within": 0.1}, "calls on worse within 0.1, and only what is called equal has a margin"),
    ],
)
def test_what_is_wrong_with_a_prediction_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    statement = {"level": "on", "measure": "score", "says": "worse"}
    assert of(prediction=[statement]).prediction[0].within == 0.1
    assert of(prediction=[{**statement, "says": "equal", "within": 0.3}]).prediction[0].within == 0.3
    with pytest.raises(LramError) as error:
        of(prediction=[{**statement, **changes}])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_change_that_fits_no_recipe_names_its_cell() -> None:
    levels = [{"name": "x"}, {"name": "y", "changes": {"model.wdith": 3}}]
    with pytest.raises(AgentError, match=r"tiny, y has a field model\.wdith that is not known"):
        keys(of(axes=[{"name": "a", "levels": levels}]))


def test_cells_are_the_full_product_and_changes_reach_the_recipe() -> None:
    axes = [
        *plain()["axes"],
        {
            "name": "blocks",
            "levels": [{"name": "1:0"}, {"name": "1:1", "changes": {"model.xlstm.slstm_at": [1]}}],
        },
    ]
    cells = cells_of(of(axes=axes), STORES, PROTOCOLS)
    assert [(cell.levels, cell.seed) for cell in cells] == [
        (levels, seed)
        for seed in (0, 1)
        for levels in (("off", "1:0"), ("off", "1:1"), ("on", "1:0"), ("on", "1:1"))
    ]
    last = cells[-1].recipe
    assert last.seed == 1
    assert last.data.stores == ("/a", "/b")
    # A change of one field of a section leaves the others as they are.
    assert last.model.overrides["xlstm"] == {"heads": 2, "slstm_at": [1]}
    assert last.model.overrides["actions_in_context"] is True
    assert len({cell.key for cell in cells}) == len({cell.folder for cell in cells}) == 8


def test_a_recipe_file_is_read_without_its_name_seed_and_stores(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        'name = "base"\nseed = 7\n[model]\npreset = "mamba-1M"\n[data]\nstores = ["elsewhere"]\n'
    )
    study = study_of(plain(recipe="base.toml"), "a study", tmp_path)
    cells = cells_of(study, STORES, PROTOCOLS)
    assert {cell.recipe.seed for cell in cells} == {0, 1}
    assert {cell.recipe.data.stores for cell in cells} == {("/a", "/b")}


def test_a_level_s_renamed_preset_is_today_s_however_the_base_is_read(tmp_path: Path) -> None:
    levels = [{"name": "base"}, {"name": "named", "changes": {"model.preset": "transformer-1M"}}]
    axes = [{"name": "a", "levels": levels}]
    (tmp_path / "base.toml").write_text('[model]\npreset = "transformer-1M"\n')
    old = {"tasks": ["*"], "policies": ["*"], "top_fraction": 1.0, "validation_share": 0.025, "seed": 1}
    inline = {"model": {"preset": "transformer-1M"}}
    for recipe, base in (
        ("base.toml", "transformer[recompute]-1M"),
        (inline, "transformer[recompute]-1M"),
        ({**inline, "data": {"stores": [], **old}}, "transformer[ring]-1M"),  # as an earlier version wrote
    ):
        cells = cells_of(study_of(plain(recipe=recipe, axes=axes), "s", tmp_path), STORES, PROTOCOLS)
        assert [cell.recipe.model.preset for cell in cells[:2]] == [base, "transformer[recompute]-1M"]


def test_a_level_may_change_the_backbone_of_a_preset() -> None:
    levels = [{"name": "xlstm"}, {"name": "gru", "changes": {"model.backbone": "gru"}}]
    recipe = {"model": {"preset": "xlstm-1M", "xlstm": {"heads": 2}}}
    cells = cells_of(of(recipe=recipe, axes=[{"name": "a", "levels": levels}]), STORES, PROTOCOLS)
    assert [model_config(cell.recipe.model).kind for cell in cells[:2]] == ["xlstm", "gru"]
    assert len({model_config(cell.recipe.model).width for cell in cells}) == 1
    heads = {"name": "b", "levels": [{"name": "1"}, {"name": "4", "changes": {"model.xlstm.heads": 4}}]}
    both = cells_of(of(recipe=recipe, axes=[{"name": "a", "levels": levels}, heads]), STORES, PROTOCOLS)
    with pytest.raises(AgentError, match="exactly one"):  # what a level says is never left out
        model_config(both[3].recipe.model)


@pytest.mark.parametrize("name", shipped_studies())
def test_a_shipped_study_is_one_and_its_levels_differ(name: str) -> None:
    found = read_study(name)
    assert found.question
    cells = cells_of(found, STORES, PROTOCOLS)
    assert len(cells) == len(found.seeds) * np.prod([len(axis.levels) for axis in found.axes])
    assert len({cell.key for cell in cells}) == len(cells)


# When a cell is the same cell


def test_a_cells_key_holds_what_decides_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(of())
    assert len(set(before.values())) == 4
    for changed in (
        of(evaluation={"tasks": ["toy/reach"], "episodes": 3}),
        of(timing={"contexts": [10], "batch": [1]}),
        of(recipe={**plain()["recipe"], "optimizer": {"updates": 31, "warmup_updates": 5}}),
    ):
        assert not set(keys(changed).values()) & set(before.values())
    assert not set(keys(of(), {**STORES, "/b": "cc"}).values()) & set(before.values())
    assert not set(keys(of(), protocols=["toy:lram@2"]).values()) & set(before.values())
    monkeypatch.setattr("lram.harness.studies.cells.version", lambda name: "0.0 of another PyTorch")
    assert not set(keys(of()).values()) & set(before.values())


def test_names_places_other_levels_and_other_seeds_make_no_other_cells() -> None:
    before = keys(of())
    axes = plain()["axes"]
    axes[0]["levels"].append({"name": "no rewards", "changes": {"model.rewards_in_context": False}})
    later = keys(of(name="larger", question="?", seeds=[1, 0, 2], axes=axes))
    assert before.items() <= later.items()
    assert keys(of(), {"/c": "aa", "/d": "bb"}) == before
    # A field that says what is usual anyway says nothing.
    recipe = plain()["recipe"]
    recipe["optimizer"]["weight_decay"] = 0.01
    assert keys(of(recipe=recipe)) == before


# Which initial states a cell is evaluated on


def test_the_levels_of_a_training_seed_share_their_initial_states_and_no_seeds_do() -> None:
    cells = cells_of(of(seeds=[0, 1, 2]), STORES, PROTOCOLS)
    by_seed = {seed: {cell.evaluation_seed for cell in cells if cell.seed == seed} for seed in (0, 1, 2)}
    assert [len(found) for found in by_seed.values()] == [1, 1, 1]
    assert len(set.union(*by_seed.values())) == 3
    other = of(evaluation={**plain()["evaluation"], "seed": 5})
    assert not {cell.evaluation_seed for cell in cells_of(other, STORES, PROTOCOLS)} & set.union(
        *by_seed.values()
    )


def test_a_study_of_an_earlier_version_keeps_its_keys_and_is_continued_by_its_own_rule(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_work", lambda *arguments: [])
    own, _ = ablate(study, tmp_path / "new")
    shared = cells_of(study, own.plan.stores, own.plan.protocols, own_starts=False)
    assert {cell.evaluation_seed for cell in shared} == {None}
    assert not {cell.key for cell in shared} & {cell.key for cell in own.plan.cells}
    # Such a folder's plan has no such field.
    folder = tmp_path / "old"
    folder.mkdir()
    file = own.path / "study.json"
    content = read_json(file, dict[str, Any])
    del content["checksum"]
    for entry, cell in zip(content["cells"], shared, strict=True):
        del entry["evaluation_seed"]
        entry.update(key=cell.key, folder=cell.folder)
    write_json(folder / "study.json", content)
    said: list[str] = []
    opened, _ = ablate(replace(study, seeds=(0, 1)), folder, say=said.append)
    assert said[0] == running.SHARED_STARTS
    assert not opened.plan.own_starts
    assert {cell.key for cell in shared} < {cell.key for cell in opened.plan.cells}
    assert {cell.evaluation_seed(study.evaluation) for cell in opened.cells()} == {0}


def test_a_plan_with_the_evaluation_seed_of_another_cell_is_refused(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_work", lambda *arguments: [])
    opened, _ = ablate(study, tmp_path / "study")
    first, *rest = opened.plan.cells
    for seed in (None, 7):
        changed = replace(opened.plan, cells=(replace(first, evaluation_seed=seed), *rest))
        write_json(opened.path / "study.json", changed)
        with pytest.raises(LramError, match="does not follow from its training seed"):
            StudyFolder(opened.path)


# What a cell measures


def batch(classes: list[list[list[int]]], lengths: list[int], sizes: int) -> Batch:
    taken = torch.tensor(classes)
    there = torch.arange(taken.shape[1]) < torch.tensor(lengths)[:, None]
    mask = there[:, :, None] & (torch.arange(taken.shape[2]) < sizes)
    none = torch.zeros(len(lengths))
    return Batch("toy", none, none, none, taken, mask, none.long(), torch.tensor(lengths), none.long())


def test_copying_is_counted_where_a_decision_and_the_one_before_are_there() -> None:
    # Two dimensions of three are the task's; the last timestep of the second window is padding.
    one = [[20, 30, 0], [20, 30, 1], [22, 30, 2], [22, 34, 3]]
    two = [[40, 40, 0], [40, 40, 0], [41, 40, 0], [41, 40, 0]]
    data = batch([one, two], [4, 3], 2)
    copy = torch.cat([data.classes[:, :1], data.classes[:, :-1]], dim=1)
    decisions, repeated, theirs, both, right, changes, moved, data_moved, missed = counts(copy, data).sum(0)
    assert (decisions, repeated, theirs, both) == (5, 5, 2, 2)
    assert (right, changes) == (2, 0)  # a copycat is right where the data repeats itself, and nowhere else
    assert moved == 0
    assert data_moved == missed == (2 / 2 + 4 / 2 + 1 / 2) * 2 / 256
    perfect = counts(data.classes, data).sum(0).tolist()
    assert perfect[1:6] == [2, 2, 2, 5, 3]
    assert perfect[8] == 0


def test_discrete_copies_are_equal_actions() -> None:
    data = batch([[[3], [3], [5], [5]]], [4], 1)
    found = counts(torch.tensor([[[0], [3], [3], [1]]]), data)[0].tolist()
    assert found == [3, 2, 2, 1, 1, 0, 1, 1, 2]


class Sleeper:
    """An agent that takes a known time of a clock of its own, and notes what it is shown."""

    info = AgentInfo("baseline", "sleeps")

    def __init__(self, seconds: float) -> None:
        self.seconds, self.seen, self.calls, self.now = seconds, [], 0, 0.0

    def start(self, lanes: int) -> int:
        self.calls = 0
        return lanes

    def reset(self, state: int, lanes: list[int], episodes: list[Episode]) -> None:
        pass

    def act(self, state: int, observations: list[Any], rewards: list[float], lanes: list[int]) -> Any:
        self.calls += 1
        self.seen.append(tuple(float(one[0]) for one in observations))
        self.now += self.seconds
        return [0 for _ in lanes], state

    def state_bytes(self, state: int) -> int:
        return 7 * self.calls


def test_a_decision_is_timed_as_long_as_it_takes_after_its_context_was_read() -> None:
    spec = TaskSpec("toy/x", "toy", "vector", (1,), "discrete", 4, None, 1.0)
    observations = np.arange(9, dtype=np.float32)[:, None]
    lanes = [
        RecordedLane(Episode(spec, n), observations, np.zeros(8), first) for n, first in enumerate((0, 5))
    ]
    agent = Sleeper(0.02)
    watch = Stopwatch(clock=lambda: round(1e9 * agent.now))
    [point] = time_contexts(agent, lanes, [12], 5, watch)  # type: ignore[arg-type]
    assert point.ms == pytest.approx([20] * 5)
    assert (point.batch, point.context, len(point.ms)) == (2, 12, 5)
    # Inputs continue through the episode, lane by lane from places of their own.
    assert agent.seen[:5] == [(0, 5), (1, 6), (2, 7), (3, 0), (4, 1)]
    assert agent.calls == 12 + 5
    assert len(agent.seen) == 20 + 12 + 5, "twenty decisions warm up, and have read beyond the context"


def test_an_agent_goes_on_to_the_next_context_unless_it_has_read_beyond_it() -> None:
    spec = TaskSpec("toy/x", "toy", "vector", (1,), "discrete", 4, None, 1.0)
    agent = Sleeper(0.02)
    lane = RecordedLane(Episode(spec, 0), np.zeros((9, 1), np.float32), np.zeros(8), 0)
    points = time_contexts(agent, [lane], [30, 33, 50], 5)  # type: ignore[arg-type]
    assert [point.context for point in points] == [30, 33, 50]
    # 30 and its five; anew to 33 and its five; on to 50 and its five.
    assert len(agent.seen) == (30 + 5) + (33 + 5) + (50 - 38 + 5)
    assert points[-1].state_bytes == 7 * 55


# A study as a whole


@pytest.mark.slow
def test_every_cell_is_trained_evaluated_and_measured(made: StudyFolder) -> None:
    cells = made.cells()
    assert [cell.entry.title for cell in cells] == ["off, seed 0", "on, seed 0"]
    for cell in cells:
        _, meta = load_checkpoint(cell.checkpoint)
        assert meta.config.actions_in_context == (cell.entry.levels == ("on",))
        run, copies, times, done = cell.run(), cell.copies(), cell.times(), cell.done()
        assert run is not None
        assert copies is not None
        assert times is not None
        assert done is not None
        assert [record.status for record in run.records()] == ["scored"] * 2
        assert copies.tasks[0].task == "toy/reach"
        assert copies.tasks[0].decisions > 0
        measured = [(point.batch, point.context, len(point.ms)) for point in times.points]
        assert measured == [(1, 10, 20), (1, 40, 20), (3, 10, 20), (3, 40, 20)]
        assert done.parameters == load_checkpoint(cell.checkpoint)[0].parameter_count
        assert set(done.seconds) == {"train", "eval", "copycat", "timing"}
    runs = [cell.run() for cell in cells]
    assert [run.plan.seed for run in runs if run] == [evaluation_seed(0, 0)] * 2
    seeds = [[record.seed for record in run.records()] for run in runs if run]
    assert all(one == seeds[0] for one in seeds), "cells meet the same initial states"


def modified(cell: CellFolder) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in sorted(cell.path.rglob("*.json*"))}


@pytest.mark.slow
def test_a_changed_study_keeps_the_cells_of_the_same_content(
    study: Study, made: StudyFolder, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(made.path, folder)
    before = [modified(cell) for cell in StudyFolder(folder).cells()]
    more = replace(study, name="another name", seeds=(2, 0))
    said: list[str] = []
    opened, failed = ablate(more, folder, only=["seed 0"], say=said.append)
    assert not failed
    assert said == ["2 cells: off, seed 0; on, seed 0", "2 of 2 cells made already"]
    by_title = {cell.entry.title: cell for cell in opened.cells()}
    assert len(by_title) == 4
    again = [modified(by_title[title]) for title in ("off, seed 0", "on, seed 0")]
    assert again == before
    assert by_title["on, seed 2"].stage() == "train"


@pytest.mark.slow
def test_a_killed_study_goes_on_and_its_cell_is_that_of_one_that_was_not(
    study: Study, made: StudyFolder, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    # A fork's parent is the driver itself: the process of a ready child is killed with its parent.
    code = (
        "import os, sys; from support import forked; forked.install(); print(os.getpid(), flush=True); "
        "from lram.harness.studies.running import ablate; "
        "from lram.harness.studies.study import read_study; "
        "ablate(read_study(sys.argv[1]), sys.argv[2], only=['off, seed 0'])"
    )
    slow = tmp_path / "tiny.toml"
    slow.write_text(text_of(study))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    del environment[ADDRESS]
    command = [*ready_python(), "-c", code, str(slow), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    driver = int(process.stdout.readline())
    states = folder / "cells"
    while not list(states.glob("off-seed0-*/train/state/*")) and process.poll() is None:
        time.sleep(0.005)
    with suppress(ProcessLookupError):
        os.kill(driver, signal.SIGKILL)
    process.communicate()
    # The child sees that its parent is gone, saves its state and ends; the next one waits for it.
    opened, failed = ablate(study, folder, only=["off, seed 0"])
    assert not failed
    mine, theirs = opened.cells()[0], made.cells()[0]
    assert mine.entry.key == theirs.entry.key
    assert load_checkpoint(mine.checkpoint)[1].digest == load_checkpoint(theirs.checkpoint)[1].digest
    assert mine.copies() == theirs.copies()
    one, other = mine.run(), theirs.run()
    assert one is not None
    assert other is not None
    assert [r.trajectory for r in one.records()] == [r.trajectory for r in other.records()]


@pytest.mark.slow
def test_a_cell_that_fails_is_told_and_the_others_are_made(
    study: Study, made: StudyFolder, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(made.path, folder)
    broken, whole = (StudyFolder(folder).cells()[place] for place in (0, 1))
    (broken.path / "done.json").unlink()
    (broken.path / "timing.json").unlink()
    (broken.checkpoint / "model.safetensors").write_bytes(b"no weights")
    (whole.path / "done.json").unlink()
    opened, failed = ablate(study, folder, only=["seed 0"])
    assert [one.cell.entry.title for one in failed] == ["off, seed 0"]
    assert "model.safetensors is damaged or incomplete" in failed[0].reason
    assert opened.cells()[1].done() is not None


@pytest.mark.slow
def test_an_evaluation_that_was_interrupted_begins_again_in_a_folder_that_was_moved(
    study: Study, made: StudyFolder, tmp_path: Path
) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(made.path, folder)
    cell = StudyFolder(folder).cells()[0]
    for name in ("done.json", "copycat.json", "timing.json"):
        (cell.path / name).unlink()
    [segment] = (cell.eval / "records").glob("*.jsonl")
    first, *_ = segment.read_bytes().splitlines()
    segment.write_bytes(first + b"\n")
    opened, failed = ablate(study, folder, only=["off, seed 0"])
    assert not failed, failed
    run, before = opened.cells()[0].run(), made.cells()[0].run()
    assert run is not None
    assert before is not None
    assert run.plan.agents[0].spec == str(cell.checkpoint.resolve())
    assert [r.trajectory for r in run.records()] == [r.trajectory for r in before.records()]


def test_a_level_is_named_by_its_brackets_too() -> None:
    assert fits("xlstm[7:1]", "xlstm[7:1]")
    assert fits("on, seed 1", "on*")
    assert not fits("on, seed 1", "o")


@pytest.mark.slow
def test_one_folder_is_one_studys_and_one_process_at_a_time(
    study: Study, made: StudyFolder, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(LramError, match="holds something else than a study"):
        ablate(study, tmp_path)
    with running.held(made.path / "lock"), pytest.raises(LramError, match="is in use by another process"):
        ablate(study, made.path)
    with pytest.raises(LramError, match="no cell is called 'of'; there are 'off, seed 0'"):
        ablate(study, made.path, only=["of"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation": {"tasks": ["toy/rech"]}}, "'toy/rech'; did you mean 'toy/reach'"),
        ({"agents": ["scriptd"]}, "scriptd"),
        ({"tasks": ["toy/h*"]}, "only tasks that are made to fail"),
        ({"tasks": ["toy/raech"]}, "'toy/raech'; did you mean 'toy/reach'"),
        ({"protocols": {"toy": "none"}}, "none"),
        ({"recipe": {"model": {"preset": "xlstm-1N"}}}, "'off, seed 0': there is no model preset 'xlstm-1N'"),
        ({"level": {"model.xlstm.haeds": 3}}, "xlstm.haeds"),
        ({"level": {"optimizer.update": 3}}, "optimizer.update that is not known; did you mean"),
        ({"level": {"optimizer.updates": 0}}, "optimizer.updates does not fit"),
        ({"level": {"model.init_from": "/none"}}, "'on, seed 0': model.init_from names /none"),
        (
            {"level": {"data.tasks": ["toy/lives"]}},
            "data.tasks = toy/lives, and the study's data are of toy/reach",
        ),
        ({"only": ["of"]}, "no cell is called 'of'; there are 'off, seed 0'"),
        ({"name": "on|off"}, "'on|off, seed 0' cannot label its model"),
        ({"name": "o\x07n"}, r"'o\x07n, seed 0' cannot label its model"),
    ],
)
def test_a_bad_name_in_a_study_is_told_before_anything_is_collected(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def collected(*_: object, **__: object) -> None:
        raise AssertionError("data are collected for a study that cannot be trained")

    monkeypatch.setattr(running, "collect", collected)
    asked = {"agents": ["random"], "tasks": ["toy/reach"], "episodes": 3}
    asked |= {name: changes[name] for name in ("agents", "tasks", "protocols") if name in changes}
    made = {"data": {"collect": [asked]}} | {k: changes[k] for k in ("evaluation", "recipe") if k in changes}
    if "level" in changes or "name" in changes:
        levels = [{"name": "off"}, {"name": changes.get("name", "on"), "changes": changes.get("level", {})}]
        made["axes"] = [{"name": "axis", "levels": levels}]
    said: list[str] = []
    with pytest.raises((LramError, AgentError, SelectionError)) as error:
        ablate(of(**made), tmp_path / "study", only=changes.get("only", ()), say=said.append)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "study" / "data").exists()


def test_the_cells_are_listed_before_data_are_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_work", lambda *arguments: [])
    asked = {"collect": [{"agents": ["random"], "tasks": ["toy/reach"], "episodes": 2}]}
    said: list[str] = []
    ablate(of(data=asked), tmp_path / "study", only=["seed 1"], say=said.append)
    assert said[:2] == ["2 cells: off, seed 1; on, seed 1", "collecting 2 episodes a task of random"]


def test_the_time_left_is_that_of_measured_cells(made: StudyFolder, tmp_path: Path) -> None:
    pace = CellPace("make")
    assert pace.words(4, [], 1) == ", time left: measuring"
    pace.add(60.0)
    pace.add(120.0)
    assert pace.left(3, [30.0, 100.0], 2) == (3 * 90 + 60) / 2
    assert pace.words(0, [], 2) == ""
    seconds = [done.seconds for cell in made.cells() if (done := cell.done()) is not None]
    known = CellPace("time", made.cells()).left(1, [], 1)
    assert known == pytest.approx(np.mean([one["timing"] for one in seconds]))
    log = tmp_path / "log.txt"
    assert last_line(log) == ""
    log.write_text("first\nupdate 3/9, about 2 min left\n")
    assert last_line(log) == "update 3/9, about 2 min left"


def test_a_level_with_few_updates_takes_the_default_warm_up_along(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('[model]\npreset = "mamba-1M"\n')
    levels = [{"name": "long"}, {"name": "short", "changes": {"optimizer.updates": 100}}]
    found = study_of(plain(recipe="base.toml", axes=[{"name": "a", "levels": levels}]), "a study", tmp_path)
    assert [cell.recipe.optimizer.warmup_updates for cell in cells_of(found, STORES, PROTOCOLS)][:2] == [
        667,
        2,
    ]


def test_a_study_collects_its_data_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"collect": [{"agents": ["random"], "tasks": ["toy/reach"], "episodes": 3}]}
    monkeypatch.setattr(running, "_work", lambda *arguments: [])
    first, _ = ablate(of(data=asked), tmp_path / "study")
    said: list[str] = []
    second, _ = ablate(of(data=asked), tmp_path / "study", say=said.append)
    assert second.plan == first.plan
    assert said == ["4 cells: off, seed 0; on, seed 0; off, seed 1; on, seed 1"]
    [(store, digest)] = first.plan.stores.items()
    assert Path(store).parent == tmp_path.resolve() / "study" / "data"
    more = {"collect": [*asked["collect"], {**asked["collect"][0], "seed": 1}]}
    third, _ = ablate(of(data=more), tmp_path / "study")
    assert third.plan.stores[store] == digest
    assert len(third.plan.stores) == 2


def lram(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        app([str(argument) for argument in arguments], exit_on_error=False, print_error=False)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_the_command_shows_cells_and_lists_shipped_studies(
    study: Study, made: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(text_of(study))
    assert lram("ablate", file, "-o", made.path) == 0
    shown = capsys.readouterr().out
    assert shown.count("done") == 2
    assert f"next: lram report {made.path}" in shown
    assert lram("ablate", "--list") == 0
    assert "slstm-ratio" in capsys.readouterr().out


def test_the_command_that_continues_a_study_has_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", interrupted)
    monkeypatch.setattr(command, "ablate_precisions", interrupted)
    monkeypatch.setattr(command.ClusterOptions, "chosen", interrupted)
    cells = ["--jobs", "2", "--only", "off, seed 0", "--only", "seed 1", "--reuse", "/made before", "--trust"]
    models = ["--checkpoint", "small-mamba", "--checkpoint", "a=small-xlstm[1:0]"]
    ray = ["--backend", "ray", "--address", "h:1", "--job-cpus", "2", "--job-cpus", "toy=1"]
    for name, options in (("slstm-ratio", [*cells, *ray]), ("precision", [*models, *ray])):
        assert lram("ablate", name, "-o", tmp_path / "my study", *options) == 130
        said = capsys.readouterr().out.strip().partition("the same command continues: ")[2]
        assert shlex.split(said) == ["lram", "ablate", name, "-o", str(tmp_path / "my study"), *options]


def test_no_study_of_that_name_is_told_with_those_there_are() -> None:
    with pytest.raises(LramError, match=r"there is no study nothing; .* actions-in-context"):
        read_study("nothing")


def test_what_is_of_another_cell_is_refused_by_name(made: StudyFolder, tmp_path: Path) -> None:
    for name, said in (
        ("copycat.json", "has the key"),
        ("timing.json", "has the key"),
        ("done.json", "has the key"),
        ("eval", "it plays"),
    ):
        folder = tmp_path / name
        shutil.copytree(made.path, folder)
        one, other = StudyFolder(folder).cells()[:2]
        for swapped in ((one.path / name, folder / "x"), (other.path / name, one.path / name)):
            swapped[0].rename(swapped[1])
        with pytest.raises(LramError, match=rf"{name} is not of the cell.*{said}"):
            (one.copies(), one.times(), one.done(), one.run())


def test_an_evaluation_with_another_seed_is_refused(made: StudyFolder, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(made.path, folder)
    file = folder / "cells" / made.cells()[0].entry.folder / "eval" / "run.json"
    plan = read_json(file, dict[str, Any])
    del plan["checksum"]
    write_json(file, {**plan, "seed": plan["seed"] + 1})
    with pytest.raises(LramError, match=r"eval is not of the cell .* has seed"):
        StudyFolder(folder).cells()[0].run()


@pytest.mark.parametrize("name", ["study.json", "lock", "data"])
def test_a_user_s_folder_is_not_taken_for_a_study(name: str, study: Study, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    (tmp_path / "lock").touch()
    with pytest.raises(LramError):
        ablate(study, tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert {file.name for file in tmp_path.iterdir()} == {name, "lock"}


@pytest.mark.parametrize("name", ["cells", "train", "eval", "log.txt"])
def test_a_link_in_a_study_leads_nowhere(name: str, made: StudyFolder, study: Study, tmp_path: Path) -> None:
    folder, outside = tmp_path / "study", tmp_path / "outside"
    shutil.copytree(made.path, folder)
    cell = StudyFolder(folder).cells()[0].path
    place = folder / name if name == "cells" else cell / name
    (cell / "done.json").unlink()
    place.rename(outside)
    place.symlink_to(outside)
    before = hashes(outside)
    with pytest.raises(LramError, match="is a link"):
        ablate(study, folder, only=["off, seed 0"])
    assert hashes(outside) == before


def hashes(place: Path) -> dict[str, bytes]:
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    return {str(file): file.read_bytes() for file in files}


@pytest.mark.slow
def test_an_item_of_the_paper_runs_to_its_report(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [  # as the study above, whose kernels are compiled
        *("model.width=16", "model.layers=2", "model.xlstm.heads=2", "optimizer.updates=2"),
        *("sampling.context=5", "sampling.sequences=3", "validation.windows=8", "data.validation_share=0.3"),
    ]
    words = [
        "paper",
        "actions",
        "-o",
        "it",
        "--data",
        study.data.stores[0],
        "--tasks",
        "toy/reach",
        "-n",
        "1",
    ]
    words += ["--seeds", "0", *(word for one in small for word in ("--set", one))]
    assert app(words, result_action="return_value") == 0
    assert f"actions: {tmp_path}/it/report" in capsys.readouterr().out
    written = read_study(tmp_path / "it" / "study.toml")
    assert [level.name for level in written.axes[0].levels] == ["off", "on"]
    page = (tmp_path / "it" / "report" / "index.html").read_text()
    assert "actions in context: against past actions" in page
    points = (tmp_path / "it" / "report" / "tables" / "study_points.csv").read_text()
    assert points.count("normalised score,") == points.count("validation perplexity,") == 2
    # Its commands have ended: the same one gives none again.
    monkeypatch.setattr("lram.harness.cli.give", None)
    assert app(words, result_action="return_value") == 0


@pytest.mark.parametrize(("device", "workers"), [("cpu", 1), ("cuda:1", None)])
def test_a_cell_is_evaluated_where_it_was_trained(
    made: StudyFolder, device: str, workers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Machine] = []
    monkeypatch.setattr(child, "resume", lambda run, machine, progress: given.append(machine))
    child._evaluate(made.cells()[0], made.plan.study, device)
    assert [(machine.device, machine.workers) for machine in given] == [(device, workers)]
