"""Studies in reports: effects are what the records say, both kinds of noise apart, and no more is claimed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support.described import write_card

from lram.envs import random_play
from lram.envs.random_play import RandomPlay
from lram.harness.storage.records import EpisodeRecord, Failure, WorkItem
from lram.harness.storage.run_folder import Run, RunWriter
from lram.harness.storage.seeds import evaluation_seed, simulator_seed
from lram.harness.studies.folder import CellFolder, write_plan
from lram.harness.studies.records import (
    SCHEMA,
    CellEntry,
    Copies,
    Done,
    StudyPlan,
    TaskCopies,
    TimedPoint,
    Times,
)
from lram.harness.studies.study import Axis, Data, Evaluation, Level, Study
from lram.reports.drawing import render
from lram.reports.samples import Resampling
from lram.reports.section import SectionSettings
from lram.reports.sections.study.cells import CellValues, StudyValues
from lram.reports.sections.study.effects import CANNOT_TELL, Effect, effects
from lram.reports.sections.study.section import section
from lram.reports.statistics import seeds_needed

HOW = Resampling(0, 400, 0.95)
TASKS = ("toy/one", "toy/two")

Score = Callable[[tuple[str, ...], int, str, int], float]
"""Of levels, seed, task and episode."""


def study_of(axes: Mapping[str, Sequence[str]], seeds: Sequence[int], episodes: int = 4) -> Study:
    return Study(
        name="a study",
        question="Which is better?",
        seeds=tuple(seeds),
        recipe={},
        axes=tuple(Axis(name, tuple(Level(level) for level in levels)) for name, levels in axes.items()),
        data=Data(("/store",)),
        evaluation=Evaluation(TASKS, episodes),
    )


def values(
    study: Study,
    score: Score,
    loss: Callable[[tuple[str, ...], int], float] | None = None,
    ms: Callable[[tuple[str, ...], int], float] | None = None,
) -> StudyValues:
    cells = []
    for seed in study.seeds:
        for levels in product(*([level.name for level in axis.levels] for axis in study.axes)):
            of_tasks = {
                task: {e: score(levels, seed, task, e) for e in range(study.evaluation.episodes)}
                for task in TASKS
            }
            measured = {"score": of_tasks}
            if loss is not None:
                measured["validation_loss"] = {"": {0: loss(levels, seed)}}
            if ms is not None:
                measured["decision_ms"] = {"": {0: ms(levels, seed)}}
            cells.append(
                CellValues(
                    levels,
                    seed,
                    f"{levels} {seed}",
                    "",
                    "",
                    1,
                    measured,
                    simulator_seeds={(task, e): e for task in TASKS for e in range(99)},
                )
            )
    return StudyValues(Path(), study, tuple(cells), "", ())


def of_measure(found: Sequence[Effect], measure: str) -> list[Effect]:
    return [effect for effect in found if effect.measure == measure]


def noisy(seed: int, of_seeds: float, of_episodes: float, gains: Mapping[str, float]) -> Score:
    """Return scores with a gain by level, noise by level and seed, and noise by episode."""
    rng = np.random.default_rng(seed)
    trainings: dict[tuple[tuple[str, ...], int], float] = {}

    def score(levels: tuple[str, ...], training: int, task: str, episode: int) -> float:
        luck = trainings.setdefault((levels, training), of_seeds * rng.standard_normal())
        return sum(gains.get(level, 0.0) for level in levels) + luck + of_episodes * rng.standard_normal()

    return score


def test_an_effect_is_a_paired_t_test_over_seeds() -> None:
    study = study_of({"a": ("base", "other")}, range(5))
    found = values(
        study, noisy(1, 0.2, 0.1, {"other": 0.1}), loss=lambda levels, seed: len(levels[0]) + seed**2 % 3
    )
    by_cell = {
        (cell.levels[0], cell.seed): np.mean(
            [np.mean(list(e.values())) for e in cell.values["score"].values()]
        )
        for cell in found.cells
    }
    one, other = ([by_cell[name, seed] for seed in study.seeds] for name in ("other", "base"))
    oracle = stats.ttest_rel(one, other)
    [effect] = of_measure(effects(found, HOW), "score")
    assert effect.value == pytest.approx(np.mean(one) - np.mean(other))
    assert effect.p == pytest.approx(oracle.pvalue)
    assert effect.interval is not None
    ends = oracle.confidence_interval(0.95)
    assert (effect.interval.low, effect.interval.high) == pytest.approx((ends.low, ends.high))
    assert (effect.base_value, effect.level_value) == pytest.approx((np.mean(other), np.mean(one)))
    assert effect.pairs == 5 * 2 * 4
    assert [seed for seed, _ in effect.seeds] == list(study.seeds)


def test_every_task_counts_alike_however_many_episodes_it_has() -> None:
    study = study_of({"a": ("base", "other")}, (0, 1))
    found = values(
        study, lambda levels, seed, task, e: (levels == ("other",)) * (1.0 if task == TASKS[0] else 0.0)
    )
    fewer = tuple(
        replace(
            cell,
            values={
                "score": {
                    TASKS[0]: {0: cell.values["score"][TASKS[0]][0]},
                    TASKS[1]: dict.fromkeys(range(9), 0.0),
                }
            },
        )
        for cell in found.cells
    )
    [effect] = effects(replace(found, cells=fewer), HOW)
    assert effect.value == 0.5


def test_episodes_that_began_elsewhere_and_cells_that_lack_are_no_pairs() -> None:
    study = study_of({"a": ("base", "other")}, (0, 1, 2))
    found = values(study, noisy(2, 0.1, 0.1, {}))
    cells = list(found.cells)
    other = cells[1]
    cells[1] = replace(other, simulator_seeds={**other.simulator_seeds, (TASKS[0], 2): 77})
    del cells[2]
    [effect] = effects(replace(found, cells=tuple(cells)), HOW)
    assert [seed for seed, _ in effect.seeds] == [0, 2]
    assert effect.pairs == 7 + 8


def test_holm_corrects_over_all_levels_and_measures() -> None:
    study = study_of({"a": ("base", "x", "y", "z")}, range(4))
    losses = np.random.default_rng(0).standard_normal((4, 4))
    places = {"base": 0, "x": 1, "y": 2, "z": 3}
    made = values(
        study,
        noisy(3, 0.2, 0.05, {"x": 4.0}),
        loss=lambda levels, seed: losses[places[levels[0]], seed],
    )
    found = effects(made, HOW)
    assert len(found) == 6
    worst = 0.0
    for rank, effect in enumerate(sorted(found, key=lambda effect: effect.p or 0)):
        assert effect.p is not None
        worst = max(worst, min(1.0, (6 - rank) * effect.p))
        assert effect.p_holm == pytest.approx(worst)
    assert {(effect.measure, effect.level): effect.verdict for effect in found} == {
        ("score", "x"): "better",
        ("score", "y"): CANNOT_TELL,
        ("score", "z"): CANNOT_TELL,
        ("validation_loss", "x"): CANNOT_TELL,
        ("validation_loss", "y"): CANNOT_TELL,
        ("validation_loss", "z"): CANNOT_TELL,
    }


def test_verdicts_know_which_way_is_better() -> None:
    study = study_of({"a": ("base", "other")}, range(4))
    found = effects(
        values(
            study,
            noisy(4, 0.01, 0.01, {"other": -0.5}),
            loss=lambda levels, seed: 2.0 - (levels == ("other",)) * (0.5 + 0.01 * seed),
            ms=lambda levels, seed: (1.0 + (levels == ("other",)) * (1 + 0.02 * seed)) * (1 + 0.3 * seed),
        ),
        HOW,
    )
    assert {effect.measure: effect.verdict for effect in found} == {
        "score": "worse",
        "validation_loss": "better",
        "decision_ms": "worse",
    }
    [slower] = of_measure(found, "decision_ms")
    # A ratio, so that a machine that was slower for one seed's pair does not count.
    ratios = [2 + 0.02 * seed for seed in range(4)]
    assert [value for _, value in slower.seeds] == pytest.approx(ratios)
    assert slower.value == pytest.approx(math.exp(np.mean(np.log(ratios))))
    assert slower.interval is not None
    assert 1.9 < slower.interval.low < slower.interval.high < 2.2
    assert slower.episode_interval is None


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_what_cannot_be_told_is_not(seeds: tuple[int, ...]) -> None:
    """One seed has no noise to hold an effect against; seeds that agree to the last digit show none."""
    study = study_of({"a": ("base", "other")}, seeds)
    [effect] = effects(values(study, lambda levels, seed, task, e: (levels == ("other",)) * 1.0), HOW)
    assert effect.value == 1.0
    assert (effect.verdict, effect.interval, effect.p, effect.needed) == (CANNOT_TELL, None, None, None)


@pytest.mark.slow
def test_no_effect_is_found_about_as_often_as_is_promised() -> None:
    study = study_of({"a": ("base", "other")}, range(4), episodes=2)
    how = Resampling(0, 5, 0.95)
    told = [effects(values(study, noisy(seed, 0.2, 0.2, {})), how)[0].verdict for seed in range(250)]
    share = np.mean([verdict != CANNOT_TELL for verdict in told])
    assert 0.01 < share < 0.09  # 0.05 +- 3 standard errors


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 10])
def test_what_a_level_does_to_a_few_initial_states_is_no_effect(seeds: int) -> None:
    """An interaction of levels and initial states, and hardly any noise of training: no level is better."""

    def share(own: bool) -> float:
        told = 0
        for number in range(120):
            rng, met = np.random.default_rng((seeds, number)), {}
            study = study_of({"a": ("base", "other")}, range(seeds))

            def score(levels, seed, task, episode, rng=rng, met=met) -> float:
                run_seed = evaluation_seed(0, seed) if own else 0
                start = (levels, simulator_seed(run_seed, task, episode))
                if start not in met:
                    met[start] = 0.4 * rng.standard_normal()
                return met[start] + 0.02 * rng.standard_normal()

            found = effects(values(study, score), Resampling(0, 2, 0.95))
            told += found[0].verdict != CANNOT_TELL
        return told / 120

    assert share(own=True) <= 0.1  # 0.05 + 2.5 standard errors
    assert share(own=False) > 0.4  # what the interaction does where all seeds share their initial states


def test_two_seeds_tell_nothing_and_say_why() -> None:
    study = study_of({"a": ("base", "other")}, (0, 1))
    [effect] = effects(
        values(study, lambda levels, seed, task, e: (5.0 + 0.01 * seed) * (levels == ("other",))), HOW
    )
    assert effect.interval is not None
    assert effect.interval.low > 0
    assert (effect.p, effect.p_holm, effect.verdict, effect.reason) == (None, None, CANNOT_TELL, "2 seeds")


def test_the_two_kinds_of_noise_are_kept_apart() -> None:
    study = study_of({"a": ("base", "other")}, range(6), episodes=20)
    [of_seeds] = effects(values(study, noisy(5, 0.3, 0.05, {})), HOW)
    [of_episodes] = effects(values(study, noisy(6, 0.0, 0.3, {})), HOW)
    for effect in (of_seeds, of_episodes):
        assert effect.interval is not None
        assert effect.episode_interval is not None
        assert effect.episode_share is not None
    assert width(of_seeds.interval) > 5 * width(of_seeds.episode_interval)
    assert of_seeds.episode_share is not None
    assert of_seeds.episode_share < 0.1
    assert of_episodes.episode_share is not None
    assert of_episodes.episode_share > 0.3


def width(span: object) -> float:
    return span.high - span.low  # type: ignore[attr-defined, no-any-return]


def test_a_level_of_several_axes_is_held_against_its_base_in_all_their_combinations() -> None:
    study = study_of({"a": ("a0", "a1"), "b": ("b0", "b1", "b2")}, (0, 1, 2))

    def score(levels: tuple[str, ...], seed: int, task: str, episode: int) -> float:
        together = 0.6 if levels == ("a1", "b2") else 0.0
        return 0.3 * (levels[0] == "a1") + 0.1 * (levels[1] == "b1") + together + 0.01 * seed * len(levels[1])

    found = effects(values(study, score), HOW)
    assert [(effect.axis, effect.level) for effect in found] == [("a", "a1"), ("b", "b1"), ("b", "b2")]
    assert [effect.value for effect in found] == pytest.approx([0.3 + 0.6 / 3, 0.1, 0.6 / 2])


def test_the_seeds_that_would_tell_do_so_four_times_in_five() -> None:
    observed = np.array([0.25, -0.1, 0.45])
    needed = seeds_needed(observed, 0.05)
    assert needed is not None
    rng = np.random.default_rng(0)

    def power(seeds: int) -> float:
        drawn = rng.normal(observed.mean(), observed.std(ddof=1), size=(20_000, seeds))
        return float(np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05))

    assert power(needed) > 0.785
    assert power(needed - 1) < 0.815
    stricter = seeds_needed(observed, 0.05 / 4)
    assert stricter is not None
    assert stricter > needed
    assert seeds_needed(np.array([1.0, -1.0]), 0.05) is None
    assert seeds_needed(np.array([1.0, -0.99]), 0.05) is None  # hundreds


def without(found: StudyValues, levels: tuple[str, ...], seeds: Sequence[int]) -> StudyValues:
    """Return the study without some cells, as where their trainings failed."""
    cells = tuple(cell for cell in found.cells if cell.levels != levels or cell.seed not in seeds)
    return replace(found, cells=cells)


def test_only_seeds_with_every_combination_count() -> None:
    """A seed without one of them would be about other levels: here about the one with a gain."""
    study = study_of({"a": ("base", "other"), "context": ("x", "y")}, range(5))
    rng = np.random.default_rng(0)

    def score(levels: tuple[str, ...], seed: int, task: str, episode: int) -> float:
        gain = {"x": 1.0, "y": -1.0}[levels[1]] if levels[0] == "other" else 0.0
        return gain + 0.05 * float(rng.standard_normal())

    whole = values(study, score)

    def of_other(found: StudyValues) -> Effect:
        return next(effect for effect in effects(found, HOW) if effect.axis == "a")

    full = of_other(whole)
    assert full.value == pytest.approx(0.0, abs=0.05)
    assert (full.verdict, full.incomplete) == (CANNOT_TELL, ())
    some = of_other(without(whole, ("other", "y"), (0, 1)))
    assert [seed for seed, _ in some.seeds] == [2, 3, 4]
    assert some.incomplete == (0, 1)
    assert some.seeds == full.seeds[2:]
    assert some.verdict == CANNOT_TELL
    none = of_other(without(whole, ("other", "y"), range(5)))
    assert (none.value, none.verdict, none.incomplete) == (None, CANNOT_TELL, (0, 1, 2, 3, 4))
    assert none.reason == "no training seed has a pair with y"
    by_turns = without(without(whole, ("other", "y"), (0, 1, 2)), ("other", "x"), (3, 4))
    assert of_other(by_turns).reason == "no training seed has every combination with the other axes' levels"


def test_a_level_without_a_score_by_its_own_fault_is_not_compared() -> None:
    study = study_of({"a": ("base", "other", "third")}, range(4))
    found = values(study, noisy(1, 0.01, 0.01, {"other": 1.0, "third": 1.0}))

    def failing(level: str) -> dict[str, Effect]:
        cells = tuple(
            replace(cell, values={}, uncounted={TASKS[0]: "it failed"})
            if cell.levels == (level,) and cell.seed == 3
            else cell
            for cell in found.cells
        )
        return {effect.level: effect for effect in effects(replace(found, cells=cells), HOW)}

    of = failing("other")
    assert (of["other"].value, of["other"].p, of["other"].verdict) == (None, None, CANNOT_TELL)
    assert of["other"].reason == "not comparable: ('other',) 3 (toy/one: it failed)"
    assert of["third"].verdict == "better"
    assert {effect.verdict for effect in failing("base").values()} == {CANNOT_TELL}


# From a folder


class Folder:
    """A study's folder as 'lram ablate' writes it, without anything that was trained."""

    def __init__(
        self, path: Path, synthetic, seeds: Sequence[int] = (0, 1, 2), *, own_starts: bool = True
    ) -> None:
        self.path, self.synthetic = path, synthetic
        study = study_of({"past actions": ("off", "on")}, seeds, episodes=3)
        cells = tuple(
            CellEntry(
                (level,),
                seed,
                f"{level}, seed {seed}",
                f"{level}{seed}",
                f"{level}-seed{seed}",
                recipe(level),
                evaluation_seed(0, seed) if own_starts else None,
            )
            for seed in seeds
            for level in ("off", "on")
        )
        path.mkdir(parents=True, exist_ok=True)
        self.plan = StudyPlan(SCHEMA, study, {"/store": "aa"}, ("toy:lram@1",), cells)
        write_plan(path, self.plan)
        for entry in cells:
            self.make(CellFolder(path, entry))

    def make(self, cell: CellFolder) -> None:
        level, seed = cell.entry.levels[0], cell.entry.seed
        cell.checkpoint.mkdir(parents=True)
        write_card(cell.checkpoint)
        line = {"kind": "validation", "update": 9, "loss": 2.0 - 0.5 * (level == "on") + 0.01 * seed}
        (cell.train / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        tasks = [self.synthetic.task(task) for task in TASKS]
        run_seed = cell.evaluation_seed(self.plan.study.evaluation)
        plan = self.synthetic.plan([self.synthetic.agent(cell.entry.title)], tasks, 3, run_seed)
        RunWriter.create(cell.eval, plan).close()
        with RunWriter(Run(cell.eval)) as writer:
            for item in plan.items():
                writer.append(self.record(plan, item, level, seed))
        repeated = 60 if level == "on" else 10
        copies = TaskCopies(TASKS[0], 100, repeated, 20, 10, 30, 20, 8.0, 10.0, 5.0)
        cell.write("copycat.json", Copies(SCHEMA, (copies,)))
        ms = tuple((1.0 + (level == "on")) * (1 + 0.01 * seed) for _ in range(20))
        cell.write("timing.json", Times(SCHEMA, "fused", 0.3, (TimedPoint(1, 50, ms, 1000),)))
        seconds = {"train": 60.0 + seed, "eval": 9.0, "copycat": 0.3, "timing": 2.0}
        made = self.synthetic.provenance()
        cell.write("done.json", Done(SCHEMA, cell.entry.key, cell.entry.title, 500_000, seconds, made))

    def record(self, plan, item: WorkItem, level: str, seed: int) -> EpisodeRecord:
        luck = 0.02 * (seed * 7 % 5) * (level == "on") + 0.01 * item.episode * (level == "on")
        value = 0.8 - 0.4 * (level == "on") + luck
        record = self.synthetic.record(plan, item, value)
        return replace(record, repeated=150 if level == "on" else 50 + seed)


def recipe(level: str, context: int = 50) -> dict[str, object]:
    return {"model": {"actions_in_context": level == "on"}, "sampling": {"context": context}}


@pytest.fixture
def folder(tmp_path: Path, synthetic) -> Folder:
    return Folder(tmp_path / "study", synthetic)


def test_a_section_says_what_the_records_say(folder: Folder) -> None:
    made = section([folder.path])
    [summary] = made.summary
    by_measure = {effect["measure"]: effect for effect in summary["effects"]}
    assert by_measure["score"]["verdict"] == "worse"
    assert (
        by_measure["validation_loss"]["verdict"] == CANNOT_TELL
    )  # the difference is the same to the last digit
    assert by_measure["validation_loss"]["value"] == pytest.approx(-0.5)
    assert by_measure["repeated_predictions"]["value"] == pytest.approx(0.5)
    assert by_measure["repeated_in_play"]["value"] == pytest.approx((150 - 51) / 199)
    assert by_measure["decision_ms"]["value"] == pytest.approx(2.0)
    cell = summary["cells"][1]
    assert (cell["cell"], cell["repeated_predictions"], cell["data_repeated"]) == ("on, seed 0", 0.6, 0.2)
    assert cell["step_ratio"] == pytest.approx(0.8)
    assert "on scores worse than off" in " ".join(made.lead)
    assert not made.caveats
    for name in [table.id for table in made.printed] + [drawing.name for drawing in made.drawings]:
        assert name.startswith("study-a-study-")
    assert all(name.startswith("study_") for name in made.csv)
    assert made.csv["study_cells.csv"].count(b"\n") == 1 + 6
    assert made.csv["study_tasks.csv"].count(b"\n") == 1 + 12


@pytest.mark.slow
def test_equal_records_give_equal_bytes(folder: Folder, tmp_path: Path, synthetic) -> None:
    one, other = section([folder.path]), section([Folder(tmp_path / "again", synthetic).path])
    assert one.csv == other.csv
    assert one.summary == other.summary
    assert one.printed == other.printed
    drawn = [[render(drawing, "svg") for drawing in made.drawings] for made in (one, other)]
    assert drawn[0] == drawn[1]


def test_two_studies_of_one_name_stand_apart(folder: Folder, tmp_path: Path, synthetic) -> None:
    made = section([folder.path, Folder(tmp_path / "again", synthetic).path])
    ids = [table.id for table in made.printed]
    assert len(set(ids)) == len(ids) == 6
    assert ids[3] == "study-a-study-2-effects"


def test_an_unfinished_study_says_so_and_rests_on_what_is_there(folder: Folder) -> None:
    cells = [CellFolder(folder.path, entry) for entry in folder.plan.cells]
    (cells[1].path / "done.json").unlink()
    (cells[3].path / "done.json").unlink()
    (cells[3].checkpoint / "config.json").unlink()
    made = section([folder.path])
    [caveat] = made.caveats
    assert (caveat.kind, caveat.items) == (
        "study_unfinished",
        ("on, seed 0: timing is to do", "on, seed 1: train is to do"),
    )
    effect = made.summary[0]["effects"][0]
    assert [seed for seed, _ in effect["seeds"]] == [0, 2]


def test_losses_on_different_windows_are_not_compared(folder: Folder) -> None:
    cells = tuple(
        replace(entry, recipe=recipe(entry.levels[0], 50 if entry.levels == ("off",) else 100))
        for entry in folder.plan.cells
    )
    write_plan(folder.path, replace(folder.plan, cells=cells))
    made = section([folder.path])
    assert [caveat.kind for caveat in made.caveats] == ["study_losses"]
    measures = {effect["measure"] for effect in made.summary[0]["effects"]}
    assert not measures & {"validation_loss", "repeated_predictions"}
    assert made.summary[0]["cells"][0]["validation_loss"] == 2.0
    assert not any(drawing.name.endswith("losses") for drawing in made.drawings)


@pytest.mark.parametrize(
    ("section_", "field", "off", "on"),
    [
        ("data", "labels", "taken", "experts"),
        ("data", "labels", None, "scripted"),  # None: of a version without the field, "taken"
        ("data", "validation_unit", "trajectory", "episode"),
        ("sampling", "domain_weights", {}, {"toy": 0}),
    ],
)
def test_losses_of_different_targets_or_splits_are_not_compared(
    folder: Folder, section_: str, field: str, off: object, on: object
) -> None:
    def losses(off: object, on: object) -> tuple[list[str], int]:
        def changed(level: str) -> dict[str, object]:
            value = {"off": off, "on": on}[level]
            return {section_: {} if value is None else {field: value}}

        cells = tuple(replace(entry, recipe=changed(entry.levels[0])) for entry in folder.plan.cells)
        write_plan(folder.path, replace(folder.plan, cells=cells))
        made = section([folder.path])
        return [caveat.kind for caveat in made.caveats], len(
            [effect for effect in made.summary[0]["effects"] if effect["measure"] == "validation_loss"]
        )

    assert losses(off, on) == (["study_losses"], 0)
    assert losses(on, on) == ([], 1)
    if field == "labels":
        assert losses(None, "taken") == ([], 1)


def test_validation_on_training_trajectories_is_said(folder: Folder) -> None:
    def write(entry: CellEntry, data: dict[str, object], **card: object) -> None:
        write_card(CellFolder(folder.path, entry).checkpoint, {"data": data, **card})

    counts = {"training": 40, "different": 31, "validation": 8, "digests": ""}
    earlier: dict[str, object] = {"validation_in_training": 0, "validation_in_earlier": 3}
    for number, entry in enumerate(folder.plan.cells):
        copies = 5 if number == 1 else 0
        write(entry, {} if number == 2 else {"trajectories": {**counts, "validation_in_training": copies}})
    write(folder.plan.cells[3], {"trajectories": {**counts, **earlier}}, init_from={"digest": "5" * 64})
    earlier |= {"validation_in_earlier": 0, "earlier_complete": False}
    write(folder.plan.cells[4], {"trajectories": {**counts, **earlier}}, init_from={"digest": "5" * 64})
    items = {caveat.kind: caveat.items for caveat in section([folder.path]).caveats}
    assert items == {
        "study_validated_on_training": ("on, seed 0: 5 of 8 validation trajectories",),
        "study_validated_on_earlier": ("on, seed 1: 3 of 8 validation trajectories",),
        "study_earlier_not_compared": ("off, seed 2",),
        "study_validation_not_compared": ("off, seed 1",),
    }


def test_a_loss_that_is_no_number_makes_its_level_not_comparable(folder: Folder) -> None:
    cell = CellFolder(folder.path, folder.plan.cells[1])
    (cell.train / "metrics.jsonl").write_text('{"kind":"validation","update":9,"loss":null}\n')
    made = section([folder.path])
    [caveat] = made.caveats
    assert (caveat.kind, caveat.items) == ("study_diverged", ("on, seed 0",))
    effects_ = {effect["measure"]: effect for effect in made.summary[0]["effects"]}
    assert [seed for seed, _ in effects_["score"]["seeds"]] == [0, 1, 2]
    loss = effects_["validation_loss"]
    assert (loss["value"], loss["p"], loss["verdict"]) == (None, None, CANNOT_TELL)
    assert loss["reason"] == "not comparable: on, seed 0 (the validation loss is no finite number)"


def test_a_level_whose_models_fail_a_task_is_not_better_by_what_is_left(
    tmp_path: Path, synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Atari no least return is known that an episode with NaN could count with."""
    tasks = ("atari/freeway", "atari/breakout")
    monkeypatch.setitem(globals(), "TASKS", tasks)

    class Failing(Folder):
        def record(self, plan, item: WorkItem, level: str, seed: int) -> EpisodeRecord:
            bad = level == "on" and seed >= 3
            if bad and item.task == tasks[1] and item.episode == 0:
                return self.synthetic.record(plan, item, Failure("agent", "the action is NaN"))
            if level == "off" and seed == 0 and item.episode == 1:
                return self.synthetic.record(plan, item, Failure("crash", "it crashed"))
            value = -1.0 if bad else 0.5 + (0.3 + 0.01 * seed) * (level == "on") + 0.01 * item.episode
            return self.synthetic.record(plan, item, value)

    made = section([Failing(tmp_path / "study", synthetic, seeds=range(6)).path])
    effect = next(effect for effect in made.summary[0]["effects"] if effect["measure"] == "score")
    assert (effect["value"], effect["p"], effect["verdict"]) == (None, None, CANNOT_TELL)
    why = "not comparable: on, seed 3 (atari/breakout: 1 of 3 episodes failed by the agent's own errors"
    assert effect["reason"].startswith(why)
    assert effect["reason"].endswith(", and 2 more cells")
    assert f"Whether on scores otherwise than off is not known: {why}" in made.lead[-1]
    items = {caveat.kind: caveat.items for caveat in made.caveats}
    assert items["study_failed"] == tuple(
        f"on, seed {seed}: 1 episode, no score on atari/breakout" for seed in (3, 4, 5)
    )
    assert items["study_errored"] == ("off, seed 0",)
    row = next(table for table in made.printed if table.id.endswith("-effects")).rows[0]
    assert row[3].small == effect["reason"]
    cells = next(table for table in made.printed if table.id.endswith("-cells"))
    _, on = cells.rows
    assert (on[1].text, on[1].flag, on[2].small) == ("6", "3 without a score", "not comparable")
    by_task = next(table for table in made.printed if table.id.endswith("-tasks"))
    assert [row[2].small == "not comparable" for row in by_task.rows] == [False, True]


def test_few_seeds_errors_and_a_busy_machine_are_said(tmp_path: Path, synthetic) -> None:
    folder = Folder(tmp_path / "few", synthetic, seeds=(0, 1))
    cell = CellFolder(folder.path, folder.plan.cells[0])
    times = cell.times()
    assert times is not None
    cell.write("timing.json", replace(times, load=3.5))
    made = section([folder.path])
    assert [caveat.kind for caveat in made.caveats] == ["study_seeds", "study_load"]
    assert {effect["verdict"] for effect in made.summary[0]["effects"]} == {CANNOT_TELL}
    assert "Whether on scores otherwise than off is not known from 2 seeds: " in made.lead[1]
    assert "Told apart" not in made.lead[1]


def test_a_study_whose_seeds_share_their_initial_states_is_read_and_says_so(
    tmp_path: Path, synthetic
) -> None:
    made = section([Folder(tmp_path / "old", synthetic, own_starts=False).path])
    assert [caveat.kind for caveat in made.caveats] == ["study_shared_starts"]
    assert len(made.summary[0]["effects"]) == 5


def test_a_study_without_any_cell_has_a_section(tmp_path: Path, folder: Folder) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    write_plan(empty, folder.plan)
    made = section([empty])
    assert made.drawings == []
    assert "No score can be compared yet." in made.lead


def test_levels_that_are_not_tested_yet_are_corrected_for() -> None:
    study = study_of({"a": ("base", "x", "y")}, range(3))
    found = values(study, noisy(7, 0.2, 0.1, {"x": 1.0}))
    cells = tuple(cell for cell in found.cells if cell.levels != ("y",) or cell.seed == 0)
    tested, untested = effects(replace(found, cells=cells), HOW)
    assert tested.p is not None
    assert tested.p_holm == pytest.approx(2 * tested.p)
    assert (untested.p, untested.p_holm, untested.verdict) == (None, None, CANNOT_TELL)


@pytest.mark.slow
def test_scores_follow_the_normaliser_and_say_so(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = {
        ("toy/one", "toy:lram@1"): RandomPlay("toy/one", "toy:lram@1", 100, 0, 0.2, 0.1, 0.1, 0.3, "made up")
    }
    monkeypatch.setattr(random_play, "measurements", lambda: measured)
    settings = [SectionSettings(normaliser=name) for name in ("paper", "measured-random")]
    paper, made = (section([folder.path], how) for how in settings)
    effects_of = [
        next(effect for effect in one.summary[0]["effects"] if effect["measure"] == "score")
        for one in (paper, made)
    ]
    # toy/one alone, whose 0 is at 0.2 now; both tasks have the same returns.
    assert effects_of[1]["value"] == pytest.approx(effects_of[0]["value"] / 0.8)
    (unscored,) = [caveat for caveat in made.caveats if caveat.kind == "study_unscored"]
    assert unscored.items == ("toy/two",)
    assert "Scores by measured-random" in made.lead[0]
    assert b",normaliser\n" in made.csv["study_cells.csv"]
    assert made.csv["study_effects.csv"].splitlines()[1].endswith(b",measured-random")
    assert paper.csv["study_effects.csv"].splitlines()[1].endswith(b",paper")
