"""Intervals of weighted means of task rates: Wilson's score interval (1927), extended to several tasks.

A mean of task rates is not a rate of pooled episodes: 30 episodes of one task, all solved, and 3 of another,
none solved, are a mean of 0.5 and not of 30 in 33. The interval of the mean holds every theta for which

    (estimate - theta)^2 <= z^2 * sum(w_t^2 * p_t (1 - p_t) / m_t),

where the p_t are the tasks' rates that are most likely among all with sum(w_t * p_t) = theta (Miettinen and
Nurminen 1985 for two rates, Andres, Hernandez and Tejedor 2011 for linear combinations). For one task this
is Wilson's interval; where every task is solved always or never it still has a width, which shrinks with
all episodes; it holds its own estimate and stays in [0, 1].

* m_t is n_t - (1 - h_t), h_t being the task's share of the variance: one degree of freedom for each task but
  the one that theta fixes. Without it the tasks' own rates, fitted to few episodes each, make the variance
  too small by (n - 1) / n where there are many tasks.
* The variance is at most theta (1 - theta) * max(w_t / n_t): given theta, no rates have more. That alone
  counts where every task has one episode.
* Next to 0 and 1 Wilson's interval is known to fall to 84%, where one or two episodes (three of more than
  50) went the other way. As Brown, Cai and DasGupta (2001) propose, the end on that side is then the
  one-sided Poisson bound.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy import special

from lram.reports.statistics.streams import Array

_STEPS = 70  # halvings of an interval of 60 e-folds
_ROUNDING = 1e-18  # of squared rates: the distance of an end where nothing has moved yet


def rate_interval(
    successes: Array, trials: Array | npt.NDArray[np.int64], weights: Array, level: float
) -> tuple[Array, Array]:
    """Return the score interval of a weighted mean of task rates.

    Args:
        successes: (..., tasks), with leading axes of simulations.
        trials: Episodes of each task, at least 1, (tasks,).
        weights: Of the tasks, above 0 and summing to 1, (tasks,).
        level: Such as 0.95.

    Returns:
        The lower and the upper ends, each (...).
    """
    solved, counts = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    if np.any(counts < 1) or np.any(solved < 0) or np.any(solved > counts):
        raise ValueError("successes must lie between 0 and the trials, of which each task has at least 1")
    return _lower(solved, counts, weights, level), 1.0 - _lower(counts - solved, counts, weights, level)


def _lower(solved: Array, trials: Array, weights: Array, level: float) -> Array:
    """Return the lower ends: the rates move along the curve of constrained maxima, by its multiplier."""
    square = NormalDist().inv_cdf((1 + level) / 2) ** 2
    estimate = (weights * solved / trials).sum(axis=-1)
    # The multiplier's unit is episodes: a task that is always solved leaves 1 where it reaches n_t / w_t.
    scale = (trials / weights).max()
    below = np.full(estimate.shape, np.log(scale) - 40.0)
    above = np.full(estimate.shape, np.log(scale) + 20.0)
    for _ in range(_STEPS):
        middle = (below + above) / 2
        rates = _most_likely(solved, trials, np.exp(middle)[..., None] * weights)
        inside = _distance(estimate, rates, trials, weights, square) <= _ROUNDING
        below, above = np.where(inside, middle, below), np.where(inside, above, middle)
    rates = _most_likely(solved, trials, np.exp(below)[..., None] * weights)
    low = (weights * rates).sum(axis=-1)
    total = solved.sum(axis=-1)
    rare = special.gammaincinv(np.maximum(total, 1.0), 1 - level) * estimate / np.maximum(total, 1.0)
    few = 2 if trials.sum() <= 50 else 3
    low = np.where(total <= few, np.minimum(low, rare), low)
    # Of nothing solved the exact bound is 0; and rounding must not step over the estimate.
    return np.asarray(np.where(total == 0, 0.0, np.clip(low, 0.0, estimate)))


def _most_likely(solved: Array, trials: Array, pull: Array) -> Array:
    """Return the rates p with x / p - (n - x) / (1 - p) = ``pull`` >= 0: constrained maxima."""
    # The discriminant in the form that is exact where all or none are solved.
    root = np.sqrt((pull - trials) ** 2 + 4 * pull * (trials - solved))
    return np.asarray(np.minimum(2 * solved / (pull + trials + root), 1.0))


def _distance(estimate: Array, rates: Array, trials: Array, weights: Array, square: float) -> Array:
    """Return the squared distance from the estimate less what the variance at ``rates`` allows."""
    theta = (weights * rates).sum(axis=-1)
    parts = weights**2 * rates * (1 - rates) / trials
    total = parts.sum(axis=-1, keepdims=True)
    share = np.divide(parts, total, out=np.ones_like(parts), where=total > 0)
    free = np.maximum(trials - 1 + share, 1e-12)
    most = theta * (1 - theta) * (weights / trials).max()
    variance = np.minimum((parts * trials / free).sum(axis=-1), most)
    return np.asarray((estimate - theta) ** 2 - square * variance)
