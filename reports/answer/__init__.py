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
    """

    verdict: str
    table: Table[RankedAgent]
    drawing: Drawing | None
    notes: list[Caveat]


def answer(summary: Summary) -> Answer | None:
    """Return the answer that ``summary`` gives; None where no agent was evaluated."""
    if not summary.agents:
        return None
    ranking = ranked(summary)
    return Answer(
        verdict(summary, ranking),
        leaderboard.table(summary, ranking),
        leaderboard.figure(summary, ranking),
        open_notes(summary),
    )
