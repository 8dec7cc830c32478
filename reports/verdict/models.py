"""Two models against each other over their trainings: one word, and what it rests on.

A verdict on two checkpoints (:mod:`lram.reports.verdict.judging`) is about these two files; training again
may give others. Here each side is several trainings of one model, and the test is over them
(:mod:`lram.reports.sections.training_seeds.model`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lram.reports import text
from lram.reports.evidence.evidence import Evidence
from lram.reports.model import Estimate, rounded
from lram.reports.sections.training_seeds.model import (
    SeedDifference,
    SeedMean,
    SeedsResult,
    estimate_seeds,
    worlds_apart,
)
from lram.reports.sections.training_seeds.section import caveats
from lram.reports.seed_groups import SeedGroup
from lram.reports.statistics import holm
from lram.reports.verdict.judging import Word, notes_on


@dataclass(frozen=True, slots=True)
class ModelsVerdict:
    """What is known of the first model against the second.

    Attributes:
        word: ``better`` and ``worse`` are of the first, and need a p below 1 - ``level`` of three or more
            pairs of trainings.
        first, second: Names of the models.
        difference: First minus second in the normalised score, the mean over the pairs of trainings of their
            differences, with its t interval over them; None where the word is ``not comparable``.
        p: Of a t-test over the pairs, two-sided; None below three pairs, or where they do not differ.
        tasks, domains: What it rests on: tasks that each training has a score of.
        trainings: Labels of the pairs, the first's and the second's.
        differences: Theirs, in the same order.
        trainings_needed: Of each model, with which the difference that was seen would be shown four times in
            five; None where it was shown, where that cannot be estimated, or where it is beyond 200.
        reason: Why they do not compare; empty where they do.
        notes: What to know beside it.
        level: Of the interval.
    """

    word: Word
    first: str
    second: str
    difference: Estimate | None
    p: float | None
    tasks: int
    domains: tuple[str, ...]
    trainings: tuple[tuple[str, str], ...]
    differences: tuple[float, ...]
    trainings_needed: int | None
    reason: str
    notes: tuple[str, ...]
    level: float


@dataclass(frozen=True, slots=True)
class ModelPart:
    """The same on the tasks of one domain, by a p that is corrected (Holm) for all of them."""

    domain: str
    word: Word
    found: SeedDifference


def judge_models(
    evidence: Evidence, first: SeedGroup, second: SeedGroup, level: float = 0.95
) -> tuple[ModelsVerdict, tuple[ModelPart, ...]]:
    """Return the verdict on two models, and on each domain where there are several.

    Args:
        evidence: On all their trainings.
        first, second: The models.
        level: Of the intervals; a difference is shown where p is below 1 - ``level``.

    Raises:
        LramError: An agent is not there, or two trainings of one model have the same weights.
    """
    result = estimate_seeds(evidence, (first, second), level)
    [found] = result.differences
    rests_on = _rests_on(result)
    verdict = ModelsVerdict(
        word="not comparable",
        first=first.name,
        second=second.name,
        difference=None,
        p=None,
        tasks=0,
        domains=(),
        trainings=tuple(zip(first.agents, second.agents, strict=False)),
        differences=found.pairs,
        trainings_needed=found.needed,
        reason=_obstacle(evidence, first, second) or ("" if found.difference else found.reason),
        notes=(),
        level=level,
    )
    if verdict.reason or not rests_on:
        return verdict, ()
    whole = replace(
        verdict,
        word=_word(found),
        difference=found.difference,
        p=found.p,
        tasks=next(mean.tasks for mean in rests_on),
        domains=tuple(mean.domain for mean in rests_on if mean.domain),
        notes=tuple(_notes(evidence, result)),
    )
    return whole, _parts(evidence, first, second, whole)


def _rests_on(result: SeedsResult) -> list[SeedMean]:
    """Return the first model's scores, that of all domains first."""
    name = result.groups[0].name
    return [mean for mean in result.means if (mean.group, mean.measure) == (name, "score")]


def _obstacle(evidence: Evidence, *models: SeedGroup) -> str:
    """Return why the two cannot be compared at all; empty where they may be."""
    if evidence.collected:
        return "a run was played to collect training data, and its agents met initial states of their own"
    return worlds_apart(evidence, *models)


def _word(found: SeedDifference) -> Word:
    return "no difference shown" if found.verdict == "cannot tell" else found.verdict


def _parts(
    evidence: Evidence, first: SeedGroup, second: SeedGroup, verdict: ModelsVerdict
) -> tuple[ModelPart, ...]:
    if len(verdict.domains) < 2:
        return ()
    found: list[SeedDifference] = []
    for domain in verdict.domains:
        mine = {planned.task.id for planned in evidence.tasks if planned.task.domain == domain}
        part = replace(
            evidence,
            tasks=tuple(planned for planned in evidence.tasks if planned.task.id in mine),
            cells={key: cell for key, cell in evidence.cells.items() if key[1] in mine},
        )
        found += estimate_seeds(part, (first, second), verdict.level).differences
    corrected = holm([1.0 if one.p is None else one.p for one in found])
    return tuple(
        ModelPart(domain, _part_word(one, p, verdict.level), replace(one, p_holm=rounded(p)))
        for domain, one, p in zip(verdict.domains, found, corrected, strict=True)
    )


def _part_word(found: SeedDifference, p: float, level: float) -> Word:
    if found.difference is None:
        return "not comparable"
    if found.p is None or p >= 1 - level:
        return "no difference shown"
    return "better" if found.difference.value > 0 else "worse"


def _notes(evidence: Evidence, result: SeedsResult) -> Iterator[str]:
    for caveat in caveats(result):
        yield f"{caveat.text} ({text.listing(caveat.items, 4)})" if caveat.items else caveat.text
    labels = [label for group in result.groups for label in group.agents]
    yield from notes_on(evidence, labels)
