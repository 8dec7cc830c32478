"""lram paper: every item has a plan whose studies and recipes hold, is run step by step, and continues.

One is run whole in test_ablation, which has the processes for it."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from lram.agents.checkpoints.folder import load_checkpoint
from lram.agents.checkpoints.shipped import shipped_checkpoints
from lram.agents.model.config import ModelConfig
from lram.agents.training.recipe import model_config
from lram.agents.training.recipe_text import recipe_from_dict
from lram.envs.registry import select
from lram.harness.cli import COMMANDS, app
from lram.harness.errors import LramError
from lram.harness.paper.items import SCALES, PaperItem, Scale, paper_item, paper_items
from lram.harness.paper.planning import PaperChoices, PaperPlan, merged, plan_item, toml_text, trainings
from lram.harness.paper.running import MARKER, PaperRecord, run_item
from lram.harness.storage.json_files import read_json
from lram.harness.studies.cells import cells_of
from lram.harness.studies.study import study_of

ITEMS = [item.key for item in paper_items() if not item.missing]


def planned(item: PaperItem, scale: Scale, folder: Path = Path("/out")) -> PaperPlan:
    """Return a plan with the data and the models that an item needs."""
    how = item.at(scale)
    text = " ".join(how.steps)
    models = ("some-model",) if "{models}" in text and not how.models else ()
    reads = not how.steps or any(word in text for word in ("{out}/study.toml", "{out}/recipe.toml", "{data:"))
    data = ("/store",) if scale == "full" and reads else ()
    return plan_item(item, folder, PaperChoices(scale, data=data, models=models))


@cache
def shipped_config(name: str) -> ModelConfig:
    return load_checkpoint(shipped_checkpoints()[name])[1].config


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("key", ITEMS)
def test_every_item_has_a_plan_whose_studies_recipes_and_options_hold(key: str, scale: Scale) -> None:
    plan = planned(paper_item(key), scale)
    if plan.study is not None:
        cells = cells_of(plan.study, {"/store": "digest"}, ["toy:lram@1"])
        for cell in cells:
            if not (beginning := cell.recipe.model.init_from):
                model_config(cell.recipe.model)
            elif scale == "laptop":  # a model that comes along, whose weights fit
                assert model_config(cell.recipe.model, shipped_config(beginning)) == shipped_config(beginning)
        assert len({cell.key for cell in cells}) == len(cells)
        assert select(list(plan.study.evaluation.tasks))
        # The file that is written is the study that was checked.
        assert study_of(tomllib.loads(plan.files["study.toml"]), "it", Path("/out")) == plan.study
        assert plan.study.figure is not None or key in ("state-tracking", "dark-room")
    if "recipe.toml" in plan.files:
        recipe = recipe_from_dict(tomllib.loads(plan.files["recipe.toml"]), "it")
        assert recipe.data.stores
    for step in plan.steps:
        assert "{" not in " ".join(step)
        bound = app.parse_args(list(step), exit_on_error=False, print_error=False)[1]
        assert step[0] in dict(COMMANDS)
        assert bound.arguments
    assert plan.steps[-1][0] == "report"


def test_what_is_not_there_yet_says_so_and_is_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    item = replace(paper_item("latency"), missing="the clock is broken")
    with pytest.raises(LramError, match="latency cannot be run yet: the clock is broken"):
        item.at("laptop")
    for one in paper_items():
        assert bool(one.missing) == (one.laptop is None) == (one.full is None), one.key
    app(["paper", "--json"], result_action="return_value")
    listed = json.loads(capsys.readouterr().out)
    assert [one["key"] for one in listed] == [item.key for item in paper_items()]
    for one in listed:
        assert set(one["scales"]) == (set() if one["missing"] else set(SCALES)), one["key"]
        assert all(how["takes"] and how["needs"] is not None for how in one["scales"].values())


def test_the_list_and_an_items_description_say_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    app(["paper", "--scale", "full"], result_action="return_value")
    text = capsys.readouterr().out
    count = trainings(paper_item("return-conditioning"))
    assert count == 4 * 4 * 3
    assert f"{count} trainings, {5 * count} to {8 * count} h of four A100" in text
    app(["paper", "return-conditioning"], result_action="return_value")
    text = capsys.readouterr().out
    assert "asks: Does a model act worse without returns-to-go" in text
    assert "at --scale full" in text
    assert "differs: One backbone" in text


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("size-swep -o x", "no item 'size-swep' here; did you mean size-sweep"),
        ("-o x", "name the item to run"),
        ("size-sweep --jobs 2", "name a folder with -o to run size-sweep"),
        ("size-sweep --scale full -o x", "name its stores with --data"),
        ("latency --data y -o x", "--data has no meaning for latency"),
        ("latency --set optimizer.updates=2 -o x", "--set has no meaning for latency"),
        ("size-sweep --model m -o x", "--model has no meaning for size-sweep"),
        ("extrapolation --scale full -o x", "name checkpoints with --model"),
        ("embeddings --scale full --model m -o x", "reads trajectories; name their stores with --data"),
        ("size-sweep --address a -o x", "add --backend ray"),
        ("size-sweep --seeds a -o x", "--seeds takes whole numbers"),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: str, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LramError, match=match):
        app(["paper", *words.split()], result_action="return_value")
    assert not list(tmp_path.iterdir())


def test_choices_take_the_place_of_what_an_item_has() -> None:
    choices = PaperChoices(
        data=("/mine",),
        tasks=("toy/reach",),
        settings=("optimizer.updates=40", "device=cuda"),
        seeds=(7,),
        episodes=2,
        jobs=3,
        cluster=("--backend", "ray"),
    )
    plan = plan_item(paper_item("learning-rate"), Path("/out"), choices)
    study = plan.study
    assert study is not None
    assert study.data.stores == ("/mine",)
    assert not study.data.collect
    assert (study.evaluation.tasks, study.evaluation.episodes, study.seeds) == (("toy/reach",), 2, (7,))
    [base, *_] = cells_of(study, {"/mine": "d"}, ["toy:lram@1"])
    # The item's 25 updates of warm-up would be most of 40.
    assert (base.recipe.optimizer.updates, base.recipe.optimizer.warmup_updates) == (40, 0)
    assert base.recipe.device == "cuda"
    assert plan.steps[0][-4:] == ("--jobs", "3", "--backend", "ray")
    played = plan_item(
        paper_item("extrapolation"), Path("/out"), PaperChoices(models=("a", "b"), tasks=("t", "u"))
    )
    assert [step[: step.index("-t") + 2] for step in played.steps[:2]] == [
        ("collect", "scripted", "scripted~0.15", "-t", "t,u"),
        ("extrapolate", "a", "b", "-t", "t,u"),
    ]


def test_stores_are_an_option_each_where_a_command_reads_them() -> None:
    choices = PaperChoices("full", data=("/a b", "/c"), models=("m",))
    plan = plan_item(paper_item("embeddings"), Path("/out"), choices)
    assert plan.steps[0][:6] == ("embed", "m", "-d", "/a b", "-d", "/c")


def test_a_folder_with_odd_letters_is_one_word_of_each_command_and_of_the_files() -> None:
    folder = Path('/some "where" {models} else')
    plan = plan_item(paper_item("fine-tuning"), folder, PaperChoices("full", data=("/store",)))
    assert plan.steps[0][-1] == f"{folder}/pretrained/xlstm-7-1"
    assert plan.study is not None
    [first, *_] = plan.study.axes[0].levels
    assert first.changes["model.init_from"] == f"{folder}/pretrained/xlstm-7-1/checkpoint"


def test_values_are_written_as_toml() -> None:
    plain = {
        "a": 1e-5,
        "b": [1, 2],
        "c": {"d": {"e": True}, "f": 'x "y"'},
        "g": [{"h": "i", "changes": {"j.k": 2, "l": [{"m": 1}]}, "n": [{"o": 3}]}],
    }
    assert tomllib.loads(toml_text(plain)) == plain
    assert merged({"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"c": [2, 3]}}) == {
        "a": {"b": 1, "c": [2, 3]},
        "d": 2,
    }


class Commands:
    """Stands for the command line: keeps what is given, makes the file that marks it begun, or fails."""

    def __init__(self, fails: str = "", code: int = 130) -> None:
        self.given: list[list[str]] = []
        self.fails, self.code = fails, code

    def __call__(self, words: Sequence[str]) -> int:
        self.given.append(list(words))
        if words[0] in ("latency", "train") and "-o" in words:
            folder = Path(words[words.index("-o") + 1])
            folder.mkdir(parents=True)
            (folder / {"latency": "latency.json", "train": "recipe.toml"}[words[0]]).write_text("{}")
        return self.code if words[0] == self.fails else 0


def quiet(line: str) -> None:
    pass


def test_an_item_continues_where_it_was_interrupted(tmp_path: Path) -> None:
    folder = tmp_path / "latency"
    choices = PaperChoices(models=("mamba-1M",))
    plan = plan_item(paper_item("latency"), folder, choices)
    first = Commands(fails="latency")
    assert run_item(plan, folder, choices, first, quiet) == 130
    assert [words[0] for words in first.given] == ["latency"]
    second = Commands(fails="report", code=2)
    assert run_item(plan, folder, choices, second, quiet) == 2
    assert second.given[0] == ["latency", "--resume", f"{folder}/sweep"]
    third = Commands()
    assert run_item(plan, folder, choices, third, quiet) == 0
    assert [words[0] for words in third.given] == ["report"]
    assert read_json(folder / MARKER, PaperRecord).ended == 2
    assert run_item(plan, folder, choices, (none := Commands()), quiet) == 0
    assert none.given == []


def test_a_folder_of_another_item_or_of_other_choices_is_not_taken(tmp_path: Path) -> None:
    folder, choices = tmp_path / "it", PaperChoices()
    plan = plan_item(paper_item("latency"), folder, choices)
    run_item(plan, folder, choices, Commands(), quiet)
    for key, given, match in (
        ("throughput", PaperChoices(), "has latency at --scale laptop, not throughput"),
        ("latency", PaperChoices("full"), "not latency at --scale full"),
        ("latency", PaperChoices(models=("mamba-1M",)), "was begun with other commands"),
    ):
        other = plan_item(paper_item(key), folder, given)
        with pytest.raises(LramError, match=match):
            run_item(other, folder, given, Commands(), quiet)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("dear")
    with pytest.raises(LramError, match=r"has other files and no paper\.json"):
        run_item(plan, tmp_path / "mine", choices, Commands(), quiet)
    # How many cells are made at a time, where, and what is taken from other studies, may change.
    studied = tmp_path / "study"
    reusing = PaperChoices(reuse=("/other", "/third"))
    assert plan_item(paper_item("actions"), studied, reusing).steps[0][-4:] == (
        *("--reuse", "/other"),
        *("--reuse", "/third"),
    )
    for more in (PaperChoices(), PaperChoices(jobs=2), PaperChoices(cluster=("--backend", "ray")), reusing):
        again = plan_item(paper_item("actions"), studied, more)
        assert run_item(again, studied, more, Commands(fails="ablate", code=1), quiet) == 1


def test_patterns_of_folders_are_filled_in_when_their_step_begins(tmp_path: Path) -> None:
    folder, choices = tmp_path / "rooms", PaperChoices()
    plan = plan_item(paper_item("dark-room"), folder, choices)
    with pytest.raises(
        LramError, match=r"nothing at .*/study/cells/\*/eval, which 'lram report' was to read"
    ):
        run_item(plan, folder, choices, Commands(), quiet)
    for cell in ("b", "a"):
        (folder / "study" / "cells" / cell / "eval").mkdir(parents=True)
    run_item(plan, folder, choices, (given := Commands()), quiet)
    assert given.given[0][2:4] == [f"{folder}/study/cells/{cell}/eval" for cell in ("a", "b")]


def test_the_list_and_the_help_load_nothing_heavy() -> None:
    code = (
        "import sys; from lram.harness.cli import app\n"
        "for words in (['paper', '--help'], ['paper']): app(words, result_action='return_value')\n"
        "sys.exit(', '.join(m for m in ('torch', 'matplotlib', 'h5py', 'gymnasium') if m in sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.stderr.strip() == ""


def test_the_command_ends_as_the_command_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(words: Sequence[str]) -> int:
        raise KeyboardInterrupt

    words = ["paper", "actions", "-o", str(tmp_path / "it")]
    for give, code, said in (
        (lambda words: 1, 1, "not ended; the same command continues actions in"),
        (interrupted, 130, "interrupted; the same command continues actions in"),
        (lambda words: 0, 0, f"actions: {tmp_path}/it/report"),
    ):
        monkeypatch.setattr("lram.harness.cli.give", give)
        assert app(words, result_action="return_value") == code
        assert said in capsys.readouterr().out
