"""Aggregates of task means.

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
