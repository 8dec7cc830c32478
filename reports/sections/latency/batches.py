"""The figure of throughput and memory against lanes."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lram.harness.latency.records import OUT_OF_MEMORY
from lram.reports.drawing import PAPER, WIDTH, log_axes, style_of
from lram.reports.sections.latency.model import ContextLatency, LatencyResult
from lram.reports.sections.latency.throughput import throughput_of

_MIB = 2**20
_PANELS = 3
_VALUES: tuple[tuple[str, Callable[[ContextLatency], float | None]], ...] = (
    ("decisions/s, all lanes", lambda s: None if (one := throughput_of(s)) is None else one.value),
    ("state or cache, MiB", lambda s: s.state_bytes / _MIB if s.agent and s.state_bytes else None),
    ("peak of the process, MiB", lambda s: s.peak_bytes / _MIB if s.agent and s.peak_bytes else None),
)

TITLE = "Throughput and memory against lanes"
CAPTION = (
    "Lanes that decide together in one pass. Above: decisions a second of all of them, without simulators; "
    "below: what all lanes keep between decisions, and the highest resident memory of the process with "
    "libraries, weights and recorded inputs. All axes are logarithmic. A cross stands where memory ran out."
)


def batch_figure(result: LatencyResult) -> Figure:
    """Return the figure: a column a context (the shortest, one between, the longest), a line an agent."""
    shown = _shown(result.contexts)
    figure = Figure(figsize=(WIDTH, 7.0), layout="constrained")
    cells = figure.subplots(len(_VALUES), len(shown), squeeze=False, sharex=True, sharey="row")
    for row, (label, value) in zip(cells, _VALUES, strict=True):
        row[0].set_ylabel(label)
        for axes, context in zip(row, shown, strict=True):
            for place in range(len(result.subjects)):
                spots = [s for s in result.spots if (s.subject, s.context) == (place, context)]
                _line(axes, result.subjects[place].place, spots, value)
            log_axes(axes, result.batches, base=2)
    for axes, context in zip(cells[0], shown, strict=True):
        axes.set_title(f"context {context}")
    for axes in cells[-1]:
        axes.set_xlabel("lanes")
    return figure


def _shown(contexts: tuple[int, ...]) -> tuple[int, ...]:
    if len(contexts) <= _PANELS:
        return contexts
    return contexts[0], contexts[len(contexts) // 2], contexts[-1]


def _line(
    axes: Axes,
    place: int,
    spots: list[ContextLatency],
    value: Callable[[ContextLatency], float | None],
) -> None:
    colour, marker = style_of(place)
    points = [(s.batch, found) for s in spots if s.audit != "failed" and (found := value(s)) is not None]
    if points:
        axes.plot(
            [batch for batch, _ in points],
            [found for _, found in points],
            color=colour,
            linewidth=1.3,
            marker=marker,
            markersize=4.2,
            markeredgecolor=PAPER,
            markeredgewidth=0.5,
            zorder=3,
        )
    for spot in spots:
        if spot.outcome == OUT_OF_MEMORY:
            axes.plot(
                [spot.batch],
                [0.03 + 0.05 * (place % 4)],
                transform=axes.get_xaxis_transform(),
                color=colour,
                marker="x",
                markersize=5,
                linestyle="",
            )
