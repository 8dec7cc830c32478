"""The tables of pairs of agents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lram.reports import forms, text
from lram.reports.aggregates import PairMetric, pair_metrics
from lram.reports.model import NOT_ESTIMABLE, Comparison, Estimate, Summary
from lram.reports.table import Column, Table, TableCell, hidden, normaliser_column, words


def comparisons(summary: Summary) -> Table[Comparison]:
    """Return the paired differences, for people and programs."""
    name = {agent.label: agent.name for agent in summary.agents}
    of_tasks = summary.agents[0].mean_of_domain_means.rests_on.of_tasks if summary.agents else 0

    def of(metric: PairMetric) -> Callable[[Comparison], Estimate | None]:
        return lambda pair: pair.aggregates.get(metric.key)

    def warning(pair: Comparison) -> str:
        return pair.reason or _caution(pair, summary.level)

    def why_none(metric: PairMetric) -> Callable[[Comparison], str]:
        def made(pair: Comparison) -> str:
            found = pair.aggregates.get(metric.key)
            if found is None or found.interval is not None or found.note.startswith(NOT_ESTIMABLE):
                return ""
            return found.note

        return made

    difference = forms.estimates(forms.three)
    columns: list[Column[Comparison]] = [
        words("Agent", "first", lambda pair: pair.first, name.__getitem__),
        words("against", "second", lambda pair: pair.second, name.__getitem__),
        Column(
            "Difference",
            "difference",
            lambda pair: pair.difference,
            difference,
            warning,
            parts=forms.INTERVAL,
        ),
        Column("p", "p", lambda pair: pair.p, forms.p_values),
        Column("p, Holm", "p_holm", lambda pair: pair.p_holm, forms.p_values),
        hidden("limit", lambda pair: pair.limit),
        hidden("reason", lambda pair: pair.reason),
        *(
            Column(metric.heading, "", of(metric), forms.estimates(forms.two), why_none(metric))
            for metric in pair_metrics()
        ),
        Column("Tasks", "tasks", lambda pair: pair.tasks, lambda n: TableCell(f"{n} of {of_tasks}", value=n)),
        Column("Domains", "domains", lambda pair: len(pair.domains)),
        Column("Episode pairs", "episode_pairs", lambda pair: pair.episodes),
        normaliser_column(summary.normaliser),
    ]
    caption = (
        f"Difference of the mean of domain means (agent minus the other) with {summary.level:.0%} intervals, "
        "on the tasks that both scored and the seeds that both met. An interval leaves out 0 exactly where p "
        f"is below {1 - summary.level:.3g}; it is not corrected for the number of pairs, p (Holm) is."
    ) + text.score_words(summary.normaliser)
    if any(pair.limit for pair in summary.comparisons):
        caption += (
            " Unseen outcomes: on some tasks all episodes of an agent ended alike, and what a further one "
            "could bring, not the sign flips, sets p and the interval."
        )
    return Table("comparisons", caption, columns, summary.comparisons, "comparisons")


def _caution(pair: Comparison, level: float) -> str:
    """Return what keeps a difference whose interval leaves out 0 from being established, or sets its p."""
    if pair.p is not None and pair.p_holm is not None and pair.p < 1 - level <= pair.p_holm:
        return "not after Holm's correction"
    return pair.limit


@dataclass(frozen=True, slots=True)
class _PairValue:
    pair: Comparison
    key: str
    estimate: Estimate


def pair_aggregates(summary: Summary) -> Table[_PairValue]:
    """Return one row a pair of agents and metric of pairs, for programs."""

    def rows() -> Iterator[_PairValue]:
        for pair in summary.comparisons:
            for key, estimate in pair.aggregates.items():
                yield _PairValue(pair, key, estimate)

    columns: list[Column[_PairValue]] = [
        hidden("first", lambda one: one.pair.first),
        hidden("second", lambda one: one.pair.second),
        hidden("aggregate", lambda one: one.key),
        hidden("value", lambda one: one.estimate, forms.INTERVAL),
        hidden("note", lambda one: one.estimate.note),
        hidden("tasks", lambda one: one.pair.tasks),
        hidden("episode_pairs", lambda one: one.pair.episodes),
        normaliser_column(summary.normaliser),
    ]
    return Table("", "", columns, rows(), "pair_aggregates")
