"""The figures of latencies: time and memory of a decision against context, and its tail."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lram.reports.drawing import INK, MUTED, WIDTH, Drawing, log_axes, look, short, style_of
from lram.reports.sections.latency.analysis import RATES
from lram.reports.sections.latency.batches import TITLE, batch_caption, batch_figure
from lram.reports.sections.latency.lines import handle, line
from lram.reports.sections.latency.model import ContextLatency, LatencyResult
from lram.reports.sections.latency.throughput import FEWEST_BATCHES
from lram.reports.sections.latency.wording import lanes_text, peak_label, peak_words, rows_words

_ACROSS = 4  # panels a row, so that their ticks do not run into one another
_LINEAR_TO = 4.0  # ratio of the most to the least memory from which on its axis is logarithmic
_MIB = 2**20

Value = Callable[[ContextLatency], float | None]


def draw(result: LatencyResult) -> list[Drawing]:
    """Return the figures that there are data for, in the order of the page."""
    if not any(spot.agent is not None for spot in result.spots):
        return []
    with look():
        drawn = [_curves(result), _memory(result)]
        if any(spot.agent is not None and spot.agent.p99 is not None for spot in result.spots):
            drawn.append(_tails(result))
        if len(result.batches) >= FEWEST_BATCHES:
            drawn.append(
                _finished(result, batch_figure(result), "latency-throughput", TITLE, batch_caption(result))
            )
    return drawn


def _curves(result: LatencyResult) -> Drawing:
    figure, panels = _panels(len(result.batches))
    for axes, batch in zip(panels, result.batches, strict=True):
        for place in range(len(result.subjects)):
            spots = _audited(result, place, batch)
            _line(axes, result, place, spots, lambda s: None if s.agent is None else s.agent.median.value)
            colour, _ = _style(result, place)
            for spot in spots:
                middle = spot.agent.median if spot.agent else None
                if middle is not None and middle.low is not None and middle.high is not None:
                    axes.plot(
                        [spot.context] * 2, [middle.low, middle.high], color=colour, linewidth=1.0, zorder=2
                    )
        _context_axes(axes, result)
        axes.set_title(lanes_text(result, batch))
    figure.supylabel("agent step, ms", fontsize=8.5)
    return _finished(
        result,
        figure,
        "latency-curves",
        "Time of a decision against context",
        "Agent step: observations in, actions out, all lanes together; points are medians over processes, "
        "bars their intervals (often smaller than the marker). Both axes are logarithmic. A line ends where "
        "memory or the time limit did; the table says which. Points at which an agent is faster on inputs "
        "that it has seen are left out." + f" {rows_words(result)}".rstrip(),
    )


def _tails(result: LatencyResult) -> Drawing:
    figure, panels = _panels(len(result.batches))
    for axes, batch in zip(panels, result.batches, strict=True):
        for place in range(len(result.subjects)):
            spots = _audited(result, place, batch)
            _line(axes, result, place, spots, lambda s: None if s.agent is None else s.agent.p99)
            colour, _ = _style(result, place)
            for spot in spots:
                if spot.agent is not None and spot.agent.p99 is not None:
                    ends = [spot.agent.median.value, spot.agent.p99]
                    axes.plot([spot.context] * 2, ends, color=colour, linewidth=0.8, alpha=0.6, zorder=1)
        _context_axes(axes, result)
        axes.set_title(lanes_text(result, batch))
    low, high = panels[0].get_ylim()
    shown = [hz for hz in RATES if low < 1000 / hz < high]
    for axes in panels:
        for hz in shown:
            axes.axhline(1000 / hz, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)), zorder=1)
    _, across = _grid(len(panels))
    for axes in panels[across - 1 :: across]:  # at the right end of whole rows
        for hz in shown:
            axes.annotate(
                f"{hz} Hz",
                (1.0, 1000 / hz),
                xytext=(3, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="left",
                va="center",
                fontsize=7.0,
                color=MUTED,
            )
    figure.supylabel("agent step, ms", fontsize=8.5)
    return _finished(
        result,
        figure,
        "latency-tails",
        "The slowest of a hundred decisions, and control rates",
        "Points: the time that 99 of 100 decisions did not exceed, of all processes, of which each weighs "
        "the same; thin lines reach down to the median. Dashed: the period of a control rate. Where a point "
        "is missing, too few decisions were measured. A tail also shows what else the machine did.",
    )


def _memory(result: LatencyResult) -> Drawing:
    batches = result.batches
    down, across = _grid(len(batches))
    figure = Figure(figsize=(WIDTH, 0.6 + 4.6 * down), layout="constrained")
    grid = figure.subplots(2 * down, across, squeeze=False)
    # Two rows a row of batches: states above, peaks below, each with one axis of values.
    cells = [list(grid[place::2].flat) for place in (0, 1)]
    for row in cells:
        for axes in row[len(batches) :]:
            axes.remove()
        del row[len(batches) :]
        for place, axes in enumerate(row[1:], 1):
            axes.sharey(row[0])
            axes.tick_params(labelleft=place % across == 0)
    values: tuple[Value, Value] = (
        lambda s: s.state_bytes / _MIB if s.agent and s.state_bytes else None,
        lambda s: s.peak_bytes / _MIB if s.agent and s.peak_bytes else None,
    )
    for row, value in zip(cells, values, strict=True):
        for axes, batch in zip(row, batches, strict=True):
            for place in range(len(result.subjects)):
                _line(axes, result, place, _of(result, place, batch), value)
            _context_axes(axes, result)
    peaks = [found for spot in result.spots if (found := values[1](spot)) is not None]
    far = bool(peaks) and max(peaks) > _LINEAR_TO * min(peaks)
    for axes in () if far else cells[1]:
        axes.set_yscale("linear")
        axes.set_ylim(0, 1.08 * max(peaks, default=1.0))
    for axes, batch in zip(cells[0], batches, strict=True):
        axes.set_title(lanes_text(result, batch))
        axes.set_xlabel("")
    for upper, lower in zip(cells[0][::across], cells[1][::across], strict=True):
        upper.set_ylabel("state or cache, MiB")
        lower.set_ylabel(peak_label(result))
    return _finished(
        result,
        figure,
        "latency-memory",
        "Memory against context",
        "Above: what all lanes keep between decisions (recurrent state, keys and values, or the tokens of a "
        f"window). Below: {peak_words(result)}, while it decided; it shows what a decision needs beside its "
        "state, such as a window's activations."
        + (" All axes are logarithmic." if far else " Logarithmic, but for the lower axis.")
        + f" {rows_words(result)}".rstrip(),
    )


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels: rows of about as many, one axis of values for all of them."""
    down, across = _grid(count)
    figure = Figure(figsize=(WIDTH, 0.9 + 2.6 * down), layout="constrained")
    cells = list(figure.subplots(down, across, squeeze=False, sharey=True).flat)
    for axes in cells[count:]:
        axes.remove()
    return figure, cells[:count]


def _grid(count: int) -> tuple[int, int]:
    """Return how many rows of panels there are, and how many panels a row."""
    down = math.ceil(count / _ACROSS)
    return down, math.ceil(count / down)


def _of(result: LatencyResult, subject: int, batch: int) -> list[ContextLatency]:
    return [spot for spot in result.spots if (spot.subject, spot.batch) == (subject, batch)]


def _audited(result: LatencyResult, subject: int, batch: int) -> list[ContextLatency]:
    """Return the points whose times are those of new inputs and of seen ones alike."""
    return [spot for spot in _of(result, subject, batch) if spot.audit != "failed"]


def _style(result: LatencyResult, subject: int) -> tuple[str, str]:
    return style_of(result.subjects[subject].place)


def _line(
    axes: Axes, result: LatencyResult, subject: int, spots: Sequence[ContextLatency], value: Value
) -> None:
    points = [(spot.context, found) for spot in spots if (found := value(spot)) is not None]
    line(axes, result.subjects[subject], points)


def _context_axes(axes: Axes, result: LatencyResult) -> None:
    log_axes(axes, result.contexts, base=10)
    axes.set_xlabel("context, timesteps")
    if len(result.batches) >= _ACROSS:
        axes.tick_params(axis="x", labelsize=6.5)


def _finished(result: LatencyResult, figure: Figure, name: str, title: str, caption: str) -> Drawing:
    """Name the agents above the panels, and their forms where there are several."""
    handles = [handle(one) for one in result.subjects]
    figure.legend(
        handles,
        [short(one.name) for one in result.subjects],
        loc="outside upper left",
        ncols=3,
        fontsize=7.5,
        labelcolor=INK,
        handlelength=2.6,
    )
    return Drawing(name, title, caption, figure)
