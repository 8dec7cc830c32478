"""Trainings in reports: written here in the trainer's format, and once by the trainer itself."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file
from support.undrawn import undrawn

from lram.agents.model.config import config_to_dict
from lram.agents.model.presets import parse_preset
from lram.agents.training.recipe import recipe_digest, recipe_to_dict
from lram.agents.training.recipe_text import read_recipe, render_recipe
from lram.harness.cli import main
from lram.harness.errors import LramError
from lram.reports import load_trainings, summarise, summary_json, write_report
from lram.reports.csv_files import csv_files
from lram.reports.drawing import render, style_of
from lram.reports.evidence.trainings import Training
from lram.reports.rendering import words
from lram.reports.rendering.markdown import markdown
from lram.reports.rendering.page import page
from lram.reports.section import Section
from lram.reports.sections.training.figures import draw
from lram.reports.sections.training.tables import tables
from lram.reports.summary.trainings import results as training_results

DOMAINS = ("atari", "metaworld", "procgen")


@dataclass
class Made:
    """A training run of the trainer's format; every argument that a test may care about shows."""

    preset: str = "xlstm[7:1]-1M"
    updates: int = 40
    of_updates: int = 40
    seed: int = 0
    every: int = 10
    store: str = "5" * 64
    settings: Sequence[str] = ()
    domains: Sequence[str] = DOMAINS
    context: int = 20
    level: float = 1.0
    tokens: int = 1000
    finished: bool = True
    state: bool = True
    copies: int | None = 0
    earlier: dict[str, Any] | None = None
    machine: dict[str, Any] = field(default_factory=lambda: {"cpu": "Example CPU", "cores": 2, "gpu": ""})

    def write(self, folder: Path) -> Path:
        settings = [
            f"model.preset={self.preset}",
            f"optimizer.updates={self.of_updates}",
            f"seed={self.seed}",
        ]
        settings += ["data.stores=stores/demo", "optimizer.warmup_updates=2", *self.settings]
        recipe = read_recipe(None, settings)
        folder.mkdir(parents=True)
        (folder / "recipe.toml").write_text(render_recipe(recipe))
        lines = b"".join(msgspec.json.encode(line) + b"\n" for line in self.lines())
        (folder / "metrics.jsonl").write_bytes(lines)
        config = parse_preset(self.preset)
        model, origin = config_to_dict(config), {}
        if self.earlier is not None:
            origin = {"checkpoint": "runs/before/checkpoint", "digest": "7" * 64}
        if self.finished:
            card = {
                "made_by": "lram train",
                "recipe": recipe_to_dict(recipe),
                "recipe_digest": recipe_digest(recipe),
                "init_from": origin,
                "data": {
                    "stores": [{"path": "stores/demo", "digest": self.store}],
                    **(
                        {}
                        if self.copies is None
                        else {"trajectories": self.split(self.copies) | (self.earlier or {})}
                    ),
                },
                "parameters": 1_029_320,
                "processes": 1,
                "machine": self.machine,
            }
            checkpoint = folder / "checkpoint"
            checkpoint.mkdir()
            config_file = {"format": "lram-checkpoint", "version": 1, "trained": True}
            (checkpoint / "config.json").write_text(json.dumps({**config_file, "model": model, "card": card}))
            weights = np.random.default_rng([self.seed, len(self.preset)]).normal(size=(3, 2))
            save_file({"w": weights.astype(np.float32)}, checkpoint / "model.safetensors")
        elif self.state:
            state = folder / "state" / f"update-{self.updates:08d}"
            state.mkdir(parents=True)
            told = {"model": model, "stores": [self.store], "processes": 1, "origin": origin}
            (state / "state.json").write_text(json.dumps({"update": self.updates, **told}))
        return folder

    @staticmethod
    def split(copies: int) -> dict[str, Any]:
        counts = {"training": 40, "different": 31, "validation": 8, "validation_in_training": copies}
        return {"unit": "trajectory", **counts, "digests": ""}

    def lines(self) -> list[dict[str, Any]]:
        found, rng = [self.validation(0)], np.random.default_rng(self.seed)
        step = max(1, self.every // 5)
        for update in range(step, self.updates + 1, step):
            domains = {
                name: self.measures(update, place, 0.08 * float(rng.normal()))
                for place, name in enumerate(self.domains)
            }
            time = {
                "seconds": 0.1 * update,
                "tokens_per_second": self.tokens / 0.1,
                "waiting_share": 0.25 if update <= self.updates // 2 else 0.75,
            }
            line = {"kind": "train", "update": update, "learning_rate": 1e-4, "gradient_norm": 1.0}
            loss = sum(one["loss"] for one in domains.values()) / len(domains)
            found.append({**line, "loss": loss, "domains": domains, "timesteps": 100 * step, "time": time})
            if update % self.every == 0:
                found.append(self.validation(update))
        return found

    def measures(self, update: int, place: int, noise: float = 0.0) -> dict[str, float]:
        loss = (0.4 + 0.3 * place) * self.level + 4.5 * math.exp(-update / (0.12 * self.of_updates))
        loss = max(0.01, loss * (1 + noise))
        return {
            "loss": loss,
            "perplexity": math.exp(loss),
            "top1": math.exp(-loss),
            "action_error": 0.1 * loss,
        }

    def validation(self, update: int) -> dict[str, Any]:
        domains = {name: self.measures(update, place, 0.04) for place, name in enumerate(self.domains)}
        mean = {
            name: sum(one[name] for one in domains.values()) / len(domains)
            for name in domains[self.domains[0]]
        }
        positions = {
            name: [one["loss"] * (1 + 0.5 * math.exp(-t / 6)) for t in range(self.context)]
            for name, one in domains.items()
        }
        tasks = {f"{name}/one": one for name, one in domains.items()}
        body = {"domains": domains, "tasks": tasks, "positions": positions, "time": {"seconds": 1.0}}
        return {"kind": "validation", "update": update, **mean, **body}


@pytest.fixture
def make(tmp_path: Path):
    def make(label: str, **how: Any) -> str:
        return f"{label}={Made(**how).write(tmp_path / 'trained' / label)}"

    return make


def table(trainings: Sequence[Training], name: str) -> list[dict[str, str]]:
    content = csv_files(tables(summarise([], trainings=trainings), trainings))[f"{name}.csv"]
    return list(csv.DictReader(io.StringIO(content.decode())))


def page_of(trainings: Sequence[Training]) -> str:
    """The page, whose figures take long, without them."""
    return page(summarise([], trainings=trainings), [], [], trainings).decode()


def kinds(folders: Sequence[str]) -> dict[str, Any]:
    return {one.kind: one for one in summarise([], trainings=load_trainings(folders)).caveats}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_only_a_report_without_any_play_says_that_nothing_tells_how_well_a_model_acts(make: Any) -> None:
    summary = summarise([], trainings=load_trainings([make("one"), make("two")]))
    assert "Nothing here tells how well they act" in words.lead(summary)
    curves = Section(key="learning", title="Learning curves", lead=("They score.",))
    assert words.lead(summary, [curves]) == (
        "Trainings shown: one and two, by their losses on stored trajectories."
    )


# --- what a report has ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(make_synthetic, tmp_path_factory):
    """A report, only read, of a run and of two trainings, of which the second is one of the agents."""
    folder = tmp_path_factory.mktemp("trainings")
    Made(preset="mamba-1M").write(folder / "mamba")
    Made(level=0.9).write(folder / "best-training")
    trainings = load_trainings([folder / "mamba", f"xlstm={folder / 'best-training'}"])
    synthetic = make_synthetic(folder)
    best = synthetic.agent("best", digest=trainings[1].facts.digest)
    plan = synthetic.plan(
        [synthetic.agent("random", trained=None), best], [synthetic.task("metaworld/reach")], 3
    )
    run = synthetic.run(plan, lambda item: 0.1 * item.episode)
    with undrawn(svg=True):
        return [run], trainings, write_report([run], folder / "report", trainings=trainings).parent


@pytest.mark.slow
def test_a_report_of_trainings_has_its_section_tables_and_figures(report):
    _, _, folder = report
    text = (folder / "index.html").read_text()
    marks = ['id="table-comparisons"', 'id="table-training"', 'id="table-training-validation"']
    marks += ['id="table-training-identity"', 'id="figure-training-loss"', 'id="methods"']
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    links = set(re.findall(r'href="((?:figures|tables)/[^"]*)"', text))
    assert {f"figures/training-positions.{kind}" for kind in ("svg", "png", "pdf")} <= links
    assert {f"tables/training{name}.csv" for name in ("", "_curves", "_validation", "_positions")} <= links
    assert all((folder / link).is_file() for link in links)
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    plain = (folder / "summary.md").read_text()
    assert "## Training" in plain
    assert "| mamba | Mamba" in plain


@pytest.mark.slow
def test_equal_trainings_give_equal_bytes_and_an_earlier_report_is_replaced(report, tmp_path):
    runs, trainings, folder = report
    with undrawn(svg=True):
        again = write_report(runs, tmp_path / "again", trainings=trainings).parent
    assert contents(again) == contents(folder)
    with undrawn():
        write_report(runs, again)
    assert not [name for name in contents(again) if "training" in name]


@pytest.mark.slow
def test_summary_json_has_trainings_only_where_there_are_some(report):
    runs, _, folder = report
    summary = json.loads((folder / "summary.json").read_text())
    assert [one["label"] for one in summary["training"]] == ["mamba", "xlstm"]
    without = json.loads(summary_json(summarise(runs)))
    assert "training" not in without
    assert summary.keys() - without.keys() == {"training"}


def test_an_agent_that_is_the_final_checkpoint_is_connected_and_shares_the_colour(report):
    runs, trainings, folder = report
    summary = summarise(runs, trainings=trainings)
    assert [one.evaluated_as for one in summary.training] == [(), ("best",)]
    noisy = tuple(replace(agent, spec=f"{agent.spec}~0.5") for agent in summary.agents)
    assert [one.evaluated_as for one in training_results(trainings, noisy)] == [(), ()]
    assert (folder / "tables" / "training.csv").read_text().count(",best,") == 1
    axes = draw(summary, trainings)[0].figure.axes[0]
    lines = {line.get_color() for line in axes.get_lines() if line.get_linestyle() == "-"}
    assert lines == {style_of(1)[0], style_of(2)[0]}
    faces = [
        line.get_markerfacecolor() for line in axes.get_lines() if line.get_marker() not in ("None", None)
    ]
    assert faces == [style_of(2)[0], style_of(1)[0]], "the agent 'best' is the second one"


def test_an_agent_of_the_same_label_shares_the_colour_and_other_weights_are_told(synthetic, make):
    trainings = load_trainings([make("other"), make("xlstm")])
    agents = [synthetic.agent(name) for name in ("a", "b", "xlstm")]
    run = synthetic.run(synthetic.plan(agents, [synthetic.task("x/1")], 1), lambda item: 1.0)
    summary = summarise([run], trainings=trainings)
    axes = draw(summary, trainings)[0].figure.axes[0]
    faces = [
        line.get_markerfacecolor() for line in axes.get_lines() if line.get_marker() not in ("None", None)
    ]
    assert faces == [style_of(3)[0], style_of(2)[0]]
    assert {caveat.kind: caveat.items for caveat in summary.caveats}["training label"] == ("xlstm",)


def test_numbers_of_a_training_follow_from_its_lines(make):
    trainings = load_trainings([make("a", updates=20, every=5, tokens=700)])
    (one,) = summarise([], trainings=trainings).training
    assert (one.updates, one.of_updates, one.finished) == (20, 40, True)
    assert (one.tokens, one.timesteps) == (20 * 700, 20 * 100)
    assert trainings[0].tokens == tuple(700 * update for update in range(1, 21))
    assert one.seconds == pytest.approx(2.0)
    assert one.tokens_per_second == pytest.approx(7000)
    assert one.waiting_share == pytest.approx(0.5)
    assert one.validation.update == 20
    assert list(one.validation.domains) == sorted(DOMAINS)
    assert one.validation.mean.loss == pytest.approx(
        sum(found.loss for found in one.validation.domains.values()) / 3
    )


def test_csv_tables_hold_every_line(make):
    trainings = load_trainings([make("a"), make("b")])
    # 20 lines of training and 5 of validation each, of 3 domains with a task each, and 20 positions.
    assert len(table(trainings, "training_curves")) == 2 * 20 * 3
    assert len(table(trainings, "training_validation")) == 2 * 5 * (1 + 3 + 3)
    assert len(table(trainings, "training_positions")) == 2 * 5 * 3 * 20
    assert table(trainings, "training_curves")[-1]["tokens"] == "40000"


def test_points_stand_at_their_updates_and_lines_at_the_middle_of_theirs(make):
    trainings = load_trainings([make("a")])
    loss, tokens, positions = draw(summarise([], trainings=trainings), trainings)
    line, points = loss.figure.axes[1].get_lines()[1:]
    assert list(points.get_xdata()) == [0, 10, 20, 30, 40]
    assert list(line.get_xdata()) == [2 * place + 1 for place in range(20)]
    (faint, smooth), by_tokens = loss.figure.axes[1].get_lines()[:2], tokens.figure.axes[1].get_lines()[0]
    assert np.std(np.diff(smooth.get_ydata()[5:])) < np.std(np.diff(faint.get_ydata()[5:]))
    assert list(by_tokens.get_xdata()) == pytest.approx([2 * place + 1 for place in range(20)])  # thousands
    assert len(positions.figure.axes[0].get_lines()[0].get_xdata()) == 20


def test_a_long_curve_is_drawn_with_few_points_that_keep_its_mean(make):
    trainings = load_trainings([make("a", updates=700, of_updates=700, every=5)])
    (drawing, *_) = draw(summarise([], trainings=trainings), trainings)
    faint = drawing.figure.axes[1].get_lines()[0]
    losses = [line.domains["atari"].loss for line in trainings[0].lines]
    assert len(faint.get_xdata()) <= 500 < len(losses)
    assert np.mean(faint.get_ydata()) == pytest.approx(np.mean(losses))


@pytest.mark.slow
def test_a_hostile_label_stays_text(make, tmp_path):
    folder = Made().write(tmp_path / "plain")
    hostile = f"<script>alert(1)<b>|*`$x_1$&amp;={folder}"
    trainings = load_trainings([hostile])
    summary = summarise([], trainings=trainings)
    assert page_of(trainings).count("<script") == 1
    assert b"<script" not in markdown(summary, trainings)
    assert b"<script" not in render(draw(summary, trainings)[0], "svg")


# --- what forbids a comparison --------------------------------------------------------------------------


def test_models_trained_alike_have_one_caveat_that_of_single_seeds(make):
    found = kinds([make("a"), make("b", preset="mamba-1M")])
    assert set(found) == {"training seed"}
    assert found["training seed"].items == ("a", "b")
    assert "seed each" in found["training seed"].text


def test_validation_on_training_trajectories_is_said_with_its_count(make):
    found = kinds([make("a", copies=8), make("b", seed=1, copies=0)])
    assert found["validated on training data"].items == ("a: 8 of 8 validation trajectories",)
    assert "validation not compared" not in found


def test_validation_on_what_trainings_before_were_trained_on_is_said(make):
    again = make("a", earlier={"validation_in_earlier": 3, "earlier_complete": True})
    found = kinds([again, make("b", seed=1, earlier={})])
    assert found["validated on earlier training data"].items == ("a: 3 of 8 validation trajectories",)
    assert found["earlier training data not compared"].items == ("b",)
    clean = kinds([make("c", earlier={"validation_in_earlier": 0, "earlier_complete": True})])
    assert not {"validated on earlier training data", "earlier training data not compared"} & clean.keys()


def test_trainings_that_never_looked_for_copies_are_named(make):
    found = kinds([make("a", copies=None), make("b", seed=1)])
    assert found["validation not compared"].items == ("a",)
    assert "validated on training data" not in found


def test_models_trained_with_the_same_seeds_have_no_caveat(make):
    runs = [("a0", "mamba-1M", 0), ("a1", "mamba-1M", 1), ("b0", "xlstm-1M", 0), ("b1", "xlstm-1M", 1)]
    assert kinds([make(label, preset=preset, seed=seed) for label, preset, seed in runs]) == {}


def test_seeds_that_differ_between_models_are_named(make):
    found = kinds([make("a"), make("b", preset="mamba-1M", seed=3)])
    assert found["training recipe"].items == ("seed: 0 (a); 3 (b)",)


@pytest.mark.parametrize(
    ("how", "item"),
    [
        ({"store": "6" * 64}, "trajectories: 555555555555 (a); 666666666666 (b)"),
        ({"settings": ["data.top_fraction=0.1"]}, "data.top_fraction: 1.0 (a); 0.1 (b)"),
        ({"settings": ["data.tasks=metaworld/*"]}, "data.tasks: * (a); metaworld/* (b)"),
    ],
)
def test_other_data_is_told_and_flagged(how, item, make):
    folders = [make("a"), make("b", preset="mamba-1M", **how)]
    found = kinds(folders)
    assert found["training data"].items == (item,)
    assert "training recipe" not in found
    assert page_of(load_trainings(folders)).count("other data than a") == len(DOMAINS) + 1  # and the mean


def test_a_store_that_lies_elsewhere_is_the_same_data(make):
    found = kinds([make("a"), make("b", settings=["data.stores=elsewhere", "name=x"], preset="mamba-1M")])
    assert set(found) == {"training seed"}


@pytest.mark.parametrize(
    ("settings", "item"),
    [
        (["optimizer.learning_rate=3e-4"], "optimizer.learning_rate: 0.0001 (a); 0.0003 (b)"),
        (["sampling.domain_weights.atari=2"], "sampling.domain_weights.atari: not set (a); 2 (b)"),
        (["threads=2"], "threads: 1 (a); 2 (b)"),
    ],
)
def test_other_fields_of_the_recipe_are_named(settings, item, make):
    found = kinds([make("a"), make("b", preset="mamba-1M", settings=settings)])
    assert found["training recipe"].items == (item,)


def test_fields_of_the_model_and_those_that_train_alike_are_not_named(make):
    settings = ["saving.metrics_every=50", "validation.every=7", "sampling.workers=2", "model.width=128"]
    assert set(kinds([make("a"), make("b", settings=settings)])) == {"training seed"}


@pytest.mark.parametrize("how", [{"updates": 20}, {"tokens": 2000}])
def test_other_lengths_are_told(how, make):
    assert "training length" in kinds([make("a"), make("b", preset="mamba-1M", **how)])
    assert "training length" not in kinds([make("c"), make("d", tokens=1005)])


def test_speeds_of_other_machines_are_told(make):
    machine = {"cpu": "Other CPU", "cores": 64, "gpu": "Example GPU"}
    found = kinds([make("a"), make("b", machine=machine)])
    assert found["training machine"].items == ("a: Example CPU, 2", "b: Other CPU, 64, Example GPU")


# --- folders of all conditions --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("state", [True, False])
def test_an_unfinished_training_is_shown_and_called_so(state, make):
    trainings = load_trainings([make("a"), make("b", updates=14, finished=False, state=state)])
    summary = summarise([], trainings=trainings)
    going = summary.training[1]
    assert (going.finished, going.updates, going.checkpoint_digest) == (False, 14, "")
    assert going.model.startswith("xLSTM [7:1]")
    assert going.stores == (("5" * 64,) if state else None)
    told = {caveat.kind: caveat for caveat in summary.caveats}
    assert told["training unfinished"].items == ("b: 14 of 40 updates",)
    assert ("training data" in told) is not state
    assert page_of(trainings).count("b (unfinished)") >= 5
    names = [text.get_text() for text in draw(summary, trainings)[0].figure.legends[0].get_texts()]
    assert names == ["a", "b (unfinished)"]


def test_a_training_that_has_only_begun_is_shown(make, tmp_path):
    label, _, folder = make("a", updates=0, finished=False, state=False).partition("=")
    (Path(folder) / "metrics.jsonl").unlink()
    index = write_report([], tmp_path / "r", trainings=load_trainings([f"{label}={folder}"]))
    assert "0 of 40 updates" in index.read_text()
    assert not (index.parent / "figures").exists()


def test_a_torn_last_line_is_left_out(make):
    _, _, folder = make("a", updates=14, finished=False).partition("=")
    with (Path(folder) / "metrics.jsonl").open("ab") as file:
        file.write(b'{"kind":"train","upd')
    assert len(load_trainings([folder])[0].lines) == 7


@pytest.mark.slow
def test_a_loss_that_is_no_number_leaves_a_gap(make):
    _, _, folder = make("a").partition("=")
    path = Path(folder) / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[-4:]:
        line["domains"]["atari"]["loss"] = line["loss"] = None  # as the trainer's JSON has NaN
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    trainings = load_trainings([folder])
    drawing = draw(summarise([], trainings=trainings), trainings)[0]
    assert all(np.isfinite(line.get_xdata()).all() for line in drawing.figure.axes[1].get_lines())
    assert render(drawing, "svg")
    assert table(trainings, "training_validation")[-7]["loss"] == ""


def spoil(name: str, old: str, new: str):
    def spoil(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return spoil


def cut_weights(folder: Path) -> None:
    path = folder / "checkpoint" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "recipe.toml").unlink(), "is not a training run.*'lram train' makes"),
        (lambda folder: (folder / "metrics.jsonl").unlink(), "has no metrics.jsonl"),
        (spoil("metrics.jsonl", '{"kind":"train"', '{"kind":train'), "metrics.jsonl is damaged"),
        (spoil("metrics.jsonl", '"waiting_share"', '"share"'), "metrics.jsonl is damaged.*waiting_share"),
        (spoil("metrics.jsonl", '"update":2', '"update":"2"'), "metrics.jsonl is damaged"),
        (spoil("checkpoint/config.json", "{", ""), "config.json is not JSON"),
        (spoil("checkpoint/config.json", '"version": 1', '"version": 2'), "config.json has version 2, not 1"),
        (spoil("checkpoint/config.json", '"recipe_digest"', '"recipe"'), "config.json is damaged"),
        (spoil("checkpoint/config.json", '"digest"', '"other"'), "config.json is damaged"),
        (spoil("checkpoint/config.json", '"layers": 8', '"layers": 0'), "layers must be above 0"),
        (spoil("checkpoint/config.json", '"seed"', '"need"'), "config.json is damaged"),
        (lambda folder: (folder / "checkpoint" / "model.safetensors").unlink(), "damaged or missing"),
        (cut_weights, "model.safetensors is damaged"),
    ],
)
def test_a_damaged_folder_is_one_sentence(harm, said, make):
    _, _, folder = make("a").partition("=")
    harm(Path(folder))
    with pytest.raises(LramError, match=said) as caught:
        load_trainings([folder])
    assert folder in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (spoil("recipe.toml", "seed = 0", "seat = 0"), "seat"),
        (spoil("recipe.toml", "seed = 0", "seed ="), "is not TOML"),
        (spoil("state/update-00000014/state.json", "{", ""), "state.json is damaged"),
    ],
)
def test_a_damaged_folder_of_an_unfinished_training_is_one_sentence(harm, said, make):
    _, _, folder = make("a", updates=14, finished=False).partition("=")
    harm(Path(folder))
    with pytest.raises(LramError, match=said):
        load_trainings([folder])


def test_two_trainings_of_one_label_are_refused(tmp_path):
    paths = [Made().write(tmp_path / name / "run") for name in ("x", "y")]
    with pytest.raises(LramError, match=r"2 trainings are called 'run'.*label=folder"):
        load_trainings(paths)
    assert [one.label for one in load_trainings([f"one={paths[0]}", paths[1]])] == ["one", "run"]


def test_a_folder_with_an_equals_sign_is_a_folder(tmp_path, monkeypatch):
    Made().write(tmp_path / "lr=3")
    monkeypatch.chdir(tmp_path)
    assert [one.label for one in load_trainings(["lr=3", "x=lr=3"])] == ["lr=3", "x"]


# --- the command line -----------------------------------------------------------------------------------


def command(monkeypatch, capsys, *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["lram", "report", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        main()
    return (int(caught.value.code), *capsys.readouterr())


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures_but_svg")
def test_the_command_reports_runs_and_trainings(report, tmp_path, monkeypatch, capsys):
    (run,), _, folder = report
    trained = folder.parent
    words = [run.path, "--training", trained / "mamba", "--training", f"xlstm={trained / 'best-training'}"]
    code, out, _ = command(monkeypatch, capsys, *words, "-o", tmp_path / "again")
    assert (code, out) == (0, f"report: {tmp_path / 'again' / 'index.html'}\n")
    assert contents(tmp_path / "again") == contents(folder)


def test_the_command_reports_trainings_alone(make, tmp_path, monkeypatch, capsys):
    make("a")
    code, out, _ = command(monkeypatch, capsys, "--training", tmp_path / "trained" / "a", "--json")
    assert code == 0
    summary = json.loads(out)
    assert summary["agents"] == []
    assert summary["training"][0]["label"] == "a"
    text = page_of(load_trainings([tmp_path / "trained" / "a"]))
    assert "<h1>Training of 1 model</h1>" in text
    assert 'id="scores"' not in text
    assert not re.findall(r'href="#(?!read-first|training|methods|provenance)', text)


def test_the_command_refuses_nothing_and_a_training_in_the_place_of_a_run(
    make, tmp_path, monkeypatch, capsys
):
    make("a")
    code, _, error = command(monkeypatch, capsys, "-o", tmp_path / "r")
    assert (code, error.count("\n")) == (2, 1)
    assert "nothing to report on" in error
    code, _, error = command(monkeypatch, capsys, tmp_path / "trained" / "a", "-o", tmp_path / "r")
    assert code == 2
    assert f"--training {tmp_path / 'trained' / 'a'}" in error
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_trainings_are_read_without_torch(make):
    code = (
        "import sys; from lram.reports import load_trainings, summarise\n"
        "summarise([], trainings=load_trainings(sys.argv[1:]))\n"
        "print([m for m in ('torch', 'gymnasium', 'h5py') if m in sys.modules])"
    )
    folders = [make("a"), make("b", finished=False)]
    done = subprocess.run(
        [sys.executable, "-c", code, *folders], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"


# --- the trainer's own folders --------------------------------------------------------------------------


def test_what_the_trainer_writes_is_read_as_it_was(tmp_path):
    torch = pytest.importorskip("torch")
    from lram.agents.api import TaskSpec
    from lram.agents.checkpoints.folder import load_checkpoint
    from lram.agents.training.run import Silent, Surroundings, start
    from lram.agents.trajectories import StoreWriter, Trajectory, TrajectoryStore

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    task, rng = TaskSpec("metaworld/reach", "metaworld", "vector", (5,), "continuous", 2, 1.0, 1.0), np.random
    with StoreWriter(tmp_path / "store") as writer:
        for number in range(5):
            seen = rng.default_rng(number).uniform(-1, 1, (9, 5)).astype(np.float32)
            rewards = np.ones(8, dtype=np.float32)
            writer.append(Trajectory(task, seen, seen[:-1, :2].copy(), rewards, rewards, False, True))
    settings = [
        "model.name=mine",
        "model.width=16",
        "model.layers=2",
        "model.xlstm.heads=2",
        "model.xlstm.slstm_at=[1]",
    ]
    settings += ["sampling.sequences=3", "sampling.context=5", "optimizer.updates=7", "validation.every=3"]
    settings += ["optimizer.warmup_updates=2", "data.validation_share=0.3", "validation.windows=4"]
    settings += [f"data.stores={tmp_path / 'store'}", "saving.metrics_every=2", "saving.trackers=[]"]

    class Counting(Silent):
        tokens = 0

        def update(self, update: int, loss: float, tokens: int) -> None:
            Counting.tokens += tokens
            if update == 5 and not finish:
                raise KeyboardInterrupt

    finish = True
    start(read_recipe(None, settings), tmp_path / "run", Surroundings(Counting()))
    tokens, finish = Counting.tokens, False
    with pytest.raises(KeyboardInterrupt):
        start(
            read_recipe(None, [*settings, "saving.state_updates=2"]),
            tmp_path / "cut",
            Surroundings(Counting()),
        )
    torch.set_num_threads(threads)

    trainings = load_trainings([tmp_path / "run", tmp_path / "cut"])
    one, cut = summarise([], trainings=trainings).training
    model, meta = load_checkpoint(tmp_path / "run" / "checkpoint")
    assert one.checkpoint_digest == meta.digest
    assert one.parameters == model.parameter_count
    assert one.recipe_digest == meta.card["recipe_digest"] == cut.recipe_digest
    assert one.stores == cut.stores == (TrajectoryStore(tmp_path / "store").digest,)
    assert (one.tokens, one.updates, one.validation.update) == (tokens, 7, 7)
    assert one.model == cut.model == "xLSTM [1:1] (sLSTM at 1 of 2 blocks)"
    assert (cut.finished, cut.updates, cut.validation.update) == (False, 4, 3)
    assert len(trainings[0].validations[-1].positions["metaworld"]) == 5
    assert 'id="table-training"' in page_of(trainings)


def test_weights_of_a_type_that_numpy_lacks_are_refused_in_one_sentence(tmp_path):
    import torch
    from safetensors.torch import save_file as save_tensors

    folder = Made().write(tmp_path / "training")
    weights = folder / "checkpoint/model.safetensors"
    save_tensors({"w": torch.zeros(2, 2, dtype=torch.float8_e4m3fn)}, weights)
    with pytest.raises(LramError, match=r"model\.safetensors has values of the type F8_E4M3"):
        load_trainings([str(folder)])
