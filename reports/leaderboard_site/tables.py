"""The table of a leaderboard: agents by score, with every domain, what they are made of and where from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lram.reports import forms, text
from lram.reports.answer import RankedAgent
from lram.reports.answer.notes import of_agents
from lram.reports.leaderboard_site.groups import BoardGroup
from lram.reports.model import Aggregate, Summary
from lram.reports.table import Column, Table, TableCell, hidden, normaliser_column, words

_DIGITS = 12  # of a digest; the row's details have all


def anchor(number: int, place: int) -> str:
    """Return the id of the details of an agent: of its table's number and its place there."""
    return f"agent-{number}-{place}"


def board_table(
    number: int, group: BoardGroup, summary: Summary, ranking: Sequence[RankedAgent]
) -> Table[RankedAgent]:
    """Return the table of ``group``, the site's table of that ``number``."""
    flags = of_agents(summary)
    places = {one.agent.label: place for place, one in enumerate(ranking, start=1)}

    def domain(place: int) -> Callable[[RankedAgent], Aggregate]:
        return lambda one: one.agent.domains[place].score

    def name(one: RankedAgent) -> TableCell:
        return TableCell(one.agent.name, link=f"#{anchor(number, places[one.agent.label])}")

    columns: list[Column[RankedAgent]] = [
        Column(
            "Agent",
            "agent",
            lambda one: one,
            name,
            flag=lambda one: flags[one.agent.label],
            numeric=False,
            parts=(("", lambda one: one.agent.label),),
        ),
        Column(
            "Rank",
            "rank",
            lambda one: one,
            lambda one: TableCell(one.shown, value=one.rank),
            parts=(("", lambda one: one.rank),),
        ),
        hidden("tied", lambda one: one.tied),
        Column(
            "Score", "score", lambda one: one.agent.mean_of_domain_means, forms.scores, parts=forms.AGGREGATE
        ),
        *(
            Column(found, f"score_{found}", domain(place), forms.scores, parts=forms.AGGREGATE)
            for place, found in enumerate(summary.domains)
        ),
        Column("Episodes", "episodes", lambda one: one.agent.scored, forms.whole),
        Column("Parameters", "parameters", lambda one: one.agent.parameters, forms.parameters),
        words("Digest", "digest", lambda one: one.agent.digest, lambda digest: digest[:_DIGITS] or text.NONE),
        words("Folder", "folders", lambda one: "; ".join(group.sources[one.agent.label])),
        hidden("spec", lambda one: one.agent.spec),
        hidden("notes", lambda one: flags[one.agent.label]),
        normaliser_column(summary.normaliser),
    ]
    caption = (
        f"Agents by normalised score, the mean of domain means, with {summary.level:.0%} intervals of the "
        "noise between episodes; = marks a tie."
    )
    caption += text.score_words(summary.normaliser)
    return Table(f"leaderboard-{number}", caption, columns, ranking, f"leaderboard-{number}")
