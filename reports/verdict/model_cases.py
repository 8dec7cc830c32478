"""A verdict on two models in sentences, and as the cases of a regression gate."""

from __future__ import annotations

from collections.abc import Sequence

from lram.harness.words import count
from lram.reports import text
from lram.reports.statistics import LEAST_SEEDS, MOST_SEEDS
from lram.reports.verdict.gate import GateCase
from lram.reports.verdict.models import ModelPart, ModelsVerdict
from lram.reports.verdict.sentences import equals, interval, scores_more, three


def lines(verdict: ModelsVerdict) -> list[str]:
    """Return a verdict in sentences."""
    found = verdict.difference
    if found is None:
        return [f"not comparable: {verdict.reason}", *(f"note: {note}" for note in verdict.notes)]
    p = "" if verdict.p is None else f", p {equals(verdict.p)}"
    pairs = len(verdict.differences)
    sentences = [
        f"{verdict.word}: {scores_more(verdict.first, verdict.second, found.value)} "
        f"({three(found.value)}, {interval(found, verdict.level)}{p})",
        f"rests on {count(pairs, 'pair')} of trainings, {count(verdict.tasks, 'task')} of "
        f"{text.names(verdict.domains)}: the interval is over trainings",
    ]
    if verdict.word == "no difference shown":
        sentences.append(_reach(verdict))
    return [*sentences, *(f"note: {note}" for note in verdict.notes)]


def _reach(verdict: ModelsVerdict) -> str:
    if len(verdict.differences) < LEAST_SEEDS:
        return f"nothing is shown below {LEAST_SEEDS} trainings of each model: train with more seeds"
    if verdict.p is None:
        return "the pairs of trainings do not differ, so nothing is tested"
    if verdict.trainings_needed is None:
        return (
            f"more than {MOST_SEEDS} trainings of each model would be needed, were this the true difference"
        )
    return (
        f"were this the true difference, about {verdict.trainings_needed} trainings of each model would show "
        "it four times in five"
    )


def model_cases(
    verdict: ModelsVerdict, parts: Sequence[ModelPart], notes: Sequence[str] = ()
) -> list[GateCase]:
    """Return the case of the whole comparison for a job of CI, with ``notes`` beside it, and one a domain."""
    sentence, *details = [*lines(verdict), *notes]
    title = f"{verdict.first} against {verdict.second}"
    return [
        GateCase("comparison", title, verdict.word, sentence, tuple(details)),
        *(GateCase("domain", part.domain, part.word, _sentence(part, verdict)) for part in parts),
    ]


def _sentence(part: ModelPart, verdict: ModelsVerdict) -> str:
    found = part.found
    if found.difference is None:
        return f"{part.word}: {found.reason}"
    tested = f", p {equals(found.p)}, corrected p {equals(found.p_holm)}" if found.p is not None else ""
    return (
        f"{part.word}: {scores_more(verdict.first, verdict.second, found.difference.value)} on {part.domain} "
        f"({three(found.difference.value)}, "
        f"{interval(found.difference, verdict.level)}{tested})"
    )
