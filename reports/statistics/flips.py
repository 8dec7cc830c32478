"""What random sign patterns make of a studentised mean of paired differences, as polynomials.

The differences d of task t, less a hypothetical mean θ, have their signs flipped. With u = D - θ, D the
weighted mean of all differences, and r = d - D, a flipped value is s (r + u): the flipped mean is linear in u
and its estimated variance quadratic. Their coefficients are computed once for each pattern, after which a
p-value at any θ costs a few operations a pattern; that is what makes an interval by inversion cheap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lram.reports.statistics.streams import Array

_ROUNDING = 1e-12
_HALVINGS = 30  # of the distance between a mean that is kept and one that is not


@dataclass(frozen=True, slots=True)
class Flips:
    """The patterns of one data set, or of several that are flipped alike.

    Attributes:
        mean0, mean1: The flipped mean is mean0 + u mean1; (sets, patterns) and (patterns,).
        variance: Coefficients of 1, u and u² of its estimated variance, each (sets, patterns).
        observed: Likewise of the data as they are, each (sets,).
        squares: Likewise of the sum of squares that a variance is the rest of, each (sets,); it scales the
            rounding.
        exact: Whether the patterns are all there are; otherwise they are drawn, and the observed one counts
            beside them.
    """

    mean0: Array
    mean1: Array
    variance: tuple[Array, Array, Array]
    observed: tuple[Array, Array, Array]
    squares: tuple[Array, Array, Array]
    exact: bool

    def p(self, u: Array) -> Array:
        """Return the two-sided p-value of each data set at its ``u`` (sets,).

        A statistic is as extreme as the observed one where mean² / variance is; both sides are multiplied
        out, so that a variance of 0 needs no case of its own but that of data without any: there the means
        alone decide. Ties that rounding may hide count.
        """
        at = u[:, None]
        mean = self.mean0 + at * self.mean1
        rounding = _ROUNDING * (_at(self.squares, np.abs(u)))
        variance = _at(self.variance, at) - rounding[:, None]
        own = np.maximum(_at(self.observed, u), 0.0)
        extreme = mean**2 * (own + rounding)[:, None] >= (1 - 1e-9) * at**2 * np.maximum(variance, 0.0)
        bare = own <= 2 * rounding
        if bare.any():
            extreme &= ~bare[:, None] | (np.abs(mean) >= (1 - 1e-9) * np.abs(at))
        counted = extreme.sum(axis=1)
        share = counted / extreme.shape[1] if self.exact else (counted + 1) / (extreme.shape[1] + 1)
        return np.asarray(np.where(u == 0, 1.0, share), dtype=np.float64)

    def reach(self, start: Array, alpha: float) -> Array:
        """Return for each data set the farthest ``u``, in the direction of ``start`` (sets,), not rejected.

        It agrees with the test at ``start``: it lies beyond where p >= ``alpha`` there, and before otherwise.
        A data set that rejects nothing within reach has infinity.
        """
        kept = self.p(start) >= alpha
        inside, outside = np.where(kept, start, 0.0), start.copy()
        growing = kept.copy()
        for _ in range(60):
            if not growing.any():
                break
            outside = np.where(growing, 2 * outside, outside)
            still = growing & (self.p(outside) >= alpha)
            inside = np.where(still, outside, inside)
            growing = still
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            kept = self.p(middle) >= alpha
            inside, outside = np.where(kept, middle, inside), np.where(kept, outside, middle)
        return np.where(growing, np.copysign(np.inf, start), inside)


def _at(coefficients: tuple[Array, Array, Array], u: Array) -> Array:
    constant, linear, square = coefficients
    return np.asarray(constant + u * (linear + u * square))


def flip(residuals: Sequence[Array], weights: Array, patterns: int, generator: np.random.Generator) -> Flips:
    """Return the patterns of data sets.

    A task with several pairs has the variance of their mean; a task with one pair, which shows none, enters
    by its square about θ, as in a sign-flip test that is not studentised.

    Args:
        residuals: By task, the differences less the data set's weighted mean, each (sets, pairs).
        weights: By task.
        patterns: All are tried where there are no more than this, otherwise so many are drawn.
        generator: Draws them.
    """
    sets = len(residuals[0])
    mean0: Array | float = 0.0
    mean1: Array | float = 0.0
    flipped: list[Array | float] = [0.0, 0.0, 0.0]
    squares, own = np.zeros((3, sets)), np.zeros((3, sets))
    signs = _Signs(sum(values.shape[1] for values in residuals), patterns, generator)
    for places in _blocks([values.shape[1] for values in residuals], max(sets, 1) * signs.patterns):
        values, weight = np.stack([residuals[place] for place in places]), weights[places]
        n = values.shape[2]
        pattern = signs.next(len(places), n)
        of_residuals = np.matmul(pattern, values.transpose(0, 2, 1)) / n  # (tasks, patterns, sets)
        of_shift = pattern.sum(axis=2) / n  # (tasks, patterns)
        mean0, mean1 = mean0 + np.tensordot(weight, of_residuals, 1).T, mean1 + weight @ of_shift
        scale = weight**2 / (n * (n - 1)) if n > 1 else weight**2
        whole = np.stack([(values**2).sum(axis=2), 2 * values.sum(axis=2), np.full((len(places), sets), n)])
        whole = np.tensordot(whole, scale, (1, 0))
        squares += whole
        if n == 1:
            own += whole
            continue
        own[0] += scale @ ((values - values.mean(axis=2, keepdims=True)) ** 2).sum(axis=2)
        flipped[0] = flipped[0] + np.tensordot(scale * n, of_residuals**2, 1).T
        flipped[1] = flipped[1] + 2 * np.tensordot(scale * n, of_residuals * of_shift[:, :, None], 1).T
        flipped[2] = flipped[2] + (scale * n) @ of_shift**2
    zero, one, two = (squares[power][:, None] - flipped[power] for power in range(3))
    return Flips(
        np.asarray(mean0),
        np.asarray(mean1),
        (np.asarray(zero), np.asarray(one), np.asarray(two)),
        (own[0], own[1], own[2]),
        (squares[0], np.abs(squares[1]), squares[2]),
        signs.exact,
    )


_CELLS = 2_000_000  # of a block: 16 MB


def _blocks(counts: Sequence[int], cells: int) -> Iterator[list[int]]:
    """Yield places of tasks with equally many pairs, few enough to be flipped together."""
    by_count: dict[int, list[int]] = {}
    for place, n in enumerate(counts):
        by_count.setdefault(n, []).append(place)
    for n, places in by_count.items():
        size = max(1, _CELLS // (cells * n))
        yield from (places[start : start + size] for start in range(0, len(places), size))


class _Signs:
    """Sign patterns, given out task by task."""

    def __init__(self, pairs: int, patterns: int, generator: np.random.Generator) -> None:
        self.exact = 2 ** min(pairs, 40) <= patterns
        self.patterns = 2**pairs if self.exact else patterns
        self._given = 0
        self._generator = generator

    def next(self, tasks: int, pairs: int) -> Array:
        """Return the signs of the next tasks, (tasks, patterns, pairs), each 1 or -1."""
        cells = tasks * self.patterns * pairs
        if self.exact:
            places = self._given + np.arange(tasks * pairs).reshape(tasks, 1, pairs)
            self._given += tasks * pairs
            bits = (np.arange(self.patterns)[:, None] >> places) & 1
        else:
            drawn = np.frombuffer(self._generator.bytes(-(-cells // 8)), dtype=np.uint8)
            bits = np.unpackbits(drawn)[:cells].reshape(tasks, self.patterns, pairs)
        return np.asarray(1.0 - 2.0 * bits, dtype=np.float64)
