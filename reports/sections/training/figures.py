"""The figures of trainings: loss against updates and tokens, and by place in the window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from lram.reports.drawing import PAPER, WIDTH, Drawing, legend_of, look, style_of
from lram.reports.evidence.trainings import Training, ValidationLine
from lram.reports.model import Summary
from lram.reports.model.training import Measures
from lram.reports.statistics import Array

NAMES = ("training-loss", "training-loss-tokens", "training-positions")
"""Of all figures of trainings."""

MEAN = "mean over domains"

_POINTS = 500
"""Beyond so many lines of metrics, neighbours are drawn as their mean."""

_SMOOTHED = 20
"""From so many points on a curve is smoothed, over a twentieth of it; with fewer, all that can be seen is."""

_LOG_FROM = 4.0
"""Ratio of the largest to the least loss from which their axis is logarithmic."""


@dataclass(frozen=True, slots=True)
class LossCurve:
    """One training in one domain: losses of updates by their middle, and of validations; NaN: no number."""

    place: int
    updates: Array
    tokens: Array
    losses: Array
    validated_updates: Array
    validated_tokens: Array
    validated: Array


def draw(summary: Summary, trainings: Sequence[Training]) -> list[Drawing]:
    """Return the figures that the trainings have data for, in the order of the page.

    Args:
        summary: Of the same trainings: it tells which are agents of the report, whose colours they have.
        trainings: With their lines.
    """
    domains = list(dict.fromkeys(name for one in trainings for name in one.domains))
    if not domains:
        return []
    places = _places(summary)
    named = [(place, one.name) for place, one in zip(places, summary.training, strict=True)]
    panels = {
        name: [_curve(one, place, name) for one, place in zip(trainings, places, strict=True)]
        for name in ([MEAN] if len(domains) > 1 else []) + domains
    }
    with look():
        drawn = [_loss(panels, named, against) for against in ("updates", "tokens")]
        positions = _positions(domains, trainings, places, named)
    return [*drawn, *([positions] if positions else [])]


def _places(summary: Summary) -> list[int]:
    """Return where in the order of colours each training stands: at its agent's, or behind all agents."""
    free = {agent.label: place for place, agent in enumerate(summary.agents)}
    taken: dict[str, int] = {}
    for one in summary.training:
        if one.label in free:
            taken[one.label] = free.pop(one.label)
    for one in summary.training:
        label = next((label for label in one.evaluated_as if label in free), None)
        if one.label not in taken and label is not None:
            taken[one.label] = free.pop(label)
    behind = count(len(summary.agents))
    return [taken[one.label] if one.label in taken else next(behind) for one in summary.training]


def _curve(training: Training, place: int, domain: str) -> LossCurve:
    ends = np.array([0.0, *(line.update for line in training.lines)])
    read = np.array([0.0, *training.tokens])
    losses = [_loss_of(line.domains, domain, training) for line in training.lines]
    middles = (ends[1:] + ends[:-1]) / 2
    at = np.array([float(line.update) for line in training.validations])
    return LossCurve(
        place=place,
        updates=middles,
        tokens=np.interp(middles, ends, read),
        losses=np.array(losses, dtype=np.float64),
        validated_updates=at,
        validated_tokens=np.interp(at, ends, read),
        validated=np.array([_validated(line, domain) for line in training.validations], dtype=np.float64),
    )


def _validated(line: ValidationLine, domain: str) -> float:
    found = line.mean if domain == MEAN else line.domains.get(domain)
    return math.nan if found is None or found.loss is None else found.loss


def _loss_of(domains: dict[str, Measures], domain: str, training: Training) -> float:
    if domain != MEAN:
        return math.nan if domain not in domains else _number(domains[domain].loss)
    # Each domain alike, as in validation; a line that lacks one would leave the curve's level.
    of_all = training.domains
    if not all(name in domains for name in of_all):
        return math.nan
    return math.fsum(_number(domains[name].loss) for name in of_all) / len(of_all)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _loss(panels: dict[str, list[LossCurve]], named: Sequence[tuple[int, str]], against: str) -> Drawing:
    figure, cells = _grid(len(panels))
    values = [v for curves in panels.values() for c in curves for v in (*c.losses, *c.validated) if v > 0]
    logarithmic = bool(values) and max(values) > _LOG_FROM * min(values)
    reach = max((c.tokens[-1] for curves in panels.values() for c in curves if len(c.tokens)), default=0.0)
    unit, word = _unit(reach) if against == "tokens" else (1.0, "updates")
    for axes, (domain, curves) in zip(cells, panels.items(), strict=True):
        for curve in curves:
            tokens = against == "tokens"
            x = (curve.tokens if tokens else curve.updates) / unit
            points = (curve.validated_tokens if tokens else curve.validated_updates) / unit
            _draw_curve(axes, curve, x, points)
        axes.set_title(domain)
        if logarithmic:
            _logarithmic(axes)
    figure.supxlabel(word, fontsize=8.5)
    figure.supylabel("cross-entropy, nats", fontsize=8.5)
    legend_of(figure, named, lines=True, markers=True)
    lines = max(len(c.losses) for curves in panels.values() for c in curves)
    smoothed = lines >= _SMOOTHED
    caption = (
        "Lines: loss on training data"
        + (", a moving mean over a twentieth of each curve; faint lines: before that" if smoothed else "")
        + ". Points: loss on held-out trajectories, always the same windows."
        + (
            " Each faint line is drawn with means of neighbouring lines of metrics."
            if lines > _POINTS
            else ""
        )
        + (" The axis of losses is logarithmic." if logarithmic else "")
    )
    name = "training-loss" if against == "updates" else "training-loss-tokens"
    title = f"Loss against {against}" + (" read" if against == "tokens" else "")
    return Drawing(name, title, caption, figure)


def _draw_curve(axes: Axes, curve: LossCurve, x: Array, points: Array) -> None:
    colour, marker = style_of(curve.place)
    there = np.isfinite(curve.losses)
    x, losses = _thinned(x[there]), _thinned(curve.losses[there])
    if len(losses) >= _SMOOTHED:
        axes.plot(x, losses, color=colour, linewidth=0.6, alpha=0.3, zorder=1)
        losses = _smooth(losses)
    axes.plot(x, losses, color=colour, linewidth=1.3, zorder=2)
    axes.plot(
        points,
        curve.validated,
        marker=marker,
        markersize=4.6 if len(points) <= 30 else 2.8,
        markerfacecolor=colour,
        markeredgecolor=PAPER,
        markeredgewidth=0.6,
        linestyle="none",
        clip_on=False,
        zorder=3,
    )


def _thinned(values: Array) -> Array:
    """Return means of as many neighbours as leave no more than ``_POINTS``."""
    step = -(-len(values) // _POINTS)
    if step <= 1:
        return values
    return np.array([values[start : start + step].mean() for start in range(0, len(values), step)])


def _smooth(values: Array) -> Array:
    """Return the centred moving mean over a twentieth of the curve, over what is there at its ends."""
    half = max(1, len(values) // 40)
    total = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    # As far to the left as to the right, so that the mean of a slope is its middle at the ends too.
    reach = np.minimum(half, np.minimum(places, len(values) - 1 - places))
    return np.asarray((total[places + reach + 1] - total[places - reach]) / (2 * reach + 1))


def _positions(
    domains: Sequence[str],
    trainings: Sequence[Training],
    places: Sequence[int],
    named: Sequence[tuple[int, str]],
) -> Drawing | None:
    last = [one.validations[-1] if one.validations else None for one in trainings]
    shown = [name for name in domains if any(line and line.positions.get(name) for line in last)]
    if not shown:
        return None
    figure, cells = _grid(len(shown))
    for axes, domain in zip(cells, shown, strict=True):
        for line, place in zip(last, places, strict=True):
            losses = [_number(value) for value in line.positions.get(domain, ())] if line else []
            colour, marker = style_of(place)
            axes.plot(
                range(1, len(losses) + 1),
                losses,
                color=colour,
                linewidth=1.3,
                marker=marker if len(losses) <= 12 else None,
                markersize=3.6,
                markeredgecolor=PAPER,
                markeredgewidth=0.6,
            )
        axes.set_title(domain)
    figure.supxlabel("timestep of the window", fontsize=8.5)
    figure.supylabel("cross-entropy, nats", fontsize=8.5)
    legend_of(
        figure, [item for item, line in zip(named, last, strict=True) if line], lines=True, markers=False
    )
    return Drawing(
        "training-positions",
        "Loss by place in the window",
        "Mean loss of the last validation at the window's first, second, … timestep: a model that makes use "
        "of what it has seen gets better to the right. Later timesteps occur in fewer windows.",
        figure,
    )


def _grid(panels: int) -> tuple[Figure, list[Axes]]:
    columns = {1: 1, 2: 2, 4: 2, 7: 4, 8: 4}.get(panels, 3)
    rows = -(-panels // columns)
    figure = Figure(figsize=(WIDTH, 0.75 + 1.95 * rows), layout="constrained")
    cells = list(figure.subplots(rows, columns, sharex=True, squeeze=False).ravel())
    for place, axes in enumerate(cells):
        axes.set_visible(place < panels)
        # The lowest panel of each column names the values, also where the grid has an empty place below.
        axes.tick_params(labelbottom=panels - columns <= place < panels, labelsize=8.0)
    return figure, cells[:panels]


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    subs = (1.0, 2.0, 3.0, 5.0) if high > 4 * low else tuple(np.arange(1.0, 10.0, 0.5))
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", which="minor", length=0)


def _unit(reach: float) -> tuple[float, str]:
    for unit, word in ((1e9, "billion tokens"), (1e6, "million tokens"), (1e3, "thousand tokens")):
        if reach >= 2 * unit:
            return unit, word
    return 1.0, "tokens"
