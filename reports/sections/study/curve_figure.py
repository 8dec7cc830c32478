"""The figure of a study on its own axes: a panel a measure, a line a level, bars over training seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lram.harness.studies.figure import WEIGHTS
from lram.reports.drawing import MUTED, WIDTH, Drawing, legend_of, look, short, style_of
from lram.reports.sections.study.curves import CurvePoint, StudyCurves

_COLUMNS = 3
_APART = 0.04  # of the x axis' step: lines stand so far beside each other where x are words


def draw(name: str, found: StudyCurves, key: str, level: float) -> Drawing:
    """Return the figure of ``found``; ``key`` begins its name."""
    across = min(_COLUMNS, len(found.panels))
    down = math.ceil(len(found.panels) / across)
    with look():
        figure = Figure(figsize=(WIDTH, 0.7 + 2.4 * down), layout="constrained")
        panels = list(figure.subplots(down, across, squeeze=False).flat)
        for axes, panel in zip(panels, found.panels, strict=False):
            _panel(axes, [point for point in found.points if point.panel == panel], found)
            axes.set_title(panel, fontsize=8.0)
        for axes in panels[len(found.panels) :]:
            axes.set_axis_off()
        if found.figure.lines:
            named = list(enumerate(found.lines))
            legend_of(figure, named, lines=True, markers=True, title=found.figure.lines)
    x = "weights of the model" if found.figure.x == WEIGHTS else found.figure.x
    lines = f", one line a level of {found.figure.lines}" if found.figure.lines else ""
    caption = (
        f"Measures against {x}{lines}. Points are means over the training seeds, bars {level:.0%} t "
        "intervals over them, where there are two seeds or more. The bars are each point's own: whether two "
        "levels differ is said by the paired effects."
        f"{' ' + found.missing if found.missing else ''}"
    )
    return Drawing(f"{key}-curves", f"{name}: against {x}", caption, figure)


def _panel(axes: Axes, points: Sequence[CurvePoint], found: StudyCurves) -> None:
    words = bool(found.ticks) and [x for x, _ in found.ticks] == list(range(len(found.ticks)))
    step = _APART if words else 0.0
    for place, line in enumerate(found.lines):
        mine = [point for point in points if point.line == line]
        colour, marker = style_of(place)
        xs = [point.x + step * (place - (len(found.lines) - 1) / 2) for point in mine]
        axes.plot(
            xs,
            [point.value.value for point in mine],
            marker=marker,
            color=colour,
            markersize=4.6,
            linewidth=1.2,
            linestyle="none" if words else "solid",
        )
        for x, point in zip(xs, mine, strict=True):
            if (span := point.value.interval) is not None:
                axes.plot([x, x], [span.low, span.high], color=colour, linewidth=1.0)
    if found.figure.log:
        axes.set_xscale("log")
    if found.ticks:
        axes.minorticks_off()
        names = [short(name, 18) for _, name in found.ticks]
        turned = words and max(map(len, names)) * len(names) > 24
        axes.set_xticks([x for x, _ in found.ticks], names, rotation=35 if turned else 0, fontsize=7.0)
        if turned:
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right")
    axes.grid(axis="y", color=MUTED, alpha=0.2, linewidth=0.5)
    axes.set_xlabel("weights" if found.figure.x == WEIGHTS else short(found.figure.x), fontsize=7.5)
