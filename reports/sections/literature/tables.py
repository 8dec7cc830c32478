"""The tables of published numbers: means on shared tasks, single tasks, and what does not agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lram.envs.scores import Normaliser
from lram.reports import forms, text
from lram.reports.literature import Literature, PublishedCell, PublishedScore, Unmatched
from lram.reports.literature.forms import published_number
from lram.reports.sections.literature.model import MeansOnSharedTasks
from lram.reports.table import Column, Table, TableCell, hidden, normaliser_column, words


def tables(
    found: Literature, means: Sequence[MeansOnSharedTasks], normaliser: Normaliser
) -> list[Table[Any]]:
    """Return the tables that have rows, in the order of the page."""
    made = (_means(means, normaliser), _tasks(found, normaliser), _sources(found), _unmatched(found))
    return [table for table in made if table.rows]


def _means(means: Sequence[MeansOnSharedTasks], normaliser: Normaliser) -> Table[MeansOnSharedTasks]:
    columns: list[Column[MeansOnSharedTasks]] = [
        words("Domain", "domain", lambda one: one.domain),
        words("Published system", "system", lambda one: one.system),
        hidden("agent", lambda one: one.agent),
        Column(
            "Agent",
            "",
            lambda one: one.name,
            flag=lambda one: "" if one.waited else "the world did not wait",
            numeric=False,
        ),
        Column("Tasks of both", "", lambda one: (len(one.tasks), one.of_tasks), _of),
        hidden("tasks", lambda one: len(one.tasks)),
        hidden("of_tasks", lambda one: one.of_tasks),
        Column("Published score", "published_score", lambda one: one.published, _score),
        Column("Agent's score", "agent_score", lambda one: one.measured, _score),
        hidden("which_tasks", lambda one: "; ".join(one.tasks)),
        normaliser_column(normaliser),
    ]
    caption = (
        "Mean normalised score over the tasks that both have, the published system and the agent; so an "
        "agent's number may differ from its score of the domain. Only the agents were measured here."
    ) + text.score_words(normaliser)
    return Table("literature-means", caption, columns, list(means), "literature_means")


def _tasks(found: Literature, normaliser: Normaliser) -> Table[PublishedScore]:
    columns: list[Column[PublishedScore]] = [
        words("Task", "task", lambda one: one.cell.task),
        words("Published system", "system", lambda one: one.cell.system),
        hidden("metric", lambda one: one.cell.metric),
        Column("Published", "", lambda one: one.cell, published_number),
        hidden("value", lambda one: one.cell.value),
        hidden("low", lambda one: one.cell.low),
        hidden("high", lambda one: one.cell.high),
        hidden("interval", lambda one: one.cell.interval),
        Column("Score", "score", lambda one: one.score, forms.numbers(forms.two)),
        hidden("protocol", lambda one: one.cell.agrees_with),
        hidden("played_as", lambda one: one.cell.protocol),
        hidden("source", lambda one: one.cell.source),
        hidden("file", lambda one: one.cell.file),
        hidden("commit", lambda one: one.cell.commit),
        normaliser_column(normaliser),
    ]
    caption = (
        "Published numbers of single tasks whose protocol agrees. In brackets what the source publishes of "
        "its runs; it is no interval of the mean. The score is the published return by this report's "
        "references. tables/literature_tasks.csv names the file of each."
    ) + text.score_words(normaliser)
    return Table("literature-tasks", caption, columns, list(found.scores), "literature_tasks")


@dataclass(frozen=True, slots=True)
class _Source:
    """How a system was measured, and where that is published: what several of its cells share."""

    system: str
    protocol: str
    played_as: str
    interval: str
    reason: str
    source: str
    commit: str

    @classmethod
    def of(cls, cell: PublishedCell) -> _Source:
        return cls(
            cell.system,
            cell.agrees_with,
            cell.protocol,
            cell.interval,
            cell.reason,
            cell.source,
            cell.commit,
        )


def _sources(found: Literature) -> Table[_Source]:
    columns: list[Column[_Source]] = [
        words("Published system", "", lambda one: one.system),
        words("Agrees with", "", lambda one: one.protocol),
        words("Played as", "", lambda one: one.played_as),
        words("Because", "", lambda one: one.reason),
        words("In brackets", "", lambda one: one.interval),
        words("Source", "", lambda one: f"{one.source}, commit {one.commit[:7]}"),
    ]
    caption = "How the published systems were measured, and where it is published."
    rows = list(dict.fromkeys(_Source.of(one.cell) for one in found.scores))
    return Table("literature-sources", caption, columns, rows)


def _unmatched(found: Literature) -> Table[Unmatched]:
    columns: list[Column[Unmatched]] = [
        words("Published system", "system", lambda one: one.system),
        words("Domain", "domain", lambda one: one.domain),
        words("Metric", "metric", lambda one: one.metric, lambda metric: metric.replace("_", " ")),
        words("Why it does not agree", "reason", lambda one: one.reason),
        Column("Tasks", "tasks", lambda one: len(one.tasks)),
        hidden("which_tasks", lambda one: "; ".join(one.tasks)),
    ]
    caption = "Published numbers of this report's tasks that stand in no figure and no mean, and why."
    return Table("literature-not-shown", caption, columns, list(found.unmatched), "literature_not_shown")


_score = forms.numbers(forms.three)


def _of(counts: tuple[int, int]) -> TableCell:
    return TableCell(f"{counts[0]} of {counts[1]}", value=counts[0])
