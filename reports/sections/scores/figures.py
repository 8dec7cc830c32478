"""The figures of a report, drawn from a summary alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lram.reports import literature
from lram.reports.aggregates import aggregate_metrics
from lram.reports.bounds import drawn, with_note
from lram.reports.drawing import (
    SCORE_LABEL,
    WIDTH,
    Drawing,
    agent_rows,
    in_doubt,
    look,
    point,
    reference_lines,
    settle,
)
from lram.reports.model import AgentResult, Aggregate, DomainResult, Summary
from lram.reports.sections.scores import published
from lram.reports.sections.scores.tables import WIDE
from lram.reports.sections.scores.task_figures import tasks_figure
from lram.reports.text import score_words

NAMES = ("aggregates", "domains", "success", "tasks")
"""Of all figures that a report can have."""


def draw(summary: Summary) -> list[Drawing]:
    """Return the figures that the summary has data for, in the order of the page."""
    part, note = drawn(summary)
    with look():
        made = (
            aggregates_figure(part),
            domains_figure(part),
            success_figure(part),
            tasks_figure(part),
        )
    normalised = score_words(summary.normaliser)
    shown = [
        drawing if drawing.name == "success" else replace(drawing, caption=drawing.caption + normalised)
        for drawing in made
        if drawing is not None
    ]
    return with_note(shown, note)


def aggregates_figure(summary: Summary) -> Drawing | None:
    """Return every aggregate in a panel of its own, one row an agent; None without any score."""
    agents = summary.agents
    if not any(agent.mean_of_domain_means.estimate for agent in agents):
        return None
    metrics = aggregate_metrics()
    # Many agents make rows that are high enough; two panels stand side by side, or all.
    down = 1 if len(agents) > WIDE else -(-len(metrics) // 2)
    figure = Figure(figsize=(WIDTH, down * (0.5 + 0.27 * len(agents)) + 0.25), layout="constrained")
    panels = list(figure.subplots(down, -(-len(metrics) // down), sharey=True, squeeze=False).ravel())
    for axes, metric in zip(panels, metrics, strict=False):
        _score_rows(axes, agents, partial(_aggregate, metric.key), gap=metric.better == "lower")
        axes.set_title(metric.title)
    for axes in panels[len(metrics) :]:
        axes.set_visible(False)
    figure.supxlabel(SCORE_LABEL, fontsize=8.5)
    settle(figure, passes=3)
    some_hollow = any(not agent.mean_of_domain_means.rests_on.comparable for agent in agents)
    return Drawing(
        "aggregates",
        "Normalised score over all tasks",
        f"Points with {summary.level:.0%} intervals of the episode noise; interquartile mean and median "
        "have none, and are over task means, not over episodes as rliable's interquartile mean. Dotted "
        "line at 0: the random reference; dashed line at 1: the reference (human or training data); where "
        "less is better they change places."
        + (" Hollow points rest on fewer tasks and do not compare with the others." if some_hollow else "")
        + in_doubt(agent.aggregates[metric.key].estimate for agent in agents for metric in metrics),
        figure,
    )


def _aggregate(key: str, agent: AgentResult) -> Aggregate:
    return agent.aggregates[key]


def domains_figure(summary: Summary) -> Drawing | None:
    """Return one panel a domain with the domain's mean score; None without any score."""
    domains = [d for d in summary.domains if any(_domain(a, d).score.estimate for a in summary.agents)]
    if not domains:
        return None
    figure, panels = _grid(summary, domains)
    found = literature.beside_summary(summary)
    means = [mean for domain in domains for mean in found.means(domain)]
    systems = list(dict.fromkeys(mean.system for mean in means))
    for axes, domain in zip(panels, domains, strict=True):
        _score_rows(axes, summary.agents, partial(_domain_score, domain))
        published.draw_means(axes, [mean for mean in means if mean.domain == domain], systems)
        tasks = _domain(summary.agents[0], domain).score.rests_on.of_tasks
        axes.set_title(f"{domain} ({tasks} {'task' if tasks == 1 else 'tasks'})")
    figure.supxlabel(SCORE_LABEL, fontsize=8.5)
    published.name_systems(figure, systems)
    return Drawing(
        "domains",
        "Normalised score by domain",
        f"Mean over the domain's tasks that have a score, with {summary.level:.0%} intervals. Dotted line "
        "at 0: the random reference; dashed line at 1: the reference. A hollow point rests on fewer tasks "
        "than the panel's title says; an agent without a point has no score in the domain."
        + published.words_of(means, late=any(agent.realtime_hz for agent in summary.agents))
        + in_doubt(result.score.estimate for agent in summary.agents for result in agent.domains),
        figure,
    )


def success_figure(summary: Summary) -> Drawing | None:
    """Return one panel a domain with success rates; None where no task has that notion."""
    domains = [d for d in summary.domains if any(_domain(a, d).success_any for a in summary.agents)]
    if not domains:
        return None
    figure, panels = _grid(summary, domains)
    for axes, domain in zip(panels, domains, strict=True):
        for place, agent in enumerate(summary.agents):
            result = _domain(agent, domain)
            for success, offset, small in (
                (result.success_any, -0.17, False),
                (result.success_last, 0.17, True),
            ):
                if success is not None and success.estimate is not None:
                    hollow = not success.rests_on.comparable
                    point(
                        axes, success.estimate, place + offset, place, hollow=hollow, small=small, scale=100
                    )
        axes.set_title(domain)
        axes.set_xlim(-3, 103)
    figure.supxlabel("success rate, %", fontsize=8.5)
    return Drawing(
        "success",
        "Success rate",
        "Share of episodes solved at any step (large, upper) and at the last step (small with a thin line, "
        f"lower), mean over the domain's tasks, with {summary.level:.0%} intervals. A hollow point rests on "
        "fewer tasks than were planned and does not compare with the others.",
        figure,
    )


def _domain(agent: AgentResult, domain: str) -> DomainResult:
    return next(result for result in agent.domains if result.domain == domain)


def _domain_score(domain: str, agent: AgentResult) -> Aggregate:
    return _domain(agent, domain).score


def _score_rows(
    axes: Axes,
    agents: Sequence[AgentResult],
    aggregate_of: Callable[[AgentResult], Aggregate],
    *,
    gap: bool = False,
) -> None:
    for place, agent in enumerate(agents):
        aggregate = aggregate_of(agent)
        if aggregate.estimate is not None:
            point(axes, aggregate.estimate, place, place, hollow=not aggregate.rests_on.comparable)
    agent_rows(axes, agents)
    reference_lines(axes, gap=gap)


def _grid(summary: Summary, domains: Sequence[str]) -> tuple[Figure, list[Axes]]:
    columns = {1: 1, 2: 2, 4: 2}.get(len(domains), 3)
    rows = -(-len(domains) // columns)
    height = 0.4 + rows * (0.5 + 0.22 * len(summary.agents))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    cells = list(figure.subplots(rows, columns, sharey=True, squeeze=False).ravel())
    for axes in cells:
        agent_rows(axes, summary.agents)
    for axes in cells[len(domains) :]:
        axes.set_visible(False)
    return figure, cells[: len(domains)]
