"""Agents against each other, on the tasks and the initial states that both have met.

Agents of one run meet the same seeds, so their episodes pair up, and the luck of an initial state
that both had cancels in the difference. A pair of agents is compared on the tasks that both
scored: an agent that plays fewer tasks is not ranked against one that plays all. Which pairs are compared,
:mod:`lram.reports.comparison.pairs` says.

p and interval come from one test, so that the interval leaves out 0 exactly where p is below 1 - level: the
studentised sign-flip test (:mod:`lram.reports.statistics.paired`), and beside it the bound on outcomes that
no episode showed (:mod:`lram.reports.statistics.unseen`), of which the more cautious counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from lram.reports.aggregates import PairMetric
from lram.reports.comparison.barrier import barrier
from lram.reports.comparison.paired_episodes import (
    PairedTask,
    Scores,
    pairs_of,
    scores_of,
    stakes_of,
    weights_of,
)
from lram.reports.comparison.pairs import ALL_OR_NONE, Pairs
from lram.reports.evidence.evidence import Evidence
from lram.reports.model import UNSEEN, Comparison, ConfidenceInterval, Estimate, rounded
from lram.reports.samples import Resampling
from lram.reports.statistics import (
    Array,
    SignFlips,
    TaskScores,
    enough_patterns,
    finer_p,
    holm,
    stream,
)

ALL_ALIKE = "the pairs of each task all differ alike"
TOO_FEW = "too few pairs of episodes"
"""Why a difference has no interval."""


def compare(
    evidence: Evidence,
    how: Resampling,
    chosen: Pairs = ALL_OR_NONE,
    metrics: Sequence[PairMetric] = (),
    tests: int = 0,
) -> tuple[Comparison, ...]:
    """Return the difference of each chosen pair of agents in the mean of domain means, Holm-corrected, and
    ``metrics`` of each pair.

    ``tests`` is given where the caller corrects anew, for more tests than these pairs: how many there are.
    """
    labels = chosen.of([agent.label for agent in evidence.agents])
    scores = {label: scores_of(evidence, label) for label in dict.fromkeys(chain.from_iterable(labels))}
    pairs = []
    for first, second in labels:
        pairing = _paired(evidence, first, second, scores, how)
        found = finer(pairing, how, tests or len(labels))
        pairs.append(replace(found, aggregates=_aggregates(pairing, metrics, how)))
    tested = [place for place, pair in enumerate(pairs) if pair.p is not None]
    adjusted = holm([pairs[place].p or 0.0 for place in tested])
    for place, p in zip(tested, adjusted, strict=True):
        pairs[place] = replace(pairs[place], p_holm=rounded(p))
    return tuple(pairs)


@dataclass(frozen=True, slots=True)
class Pairing:
    """A comparison with what it was made from.

    Attributes:
        comparison: Without Holm's correction.
        tasks: Their pairs.
        weights: Of the tasks.
        unseen: By how much the difference may be off because of outcomes that no episode showed.
        unseen_p: How probable it can be that such outcomes undo it.
    """

    comparison: Comparison
    tasks: tuple[PairedTask, ...]
    weights: Array
    unseen: float = 0.0
    unseen_p: float = 0.0


def paired(evidence: Evidence, first: str, second: str, how: Resampling) -> Pairing:
    """Return first minus second over the episodes that began alike."""
    scores = {label: scores_of(evidence, label) for label in (first, second)}
    return _paired(evidence, first, second, scores, how)


def _paired(
    evidence: Evidence, first: str, second: str, scores: Mapping[str, Mapping[str, Scores]], how: Resampling
) -> Pairing:
    if reason := barrier(evidence, {first: first, second: second}):
        return Pairing(not_compared(first, second, reason), (), np.zeros(0))
    return over_tasks(first, second, pairs_of(evidence, scores[first], scores[second]), how)


def not_compared(first: str, second: str, reason: str) -> Comparison:
    """Return a comparison without any number, and why there is none."""
    return Comparison(first, second, None, None, None, 0, 0, (), reason)


def over_tasks(first: str, second: str, tasks: Sequence[PairedTask], how: Resampling) -> Pairing:
    """Return first minus second over the pairs of ``tasks``, which may be none."""
    if not tasks:
        return Pairing(Comparison(first, second, None, None, None, 0, 0, ()), (), np.zeros(0))
    weights = weights_of(tasks)
    differences = [one.differences for one in tasks]
    generator = stream(how.seed, "sign flips", first, second)
    test = SignFlips(differences, weights, how.resamples, generator)
    up, down = (stakes_of(tasks, weights, sign) for sign in (1, -1))
    flipped = test.p()
    unseen = 0.0 if test.estimate == 0 else (up if test.estimate > 0 else down).p(abs(test.estimate))
    off = up.loss(1 - how.level), down.loss(1 - how.level)
    comparison = Comparison(
        first=first,
        second=second,
        difference=_estimate(test, off, how.level),
        p=rounded(max(flipped, unseen)),
        p_holm=None,
        tasks=len(tasks),
        episodes=test.pairs,
        domains=tuple(dict.fromkeys(one.task.domain for one in tasks)),
        limit=UNSEEN if unseen > flipped else "",
    )
    return Pairing(
        comparison,
        tuple(tasks),
        weights,
        unseen=off[0] if test.estimate > 0 else off[1],
        unseen_p=unseen,
    )


def _aggregates(pairing: Pairing, metrics: Sequence[PairMetric], how: Resampling) -> dict[str, Estimate]:
    if not pairing.tasks:
        return {}
    domains = tuple(one.task.domain for one in pairing.tasks)
    first = TaskScores(tuple(one.first for one in pairing.tasks), domains)
    second = TaskScores(tuple(one.second for one in pairing.tasks), domains)
    names = (pairing.comparison.first, pairing.comparison.second)
    return {metric.key: metric.estimate(first, second, names, how) for metric in metrics}


def finer(pairing: Pairing, how: Resampling, tests: int) -> Comparison:
    """Return the comparison, its p of more patterns where those drawn could not tell it from 0.

    They are so many that a p which Holm's method corrects for ``tests`` tests can stay below 1 - level.
    """
    found = pairing.comparison
    if found.p is None:
        return found
    generator = stream(how.seed, "sign flips", found.first, found.second, "finer")
    differences = [one.differences for one in pairing.tasks]
    patterns = (how.resamples, enough_patterns(tests, how.level, how.resamples))
    p = finer_p(found.p, differences, pairing.weights, patterns, generator)
    return replace(found, p=rounded(max(p, pairing.unseen_p)))


def _estimate(test: SignFlips, off: tuple[float, float], level: float) -> Estimate:
    """Return the difference with the interval that both the flips and the bound on unseen outcomes allow."""
    interval = test.interval(level)
    if interval is None:
        return Estimate(rounded(test.estimate), None, TOO_FEW)
    if not test.noisy and not any(off):
        return Estimate(rounded(test.estimate), None, ALL_ALIKE)
    low = min(interval[0], test.estimate - off[0])
    high = max(interval[1], test.estimate + off[1])
    return Estimate(rounded(test.estimate), ConfidenceInterval(rounded(low), rounded(high), "sign flips"))
