"""The figure of scores by inner episode: a panel a group of tasks, a line an agent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lram.reports.bounds import DRAWN_AGENTS, DRAWN_DOMAINS
from lram.reports.drawing import MUTED, PAPER, WIDTH, Drawing, legend_of, look, style_of
from lram.reports.sections.inner_episodes.model import InnerEpisodeCurve, PartsResult, TaskGroup


def parts_figure(whole: PartsResult) -> Drawing:
    """Return the mean return of each inner episode against its number."""
    result, note = _drawn(whole)
    with look():
        count = len(result.groups)
        across = min(count, 2)
        down = -(-count // across)
        figure = Figure(figsize=(WIDTH, 0.7 + 2.2 * down), layout="constrained")
        cells = list(figure.subplots(down, across, squeeze=False).ravel())
        for index, (axes, group) in enumerate(zip(cells, result.groups, strict=False)):
            _panel(axes, group, [curve for curve in result.curves if curve.group == index])
        for axes in cells[count:]:
            axes.set_visible(False)
        figure.supxlabel("inner episode of the trial", fontsize=8.5)
        figure.supylabel("mean return of the inner episode", fontsize=8.5)
        named = {curve.place: curve.name for curve in result.curves}
        legend_of(figure, sorted(named.items()), lines=True, markers=True)
    return Drawing(
        "parts-curves",
        "Return of each inner episode of a trial",
        f"Mean over the trials of each task and then over tasks; bars are {result.level:.0%} intervals over "
        "tasks. Dotted line: expected return of uniformly random actions; dashed line: the reference, which "
        "in Dark-Room knows the goal from the beginning, so that no learner can reach it in the first inner "
        "episodes. A rising line shows that an agent uses what it saw earlier in the trial. The lines of two "
        f"checkpoints say nothing about the noise between trainings.{note}",
        figure,
    )


def _drawn(result: PartsResult) -> tuple[PartsResult, str]:
    """Return what of ``result`` is drawn, and a sentence on what is not."""
    places = sorted({curve.place for curve in result.curves})
    if len(places) <= DRAWN_AGENTS and len(result.groups) <= DRAWN_DOMAINS:
        return result, ""
    kept = set(places[:DRAWN_AGENTS])
    curves = tuple(c for c in result.curves if c.place in kept and c.group < DRAWN_DOMAINS)
    note = (
        f" Not all is drawn: {min(len(places), DRAWN_AGENTS)} of {len(places):,} agents and "
        f"{min(len(result.groups), DRAWN_DOMAINS)} of {len(result.groups):,} groups, the first ones. The "
        "tables hold all."
    )
    return replace(result, groups=result.groups[:DRAWN_DOMAINS], curves=curves), note


def _panel(axes: Axes, group: TaskGroup, curves: list[InnerEpisodeCurve]) -> None:
    for curve in curves:
        _line(axes, curve)
    for value, dashes in ((group.random, (1, 2)), (group.reference, (5, 2))):
        if value is not None:
            axes.axhline(value, color=MUTED, linewidth=0.8, linestyle=(0, dashes), zorder=0)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlim(0.5, group.parts + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    tasks = "task" if group.tasks == 1 else "tasks"
    axes.set_title(f"{group.name} ({group.tasks} {tasks})")


def _line(axes: Axes, curve: InnerEpisodeCurve) -> None:
    colour, marker = style_of(curve.place)
    # Lines of several agents stand beside each other, so that their intervals can be told apart.
    at = np.arange(1, len(curve.parts) + 1) + 0.07 * ((curve.place % 5) - 2)
    values = [estimate.value for estimate in curve.parts]
    axes.plot(
        at,
        values,
        color=colour,
        marker=marker,
        markersize=3.6,
        linewidth=1.1,
        markeredgecolor=PAPER,
        markeredgewidth=0.4,
        zorder=3,
    )
    for x, estimate in zip(at, curve.parts, strict=True):
        if estimate.interval is not None:
            axes.plot(
                [x, x], [estimate.interval.low, estimate.interval.high], color=colour, linewidth=0.9, zorder=2
            )
