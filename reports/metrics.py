"""What an aggregate metric is, and how its interval is made; :mod:`lram.reports.aggregates` has the
registry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from lram.envs.task import Task
from lram.harness.errors import LramError
from lram.harness.words import visible
from lram.reports.model import (
    FEW,
    UNSIMULATED,
    Aggregate,
    ConfidenceInterval,
    Doubt,
    Estimate,
    rounded,
)
from lram.reports.samples import (
    AgentSamples,
    Resampling,
    Weights,
    estimate_of,
    no_noise_note,
    too_few_note,
)
from lram.reports.statistics import (
    Array,
    Moments,
    TaskScores,
    centred_interval,
    equal_task_weights,
    mean_interval,
    redrawn,
    stream,
)

_AT_ONCE = 2_000_000
"""Scores of replicates that are held at a time."""


class IntervalMethod(Protocol):
    """Makes the estimate of a metric, with its interval."""

    def __call__(
        self, metric: AggregateMetric, samples: AgentSamples, tasks: Sequence[Task], covered: set[str]
    ) -> Aggregate:
        """Return the metric over those of ``tasks`` that have a score.

        ``covered`` are the ids of all tasks that could have one.
        """


def bootstrapped(
    metric: AggregateMetric, samples: AgentSamples, tasks: Sequence[Task], covered: set[str]
) -> Aggregate:
    """Draw episodes again within each task; tasks are fixed (a stratified bootstrap).

    The interval is centred on the estimate, and always marked: how often it holds for a metric, only a
    simulation of that metric tells.
    """
    places, rests_on = samples.entered(tasks, covered)
    if not places:
        return Aggregate(None, rests_on)
    scores = samples.scores(places)
    value = _value(metric.key, metric.function(scores))
    generator = stream(samples.how.seed, "aggregates", metric.key, samples.agent)
    replicates = _replicates(
        metric.key, lambda drawn: metric.function(drawn[0]), (scores,), samples.how, generator
    )
    return Aggregate(_bootstrap_estimate(value, replicates, scores, samples.how.level), rests_on)


def weighted_mean(weights: Weights, of: Callable[[Array], Array] | None = None) -> IntervalMethod:
    """Return the method of a weighted mean over tasks: Welch's t (:mod:`lram.reports.statistics.means`).

    Args:
        weights: Of tasks, from their domains.
        of: What of the scores is averaged; the scores themselves where nothing is said.
    """

    def made(
        metric: AggregateMetric, samples: AgentSamples, tasks: Sequence[Task], covered: set[str]
    ) -> Aggregate:
        return samples.aggregate(tasks, covered, weights, of)

    return made


def without_interval(note: str) -> IntervalMethod:
    """Return the method of a metric that has no interval; ``note`` says why."""

    def made(
        metric: AggregateMetric, samples: AgentSamples, tasks: Sequence[Task], covered: set[str]
    ) -> Aggregate:
        places, rests_on = samples.entered(tasks, covered)
        if not places:
            return Aggregate(None, rests_on)
        value = _value(metric.key, metric.function(samples.scores(places)))
        return Aggregate(Estimate(rounded(value), None, note), rests_on)

    return made


@dataclass(frozen=True, slots=True)
class AggregateMetric:
    """One number of an agent's scores over all tasks.

    Attributes:
        key: In ``summary.json`` and CSV files: small letters, digits and underscores.
        heading: For people.
        function: Of the normalised scores by task and episode; keeps leading axes, on which replicates stand:
            of tasks (..., episodes) it gives (...).
        method: One or two sentences on how it is made, for the page.
        interval: How its interval is made.
        better: Which way is better.
    """

    key: str
    heading: str
    function: Callable[[TaskScores], Array]
    method: str
    interval: IntervalMethod = bootstrapped
    better: Literal["higher", "lower"] = "higher"

    @property
    def title(self) -> str:
        """The heading, with a word where less is better."""
        return self.heading if self.better == "higher" else f"{self.heading} (less is better)"


@dataclass(frozen=True, slots=True)
class PairMetric:
    """One number of two agents' scores on the tasks and the episodes that both have met.

    Attributes:
        key, heading, method: As of :class:`AggregateMetric`.
        function: Of both agents' scores, episode by episode in pairs; keeps leading axes.
        contributions: What each pair of episodes of a task contributes, (..., n), of both agents' scores:
        where
            the metric is the mean over tasks of their means, its interval is Welch's t of them. None: a
            bootstrap of the pairs.
        range: Where the number can lie.
    """

    key: str
    heading: str
    function: Callable[[TaskScores, TaskScores], Array]
    method: str
    contributions: Callable[[Array, Array], Array] | None = None
    range: tuple[float, float] = (-np.inf, np.inf)

    def estimate(
        self, first: TaskScores, second: TaskScores, names: Sequence[str], how: Resampling
    ) -> Estimate:
        """Return the number with its interval; ``names`` are those of the two agents."""
        value = _value(self.key, self.function(first, second))
        if self.contributions is None:
            generator = stream(how.seed, "aggregates", self.key, *names)
            replicates = _replicates(
                self.key, lambda drawn: self.function(*drawn), (first, second), how, generator
            )
            return _bootstrap_estimate(value, replicates, first, how.level)
        parts = [self.contributions(*both) for both in zip(first.tasks, second.tasks, strict=True)]
        weights = equal_task_weights(first.domains)
        found = mean_interval(weights, Moments.of(parts), how.level, first.domains)
        # All of one agent's above all of the other's count alike, and so do ties.
        without = no_noise_note([len(task) for task in parts], "count alike", of_pairs=True)
        return estimate_of(found, self.range, without, too_few_note(sum(map(len, parts))))


def _value(key: str, value: Array) -> float:
    if np.shape(value) != () or not np.isfinite(value):
        raise LramError(
            f"the aggregate {key} gives no finite number for these scores, but {visible(str(value))[:80]}"
        )
    return float(value)


def _replicates(
    key: str,
    function: Callable[[tuple[TaskScores, ...]], Array],
    agents: tuple[TaskScores, ...],
    how: Resampling,
    generator: np.random.Generator,
) -> Array:
    """Return the function's values on replicates of the episodes, drawn alike for all of ``agents``."""
    total = sum(len(task) for task in agents[0].tasks)
    chunk = max(1, _AT_ONCE // max(1, total))
    found = []
    for start in range(0, how.resamples, chunk):
        size = min(chunk, how.resamples - start)
        drawn = [redrawn(len(task), size, generator) for task in agents[0].tasks]
        replicates = tuple(
            TaskScores(
                tuple(task[places] for task, places in zip(one.tasks, drawn, strict=True)), one.domains
            )
            for one in agents
        )
        values = np.asarray(function(replicates), np.float64)
        if values.shape != (size,) or not np.isfinite(values).all():
            raise LramError(
                f"the aggregate {key} does not give one finite number for each replicate of the scores"
            )
        found.append(values)
    return np.concatenate(found)


def _bootstrap_estimate(value: float, replicates: Array, scores: TaskScores, level: float) -> Estimate:
    if np.ptp(replicates) <= 1e-9 * max(1.0, abs(value)):
        return Estimate(rounded(value), None, "the same when episodes are drawn again")
    moments = Moments.of(scores.tasks)
    spread = mean_interval(equal_task_weights(scores.domains), moments, level, scores.domains)
    if not spread.estimable:
        return Estimate(rounded(value), None, too_few_note(int(moments.episodes.sum())))
    low, high = centred_interval(replicates, value, level)
    few = bool(spread.few) or bool((moments.episodes == 1).any())
    doubts: tuple[Doubt, ...] = (FEW, UNSIMULATED) if few else (UNSIMULATED,)
    interval = ConfidenceInterval(rounded(min(low, value)), rounded(max(high, value)), "bootstrap", doubts)
    return Estimate(rounded(value), interval)
