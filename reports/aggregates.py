"""The aggregate metrics of reports: a registry, from which every form of a report follows.

An :class:`AggregateMetric` makes one number of an agent's normalised scores by task and episode, a
:class:`PairMetric` one of the scores of two agents in episodes that began alike. ``summary.json``, CSV
files, page, Markdown, figures and the text on methods loop over :func:`aggregate_metrics` and
:func:`pair_metrics`: to add one, add an entry here, or announce one of either kind by the entry point group
``lram.aggregates`` (``docs/extending.md``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Literal, Protocol

import numpy as np

from lram.envs.task import Task
from lram.harness.errors import LramError
from lram.harness.words import visible
from lram.reports.model import (
    ALL_EQUAL,
    FEW,
    NO_IQM_INTERVAL,
    Aggregate,
    ConfidenceInterval,
    Estimate,
    rounded,
)
from lram.reports.samples import NO_NOISE, AgentSamples, Resampling, Weights, estimate_of, untold
from lram.reports.statistics import (
    Array,
    Moments,
    TaskScores,
    centred_interval,
    equal_domain_weights,
    equal_task_weights,
    iqm_of_task_means,
    mean_interval,
    mean_of_domain_means,
    median_of_task_means,
    optimality_gap,
    probability_of_improvement,
    redrawn,
    shortfall,
    stream,
    win_contributions,
)

GROUP = "lram.aggregates"
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

    The interval is centred on the estimate. It is marked where it rests on few episodes; how often it holds
    for a metric of one's own, only a simulation tells.
    """
    places, rests_on = samples.entered(tasks, covered)
    if not places:
        return Aggregate(None, rests_on)
    scores = samples.scores(places)
    generator = stream(samples.how.seed, "aggregates", metric.key, samples.agent)
    replicates = _replicates(
        metric.key, lambda drawn: metric.function(drawn[0]), (scores,), samples.how, generator
    )
    found = _bootstrap_estimate(
        _value(metric.key, metric.function(scores)), replicates, scores, samples.how.level
    )
    return Aggregate(found, rests_on)


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
        without = NO_NOISE if len(parts) > 1 or len(parts[0]) == 1 else ALL_EQUAL
        return estimate_of(found, self.range, without, untold(sum(map(len, parts))))


AGGREGATES: tuple[AggregateMetric, ...] = (
    AggregateMetric(
        "mean_of_domain_means",
        "Mean of domain means",
        mean_of_domain_means,
        "Task scores are averaged within each domain, then over domains, so that a domain with 240 tasks "
        "weighs as much as one with 11.",
        weighted_mean(equal_domain_weights),
    ),
    AggregateMetric(
        "iqm_of_task_means",
        "IQM of task means",
        iqm_of_task_means,
        "The 25% trimmed mean of all tasks' mean scores pooled: int(N / 4) tasks are dropped at each "
        "end (scipy.stats.trim_mean). It is taken over tasks, as the public reference implementation "
        "does, while rliable's interquartile mean is over single episodes: do not put both in one "
        "table. It has no interval: noise moves a trimmed mean itself, most where the noise of tasks "
        "differs, and no method that was simulated held. Compare it at equal numbers of episodes only.",
        without_interval(NO_IQM_INTERVAL),
    ),
    AggregateMetric(
        "median",
        "Median of task means",
        median_of_task_means,
        "The median of all tasks' mean scores pooled, as rliable's. Half of the tasks do not matter to it. "
        "It has no interval, for the reason that the interquartile mean has none: noise moves it itself.",
        without_interval(NO_IQM_INTERVAL),
    ),
    AggregateMetric(
        "optimality_gap",
        "Optimality gap",
        optimality_gap,
        "By how much an episode's score falls short of 1, the reference, on average over a task's episodes "
        "and then over all tasks alike (rliable's, with gamma 1); scores above 1 make up for none below. "
        "Less is better. Its interval is Welch's, of these shortfalls.",
        weighted_mean(equal_task_weights, shortfall),
        "lower",
    ),
)
"""The metrics that ship, the headline first."""

PAIR_AGGREGATES: tuple[PairMetric, ...] = (
    PairMetric(
        "probability_of_improvement",
        "Probability of improvement",
        probability_of_improvement,
        "The probability that an episode of the first agent scores more than one of the other on the same "
        "task, ties counted half, averaged over the tasks that both scored (Mann and Whitney's U, as "
        "rliable's). It says how often, not by how much. Its interval is Welch's t of what each pair of "
        "episodes contributes (DeLong and others 1988); it is not a test, and not corrected for the number "
        "of pairs.",
        win_contributions,
        (0.0, 1.0),
    ),
)
"""Those of two agents."""

HEADLINE = AGGREGATES[0].key


def aggregate_metrics() -> tuple[AggregateMetric, ...]:
    """Return the metrics of single agents, those that other packages announce last.

    Raises:
        LramError: An entry point cannot be loaded, or is no metric.
    """
    return (*AGGREGATES, *(metric for metric in _announced() if isinstance(metric, AggregateMetric)))


def pair_metrics() -> tuple[PairMetric, ...]:
    """Return the metrics of two agents likewise; raises as :func:`aggregate_metrics`."""
    return (*PAIR_AGGREGATES, *(metric for metric in _announced() if isinstance(metric, PairMetric)))


def _announced() -> list[AggregateMetric | PairMetric]:
    points = sorted(set(entry_points(group=GROUP)), key=lambda point: (point.name, point.value))
    found = [_loaded(point) for point in points]
    taken = {metric.key for metric in AGGREGATES} | {metric.key for metric in PAIR_AGGREGATES}
    for point, metric in zip(points, found, strict=True):
        if metric.key in taken:
            raise LramError(f"{_called(point)} has the key {metric.key!r}, which another one has")
        taken.add(metric.key)
    return found


@cache
def _loaded(point: EntryPoint) -> AggregateMetric | PairMetric:
    try:
        metric = point.load()
    except Exception as error:
        raise LramError(
            f"{_called(point)} cannot be loaded: {visible(f'{type(error).__name__}: {error}')}"
        ) from error
    if not isinstance(metric, AggregateMetric | PairMetric):
        raise LramError(
            f"{_called(point)} is no AggregateMetric or PairMetric of lram.reports.aggregates, but a "
            f"{type(metric).__name__}"
        )
    if not isinstance(metric.key, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,79}", metric.key):
        raise LramError(
            f"{_called(point)} has the key {metric.key!r}; a key has small letters, digits and "
            "underscores, and begins with a letter"
        )
    for what, told in (("heading", metric.heading), ("method", metric.method)):
        if not isinstance(told, str) or not told.strip():
            raise LramError(f"{_called(point)} has no {what}; give it one")
    _try_out(point, metric)
    return metric


def _try_out(point: EntryPoint, metric: AggregateMetric | PairMetric) -> None:
    """Raise LramError where the metric does not take what reports give it: scores, and their replicates."""
    for leading in ((), (2,)):
        scores = TaskScores((np.full((*leading, 3), 0.5), np.full((*leading, 2), 0.25)), ("a", "b"))
        try:
            if isinstance(metric, AggregateMetric):
                shape = np.shape(metric.function(scores))
            else:
                shape = np.shape(metric.function(scores, scores))
        except Exception as error:
            what = visible(f"{type(error).__name__}: {error}")
            raise LramError(f"{_called(point)} fails on scores of two tasks: {what}") from error
        if shape != leading:
            raise LramError(
                f"{_called(point)} gives {_shape(shape)} for {_shape(leading)} of scores; a metric keeps "
                "leading axes: take means over the last axis (axis=-1)"
            )


def _shape(shape: tuple[int, ...]) -> str:
    return "one number" if not shape else f"an array of {' x '.join(map(str, shape))}"


def _called(point: EntryPoint) -> str:
    return f"the aggregate {visible(point.name)} ({visible(point.value)}, entry point of {GROUP})"


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
        return Estimate(rounded(value), None, NO_NOISE if len(scores.tasks) > 1 else ALL_EQUAL)
    moments = Moments.of(scores.tasks)
    spread = mean_interval(equal_task_weights(scores.domains), moments, level, scores.domains)
    if not spread.told:
        return Estimate(rounded(value), None, untold(int(moments.episodes.sum())))
    low, high = centred_interval(replicates, value, level)
    few = bool(spread.few) or bool((moments.episodes == 1).any())
    doubts = (FEW,) if few else ()
    interval = ConfidenceInterval(rounded(min(low, value)), rounded(max(high, value)), "bootstrap", doubts)
    return Estimate(rounded(value), interval)
