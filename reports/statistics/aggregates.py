"""Aggregates of scores by task and episode: numbers alone; :mod:`lram.reports.aggregates` has their
intervals.

* **IQM of task means**: ``scipy.stats.trim_mean(values, 0.25)``, which drops int(n / 4) values at
  each end. It is taken over the tasks' mean scores, as the public reference implementation does
  (``custom_eval_callback.py``). The interquartile mean of rliable (Agarwal et al. 2021) is taken over all
  single episodes of all tasks: another number, which must not stand in one table with this one.

  It has no interval. Noise moves a trimmed mean itself: a task that is noisy enough to leave the middle
  takes the place of another there. Simulated with noise that grows with the score, 3 to 10 episodes and 50
  to 200 tasks, the estimate lay two to six of its own standard errors beside the true value, and centred,
  bias-corrected and widened bootstrap intervals held it in as few as 0, 5 and 21 of 100 evaluations
  (``docs/explanation/statistics.md``); no number in the data tells which of these cases one has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lram.reports.statistics.streams import Array


def interquartile_mean(scores: Array) -> Array:
    """Return the 25% trimmed mean over the last axis: of (tasks,) or (resamples, tasks)."""
    cut = int(0.25 * scores.shape[-1])
    kept = np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut]
    return np.asarray(kept.mean(axis=-1))


def equal_task_weights(domains: Sequence[str]) -> Array:
    """Return each task's weight in the plain mean over tasks, shape (tasks,)."""
    return np.full(len(domains), 1.0 / max(1, len(domains)))


def equal_domain_weights(domains: Sequence[str]) -> Array:
    """Return each task's weight in the mean of domain means, shape (tasks,); they sum to 1."""
    names, place, sizes = np.unique(np.asarray(domains), return_inverse=True, return_counts=True)
    return np.asarray(1.0 / (len(names) * sizes[place]), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class TaskScores:
    """Normalised scores by task and episode, of one agent or of many replicates of its evaluation.

    Attributes:
        tasks: Of each task an array (..., episodes); tasks may have other numbers of episodes, and all have
        the
            same leading axes.
        domains: Of the tasks.
    """

    tasks: tuple[Array, ...]
    domains: tuple[str, ...]

    @property
    def means(self) -> Array:
        """Mean of each task, (..., tasks)."""
        return np.stack([scores.mean(axis=-1) for scores in self.tasks], axis=-1)


def mean_of_domain_means(scores: TaskScores) -> Array:
    """Return the mean over domains of the mean over their tasks, (...)."""
    return np.asarray((scores.means * equal_domain_weights(scores.domains)).sum(axis=-1))


def iqm_of_task_means(scores: TaskScores) -> Array:
    """Return the 25% trimmed mean of the tasks' means, (...)."""
    return interquartile_mean(scores.means)


def median_of_task_means(scores: TaskScores) -> Array:
    """Return the median of the tasks' means, (...): rliable's ``aggregate_median``."""
    return np.asarray(np.median(scores.means, axis=-1))


def shortfall(scores: Array) -> Array:
    """Return by how much each score falls short of 1; nothing above it."""
    return np.asarray(1.0 - np.minimum(scores, 1.0))


def optimality_gap(scores: TaskScores) -> Array:
    """Return the mean over tasks of the mean shortfall of their episodes, (...).

    rliable's ``aggregate_optimality_gap`` with gamma 1, which is over all runs alike: the same where every
    task has equally many episodes.
    """
    by_task = [shortfall(task).mean(axis=-1) for task in scores.tasks]
    return np.asarray(np.stack(by_task, axis=-1).mean(axis=-1))


def wins(first: Array, second: Array) -> Array:
    """Return for each two episodes (..., n, m) 1 where the first scored more, 0.5 where both scored alike."""
    one, other = first[..., :, None], second[..., None, :]
    return np.asarray((one > other) + 0.5 * (one == other))


def probability_of_improvement(first: TaskScores, second: TaskScores) -> Array:
    """Return the mean over tasks of the probability that an episode of the first scores more, (...).

    rliable's ``probability_of_improvement``: Mann and Whitney's U over n m, ties counted half.
    """
    by_task = [
        wins(one, other).mean(axis=(-2, -1)) for one, other in zip(first.tasks, second.tasks, strict=True)
    ]
    return np.asarray(np.stack(by_task, axis=-1).mean(axis=-1))


def win_contributions(first: Array, second: Array) -> Array:
    """Return what each pair of episodes contributes to the probability of improvement, (..., n).

    Their mean is the probability P; their variance over n is that of P (DeLong and others 1988, for pairs):
    the share of the second's episodes that the first's beat, plus the share of the first's episodes that beat
    the second's, less P.
    """
    won = wins(first, second)
    return np.asarray(won.mean(axis=-1) + won.mean(axis=-2) - won.mean(axis=(-2, -1))[..., None])
