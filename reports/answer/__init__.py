"""What a reader reads first: who is better, by how much, and what to know before believing it.

* :mod:`.ranking`: the agents by score, those that no test tells apart as ties.
* :mod:`.verdict`: the same as sentences.
* :mod:`.leaderboard`: the same as a table and a figure.
* :mod:`.notes`: the caveats, those that touch an agent beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from lram.reports.answer import leaderboard
from lram.reports.answer.notes import open_notes
from lram.reports.answer.ranking import RankedAgent, ranked
from lram.reports.answer.verdict import verdict
from lram.reports.drawing import Drawing
from lram.reports.model import Caveat, Summary
from lram.reports.table import Table

__all__ = ["Answer", "RankedAgent", "answer", "ranked"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The beginning of a report.

    Attributes:
        verdict: One or two sentences.
        table: The leaderboard.
        drawing: The same as a figure; None without any score.
        notes: The caveats that change what every number means.
        headline: What is said of more than single agents, and before them: of models over their trainings
            (:attr:`lram.reports.section.Section.headline`); empty for most reports.
    """

    verdict: str
    table: Table[RankedAgent]
    drawing: Drawing | None
    notes: list[Caveat]
    headline: str = ""


def answer(summary: Summary, headline: str = "") -> Answer | None:
    """Return the answer that ``summary`` gives, after ``headline``; None where no agent was evaluated."""
    if not summary.agents:
        return None
    ranking = ranked(summary)
    return Answer(
        verdict(summary, ranking),
        leaderboard.table(summary, ranking),
        leaderboard.figure(summary, ranking),
        open_notes(summary),
        headline,
    )
