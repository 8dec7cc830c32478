"""Two checkpoints against each other: one word, and what it rests on.

The comparison is the report's (:mod:`lram.reports.comparison.compare`): pairs of episodes that began alike,
normalised scores, the mean of domain means. The two sides may come from different runs, under the same or
different labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lram.harness.words import count
from lram.reports.comparison.compare import Pairing, paired
from lram.reports.evidence.evidence import Evidence
from lram.reports.model import UNSEEN, Estimate, rounded
from lram.reports.samples import Resampling
from lram.reports.statistics import Reach, fewest_pairs, reach, stream
from lram.reports.summary.summarise import summarise
from lram.reports.text import listing, names
from lram.reports.verdict.sides import Side, known, obstacle, together, without_pairs

Word = Literal["better", "worse", "no difference shown", "not comparable"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of the first against the second.

    Attributes:
        word: ``better`` and ``worse`` are of the first, and need a p below 1 - ``level``.
        first, second: Labels.
        difference: First minus second in the mean of domain means of the normalised score; None where
            the word is ``not comparable``. Its interval, where it has one, leaves out 0 exactly where p is
            below 1 - ``level``; the note says why there is none.
        p: Two-sided (:mod:`lram.reports.comparison.compare`).
        tasks, domains, episodes: What it rests on: tasks of both, their domains, pairs of episodes.
        episodes_needed: Pairs a task with which a true difference of the observed size would be shown
            four times in five; None where that cannot be estimated.
        detectable: The least difference that as many episodes show four times in five; None likewise.
        reason: Why they do not compare; empty where they do.
        notes: What to know beside it.
        level, seed: Of the interval and of the resampling.
        fewest_pairs: Pairs of episodes below which nothing can be shown at this level.
        not_detectable: Why ``detectable`` is None where they compare.
        unseen_rate: An outcome that comes in a smaller share of a task's episodes may not be among those that
            were played, with a probability above 1 - ``level``; of the task with the fewest pairs.
    """

    word: Word
    first: str
    second: str
    difference: Estimate | None
    p: float | None
    tasks: int
    domains: tuple[str, ...]
    episodes: int
    episodes_needed: int | None
    detectable: float | None
    reason: str
    notes: tuple[str, ...]
    level: float
    seed: int
    fewest_pairs: int = 0
    not_detectable: str = ""
    unseen_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict with what it was made from.

    Attributes:
        verdict: It.
        evidence: On both sides, each under its name.
        pairing: Their pairs of episodes; None where the two do not compare.
    """

    verdict: Verdict
    evidence: Evidence
    pairing: Pairing | None = None


def judge(first: Side, second: Side, *, seed: int = 0, resamples: int = 2000, level: float = 0.95) -> Verdict:
    """Return the verdict on ``first`` against ``second``; takes and raises what :func:`judge_pairs` does."""
    return judge_pairs(first, second, seed=seed, resamples=resamples, level=level).verdict


def judge_pairs(
    first: Side, second: Side, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Judged:
    """Return the verdict on ``first`` against ``second``, and the pairs that it rests on.

    Args:
        first, second: The two agents.
        seed: Of the sign flips.
        resamples: Their patterns.
        level: Of the interval; a difference is shown where p is below 1 - ``level``.

    Raises:
        LramError: A side's own runs contradict each other, or are damaged.
    """
    sides = known(first, second)
    one, other = (side.name for side in sides)
    evidence = together(*sides)
    pairing = paired(evidence, one, other, Resampling(seed, resamples, level))
    found = pairing.comparison
    verdict = Verdict(
        word="not comparable",
        first=first.label,
        second=second.label,
        difference=None,
        p=None,
        tasks=0,
        domains=(),
        episodes=0,
        episodes_needed=None,
        detectable=None,
        reason=obstacle(*sides) or found.reason,
        notes=(),
        level=level,
        seed=seed,
        fewest_pairs=fewest_pairs(level),
    )
    if verdict.reason:
        return Judged(verdict, evidence)
    if found.difference is None or found.p is None:
        return Judged(replace(verdict, reason=without_pairs(*sides)), evidence)
    shown = found.p < 1 - level
    able, why_not = _reach(pairing, level, seed)
    whole = replace(
        verdict,
        word=("better" if found.difference.value > 0 else "worse") if shown else "no difference shown",
        difference=found.difference,
        p=found.p,
        tasks=found.tasks,
        domains=found.domains,
        episodes=found.episodes,
        episodes_needed=able.needed if able else None,
        detectable=rounded(able.detectable) if able else None,
        notes=(*_limits(pairing, level), *_notes(evidence, found.tasks)),
        not_detectable=why_not,
        unseen_rate=rounded(1 - (1 - level) ** (1 / min(len(task.first) for task in pairing.tasks))),
    )
    return Judged(whole, evidence, pairing)


def _reach(pairing: Pairing, level: float, seed: int) -> tuple[Reach | None, str]:
    """Return what can be shown, or why nothing is said of it."""
    found, fewest = pairing.comparison, fewest_pairs(level)
    if found.episodes < fewest:
        return None, (
            f"nothing can be shown below {count(fewest, 'pair')} of episodes: of "
            f"{found.episodes} the least possible p is {2.0 ** (1 - found.episodes):.3g}"
        )
    differences = [task.differences for task in pairing.tasks]
    able = reach(differences, pairing.weights, level, stream(seed, "power", found.first, found.second))
    if able is None:
        return None, "no noise was seen, so nothing can be said of what would be needed: play more episodes"
    if pairing.unseen >= able.detectable:
        return None, (
            "what a further episode could bring where all ended alike counts for more than the noise that "
            "was seen, so nothing can be said of what would be needed: play more episodes"
        )
    return able, ""


def _limits(pairing: Pairing, level: float) -> Iterator[str]:
    """Yield what keeps the sign flips from being the whole answer."""
    found = pairing.comparison
    if found.limit != UNSEEN or found.p is None or found.p < 1 - level:
        return
    concerned = [
        f"{name} on {count(steady, 'task')}"
        for place, name in enumerate((found.first, found.second))
        if (steady := sum(task.steady[place] for task in pairing.tasks))
    ]
    yield (
        f"all episodes of one task ended alike, so that rarer outcomes are not known ({names(concerned)}): "
        "such as these pairs need not have shown could undo the difference"
    )


_SAID = frozenset(
    ("empty", "collected", "coverage", "comparisons", "few episodes", "single episode", "real time")
)
"""Kinds of a report's caveats that a verdict says by its own words, or that are about single agents'
intervals."""
_SHOWN = 4


def _notes(evidence: Evidence, tasks: int) -> Iterator[str]:
    digests = {agent.info.digest for agent in evidence.agents}
    if len(digests) == 1 and "" not in digests:
        yield "both are the same checkpoint (equal digests)"
    planned = len(evidence.tasks)
    if tasks < planned:
        yield f"it rests on {tasks} of {count(planned, 'task')}: the others have no pair of scored episodes"
    if any(agent.info.kind == "model" for agent in evidence.agents):
        yield "it is about these two checkpoints; training again may give others (lram ablate tells)"
    yield from notes_on(evidence, [agent.label for agent in evidence.agents])


def notes_on(evidence: Evidence, labels: Sequence[str]) -> Iterator[str]:
    """Yield what a report would warn of about these agents on the tasks that all of them play."""
    shared = [
        planned
        for planned in evidence.tasks
        if all((label, planned.task.id) in evidence.cells for label in labels)
    ]
    both = {planned.task.id for planned in shared}
    part = replace(
        evidence,
        agents=tuple(agent for agent in evidence.agents if agent.label in labels),
        tasks=tuple(shared),
        cells={key: cell for key, cell in evidence.cells.items() if key[0] in labels and key[1] in both},
    )
    # Of a report's estimates no note needs replicates.
    for caveat in summarise(part, resamples=1).caveats:
        if caveat.kind not in _SAID:
            yield f"{caveat.text} ({listing(caveat.items, _SHOWN)})" if caveat.items else caveat.text
