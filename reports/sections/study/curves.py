"""A study's result on the axes that its file asks for: a measure against an axis, a line a level of another.

Every point is the mean over the training seeds that have all of its cells (those of all levels of the other
axes), with a t interval over those seeds. There is none where a model has no value by its own fault, as the
others' mean would flatter. The interval is of the level itself, not of its difference from a base, so
intervals that overlap do not say that two levels cannot be told apart (their differences are paired; see the
effects).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lram.harness.studies.figure import WEIGHTS, FigureMeasure, StudyFigure, number_of
from lram.reports import forms, text
from lram.reports.model import ConfidenceInterval, Estimate, rounded
from lram.reports.sections.study.cells import CellValues, StudyValues
from lram.reports.statistics import over_seeds
from lram.reports.table import Column, Table, hidden, words

LABELS: Mapping[FigureMeasure, str] = {
    "score": "normalised score",
    "score_by_domain": "normalised score",
    "perplexity": "validation perplexity",
    "validation_loss": "validation loss",
    "decision_ms": "time of a decision, ms",
}
_LOSSES = ("perplexity", "validation_loss")
_LARGEST_LOSS = 700.0  # whose exponential is a number yet


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One point of a line.

    Attributes:
        panel: Measure, and domain where it is one domain's.
        line: Level of the axis that lines are of; empty for the only line.
        at: Level of the x axis, or the number of weights as text.
        x: Where it is drawn.
        seeds: Training seeds behind it.
        value: Mean over them, with a t interval.
    """

    panel: str
    line: str
    at: str
    x: float
    seeds: int
    value: Estimate


@dataclass(frozen=True, slots=True)
class StudyCurves:
    """All points of a study's figure, panel by panel and line by line."""

    figure: StudyFigure
    panels: tuple[str, ...]
    lines: tuple[str, ...]
    points: tuple[CurvePoint, ...]
    ticks: tuple[tuple[float, str], ...]
    missing: str = ""
    """Which panels and points are not there, and why; empty where all are."""


def study_curves(study: StudyValues, level: float) -> StudyCurves | None:
    """Return the points of the figure that the study's file asks for; None where it asks for none, or no
    cell has anything to draw yet.
    """
    figure = study.study.figure
    if figure is None:
        return None
    line_of, lines = _lines(study, figure)
    places, ticks = _places(study, figure)
    points: list[CurvePoint] = []
    panels: list[str] = []
    absent: dict[str, dict[str, None]] = {}
    for measure in figure.measures:
        for domain in _domains(study) if measure == "score_by_domain" else [""]:
            panel = f"{LABELS[measure]}, {domain}" if domain else LABELS[measure]
            made = []
            for line in lines:
                found, without = _line(
                    panel,
                    line,
                    [cell for cell in study.cells if line_of(cell) == line],
                    places,
                    _measured(measure, domain, comparable=not study.incomparable),
                    _failing(measure, domain, comparable=not study.incomparable),
                    level,
                    exponential=measure == "perplexity",
                )
                made += found
                for name, why in without:
                    absent.setdefault(why, {})[
                        f"{panel}, {line} at {name}" if line else f"{panel} at {name}"
                    ] = None
            if made:
                panels.append(panel)
                points += made
    if not points:
        return None
    asked = [LABELS[one] for one in figure.measures if one in _LOSSES] if study.incomparable else []
    missing = [f"No {' and no '.join(asked)}: {study.incomparable}."] if asked else []
    missing += [f"No point where {why}: {text.listing(list(names))}." for why, names in absent.items()]
    return StudyCurves(figure, tuple(panels), tuple(lines), tuple(points), tuple(ticks), " ".join(missing))


def _lines(study: StudyValues, figure: StudyFigure) -> tuple[Callable[[CellValues], str], list[str]]:
    """Return which line a cell is on, and all lines."""
    names = [axis.name for axis in study.axes]
    if not figure.lines:
        return lambda cell: "", [""]
    place = names.index(figure.lines)
    levels = [level.name for level in study.axes[place].levels]
    return lambda cell: figure.line_of(cell.levels[place]), list(dict.fromkeys(map(figure.line_of, levels)))


Place = tuple[float, str]


def _places(
    study: StudyValues, figure: StudyFigure
) -> tuple[Callable[[CellValues], Place | None], list[Place]]:
    """Return where on the x axis a cell stands and what it is called there, and the axis' ticks."""
    if figure.x == WEIGHTS:
        sizes = _mean_sizes(study)
        return lambda cell: sizes.get(cell.levels), []
    place = [axis.name for axis in study.axes].index(figure.x)
    levels = [level.name for level in study.axes[place].levels]
    numbers = [number_of(level) for level in levels]
    if all(number is not None for number in numbers):
        where = dict(zip(levels, [float(n) for n in numbers if n is not None], strict=True))
    else:
        where = {level: float(number) for number, level in enumerate(levels)}
    return (
        lambda cell: (where[cell.levels[place]], cell.levels[place]),
        sorted((x, level) for level, x in where.items()),
    )


def _mean_sizes(study: StudyValues) -> dict[tuple[str, ...], Place]:
    sizes: dict[tuple[str, ...], list[int]] = {}
    for cell in study.cells:
        if cell.parameters:
            sizes.setdefault(cell.levels, []).append(cell.parameters)
    means = {levels: statistics.fmean(found) for levels, found in sizes.items()}
    return {levels: (mean, f"{mean:,.0f}") for levels, mean in means.items()}


def _domains(study: StudyValues) -> list[str]:
    return list(dict.fromkeys(task.partition("/")[0] for cell in study.cells for task in cell.by_task))


def _measured(
    measure: FigureMeasure, domain: str, *, comparable: bool
) -> Callable[[CellValues], float | None]:
    def score(cell: CellValues) -> float | None:
        by_domain: dict[str, list[float]] = {}
        for task, value in cell.by_task.items():
            by_domain.setdefault(task.partition("/")[0], []).append(value)
        means = {name: statistics.fmean(values) for name, values in by_domain.items()}
        if domain:
            return means.get(domain)
        return statistics.fmean(means.values()) if means else None

    def loss(cell: CellValues) -> float | None:
        return cell.loss if comparable else None

    return {
        "score": score,
        "score_by_domain": score,
        "validation_loss": loss,
        "perplexity": loss,  # the mean over seeds is of losses, and becomes a perplexity afterwards
        "decision_ms": lambda cell: cell.decision_ms,
    }[measure]


def _failing(measure: FigureMeasure, domain: str, *, comparable: bool) -> Callable[[CellValues], bool]:
    """Return what tells whether a cell has no value by its own fault."""
    if measure in _LOSSES:
        return lambda cell: cell.diverged and comparable
    if measure == "decision_ms":
        return lambda cell: False
    return lambda cell: any(task.partition("/")[0] == domain or not domain for task in cell.uncounted)


def _line(
    panel: str,
    line: str,
    cells: Sequence[CellValues],
    places: Callable[[CellValues], Place | None],
    measured: Callable[[CellValues], float | None],
    fails: Callable[[CellValues], bool],
    level: float,
    *,
    exponential: bool,
) -> tuple[list[CurvePoint], list[tuple[str, str]]]:
    """Return the points of a line, and where it has none although something was measured, with the reason."""
    there: dict[Place, list[CellValues]] = {}
    for cell in cells:
        if (where := places(cell)) is not None:
            there.setdefault(where, []).append(cell)
    points, without = [], []
    for (x, name), mine in sorted(there.items()):
        found: dict[int, list[float]] = {}
        for cell in mine:
            if (value := measured(cell)) is not None:
                found.setdefault(cell.seed, []).append(value)
        # Of a seed without some of them, the mean would be about other levels of the other axes.
        combinations = len({cell.levels for cell in mine})
        whole = [statistics.fmean(values) for values in found.values() if len(values) == combinations]
        if any(map(fails, mine)):
            without.append((name, "models failed by their own errors"))
        elif whole:
            estimate = _over(whole, level, exponential=exponential)
            points.append(CurvePoint(panel, line, name, x, len(whole), estimate))
        elif found:
            without.append((name, "no training seed has every combination of the other axes' levels"))
    return points, without


def _over(seeds: Sequence[float], level: float, *, exponential: bool) -> Estimate:
    """Return the mean over training seeds with its t interval; of perplexities, those of their logarithms."""
    values = np.array(seeds)
    span, _ = over_seeds(values, level)

    def shown(number: float) -> float:
        return rounded(math.exp(min(number, _LARGEST_LOSS)) if exponential else number)

    value = shown(float(values.mean()))
    if span is None:
        alike = "seeds do not differ" if len(seeds) > 1 else text.count(len(seeds), "seed")
        return Estimate(value, None, alike)
    return Estimate(value, ConfidenceInterval(shown(span[0]), shown(span[1]), "t"))


def curves_table(study: StudyValues, found: StudyCurves, key: str) -> Table[CurvePoint]:
    """Return the figure's points, for people and programs."""
    columns: list[Column[CurvePoint]] = [
        hidden("study", lambda point: study.study.name),
        words("Measure", "measure", lambda point: point.panel),
        *([words(found.figure.lines, "line", lambda point: point.line)] if found.figure.lines else []),
        words(found.figure.x, "at", lambda point: point.at),
        Column("Seeds", "seeds", lambda point: point.seeds),
        Column("Mean", "mean", lambda point: point.value, forms.estimates(forms.two), parts=forms.ENDS),
    ]
    caption = (
        f"{study.study.name}: the points of the figure, each the mean over training seeds with its t "
        f"interval over them.{' ' + found.missing if found.missing else ''}"
    )
    return Table(f"{key}-points", caption, columns, found.points, "")


def point_rows(made: Sequence[tuple[StudyValues, StudyCurves]]) -> Table[tuple[StudyValues, CurvePoint]]:
    """Return the points of all studies, for programs."""
    columns: list[Column[tuple[StudyValues, CurvePoint]]] = [
        hidden("study", lambda row: row[0].study.name),
        hidden("measure", lambda row: row[1].panel),
        hidden("line", lambda row: row[1].line),
        hidden("at", lambda row: row[1].at),
        hidden("x", lambda row: rounded(row[1].x)),
        hidden("seeds", lambda row: row[1].seeds),
        hidden("mean", lambda row: row[1].value, forms.ENDS),
    ]
    rows = [(study, point) for study, found in made for point in found.points]
    return Table("", "", columns, rows, "study_points")
