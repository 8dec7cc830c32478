"""A study's figure: measures against an axis or the number of weights, means over seeds with t intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lram.harness.errors import LramError
from lram.harness.studies.figure import StudyFigure, number_of
from lram.harness.studies.study import Axis, Data, Evaluation, Level, Study
from lram.reports.drawing import render
from lram.reports.sections.study.cells import CellValues, StudyValues
from lram.reports.sections.study.curve_figure import draw
from lram.reports.sections.study.curves import (
    StudyCurves,
    curves_table,
    point_rows,
    study_curves,
)


def made(
    axes: Mapping[str, Sequence[str]],
    figure: StudyFigure | None,
    score: Callable[[tuple[str, ...], int, str], float],
    seeds: Sequence[int] = (0, 1, 2),
    tasks: Sequence[str] = ("one/a", "one/b", "two/c"),
) -> StudyValues:
    study = Study(
        name="curves",
        question="",
        seeds=tuple(seeds),
        recipe={},
        axes=tuple(Axis(name, tuple(Level(level) for level in levels)) for name, levels in axes.items()),
        data=Data(("/store",)),
        evaluation=Evaluation(tuple(tasks)),
        figure=figure,
    )
    cells = tuple(
        CellValues(
            levels,
            seed,
            f"{levels} {seed}",
            "",
            "",
            1000 * (1 + len(levels[-1])) + seed,
            {},
            loss=1.0 + seed,
            decision_ms=2.0,
            by_task={task: score(levels, seed, task) for task in tasks},
        )
        for seed in seeds
        for levels in product(*axes.values())
    )
    return StudyValues(Path(), study, cells, "", ())


def curves(study: StudyValues) -> StudyCurves:
    found = study_curves(study, 0.95)
    assert found is not None
    return found


def test_a_point_is_the_mean_over_seeds_of_means_over_domains_with_a_t_interval() -> None:
    noise = {
        (seed, task): 0.1 * seed * ord(task[-1]) + ord(task[0])
        for seed in range(3)
        for task in ("one/a", "one/b", "two/c")
    }
    values = made(
        {"n": ("2", "1")}, StudyFigure("n"), lambda levels, seed, task: float(levels[0]) + noise[seed, task]
    )
    first, second = curves(values).points
    assert [first.at, second.at, first.x, second.x] == ["1", "2", 1.0, 2.0]
    by_seed = [
        np.mean([np.mean([1 + noise[seed, "one/a"], 1 + noise[seed, "one/b"]]), 1 + noise[seed, "two/c"]])
        for seed in range(3)
    ]
    assert first.value.value == pytest.approx(np.mean(by_seed))
    assert first.value.interval is not None
    oracle = stats.ttest_1samp(by_seed, 0.0).confidence_interval(0.95)
    assert (first.value.interval.low, first.value.interval.high) == pytest.approx((oracle.low, oracle.high))
    assert first.seeds == 3


def test_other_axes_are_averaged_within_a_seed_before_seeds_are() -> None:
    values = made(
        {"n": ("1", "2"), "other": ("a", "b")},
        StudyFigure("n"),
        lambda levels, seed, task: seed + (10.0 if levels[1] == "b" else 0.0),
    )
    [point, _] = curves(values).points
    assert point.value.value == pytest.approx(6.0)
    assert point.value.interval is not None
    # The spread is that of the seeds 0, 1 and 2, whatever the other axis does.
    reach = stats.t.ppf(0.975, 2) / math.sqrt(3)
    assert point.value.interval.high == pytest.approx(6.0 + reach)


def test_a_seed_without_some_of_a_points_cells_is_no_part_of_it() -> None:
    values = made(
        {"n": ("1", "2"), "other": ("a", "b")},
        StudyFigure("n"),
        lambda levels, seed, task: seed + (10.0 if levels[1] == "b" else 0.0),
    )

    def unmade(cell: CellValues) -> bool:
        return (cell.levels == ("1", "b") and cell.seed == 0) or cell.levels == ("2", "b")

    cells = tuple(replace(cell, by_task={}) if unmade(cell) else cell for cell in values.cells)
    found = curves(replace(values, cells=cells))
    assert [(point.at, point.seeds, point.value.value) for point in found.points] == [("1", 2, 6.5)]
    why = "no training seed has every combination of the other axes' levels"
    assert found.missing == f"No point where {why}: normalised score at 2."


def test_a_level_without_a_score_by_its_own_fault_has_no_point() -> None:
    values = made({"n": ("1", "2")}, StudyFigure("n", ("score_by_domain",)), lambda levels, seed, task: 1.0)
    cells = tuple(
        replace(cell, by_task={"one/b": 1.0, "two/c": 1.0}, uncounted={"one/a": "it failed"})
        if cell.levels == ("2",) and cell.seed == 0
        else cell
        for cell in values.cells
    )
    found = curves(replace(values, cells=cells))
    assert [(point.panel[-3:], point.at) for point in found.points] == [
        ("one", "1"),
        ("two", "1"),
        ("two", "2"),
    ]
    assert found.missing == "No point where models failed by their own errors: normalised score, one at 2."


def test_each_level_of_the_lines_axis_is_a_line_and_each_domain_a_panel() -> None:
    values = made(
        {"n": ("1", "2"), "backbone": ("x", "y")},
        StudyFigure("n", ("score_by_domain",), "backbone"),
        lambda levels, seed, task: (levels[1] == "y") + 2.0 * (task == "two/c"),
    )
    found = curves(values)
    assert found.panels == ("normalised score, one", "normalised score, two")
    assert found.lines == ("x", "y")
    assert {(p.panel[-3:], p.line): p.value.value for p in found.points if p.at == "1"} == {
        ("one", "x"): 0.0,
        ("one", "y"): 1.0,
        ("two", "x"): 2.0,
        ("two", "y"): 3.0,
    }


def test_against_weights_sizes_of_a_backbone_are_one_line() -> None:
    values = made(
        {"model": ("Mamba, 1M", "Mamba, 16M", "xLSTM, 1M")},
        StudyFigure("weights", ("score",), "model", log=True),
        lambda levels, seed, task: 0.0,
    )
    found = curves(values)
    assert found.lines == ("Mamba", "xLSTM")
    # Mean over the seeds of what the cells have.
    assert [(p.line, p.x) for p in found.points] == [
        ("Mamba", 10001.0),
        ("Mamba", 11001.0),
        ("xLSTM", 10001.0),
    ]


def test_a_perplexity_is_the_exponential_of_the_loss_and_goes_where_losses_do_not_compare() -> None:
    values = made(
        {"n": ("a", "b")}, StudyFigure("n", ("perplexity", "score")), lambda levels, seed, task: 0.5
    )
    found = curves(values)
    [first, *_] = found.points
    assert first.panel == "validation perplexity"
    # Of the mean loss over seeds, so that no end of its interval is below 0.
    assert first.value.value == pytest.approx(math.exp(2.0))
    assert first.value.interval is not None
    reach = stats.t.ppf(0.975, 2) / math.sqrt(3)
    assert (first.value.interval.low, first.value.interval.high) == pytest.approx(
        (math.exp(2.0 - reach), math.exp(2.0 + reach))
    )
    apart = curves(replace(values, incomparable="levels are validated on different tasks"))
    assert apart.panels == ("normalised score",)
    assert apart.missing == "No validation perplexity: levels are validated on different tasks."
    assert apart.missing in curves_table(values, apart, "k").caption
    assert apart.missing in draw("curves", apart, "k", 0.95).caption


def test_fewer_seeds_have_no_interval_and_no_figure_is_asked_for_nothing() -> None:
    one = curves(made({"n": ("a", "b")}, StudyFigure("n"), lambda levels, seed, task: 0.5, seeds=(0,)))
    assert [(p.value.interval, p.value.note) for p in one.points] == [(None, "1 seed")] * 2
    assert study_curves(made({"n": ("a", "b")}, None, lambda levels, seed, task: 0.5), 0.95) is None


def test_tables_and_figure_have_every_point() -> None:
    values = made(
        {"n": ("1e-3", "1e-2", "5e-3"), "backbone": ("x", "y")},
        StudyFigure("n", ("score", "decision_ms"), "backbone", log=True),
        lambda levels, seed, task: seed + float(levels[0]),
    )
    found = curves(values)
    assert len(point_rows([(values, found)]).rows) == len(curves_table(values, found, "k").rows) == 12
    drawing = draw("curves", found, "study-it", 0.95)
    score, ms = drawing.figure.axes[:2]
    assert score.get_xscale() == ms.get_xscale() == "log"
    drawn = sorted(
        (x, y)
        for line in score.lines
        if line.get_marker() != "None"
        for x, y in zip(*line.get_data(), strict=True)
    )
    wanted = sorted((p.x, p.value.value) for p in found.points if p.panel == "normalised score")
    assert np.allclose(drawn, wanted)
    assert [label.get_text() for label in score.get_xticklabels()] == ["1e-3", "5e-3", "1e-2"]
    assert render(drawing, "svg").startswith(b"<?xml")


@pytest.mark.parametrize(
    ("figure", "match"),
    [
        (StudyFigure("m"), r"figure\.x is 'm', which is no axis of the study; it has n"),
        (StudyFigure("n", lines="m"), r"figure\.lines is 'm'"),
        (StudyFigure("n", lines="n"), r"are both 'n'"),
        (StudyFigure("n", ("score", "score")), "names a measure twice"),
        (StudyFigure("n", lines="weights"), r"figure\.lines is 'weights'"),
    ],
)
def test_a_figure_of_axes_that_are_not_there_is_refused(figure: StudyFigure, match: str) -> None:
    with pytest.raises(LramError, match=match):
        made({"n": ("a", "b")}, figure, lambda levels, seed, task: 0.0).study.check()


def test_levels_are_numbers_where_they_are_named_by_one() -> None:
    assert [number_of(name) for name in ("1e-3", "1,600", "[7:1]", "nan-ish")] == [1e-3, 1600.0, None, None]
