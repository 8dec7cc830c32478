"""The figures of scores against the dial: a panel a family, a line an agent (or a level of a study)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from lram.reports.drawing import INK, MUTED, PAPER, SCORE_LABEL, WIDTH, Drawing, look, short, style_of
from lram.reports.model import Estimate
from lram.reports.sections.dials.failing import HALF
from lram.reports.sections.dials.model import DialFamily, DialsResult

DRAWN_LINES = 24
DRAWN_PANELS = 24
_COLOURS = 8  # that style_of has before it begins anew
_SLACK = 0.12  # of the axis above the best and below chance


@dataclass(frozen=True, slots=True)
class DialLine:
    """A line of a panel.

    Attributes:
        name: For the legend.
        place: For colour, marker and kind of line.
        family: Index of the panel.
        trained: Values that were trained on; None where that is not recorded.
        points: Value of the dial, and the score there.
    """

    name: str
    place: int
    family: int
    trained: tuple[int, ...] | None
    points: tuple[tuple[int, Estimate], ...]


def dial_figures(result: DialsResult) -> list[Drawing]:
    """Return one figure for each domain."""
    lines = [
        DialLine(
            curve.name,
            curve.place,
            curve.family,
            curve.trained,
            tuple((point.dial, point.score) for point in curve.points),
        )
        for curve in result.curves
    ]
    return [
        draw(
            f"dials-{domain}",
            f"Score against the dial, {domain}",
            f"Mean normalised score; bars are {result.level:.0%} intervals of the episode noise.",
            result.families,
            lines,
            domain,
        )
        for domain in dict.fromkeys(family.domain for family in result.families)
    ]


def draw(
    name: str,
    title: str,
    caption: str,
    families: Sequence[DialFamily],
    lines: Sequence[DialLine],
    domain: str,
) -> Drawing:
    """Return the figure of the families of ``domain``.

    Args:
        name, title: Of the drawing.
        caption: What a point and its bar are; how to read the rest is added.
        families: All, as the lines count them.
        lines: Of all families.
        domain: Whose families are drawn.
    """
    inside = [index for index, family in enumerate(families) if family.domain == domain]
    panels, note = inside[:DRAWN_PANELS], ""
    if len(inside) > len(panels):
        note = f" The first {len(panels)} of {len(inside)} families are drawn; the tables hold all."
    places = sorted({line.place for line in lines if line.family in panels})
    if len(places) > DRAWN_LINES:
        note += (
            f" The first {DRAWN_LINES} of {len(places)} lines of each panel are drawn; the tables hold all."
        )
    kept = set(places[:DRAWN_LINES])
    drawn = [line for line in lines if line.family in panels and line.place in kept]
    with look():
        across = min(len(panels), 3 if len(panels) > 4 else 2)
        down = -(-len(panels) // across)
        figure = Figure(figsize=(WIDTH, 0.6 + 0.17 * -(-len(kept) // 3) + 1.95 * down), layout="constrained")
        cells = list(figure.subplots(down, across, squeeze=False, sharey=True).ravel())
        for axes, index in zip(cells, panels, strict=False):
            _panel(axes, families[index], [line for line in drawn if line.family == index])
        # Of the values only: an interval over three trainings may be as wide as the page.
        values = [0.0, 1.0, *(estimate.value for line in drawn for _, estimate in line.points)]
        cells[0].set_ylim(min(values) - 2 * _SLACK, max(values) + _SLACK)  # the panels share it
        for axes in cells[len(panels) :]:
            axes.set_visible(False)
        figure.supylabel(SCORE_LABEL, fontsize=8.5)
        _legend(figure, drawn)
    return Drawing(
        name,
        title,
        f"{caption} Dotted line: chance (0); dashed line: the best (1). Grey band: below one half, where an "
        f"agent "
        "is said to fail. Marks along the bottom: values that were trained on (black: by all lines that "
        "tell it; "
        f"else in the line's colour).{note}",
        figure,
    )


def _panel(axes: Axes, family: DialFamily, lines: Sequence[DialLine]) -> None:
    dials = family.dials
    axes.axhspan(-1e6, HALF, color=MUTED, alpha=0.10, linewidth=0, zorder=0)
    for value, dashes in ((0.0, (1, 2)), (1.0, (5, 2))):
        axes.axhline(value, color=MUTED, linewidth=0.8, linestyle=(0, dashes), zorder=1)
    spread = dials[-1] / dials[0] >= 6 if dials[0] > 0 else False
    if spread:
        axes.set_xscale("log")
    for number, line in enumerate(lines):
        _line(axes, line, 0.0 if len(lines) < 2 else number / (len(lines) - 1) - 0.5, dials, spread=spread)
    _trained(axes, lines)
    axes.xaxis.set_major_locator(FixedLocator(dials))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelsize=7.0)
    axes.set_xlabel(short(family.unit), fontsize=7.5)
    axes.set_title(short(family.family))


def _line(axes: Axes, line: DialLine, shift: float, dials: Sequence[int], *, spread: bool) -> None:
    """Draw a line, its points moved a little aside so that equal scores of several agents are seen."""
    colour, marker = style_of(line.place)
    wide = 0.0 if spread else 0.10 * (dials[-1] - dials[0]) / max(len(dials), 1)
    at = [dial * 1.18**shift if spread else dial + wide * shift for dial, _ in line.points]
    axes.plot(
        at,
        [estimate.value for _, estimate in line.points],
        color=colour,
        marker=marker,
        markersize=3.6,
        linewidth=1.1,
        linestyle=_stroke(line.place),
        markeredgecolor=PAPER,
        markeredgewidth=0.4,
        zorder=3,
    )
    for x, (_, estimate) in zip(at, line.points, strict=True):
        if estimate.interval is not None:
            ends = [estimate.interval.low, estimate.interval.high]
            axes.plot([x, x], ends, color=colour, linewidth=0.9, alpha=0.75, zorder=2)


def _stroke(place: int) -> tuple[float, tuple[float, ...]]:
    """Return the kind of line: colours and markers begin anew after eight places."""
    return (0.0, ((), (4.0, 1.5), (1.2, 1.2))[place // _COLOURS % 3])


def _trained(axes: Axes, lines: Sequence[DialLine]) -> None:
    with_training = [line for line in lines if line.trained]
    if not with_training:
        return
    alike = len({line.trained for line in with_training}) == 1
    for row, line in enumerate(with_training[:1] if alike else with_training):
        colour = INK if alike else style_of(line.place)[0]
        height = 0.03 + (0.0 if alike else 0.035 * (row % 8))
        axes.plot(
            list(line.trained or ()),
            [height] * len(line.trained or ()),
            transform=axes.get_xaxis_transform(),
            color=colour,
            marker="|",
            markersize=5.0,
            markeredgewidth=1.3,
            linestyle="none",
            zorder=4,
        )


def _legend(figure: Figure, lines: Sequence[DialLine]) -> None:
    named = {line.place: line.name for line in lines}
    handles = [
        Line2D(
            [],
            [],
            color=style_of(place)[0],
            marker=style_of(place)[1],
            markersize=4.2,
            linewidth=1.2,
            linestyle=_stroke(place),
        )
        for place in sorted(named)
    ]
    figure.legend(
        handles, [short(named[place]) for place in sorted(named)], loc="outside upper left", ncols=3
    )
