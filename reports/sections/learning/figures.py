"""The figure of learning curves: a panel for all domains and one for each, a line a training."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lram.reports.bounds import DRAWN_AGENTS, DRAWN_DOMAINS
from lram.reports.drawing import (
    MUTED,
    PAPER,
    SCORE_LABEL,
    WIDTH,
    Drawing,
    in_doubt,
    legend_of,
    look,
    short,
    style_of,
)
from lram.reports.model import Estimate
from lram.reports.sections.learning.model import LEVEL, LearningCurve, whole

_BESIDE = 4
"""Trainings that stand beside each other at an update."""

Line = list[tuple[int, Estimate, bool]]
"""Estimates by update, and whether each lacks episodes or tasks that others have."""


def curves_figure(curves: Sequence[LearningCurve]) -> Drawing:
    """Return the score of each training's checkpoints against the update."""
    drawn, note = curves[:DRAWN_AGENTS], ""
    domains = list(dict.fromkeys(name for curve in drawn for name in curve.domains))
    if len(curves) > len(drawn) or len(domains) > DRAWN_DOMAINS:
        note = " Not all is drawn: the first trainings and domains; the CSV file holds all."
    shown = domains[:DRAWN_DOMAINS] if len(domains) > 1 else []
    lines = {curve.place: _lines(curve, shown) for curve in drawn}
    # Bars of several trainings stand beside each other, so that their intervals can be told apart.
    apart = 0.009 * max((point.update for curve in drawn for point in curve.points), default=0)
    with look():
        count = 1 + len(shown)
        across = min(count, 2)
        down = -(-count // across)
        figure = Figure(figsize=(WIDTH, 0.8 + 2.3 * down), layout="constrained")
        cells = list(figure.subplots(down, across, squeeze=False).ravel())
        titles = ["mean of domain means" if shown else (domains or [""])[0], *shown]
        for place, title in enumerate(titles):
            _panel(cells[place], short(title), drawn, [lines[curve.place][place] for curve in drawn], apart)
        for curve in drawn:
            _confirmed(cells[0], curve, apart)
        for axes in cells[count:]:
            axes.set_visible(False)
        figure.supxlabel("updates", fontsize=8.5)
        figure.supylabel(SCORE_LABEL, fontsize=8.5)
        legend_of(figure, [(curve.place, curve.name) for curve in drawn], lines=True, markers=True)
    doubt = in_doubt(estimate for of in lines.values() for line in of for _, estimate, _ in line)
    confirmed = [curve.best.confirmed for curve in drawn if curve.best is not None and curve.best.confirmed]
    lacking = any(lacks for of in lines.values() for line in of for *_, lacks in line)
    return Drawing(
        "learning-curves",
        "Score over updates",
        f"Every checkpoint that was scored, with {LEVEL:.0%} intervals of the noise between episodes; the "
        "checkpoints of a training played from the same starts, so neighbours share their luck. Dotted "
        "line: random play; dashed line: the reference. The highest point of a curve is too high on "
        "average: the table of best checkpoints corrects it."
        + (" Star: the best checkpoint, played anew from other starts." if confirmed else "")
        + (
            " A hollow point lacks planned episodes or tasks and does not compare with the others."
            if lacking or not all(one.whole for one in confirmed)
            else ""
        )
        + f"{doubt} Lines of two trainings say nothing about the noise between training seeds.{note}",
        figure,
    )


def _lines(curve: LearningCurve, domains: Sequence[str]) -> list[Line]:
    """Return the line of all domains, then one a domain; what has no score leaves a gap in none."""
    found: list[Line] = [[]]
    for point in curve.points:
        if point.score.estimate is not None:
            lacks = not (whole(point) and point.score.rests_on.comparable)
            found[0].append((point.update, point.score.estimate, lacks))
    for name in domains:
        line: Line = []
        if name in curve.domains:
            at = curve.domains.index(name)
            for point in curve.points:
                if (estimate := point.domains[at].estimate) is not None:
                    lacks = name in point.lacking or not point.domains[at].rests_on.comparable
                    line.append((point.update, estimate, lacks))
        found.append(line)
    return found


def _panel(
    axes: Axes, title: str, curves: Sequence[LearningCurve], lines: Sequence[Line], apart: float
) -> None:
    for curve, line in zip(curves, lines, strict=True):
        colour, marker = style_of(curve.place)
        beside = apart * (curve.place % _BESIDE)
        axes.plot(
            [update + beside for update, *_ in line],
            [estimate.value for _, estimate, _ in line],
            color=colour,
            linewidth=1.1,
            zorder=3,
        )
        for lacks in (False, True):
            those = [(update, estimate) for update, estimate, lacking in line if lacking == lacks]
            axes.plot(
                [update + beside for update, _ in those],
                [estimate.value for _, estimate in those],
                marker=marker,
                markersize=3.6,
                markerfacecolor=PAPER if lacks else colour,
                markeredgecolor=colour if lacks else PAPER,
                markeredgewidth=0.8 if lacks else 0.4,
                linestyle="none",
                zorder=4,
            )
        for update, estimate, _ in line:
            _bar(axes, update + beside, estimate, colour)
    for value, dashes in ((0.0, (1, 2)), (1.0, (5, 2))):
        axes.axhline(value, color=MUTED, linewidth=0.8, linestyle=(0, dashes), zorder=0)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.set_title(title)


def _bar(axes: Axes, update: float, estimate: Estimate, colour: str) -> None:
    if estimate.interval is None:
        return
    axes.plot(
        [update, update],
        [estimate.interval.low, estimate.interval.high],
        color=colour,
        linewidth=0.9,
        linestyle=(0, (1.6, 0.8)) if estimate.interval.doubts else "solid",
        zorder=2,
    )


def _confirmed(axes: Axes, curve: LearningCurve, apart: float) -> None:
    """Draw what the best checkpoint scored from other starts, beside its point."""
    best = curve.best
    if best is None or best.confirmed is None or best.confirmed.score.estimate is None:
        return
    estimate, colour = best.confirmed.score.estimate, style_of(curve.place)[0]
    beside = best.update + apart * (curve.place % _BESIDE + 0.5)
    _bar(axes, beside, estimate, colour)
    axes.plot(
        [beside],
        [estimate.value],
        marker="*",
        markersize=7.0,
        markerfacecolor=colour if best.confirmed.whole else PAPER,
        markeredgecolor=colour,
        markeredgewidth=0.8,
        linestyle="none",
        zorder=5,
    )
