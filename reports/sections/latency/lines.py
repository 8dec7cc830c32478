"""How an agent's line is drawn: its colour and marker, and the dashes of its form or sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lram.reports.drawing import PAPER, style_of
from lram.reports.sections.latency.model import MeasuredAgent

_Dash: TypeAlias = Literal["solid"] | tuple[float, tuple[float, ...]]
_DASHES: tuple[_Dash, ...] = ("solid", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)))


def line(axes: Axes, agent: MeasuredAgent, points: Sequence[tuple[int, float]]) -> None:
    """Draw a line through ``points`` (none: nothing)."""
    if points:
        places, values = zip(*points, strict=True)
        axes.plot(places, values, linewidth=1.3, zorder=3, **_style(agent))


def handle(agent: MeasuredAgent) -> Line2D:
    """Return what stands for the line in a legend."""
    return Line2D([], [], linewidth=1.4, **_style(agent))


def _style(agent: MeasuredAgent) -> dict[str, Any]:
    colour, marker = style_of(agent.place)
    return {
        "color": colour,
        "linestyle": _DASHES[agent.style % len(_DASHES)],
        "marker": marker,
        "markersize": 4.2,
        "markerfacecolor": colour,
        "markeredgecolor": PAPER,
        "markeredgewidth": 0.5,
    }
