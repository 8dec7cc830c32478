"""A comparison as the cases of a regression gate: what a job of CI shows, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from lram.harness.words import count
from lram.reports.verdict.judging import Verdict
from lram.reports.verdict.parts import PartVerdict
from lram.reports.verdict.sentences import equals, interval, lines, scores_more, three

Outcome = Literal["passed", "failure", "error", "skipped"]

OUTCOMES: Mapping[str, Outcome] = MappingProxyType(
    {
        "better": "passed",
        "no difference shown": "passed",
        "worse": "failure",
        "not comparable": "error",
        "bad input": "error",
        "no score": "skipped",
    }
)
"""What a case is, by its word: a regression fails, what was not shown to be one does not."""


@dataclass(frozen=True, slots=True)
class GateCase:
    """One case.

    Attributes:
        group: What kind of case it is: ``comparison``, ``domain`` or ``task``.
        name: Which.
        word: The verdict's word, ``no score`` or ``bad input``.
        sentence: What was found.
        details: More sentences.
    """

    group: str
    name: str
    word: str
    sentence: str
    details: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """What it is for a job of CI."""
        return OUTCOMES[self.word]


def cases(verdict: Verdict, parts: Sequence[PartVerdict], notes: Sequence[str] = ()) -> list[GateCase]:
    """Return the case of the whole comparison, with ``notes`` beside it, and one a part."""
    sentence, *details = [*lines(verdict), *notes]
    whole = GateCase("comparison", _title(verdict), verdict.word, sentence, tuple(details))
    return [whole, *(_case(part, verdict) for part in parts)]


def refused(first: str, second: str, reason: str) -> list[GateCase]:
    """Return the one case of a comparison that could not be made because of its input."""
    return [GateCase("comparison", f"{first} against {second}", "bad input", reason)]


def _title(verdict: Verdict) -> str:
    return f"{verdict.first} against {verdict.second}"


def _case(part: PartVerdict, verdict: Verdict) -> GateCase:
    found = part.comparison
    if found is None or found.difference is None:
        return GateCase(part.kind, part.name, part.word, f"{part.word}: {part.reason}")
    value = found.difference.value
    span = interval(found.difference, verdict.level) if found.difference.interval else "no interval"
    sentence = (
        f"{part.word}: {scores_more(verdict.first, verdict.second, value)} on {part.name} "
        f"({three(value)}, {span}, p {equals(found.p)}, corrected p {equals(found.p_holm)})"
    )
    details = [f"rests on {_rest(found.tasks, part.planned)}, {count(found.episodes, 'pair')} of episodes"]
    return GateCase(part.kind, part.name, part.word, sentence, tuple(details))


def _rest(tasks: int, planned: int) -> str:
    return count(tasks, "task") if tasks == planned else f"{tasks} of {count(planned, 'task')}"
