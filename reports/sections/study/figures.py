"""The figures of a study: a forest plot of effects, and every trained model's score against its loss."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lram.reports import text
from lram.reports.drawing import MUTED, PAPER, SCORE_LABEL, WIDTH, Drawing, legend_of, look, short, style_of
from lram.reports.sections.study.cells import MEASURES, SCORE, StudyMeasure, StudyValues
from lram.reports.sections.study.effects import CANNOT_TELL, Effect, measured_mean
from lram.reports.sections.study.tables import combinations, tasks_of

_COLUMNS = 3
_LABELS = {
    "score": "difference",
    "score_trained": "difference",
    "score_beyond": "difference",
    "validation_loss": "difference",
    "repeated_predictions": "difference, percentage points",
    "repeated_in_play": "difference, percentage points",
    "decision_ms": "times the base's",
}
_PERCENT = ("repeated_predictions", "repeated_in_play")


def drawings(study: StudyValues, found: Sequence[Effect], key: str, level: float) -> list[Drawing]:
    """Return the study's figures, in the order of the page; ``key`` begins their names."""
    with look():
        drawn = (forest(study, found, key, level), losses(study, key), tasks(study, key))
    return [drawing for drawing in drawn if drawing is not None]


def forest(study: StudyValues, found: Sequence[Effect], key: str, level: float) -> Drawing | None:
    """Return one panel a measure and one row a level; None without any effect."""
    shown = [
        measure
        for measure in MEASURES
        if any(e.measure == measure.key and e.value is not None for e in found)
    ]
    if not shown:
        return None
    names = list(dict.fromkeys((effect.axis, effect.level) for effect in found))
    across = min(_COLUMNS, len(shown))
    down = math.ceil(len(shown) / across)
    figure = Figure(figsize=(WIDTH, 0.35 + down * (0.8 + 0.3 * len(names))), layout="constrained")
    panels = list(figure.subplots(down, across, sharey=True, squeeze=False).flat)
    for axes, measure in zip(panels, shown, strict=False):
        _panel(axes, [effect for effect in found if effect.measure == measure.key], names, measure)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    several = len(study.axes) > 1
    labels = [short(f"{axis}: {level_}" if several else level_, 24) for axis, level_ in names]
    panels[0].set_yticks(range(len(names)), labels)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    base = " and ".join(f"{axis.levels[0].name} ({axis.name})" for axis in study.axes)
    caption = (
        f"Each level against the base {base}. Points with {level:.0%} t intervals over the training seeds; "
        "the thick part is the noise between episodes alone, for these same trained models, where a measure "
        "has that; small marks are the single seeds. Filled: told apart from the base after Holm's "
        "correction; hollow: cannot tell. The dashed line is no difference. The intervals are not corrected "
        "for several levels and measures, the filling is."
    )
    return Drawing(f"{key}-effects", f"{study.study.name}: effects", caption, figure)


def _panel(
    axes: Axes, found: Sequence[Effect], names: Sequence[tuple[str, str]], measure: StudyMeasure
) -> None:
    scale = 100.0 if measure.key in _PERCENT else 1.0
    if measure.ratio:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.axvline(1.0 if measure.ratio else 0.0, color=MUTED, linewidth=0.8, linestyle=(0, (5, 2)), zorder=0)
    for effect in found:
        if effect.value is None:
            continue
        place = names.index((effect.axis, effect.level))
        colour, marker = style_of(place + 1)  # the base, which has no row, is place 0
        seeds = [value * scale for _, value in effect.seeds]
        axes.plot(seeds, [place + 0.28] * len(seeds), "|", color=colour, markersize=4, markeredgewidth=0.9)
        for span, width in ((effect.interval, 1.0), (effect.episode_interval, 3.2)):
            if span is not None:
                ends = [span.low * scale, span.high * scale]
                axes.plot(
                    ends, [place, place], color=colour, linewidth=width, solid_capstyle="butt", zorder=2
                )
        axes.plot(
            [effect.value * scale],
            [place],
            marker=marker,
            markersize=5.2,
            markerfacecolor=PAPER if effect.verdict == CANNOT_TELL else colour,
            markeredgecolor=colour,
            markeredgewidth=1.1,
            linestyle="none",
            zorder=3,
        )
    better = {"higher": " (right: better)", "lower": " (left: better)", None: ""}[measure.better]
    axes.set_title(measure.name)
    axes.set_xlabel(_LABELS[measure.key] + better, fontsize=7.5)
    if measure.ratio:
        _ratio_ticks(axes)
    axes.tick_params(axis="x", labelsize=7.5)


def _ratio_ticks(axes: Axes) -> None:
    low, high = axes.get_xlim()
    wanted = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0)
    inside = [tick for tick in wanted if low <= tick <= high]
    while len(inside) > 5:
        inside = [tick for place, tick in enumerate(inside) if place % 2 == 0 or tick == 1.0]
    axes.set_xticks(inside, [f"×{tick:g}" for tick in inside])


def losses(study: StudyValues, key: str) -> Drawing | None:
    """Return a point a trained model: its validation loss, its score; None without both of any."""
    grouped = combinations(study)
    points = [
        (
            place,
            [
                (cell.loss, score)
                for cell in cells
                if cell.loss and (score := measured_mean(cell, SCORE)) is not None
            ],
        )
        for place, cells in enumerate(grouped.values())
    ]
    if study.incomparable or not any(found for _, found in points):
        return None
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    for place, found in points:
        colour, marker = style_of(place)
        if found:
            axes.plot(*zip(*found, strict=True), marker, color=colour, markersize=5, alpha=0.85)
    axes.set_xlabel("validation loss (left: predicts better)")
    axes.set_ylabel(SCORE_LABEL)
    named = [(place, ", ".join(levels)) for place, levels in enumerate(grouped)]
    legend_of(figure, named, lines=False, markers=True)
    caption = (
        "Each point is one trained model: its loss on held-out trajectories and its mean normalised score in "
        "play. Were the loss all that counts, the points would fall from the upper left to the lower right."
    )
    return Drawing(f"{key}-losses", f"{study.study.name}: loss and score", caption, figure)


def tasks(study: StudyValues, key: str) -> Drawing | None:
    """Return the score of every trained model by task; None without scores, or for too many tasks."""
    names, grouped = tasks_of(study), combinations(study)
    if not names or len(names) > 24:
        return None
    figure = Figure(figsize=(WIDTH, 0.8 + len(names) * (0.2 + 0.11 * len(grouped))), layout="constrained")
    axes = figure.subplots()
    for value, dashes in ((0.0, (1, 2)), (1.0, (5, 2))):
        axes.axvline(value, color=MUTED, linewidth=0.8, linestyle=(0, dashes), zorder=0)
    for place, cells in enumerate(grouped.values()):
        colour, marker = style_of(place)
        offset = (place - (len(grouped) - 1) / 2) * 0.7 / max(len(grouped), 1)
        for row, task in enumerate(names):
            found = [cell.by_task[task] for cell in cells if task in cell.by_task]
            if not found or any(task in cell.uncounted for cell in cells):
                continue  # what is left of a level with models that failed the task would flatter it
            axes.plot(
                found, [row + offset] * len(found), "|", color=colour, markersize=4, markeredgewidth=0.9
            )
            mean = sum(found) / len(found)
            axes.plot([mean], [row + offset], marker, color=colour, markersize=4.6)
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xlabel(SCORE_LABEL)
    legend_of(figure, [(p, ", ".join(levels)) for p, levels in enumerate(grouped)], lines=False, markers=True)
    seeds = text.count(len(study.study.seeds), "training seed")
    caption = (
        f"Mean over {seeds} of each level; small marks are the single seeds, each the mean of its episodes. "
        "Dotted line at 0: the random reference; dashed line at 1: the reference."
    )
    return Drawing(f"{key}-tasks", f"{study.study.name}: score by task", caption, figure)
