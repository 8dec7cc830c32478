"""The aggregate metrics of reports: a registry, from which every form of a report follows.

An :class:`AggregateMetric` makes one number of an agent's normalised scores by task and episode, a
:class:`PairMetric` one of the scores of two agents in episodes that began alike. ``summary.json``, CSV
files, page, Markdown, figures and the text on methods loop over :func:`aggregate_metrics` and
:func:`pair_metrics`: to add one, add an entry here, or announce one of either kind by the entry point group
``lram.aggregates`` (``docs/how-to/extending.md``).
"""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import EntryPoint

import numpy as np

from lram.agents.installed import entry_points
from lram.harness.errors import LramError
from lram.harness.words import visible
from lram.reports.metrics import (
    AggregateMetric,
    IntervalMethod,
    PairMetric,
    bootstrapped,
    weighted_mean,
    without_interval,
)
from lram.reports.model import NO_IQM_INTERVAL
from lram.reports.statistics import (
    TaskScores,
    equal_domain_weights,
    equal_task_weights,
    iqm_of_task_means,
    mean_of_domain_means,
    median_of_task_means,
    optimality_gap,
    probability_of_improvement,
    shortfall,
    win_contributions,
)

__all__ = [
    "AGGREGATES",
    "GROUP",
    "HEADLINE",
    "PAIR_AGGREGATES",
    "AggregateMetric",
    "IntervalMethod",
    "PairMetric",
    "aggregate_metrics",
    "bootstrapped",
    "pair_metrics",
    "weighted_mean",
    "without_interval",
]

GROUP = "lram.aggregates"
"""Entry points of other packages' metrics."""

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
    points = sorted(set(entry_points(GROUP)), key=lambda point: (point.name, point.value))
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
    for what, value in (("heading", metric.heading), ("method", metric.method)):
        if not isinstance(value, str) or not value.strip():
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
