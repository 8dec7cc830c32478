"""The figure of the single tasks: a dot plot while each can have a row, then performance profiles."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lram.reports.drawing import (
    RULE,
    SCORE_LABEL,
    WIDTH,
    Drawing,
    compress,
    in_doubt,
    legend,
    point,
    reference_lines,
    short,
    style_of,
)
from lram.reports.model import Estimate, Summary

DOT_PLOT_TASKS = 60
"""Up to so many tasks each has a row of its own; beyond, their distribution is drawn."""


def tasks_figure(summary: Summary) -> Drawing | None:
    """Return the scores of the single tasks; None without any score."""
    scores = {(r.agent, r.task): r.score for r in summary.results if r.score is not None}
    scored = {task for _, task in scores}
    if not scored:
        return None
    groups = {
        domain: group
        for domain in summary.domains
        if (group := [t.id for t in summary.tasks if t.domain == domain and t.id in scored])
    }
    return (_dots if len(scored) <= DOT_PLOT_TASKS else _profiles)(summary, scores, groups)


def _dots(summary: Summary, scores: dict[tuple[str, str], Estimate], groups: dict[str, list[str]]) -> Drawing:
    agents, tasks = len(summary.agents), sum(len(group) for group in groups.values())
    row = min(0.16 + 0.05 * agents, 0.46) if tasks <= 24 else 0.26
    height = 0.7 + 0.18 * -(-agents // 3) + row * tasks + 0.3 * len(groups)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = figure.subplots(
        len(groups), 1, sharex=True, squeeze=False, height_ratios=[len(g) + 0.4 for g in groups.values()]
    )[:, 0]
    offsets = np.linspace(-0.33, 0.33, agents) if agents > 1 else np.zeros(1)
    for axes, (domain, group) in zip(panels, groups.items(), strict=True):
        for line in range(1, len(group)):
            axes.axhline(line - 0.5, color=RULE, linewidth=0.6, zorder=0)
        for place, agent in enumerate(summary.agents):
            for line, task in enumerate(group):
                if score := scores.get((agent.label, task)):
                    point(axes, score, line + offsets[place], place)
        axes.set_yticks(range(len(group)), [short(task.partition("/")[2]) for task in group])
        axes.set_ylim(len(group) - 0.45, -0.55)
        axes.set_title(domain)
    values = [score.value for score in scores.values()]
    for axes in panels:
        compress(axes, min(values), max(values))
        reference_lines(axes)
    figure.supxlabel(SCORE_LABEL, fontsize=8.5)
    legend(figure, summary)
    return Drawing(
        "tasks",
        "Normalised score by task",
        f"Mean over episodes with {summary.level:.0%} intervals; a task with one episode, or with equal "
        "ones, or too few of them, has none. Tasks without a usable score reference are not drawn. Dotted "
        "line at 0: the random "
        "reference; dashed line at 1: the reference." + in_doubt(scores.values()),
        figure,
    )


def _profiles(
    summary: Summary, scores: dict[tuple[str, str], Estimate], groups: dict[str, list[str]]
) -> Drawing:
    everything = [task for group in groups.values() for task in group]
    panels = {"all domains": everything, **{d: group for d, group in groups.items() if len(group) > 1}}
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(WIDTH, 0.6 + 1.75 * rows), layout="constrained")
    cells = list(figure.subplots(rows, columns, sharey=True, squeeze=False).ravel())
    for axes, (title, tasks) in zip(cells, panels.items(), strict=False):
        values = [score.value for (_, task), score in scores.items() if task in set(tasks)]
        low = min(-0.05, float(np.quantile(values, 0.01)))
        high = max(1.05, float(np.quantile(values, 0.99)))
        for place, agent in enumerate(summary.agents):
            own = sorted(s.value for t in tasks if (s := scores.get((agent.label, t))) is not None)
            if own:
                share = 1 - np.arange(len(own) + 1) / len(own)
                edges = [min(low, own[0]), *own, max(high, own[-1])]
                # stairs() draws a patch, whose dashes are a style of its own.
                dashes = "solid" if len(own) == len(tasks) else (0, (2, 1))
                axes.stairs(
                    share, edges, color=style_of(place)[0], linewidth=1.3, linestyle=dashes, baseline=None
                )
        compress(axes, low, high)
        axes.set_xlim(low, high)
        axes.set_ylim(0, 1.02)
        axes.set_title(f"{title} ({len(tasks)} tasks)")
        reference_lines(axes)
    for axes in cells[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel(f"{SCORE_LABEL} τ", fontsize=8.5)
    figure.supylabel("share of tasks with score ≥ τ", fontsize=8.5)
    legend(figure, summary, lines=True)
    return Drawing(
        "tasks",
        "Distribution of the tasks' scores",
        "Performance profiles: the share of an agent's tasks whose mean score is at least τ; a curve "
        "further up and to the right is better. Dashed: the agent has a score on fewer tasks than the title "
        "says, so its curve does not compare. The axes leave out the outermost 1% at each end.",
        figure,
    )
