"""The figure of throughput and memory against lanes."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lram.harness.latency.records import lacks_memory
from lram.reports.drawing import WIDTH, log_axes, style_of
from lram.reports.sections.latency.lines import line
from lram.reports.sections.latency.model import ContextLatency, LatencyResult, MeasuredAgent
from lram.reports.sections.latency.throughput import throughput_of
from lram.reports.sections.latency.wording import peak_label, peak_words, rows_words

_MIB = 2**20
_PANELS = 3
_VALUES: tuple[Callable[[ContextLatency], float | None], ...] = (
    lambda s: None if (one := throughput_of(s)) is None else one.value,
    lambda s: s.state_bytes / _MIB if s.agent and s.state_bytes else None,
    lambda s: s.peak_bytes / _MIB if s.agent and s.peak_bytes else None,
)

TITLE = "Throughput and memory against lanes"


def batch_caption(result: LatencyResult) -> str:
    """Return what stands below the figure."""
    caption = (
        "Lanes that decide together in one pass. Above: decisions a second of all of them, without "
        f"simulators; below: what all lanes keep between decisions, and {peak_words(result)}. All axes are "
        "logarithmic. A cross stands where memory ran out, and where nothing was tried for that reason."
    )
    return f"{caption} {padded}" if (padded := rows_words(result)) else caption


def batch_figure(result: LatencyResult) -> Figure:
    """Return the figure: a column a context (the shortest, one between, the longest), a line an agent."""
    shown = _shown(result.contexts)
    figure = Figure(figsize=(WIDTH, 7.0), layout="constrained")
    cells = figure.subplots(len(_VALUES), len(shown), squeeze=False, sharex=True, sharey="row")
    labels = ("decisions/s, all lanes", "state or cache, MiB", peak_label(result))
    for row, label, value in zip(cells, labels, _VALUES, strict=True):
        row[0].set_ylabel(label)
        for axes, context in zip(row, shown, strict=True):
            for place in range(len(result.subjects)):
                spots = [s for s in result.spots if (s.subject, s.context) == (place, context)]
                _line(axes, result.subjects[place], spots, value)
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
    agent: MeasuredAgent,
    spots: list[ContextLatency],
    value: Callable[[ContextLatency], float | None],
) -> None:
    line(
        axes,
        agent,
        [(s.batch, found) for s in spots if s.audit != "failed" and (found := value(s)) is not None],
    )
    for spot in spots:
        if lacks_memory(spot.outcome):
            axes.plot(
                [spot.batch],
                [0.03 + 0.05 * (agent.place % 4)],
                transform=axes.get_xaxis_transform(),
                color=style_of(agent.place)[0],
                marker="x",
                markersize=5,
                linestyle="",
            )
