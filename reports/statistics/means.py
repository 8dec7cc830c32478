"""Intervals of weighted means over tasks, on ragged data: Welch's t with a correction for skewed returns.

The noise that is measured here is episode noise: one checkpoint, fixed tasks, other episodes. It is
not the noise between training runs, which no number of episodes of one checkpoint can show.

The estimate is sum(w_t * mean_t), its variance sum(w_t^2 * s_t^2 / n_t):

* **Each task's own variance** s_t^2, with n_t - 1 in the denominator. A task whose episodes are all alike
  counts with 0: over evaluations that is right on average, and 49 deterministic tasks beside one noisy one
  take nothing from it.
* **Borrowed noise**: a task with one episode has no variance of its own and is given the mean of its
  neighbours' (the tasks of its domain that have two episodes or more, else those of all domains). So is a
  task whose episodes are all alike where that variance would outweigh everything else: five successes of
  five in a domain of one task that weighs as much as another of 45 are no proof that it never fails. Then
  the interval carries the doubt ``borrowed noise``.
* **Degrees of freedom** after Welch (1947) and Satterthwaite (1946): the variance is a linear combination of
  the s_t^2, those that are borrowed included. The quantile is Student's.
* **Skewness**: the mean of n skewed returns is skewed, and its error correlates with the error of its
  variance. The first term of the Edgeworth expansion of the studentised mean (Hall 1992, section 2.6;
  Johnson 1978) moves both ends of the interval by skew * (2 z^2 + 1) / 6 standard errors, skew being that of
  the estimate, from the tasks' unbiased third moments. Only the end on the side of the long tail is moved,
  outwards: at few episodes the skewness itself is known too badly to narrow an interval by it.
* **Doubt**: nothing that is computed from few episodes can hold for every law of returns: a jackpot that
  comes in 3 of 100 episodes is not seen in most evaluations of 20. So an interval is ``few episodes`` where
  it rests on fewer than :data:`DESIGN_DEGREES` degrees of freedom by the weights and counts alone (as if all
  tasks were equally noisy), or on fewer than :data:`NOISE_DEGREES` by the noise that was seen. Both numbers
  come from the simulations that ``docs/explanation/statistics.md`` tables: without the doubt, every law there
  is covered at least 90 times in 100.
* **Not estimable**: with fewer than :data:`LEAST_EXCEPTIONS` episodes that differ from what is usual on
  their tasks, or with fewer than 2 degrees of freedom by weights and counts, there is no interval.

All functions take leading axes of simulations, so that coverage is measured on the code that reports run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy import special

from lram.reports.statistics.streams import Array

DESIGN_DEGREES = 150.0
"""Below so many degrees of freedom, by weights and counts alone, an interval is in doubt."""

NOISE_DEGREES = 20.0
"""Below so many degrees of freedom of the noise that was seen, an interval is in doubt."""

LEAST_EXCEPTIONS = 3
"""Below so many episodes that differ from what is usual on their task, there is no interval."""

_LEAST_DEGREES = 2.0 - 1e-6  # one task of 3 episodes has exactly 2, up to rounding


@dataclass(frozen=True, slots=True)
class Moments:
    """What an interval needs to know of every task's episodes.

    Attributes:
        episodes: Number of episodes, (tasks,).
        mean: Means, (..., tasks).
        variance: Unbiased variances, 0 for one episode or where the episodes are alike; likewise shaped.
        third: Unbiased third central moments, 0 for fewer than 3 episodes.
        exceptions: Episodes apart from the value that at least half of the task's episodes share; all of them
            where no value is shared so widely, none where the episodes are alike.
    """

    episodes: npt.NDArray[np.int64]
    mean: Array
    variance: Array
    third: Array
    exceptions: npt.NDArray[np.int64]

    @classmethod
    def of(cls, tasks: Sequence[Array]) -> Moments:
        """Return the moments of ``tasks``: one array (..., episodes) each, at least one episode."""
        episodes = np.array([values.shape[-1] for values in tasks], dtype=np.int64)
        shape = (*tasks[0].shape[:-1], len(tasks))
        mean, variance, third = np.empty(shape), np.empty(shape), np.empty(shape)
        exceptions = np.empty(shape, np.int64)
        # Tasks with equally many episodes together: reports have hundreds of tasks.
        for count in np.unique(episodes):
            places = np.flatnonzero(episodes == count)
            found = _moments(np.stack([tasks[place] for place in places], axis=-2))
            mean[..., places], variance[..., places], third[..., places], exceptions[..., places] = found
        return cls(episodes, mean, variance, third, exceptions)

    def take(self, places: npt.NDArray[np.int64]) -> Moments:
        """Return the moments of the tasks at ``places``."""
        return Moments(
            self.episodes[places],
            self.mean[..., places],
            self.variance[..., places],
            self.third[..., places],
            self.exceptions[..., places],
        )

    def each(self, places: npt.NDArray[np.int64]) -> Moments:
        """Return the tasks at ``places`` as so many means of one task; they have equally many episodes."""
        return Moments(
            self.episodes[places[:1]],
            self.mean[..., places, None],
            self.variance[..., places, None],
            self.third[..., places, None],
            self.exceptions[..., places, None],
        )


@dataclass(frozen=True, slots=True)
class MeanInterval:
    """Intervals of a weighted mean, one a simulation; all of shape (...).

    Attributes:
        estimate: The weighted means.
        low, high: The ends; NaN where ``estimable`` is False.
        estimable: Whether the episodes are enough to estimate an interval.
        noisy: Whether any task shows noise; False where all episodes of every task are alike.
        few: Whether the interval rests on so few episodes that it holds for returns near a normal law only.
        borrowed: Tasks whose noise is taken from their neighbours.
        degrees: Degrees of freedom of the noise that was seen.
    """

    estimate: Array
    low: Array
    high: Array
    estimable: npt.NDArray[np.bool_]
    noisy: npt.NDArray[np.bool_]
    few: npt.NDArray[np.bool_]
    borrowed: npt.NDArray[np.int64]
    degrees: Array


def mean_interval(
    weights: Array, moments: Moments, level: float, strata: Sequence[str] | None = None
) -> MeanInterval:
    """Return the intervals of the means over tasks with ``weights`` (tasks,), which sum to 1.

    Args:
        weights: Of the tasks.
        moments: Of the tasks' episodes.
        level: Such as 0.95.
        strata: Each task's domain: where a task with one episode looks for neighbours first (None: one
            domain).
    """
    names = np.asarray(["" for _ in weights] if strata is None else strata)
    freedom = np.maximum(moments.episodes - 1, 1)
    own = np.broadcast_to(weights**2 / moments.episodes, moments.variance.shape)
    borrows = _borrows(own, moments, names)
    share = np.where(borrows, 0.0, own) + _lent(own, borrows, names)
    estimate = np.asarray((moments.mean * weights).sum(axis=-1))
    parts = share * moments.variance
    variance = np.asarray(parts.sum(axis=-1))
    noisy = variance > 0
    degrees = _welch(parts, freedom)
    # By weights and counts: the noise that was seen would choose evaluations where it happened to be small.
    single = np.broadcast_to(moments.episodes == 1, own.shape)
    by_design = _welch(np.where(single, 0.0, own) + _lent(own, single, names), freedom)
    estimable = noisy & (by_design >= _LEAST_DEGREES) & (moments.exceptions.sum(axis=-1) >= LEAST_EXCEPTIONS)
    error = np.sqrt(variance)
    third = (weights**3 * moments.third / moments.episodes**2).sum(axis=-1)
    cube = error**3  # of the smallest variances it is 0 in floating point
    skew = np.divide(third, cube, out=np.zeros_like(error), where=cube > 0)
    z = NormalDist().inv_cdf((1 + level) / 2)
    quantile = special.stdtrit(np.maximum(degrees, 1.0), (1 + level) / 2)
    move = skew * (2 * z * z + 1) / 6
    low = np.where(estimable, estimate - error * (quantile + np.maximum(-move, 0.0)), np.nan)
    high = np.where(estimable, estimate + error * (quantile + np.maximum(move, 0.0)), np.nan)
    few = (degrees < NOISE_DEGREES) | (by_design < DESIGN_DEGREES)
    return MeanInterval(estimate, low, high, estimable, noisy, few, borrows.sum(axis=-1), degrees)


def shows_noise(values: Array) -> bool:
    """Return whether ``values`` (n,) differ, by more than rounding; one value cannot."""
    return bool(_differs(values))


def _differs(values: Array) -> npt.NDArray[np.bool_]:
    return np.asarray(np.ptp(values, axis=-1) > 1e-9 * np.abs(values).max(axis=-1))


def _moments(values: Array) -> tuple[Array, Array, Array, npt.NDArray[np.int64]]:
    n = values.shape[-1]
    mean = values.mean(axis=-1)
    if n == 1:
        return mean, np.zeros_like(mean), np.zeros_like(mean), np.zeros(mean.shape, np.int64)
    apart = values - mean[..., None]
    differ = _differs(values)
    variance = np.where(differ, (apart**2).sum(axis=-1) / (n - 1), 0.0)
    third = np.zeros_like(mean)
    if n > 2:
        third = np.where(differ, (apart**3).sum(axis=-1) * (n / ((n - 1) * (n - 2))), 0.0)
    # A value that half of the episodes share stands in the middle when they are sorted.
    middle = np.partition(values, ((n - 1) // 2, n // 2), axis=-1)
    counts = [(values == middle[..., place, None]).sum(axis=-1) for place in ((n - 1) // 2, n // 2)]
    most = np.maximum(*counts)
    usual = (most > 1) & (2 * most >= n)
    return mean, variance, third, np.where(differ, np.where(usual, n - most, n), 0)


def _borrows(own: Array, moments: Moments, names: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    """Return which tasks take their noise from neighbours, (..., tasks).

    ``own`` is what each task's variance counts for, (..., tasks).
    """
    single = np.broadcast_to(moments.episodes == 1, own.shape)
    alike = ~single & (moments.variance == 0)
    if not alike.any():
        return single
    known = np.where(single, 0.0, own * moments.variance).sum(axis=-1, keepdims=True)
    # What the variance would be if its neighbours' were its own; neighbours that are alike count with 0.
    would = np.zeros_like(own)
    everywhere = _mean_where(moments.variance, ~single)
    for name in np.unique(names):
        inside = names == name
        others = ~single & ~alike & inside
        pooled = np.where(
            others.any(axis=-1, keepdims=True), _mean_where(moments.variance, ~single & inside), everywhere
        )
        would = np.where(inside, own * pooled, would)
    return np.asarray(single | (alike & (would > known)))


def _mean_where(values: Array, chosen: npt.NDArray[np.bool_]) -> Array:
    count = np.maximum(chosen.sum(axis=-1, keepdims=True), 1)
    return np.asarray(np.where(chosen, values, 0.0).sum(axis=-1, keepdims=True) / count)


def _lent(own: Array, borrows: npt.NDArray[np.bool_], names: npt.NDArray[np.str_]) -> Array:
    """Return by how much each task's variance counts for those that borrow, (..., tasks)."""
    lent = np.zeros_like(own)
    if not borrows.any():
        return lent
    for name in np.unique(names):
        inside = names == name
        wanted = np.where(borrows & inside, own, 0.0).sum(axis=-1, keepdims=True)
        lenders = np.where((~borrows & inside).any(axis=-1, keepdims=True), ~borrows & inside, ~borrows)
        lent += lenders * (wanted / np.maximum(lenders.sum(axis=-1, keepdims=True), 1))
    return lent


def _welch(parts: Array, freedom: npt.NDArray[np.int64]) -> Array:
    """Return the degrees of freedom of the sum of ``parts`` (..., tasks); 0 where all are 0."""
    total = parts.sum(axis=-1)
    # Relative to the sum: squares of tiny variances would vanish.
    relative = np.divide(parts, total[..., None], out=np.zeros_like(parts), where=total[..., None] > 0)
    spread = (relative**2 / freedom).sum(axis=-1)
    return np.asarray(np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0))
