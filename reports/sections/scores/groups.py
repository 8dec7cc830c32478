"""The tables of groups of tasks: what agents have seen in training, and what tasks differ in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lram.reports import forms
from lram.reports.model import AgentResult, AgentSplit, Aggregate, GroupResult, Summary
from lram.reports.sections.scores.tables import WIDE
from lram.reports.table import Column, Table, words
from lram.reports.text import count


def tables(summary: Summary) -> list[Table[Any]]:
    """Return the tables of groups for people: what agents have seen, scores, and success where known."""
    found: list[Table[Any]] = []
    if (own := seen(summary)) is not None:
        found.append(own)
    for name, success in (("group-scores", False), ("group-success", True)):
        table = (_long_table if len(summary.agents) > WIDE else _table)(summary, name, success)
        if table is not None:
            found.append(table)
    return found


def seen(summary: Summary) -> Table[tuple[AgentResult, AgentSplit]] | None:
    """Return the scores on seen and unseen tasks, a row an agent; None where no agent tells its own tasks."""
    if not any(agent.split and agent.split.source == "card" for agent in summary.agents):
        return None
    columns: list[Column[tuple[AgentResult, AgentSplit]]] = [
        words("Agent", "", lambda row: row[0].name),
        words("Source", "", lambda row: _source(row[1])),
        Column("Tasks seen", "", lambda row: len(row[1].seen)),
        Column("Score, seen", "", lambda row: row[1].seen_score if row[1].seen else None, forms.scores),
        Column("Tasks unseen", "", lambda row: len(row[1].unseen)),
        Column("Score, unseen", "", lambda row: row[1].unseen_score if row[1].unseen else None, forms.scores),
    ]
    caption = (
        "Mean of domain means of the normalised score on the tasks that an agent was trained on, and on the "
        f"others, with {summary.level:.0%} intervals. Agents that were trained on other tasks are measured "
        "on other ones in the same column, so the columns do not rank them."
    )
    rows = [(agent, agent.split) for agent in summary.agents if agent.split is not None]
    return Table("seen", caption, columns, rows)


def _source(split: AgentSplit) -> str:
    if split.source == "paper":
        return "the paper's split"
    kinds = f"its {count(split.training_tasks, 'training task')}"
    return kinds if split.complete else f"{kinds}, of its last training"


@dataclass(frozen=True, slots=True)
class _GroupOfAgents:
    """What every agent measured on one group, in the order of the agents."""

    group: GroupResult
    measured: tuple[Aggregate | None, ...]

    @property
    def reach(self) -> int:
        return max(aggregate.rests_on.of_tasks for aggregate in self.measured if aggregate is not None)


def _table(summary: Summary, name: str, success: bool) -> Table[_GroupOfAgents] | None:
    rows = []
    for place, group in enumerate(summary.agents[0].groups if summary.agents else ()):
        mine = [agent.groups[place] for agent in summary.agents]
        measured = tuple(one.success_any if success else one.score for one in mine)
        if any(aggregate is not None for aggregate in measured):
            rows.append(_GroupOfAgents(group, measured))

    def of(place: int) -> Callable[[_GroupOfAgents], Aggregate | None]:
        return lambda row: row.measured[place]

    form = forms.rates if success else forms.scores
    columns: list[Column[_GroupOfAgents]] = [
        words("Domain", "", lambda row: row.group.domain),
        words("By", "", lambda row: _by(row.group.facet)),
        words("Group", "", lambda row: row.group.value, str),
        Column("Tasks", "", lambda row: row.reach),
        *(Column(agent.name, "", of(place), form) for place, agent in enumerate(summary.agents)),
    ]
    return Table(name, _caption(summary, success=success), columns, rows) if rows else None


def _long_table(
    summary: Summary, name: str, success: bool
) -> Table[tuple[AgentResult, GroupResult, Aggregate]] | None:
    """Return one row a group and agent: with many agents no page is wide enough for a column of each."""

    def rows() -> Iterator[tuple[AgentResult, GroupResult, Aggregate]]:
        for agent in summary.agents:
            for group in agent.groups:
                aggregate = group.success_any if success else group.score
                if aggregate is not None:
                    yield agent, group, aggregate

    columns: list[Column[tuple[AgentResult, GroupResult, Aggregate]]] = [
        words("Agent", "", lambda row: row[0].name),
        words("Domain", "", lambda row: row[1].domain),
        words("By", "", lambda row: _by(row[1].facet)),
        words("Group", "", lambda row: row[1].value, str),
        Column("Tasks", "", lambda row: row[2].rests_on.of_tasks),
        Column(
            "Success" if success else "Score",
            "",
            lambda row: row[2],
            forms.rates if success else forms.scores,
        ),
    ]
    found = list(rows())
    return Table(name, _caption(summary, success=success), columns, found) if found else None


def _by(attribute: str) -> str:
    """Return what people read of an attribute: the split is not that of the agent's own training."""
    return "the paper's split" if attribute == "split" else attribute


def _caption(summary: Summary, *, success: bool) -> str:
    level = f"{summary.level:.0%}"
    if success:
        return f"Share of episodes solved at any step by group of tasks, in per cent, {level} intervals."
    return (
        f"Mean normalised score by group of tasks, with {level} intervals; over all domains it is the "
        "mean of domain means. Groups overlap (a task has a robot and an object), and nothing is "
        "corrected for their number."
    )
