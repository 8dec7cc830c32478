"""The leaderboard: one table and one figure of all agents, the best first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from matplotlib.figure import Figure

from lram.reports import forms, text
from lram.reports.answer.notes import of_agents
from lram.reports.answer.ranking import RankedAgent
from lram.reports.bounds import drawn, with_note
from lram.reports.comparison.worlds import worlds
from lram.reports.drawing import (
    SCORE_LABEL,
    WIDTH,
    Drawing,
    agent_rows,
    in_doubt,
    look,
    point,
    reference_lines,
)
from lram.reports.model import Aggregate, Summary
from lram.reports.table import Column, Part, Table, TableCell, hidden, normaliser_column

NAME = "leaderboard"
"""Of the figure and of the tables' files."""

_MOST_DOMAINS = 6
"""Up to so many domains have columns here; the table of domains has all."""

_FEW_DOMAINS = 3
"""Up to so many, a column more fits the page."""

_RANK: tuple[Part, ...] = (("", lambda one: one.rank),)
_LABEL: tuple[Part, ...] = (("", lambda agent: agent.label),)
_BEATEN: tuple[Part, ...] = (("", lambda one: "; ".join(one.beats)),)


def table(summary: Summary, ranking: Sequence[RankedAgent]) -> Table[RankedAgent]:
    """Return the agents by score, with what warns about each."""
    flags = of_agents(summary)
    entered = Counter(one.agent.realtime_hz for one in ranking if one.rank is not None)
    several = any(number > 1 for number in entered.values())

    def domain(place: int) -> Callable[[RankedAgent], Aggregate]:
        return lambda one: one.agent.domains[place].score

    domains = list(enumerate(summary.domains))
    columns: list[Column[RankedAgent]] = [
        Column(
            "Agent",
            "agent",
            lambda one: one.agent,
            lambda agent: TableCell(agent.name),
            flag=lambda one: flags[one.agent.label],
            numeric=False,
            parts=_LABEL,
        ),
        Column("Rank", "rank", lambda one: one, _rank, parts=_RANK),
        hidden("tied", lambda one: one.tied),
        Column(
            "Score", "score", lambda one: one.agent.mean_of_domain_means, forms.scores, parts=forms.AGGREGATE
        ),
        *(
            Column(name, "", domain(place), forms.scores)
            for place, name in (domains if 1 < len(domains) <= _MOST_DOMAINS else ())
        ),
        hidden("tasks", lambda one: one.agent.mean_of_domain_means.rests_on.tasks),
        hidden("of_tasks", lambda one: one.agent.mean_of_domain_means.rests_on.of_tasks),
        Column(
            "Shown better than" if several and len(domains) <= _FEW_DOMAINS else "",
            "shown_better_than",
            lambda one: one,
            lambda one: _shown_better(one, entered[one.agent.realtime_hz]),
            parts=_BEATEN,
        ),
        hidden("not_told_apart_from", lambda one: "; ".join(one.open)),
        hidden("notes", lambda one: flags[one.agent.label]),
        normaliser_column(summary.normaliser),
    ]
    caption = (
        f"Agents by normalised score, the mean of domain means, with {summary.level:.0%} intervals of the "
        "noise between episodes; = marks a tie."
    ) + rates_apart(ranking)
    return Table(NAME, caption + text.score_words(summary.normaliser), columns, ranking, NAME)


def rates_apart(ranking: Sequence[RankedAgent]) -> str:
    """Return a caption's sentence on agents whose worlds had different rates; empty where they had one."""
    if not worlds(one.agent.realtime_hz for one in ranking):
        return ""
    return (
        " Agents whose worlds had different rates (--realtime) stand apart; a rank is one among those of its "
        "rate."
    )


def _shown_better(one: RankedAgent, entered: int) -> TableCell:
    """Return how many agents it is shown to be better than, of those of its rate with a rank."""
    return TableCell(f"{len(one.beats)} of {max(0, entered - 1)}", value=len(one.beats))


def _rank(one: RankedAgent) -> TableCell:
    return TableCell(one.shown, value=one.rank)


def figure(summary: Summary, ranking: Sequence[RankedAgent]) -> Drawing | None:
    """Return the scores as points with intervals, the best on top; None without any score."""
    part, note = drawn(summary)
    inside = {agent.label: place for place, agent in enumerate(part.agents)}
    rows = [one for one in ranking if one.agent.label in inside]
    if not any(one.estimate for one in rows):
        return None
    with look():
        canvas = Figure(figsize=(WIDTH, 0.6 + 0.27 * len(rows)), layout="constrained")
        axes = canvas.subplots()
        for row, one in enumerate(rows):
            if one.estimate is not None:
                point(axes, one.estimate, row, inside[one.agent.label], hollow=one.rank is None)
        agent_rows(axes, [replace(one.agent, name=f"{one.agent.name}  {one.shown}") for one in rows])
        reference_lines(axes)
        axes.set_xlabel(SCORE_LABEL, fontsize=8.5)
    hollow = any(one.rank is None for one in rows)
    made = Drawing(
        NAME,
        "Score, the best first",
        f"Mean of domain means with {summary.level:.0%} intervals; the number behind a name is its rank. "
        "Dotted line at 0: the random reference; dashed line at 1: the reference."
        + (" Hollow points rest on fewer tasks and do not compare with the others." if hollow else "")
        + rates_apart(rows)
        + in_doubt(one.estimate for one in rows)
        + text.score_words(summary.normaliser),
        canvas,
    )
    return with_note([made], note)[0]
