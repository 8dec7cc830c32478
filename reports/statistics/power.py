"""What a sign-flip test of paired differences can show: the least difference, and the episodes that it takes.

Both answers are estimates from the noise that was seen, and calibrated as such: averaged over the data sets
on which they could have been made, the difference that is named is shown with the promised power. So the
uncertainty of the estimated standard error is in them, and the test is the one that is used: where it has few
degrees of freedom it is simulated on normal differences, with the tasks' weights, numbers of pairs and
spreads; elsewhere the t distribution stands for it. Spreads are estimated from few pairs, so each is drawn
towards that of all tasks for that (not in the standard error itself). Differences that are far from normal
have another power."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from lram.reports.statistics.flips import flip
from lram.reports.statistics.paired import fewest_pairs
from lram.reports.statistics.streams import Array

POWER = 0.8
"""How probable it shall be that a true difference is shown."""

_SETS, _PATTERNS, _EXACT = 400, 400, 1024
_DRAWN = 1000  # data sets where none is flipped
_DEGREES = 30  # of freedom, from which the t distribution stands for the flips
_PRIOR = 4.0  # pairs' worth of the pooled spread in a task's own
_MOST = 10_000_000  # episodes a task that are worth naming


@dataclass(frozen=True, slots=True)
class Reach:
    """What can be shown.

    Attributes:
        detectable: The least true difference that as many pairs show with probability ``POWER``.
        needed: Pairs a task that would show a true difference of the observed size as often; None where it is
            0, or more than ten million would be needed.
    """

    detectable: float
    needed: int | None


def reach(
    differences: Sequence[Array], weights: Array, level: float, generator: np.random.Generator
) -> Reach | None:
    """Return what the test of ``differences`` can show; None where it can show nothing, or no noise was seen.

    No noise was seen where tasks whose pairs all differ alike have more than half of the weight.

    Args:
        differences: By task, the differences of its pairs, each (pairs,).
        weights: By task; they sum to 1.
        level: A difference is shown where p is below 1 - ``level``.
        generator: Draws what is simulated.
    """
    counts = np.array([len(values) for values in differences])
    if counts.sum() < fewest_pairs(level):
        return None
    spread = _variances(differences, weights)
    if spread is None:
        return None
    design = _Design(weights, spread.shrunk, level, int(generator.integers(2**63)))
    error = math.sqrt(float((weights**2 * spread.own / counts).sum()))
    # In units of the true standard error: what is estimated for it, and the lower ends of intervals around 0.
    unit = design.error(counts)
    estimated = design.estimates(counts) / unit
    ratios = np.maximum(-design.lower_ends(counts), 0.0)[:, None] / (unit * estimated[None, :])
    detectable = float(np.quantile(ratios, POWER)) * error
    size = abs(float(sum(w * d.mean() for w, d in zip(weights, differences, strict=True))))
    if size <= 1e-12 * error or not math.isfinite(detectable):
        return Reach(detectable, None) if math.isfinite(detectable) else None
    true_sizes = size / error * unit * estimated

    def shows(pairs: int) -> bool:
        ends = np.sort(-design.lower_ends(np.full(len(counts), pairs)))
        return float(np.searchsorted(ends, true_sizes).mean()) >= POWER * len(ends)

    return Reach(detectable, _least(shows, -(-fewest_pairs(level) // len(counts))))


def _least(shows: Callable[[int], bool], start: int) -> int | None:
    """Return the least number of at least ``start`` for which ``shows`` holds; None beyond ``_MOST``."""
    low, high = start - 1, start
    while not shows(high):
        low, high = high, 2 * high
        if high > _MOST:
            return None
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high


@dataclass(frozen=True, slots=True)
class _Variances:
    """Of a pair of each task: as estimated, and drawn towards those of all tasks."""

    own: Array
    shrunk: Array


def _variances(differences: Sequence[Array], weights: Array) -> _Variances | None:
    counts = np.array([len(values) for values in differences])
    several = counts > 1
    if not several.any():
        # Single pairs: the test's own noise, of which differences between tasks are a part.
        values = np.concatenate(differences)
        pooled = float(np.var(values, ddof=1))
        if pooled <= (1e-9 * float(np.abs(values).max())) ** 2:
            return None
        return _Variances(np.full(len(values), pooled), np.full(len(values), pooled))
    own = np.array([values.var(ddof=1) if len(values) > 1 else np.nan for values in differences])
    scale = np.array([np.abs(values).max() for values in differences])
    silent = several & ~(own > (1e-9 * scale) ** 2)
    if weights[silent].sum() > 0.5 * weights[several].sum():
        return None
    freedom = counts[several] - 1
    pooled = float((freedom * own[several]).sum() / freedom.sum())
    own = np.where(several, own, pooled)
    shrunk = np.where(several, (_PRIOR * pooled + (counts - 1) * own) / (_PRIOR + counts - 1), pooled)
    return _Variances(own, shrunk)


class _Design:
    """Data sets of normal differences around 0, with the tasks' weights and variances."""

    def __init__(self, weights: Array, variances: Array, level: float, seed: int) -> None:
        self._weights, self._variances, self._alpha, self._seed = weights, variances, 1 - level, seed

    def error(self, counts: Array) -> float:
        """Return the standard error with ``counts`` pairs of each task."""
        return math.sqrt(float((self._weights**2 * self._variances / counts).sum()))

    def estimates(self, counts: Array) -> Array:
        """Return standard errors as data sets would estimate them, (sets,)."""
        return np.asarray(np.sqrt(self._parts(counts, np.random.default_rng(self._seed)).sum(axis=1)))

    def lower_ends(self, counts: Array) -> Array:
        """Return the lower ends of the intervals of data sets, (sets,)."""
        generator = np.random.default_rng(self._seed + 1)
        terms = self._weights**2 * self._variances / counts
        freedom = np.where(counts > 1, counts - 1, len(counts) - 1 if (counts == 1).all() else 1)
        if terms.sum() ** 2 / (terms**2 / np.maximum(freedom, 1)).sum() >= _DEGREES:
            estimated = self._parts(counts, generator)
            degrees = estimated.sum(axis=1) ** 2 / (estimated**2 / np.maximum(freedom, 1)).sum(axis=1)
            # Evenly spaced, so that which number of pairs suffices is not decided by the draw.
            means = special.ndtri((np.arange(_DRAWN) + 0.5) / _DRAWN) * math.sqrt(terms.sum())
            factor = special.stdtrit(degrees, 1 - self._alpha / 2)
            return np.asarray(means - factor * np.sqrt(estimated.sum(axis=1)))
        drawn = [
            math.sqrt(variance) * generator.normal(size=(_SETS, int(n)))
            for variance, n in zip(self._variances, counts, strict=True)
        ]
        means = sum(w * values.mean(axis=1) for w, values in zip(self._weights, drawn, strict=True))
        residuals = [values - np.asarray(means)[:, None] for values in drawn]
        many = max(_PATTERNS, math.ceil(4 / self._alpha))
        patterns = max(many, _EXACT) if 2 ** min(int(counts.sum()), 40) <= _EXACT else many
        flips = flip(residuals, self._weights, patterns, generator)
        start = np.full(_SETS, 2 * math.sqrt(terms.sum()))
        return np.asarray(means - flips.reach(start, self._alpha))

    def _parts(self, counts: Array, generator: np.random.Generator) -> Array:
        """Return estimated variances of the tasks' weighted means, (sets, tasks)."""
        terms = self._weights**2 * self._variances / counts
        if (counts == 1).all():
            degrees = max(len(counts) - 1, 1)
            return np.asarray(terms * generator.chisquare(degrees, size=(_DRAWN, 1)) / degrees)
        drawn = generator.chisquare(np.maximum(counts - 1, 1), size=(_DRAWN, len(counts)))
        return np.asarray(terms * np.where(counts > 1, drawn / np.maximum(counts - 1, 1), 1.0))
