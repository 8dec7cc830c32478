"""Aggregates of task means.

* **Interquartile mean**: ``scipy.stats.trim_mean(values, 0.25)``, which drops int(n / 4) values at
  each end. It is taken over the tasks' mean scores, as the public reference implementation does
  (``custom_eval_callback.py``), not over single episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lram.reports.statistics.streams import Array


def interquartile_mean(scores: Array) -> Array:
    """Return the 25% trimmed mean over the last axis: of (tasks,) or (resamples, tasks)."""
    cut = int(0.25 * scores.shape[-1])
    kept = np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut]
    return np.asarray(kept.mean(axis=-1))


def mean_of_domain_means(domains: Sequence[str]) -> Callable[[Array], Array]:
    """Return the aggregate that weighs each domain equally, and each task equally in its domain.

    The result maps task scores, (tasks,) or (resamples, tasks) in the order of ``domains``, to their
    aggregate over the last axis.
    """
    weights = equal_domain_weights(domains)
    return lambda scores: np.asarray((scores * weights).sum(axis=-1))


def equal_domain_weights(domains: Sequence[str]) -> Array:
    """Return each task's weight in the mean of domain means, shape (tasks,); they sum to 1."""
    names, place, sizes = np.unique(np.asarray(domains), return_inverse=True, return_counts=True)
    return np.asarray(1.0 / (len(names) * sizes[place]), dtype=np.float64)
