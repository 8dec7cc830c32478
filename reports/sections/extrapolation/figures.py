"""The figures of extrapolations: score against context, predictions against position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from lram.reports.drawing import (
    MUTED,
    PAPER,
    SCORE_LABEL,
    WIDTH,
    Drawing,
    legend_of,
    look,
    short,
    style_of,
)
from lram.reports.model import Aggregate
from lram.reports.sections.extrapolation.curves import Gap, PositionCurve
from lram.reports.sections.extrapolation.model import Score
from lram.reports.sections.extrapolation.values import Values

_WITHIN = (0, (1.0, 1.0))
_TRAINED = (0, (4, 2))
_MODES = {"window": "window, read anew", "reset": "state made fresh"}


def draw(
    values: Values,
    scores: Sequence[Score],
    curves: Sequence[PositionCurve],
    gaps: Sequence[Gap],
    level: float,
) -> list[Drawing]:
    """Return the figures that there is something for, in the order of the page."""
    with look():
        found = [_scores(values, scores, domain, level) for domain in values.score_domains]
        found += [_positions(values, curves, "loss"), _positions(values, curves, "action error")]
        found.append(_gaps(values, gaps, level))
    return [drawing for drawing in found if drawing is not None]


def _scores(values: Values, scores: Sequence[Score], domain: str, level: float) -> Drawing | None:
    there = [score for score in scores if score.domain == domain and score.score.estimate is not None]
    agents = [agent for agent in values.agents if any(score.agent == agent.label for score in there)]
    limited = sorted({score.context.timesteps for score in there if score.context.mode != "carry"})
    if not limited:
        return None
    figure, cells = _grid(len(agents), height=1.75, sharey=True)
    modes: set[str] = set()
    for axes, agent in zip(cells, agents, strict=True):
        mine = [score for score in there if score.agent == agent.label]
        for score in mine:
            if score.context.mode == "carry":
                modes.add("carry")
                _carried(axes, score.score)
        for place, mode in enumerate(_MODES):
            line = sorted(
                (score for score in mine if score.context.mode == mode), key=lambda s: s.context.timesteps
            )
            if line:
                modes.add(mode)
                _line(axes, line, place)
        _trained(axes, agent.trained)
        axes.set_xscale("log")
        axes.set_xlim(limited[0] / 1.25, limited[-1] * 1.25)
        axes.xaxis.set_major_locator(FixedLocator(limited))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(axis="x", labelsize=7.0)
        axes.set_title(short(agent.label))
    for axes in cells:
        low, high = axes.get_ylim()
        if high - low < 0.2:  # a difference of hundredths must not fill the panel
            axes.set_ylim((low + high) / 2 - 0.1, (low + high) / 2 + 0.1)
    figure.supxlabel("context, timesteps", fontsize=8.5)
    figure.supylabel(SCORE_LABEL, fontsize=8.5)
    _legend(figure, modes)
    tasks = max(score.score.rests_on.tasks for score in there)
    return Drawing(
        f"extrapolation-scores-{domain}",
        f"Score against context, {domain}",
        f"Mean normalised score over {tasks} task{'s' * (tasks != 1)}, with {level:.0%} intervals of the "
        "episode noise. Grey line and band: the state carried through the whole episode. Dashed: the length "
        "that the model was trained on, where that is known. Once a context is as long as the episodes, all "
        f"three decide alike, up to rounding. {_starts(values)} Hollow points rest on fewer tasks.",
        figure,
    )


def _starts(values: Values) -> str:
    if values.evidence is not None and len(values.evidence.run_seeds) > 1:
        return (
            "The scores are of several seeds, so contexts may have met other initial states; the table of "
            "pairs compares them on the same ones."
        )
    return (
        "Contexts meet the same initial states, so differences are surer than the intervals suggest (see the "
        "table of pairs)."
    )


def _legend(figure: Figure, modes: set[str]) -> None:
    handles = []
    for place, (mode, name) in enumerate(_MODES.items()):
        colour, marker = style_of(place)
        if mode in modes:
            handles.append(Line2D([], [], color=colour, marker=marker, markersize=4.2, label=name))
    if "carry" in modes:
        handles.append(Line2D([], [], color=MUTED, linewidth=1.4, label="state carried"))
    handles.append(Line2D([], [], color=MUTED, linewidth=0.9, linestyle=_TRAINED, label="trained length"))
    figure.legend(handles=handles, loc="outside upper left", ncols=4)


def _line(axes: Axes, line: Sequence[Score], place: int) -> None:
    colour, marker = style_of(place)
    # Side by side, so that equal scores of both modes are both seen.
    x = np.array([score.context.timesteps for score in line]) * (0.97, 1.03)[place]
    y = np.array([_value(score.score) for score in line])
    axes.plot(x, y, color=colour, linewidth=1.2, zorder=3)
    for at, score in zip(x, line, strict=True):
        estimate = score.score.estimate
        assert estimate is not None
        if estimate.interval is not None:
            ends = [estimate.interval.low, estimate.interval.high]
            axes.plot([at, at], ends, color=colour, linewidth=1.0, alpha=0.75, zorder=2)
        axes.plot(
            [at],
            [estimate.value],
            marker=marker,
            markersize=4.2,
            markerfacecolor=colour if score.score.rests_on.comparable else PAPER,
            markeredgecolor=colour,
            linestyle="none",
            zorder=4,
        )


def _carried(axes: Axes, score: Aggregate) -> None:
    estimate = score.estimate
    assert estimate is not None
    axes.axhline(estimate.value, color=MUTED, linewidth=1.4, zorder=1)
    if estimate.interval is not None:
        axes.axhspan(estimate.interval.low, estimate.interval.high, color=MUTED, alpha=0.15, linewidth=0)


def _value(score: Aggregate) -> float:
    assert score.estimate is not None
    return score.estimate.value


def _positions(values: Values, curves: Sequence[PositionCurve], measure: str) -> Drawing | None:
    domains = list(dict.fromkeys(curve.domain for curve in curves))
    if not domains:
        return None
    figure, cells = _grid(len(domains), height=2.3, sharey=False)
    within = False
    for axes, domain in zip(cells, domains, strict=True):
        for curve in (curve for curve in curves if curve.domain == domain):
            colour, _ = style_of(values.place(curve.agent))
            limited = curve.reading == "within"
            within |= limited
            axes.stairs(
                curve.of(measure),
                np.append(curve.starts, curve.stops[-1]) + 1,
                baseline=None,
                color=colour,
                linewidth=1.0 if limited else 1.3,
                linestyle=_WITHIN if limited else "solid",
                alpha=0.7 if limited else 1.0,
                zorder=3 if limited else 2,
            )
        for trained in sorted({agent.trained for agent in values.agents if agent.trained}):
            _trained(axes, trained)
        axes.set_title(domain)
    figure.supxlabel("timestep", fontsize=8.5)
    unit = "cross-entropy, nats" if measure == "loss" else "action error"
    figure.supylabel(unit, fontsize=8.5)
    shown = {curve.agent for curve in curves}
    named = [(values.place(one.label), one.label) for one in values.agents if one.label in shown]
    legend_of(figure, named, lines=True, markers=False)
    what = "Mean cross-entropy" if measure == "loss" else "Mean action error"
    dotted = (
        " Dotted, mostly upon it: the same timesteps read within the trained length. Where solid and dotted "
        "agree, what changes with the timestep is the phase of the episode and not the length of the context."
        if within
        else ""
    )
    error = (
        ""
        if measure == "loss"
        else " Action error: distance of the likeliest action from the one taken, in [−1, 1] a dimension, or "
        "the share of wrong ones where actions are discrete."
    )
    ends = (
        " Trajectories that end early are missing from later bins (CSV: trajectories_there), which by itself "
        "can bend a curve."
        if any(curve.lasting[-1] < curve.trajectories for curve in curves)
        else ""
    )
    if any(not np.isfinite(curve.of(measure)).all() for curve in curves):
        ends += " A curve has gaps where a prediction is not finite."
    return Drawing(
        f"extrapolation-{'loss' if measure == 'loss' else 'error'}",
        f"{'Loss' if measure == 'loss' else 'Action error'} against position",
        f"{what} at each timestep of trajectories that, as far as is known, no model was trained on, each "
        "task alike, in bins. Solid: the whole trajectory is read from its first timestep. Dashed, upright: "
        "the trained length."
        f"{dotted}{error}{ends}",
        figure,
    )


def _gaps(values: Values, gaps: Sequence[Gap], level: float) -> Drawing | None:
    domains = list(dict.fromkeys(gap.domain for gap in gaps))
    if not domains:
        return None
    figure, cells = _grid(len(domains), height=2.3, sharey=False)
    for axes, domain in zip(cells, domains, strict=True):
        axes.axhline(0.0, color=MUTED, linewidth=0.8, zorder=0)
        for gap in (gap for gap in gaps if gap.domain == domain):
            colour, marker = style_of(values.place(gap.agent))
            if gap.low is not None and gap.high is not None:
                axes.fill_between(gap.middles, gap.low, gap.high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(gap.middles, gap.value, color=colour, linewidth=1.2, marker=marker, markersize=2.8)
        axes.set_title(domain)
    figure.supxlabel("timestep", fontsize=8.5)
    figure.supylabel("difference of losses, nats", fontsize=8.5)
    shown = {gap.agent for gap in gaps}
    named = [(values.place(one.label), one.label) for one in values.agents if one.label in shown]
    legend_of(figure, named, lines=True, markers=True)
    return Drawing(
        "extrapolation-gap",
        "What a context beyond the trained length does to the loss",
        "Loss with the whole past read, less the loss at the same timesteps with a context within the "
        f"trained length; above 0 the longer context does harm. Bands: {level:.0%} intervals over "
        "trajectories, at each bin by itself. The trajectories are given: what a model's own actions lead "
        "to, only scores tell.",
        figure,
    )


def _trained(axes: Axes, trained: int | None) -> None:
    if trained:
        axes.axvline(trained, color=MUTED, linewidth=0.9, linestyle=_TRAINED, zorder=0)


def _grid(panels: int, *, height: float, sharey: bool) -> tuple[Figure, list[Axes]]:
    columns = {1: 1, 2: 2, 4: 2}.get(panels, 3)
    rows = -(-panels // columns)
    figure = Figure(figsize=(WIDTH, 0.75 + height * rows), layout="constrained")
    cells = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel())
    for axes in cells[panels:]:
        axes.set_visible(False)
    return figure, cells[:panels]
