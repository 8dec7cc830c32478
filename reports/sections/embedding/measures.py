"""How well hidden states tell kinds apart: measures over other trajectories, and their intervals.

States of one trajectory are much alike, whatever a model knows of domains or tasks. So a state is only
ever compared with states of other trajectories, and intervals are over trajectories, not over states: the
delete-one jackknife, stratified by task (Efron and Stein 1981, Annals of Statistics 9(3)), which also sees
that the others are neighbours. ``tests/benchmarks/statistics/embeddings.py`` simulates what they cover.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special  # whose functions scipy.stats calls; to import that takes a second

from lram.reports.model import ALL_EQUAL

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LEVEL = 0.95
FEWEST = 4
"""Trajectories of each task that an interval takes: of fewer, too few intervals hold the truth."""
_NO_NOISE = 1e-12  # what rounding leaves of a deviation of 0; the values are between -1 and 1
FEW_TRAJECTORIES = f"fewer than {FEWEST} trajectories of a task"


@dataclass(frozen=True, slots=True)
class MeasuredSeparation:
    """A mean over trajectories of the means of their states, and its interval.

    Attributes:
        value: None where it is not defined for any trajectory.
        low, high: None where there is no interval.
        note: Why not: :data:`FEW_TRAJECTORIES`, or ``all equal`` where no trajectory changes the value when
            it is taken away, so that no noise was seen. Empty where there is an interval or no value.
    """

    value: float | None
    low: float | None
    high: float | None
    note: str = ""


class Distances:
    """Euclidean distances of n states to the states of E trajectories.

    Args:
        states: (n, width).
        trajectory: Of each state, 0 .. E - 1, each of which has one or more: (n,).
    """

    def __init__(self, states: npt.NDArray[np.float32], trajectory: Integers) -> None:
        count = int(trajectory.max()) + 1
        self.trajectory = trajectory
        self.own = np.eye(count, dtype=bool)[trajectory]  # (n, E)
        self.sizes = self.own.sum(axis=0)
        order = np.argsort(trajectory, kind="stable")
        firsts = np.searchsorted(trajectory[order], np.arange(count))
        x = states.astype(np.float64)
        x -= x.mean(axis=0)  # for the digits of the differences
        squares = (x * x).sum(axis=1)
        self.mean = np.empty((len(x), count))
        self.least = np.empty((len(x), count))
        for first in range(0, len(x), 512):
            rows = slice(first, first + 512)
            square = squares[rows, None] + squares - 2 * x[rows] @ x.T
            distance = np.sqrt(np.maximum(square, 0))[:, order]
            self.mean[rows] = np.add.reduceat(distance, firsts, axis=1) / self.sizes
            self.least[rows] = np.minimum.reduceat(distance, firsts, axis=1)

    def neighbours(self, kinds: Integers, there: npt.NDArray[np.bool_]) -> Array:
        """Return whether the nearest state of another trajectory is of the same kind: (n,), 0 or 1.

        Args:
            kinds: Of each trajectory: (E,).
            there: Trajectories that are looked at: (E,).
        """
        least = np.where(self.own | ~there, np.inf, self.least)
        same: Array = (kinds[least.argmin(axis=1)] == kinds[self.trajectory]).astype(float)
        return same

    def silhouettes(self, kinds: Integers, there: npt.NDArray[np.bool_]) -> Array:
        """Return (b - a) / max(a, b) of each state (Rousseeuw 1987): (n,); NaN without kin or others.

        a is its mean distance to the states of its kind in other trajectories, b the least mean distance to
        those of another kind.
        """
        weights = np.where(self.own | ~there, 0, self.sizes)
        members = np.eye(int(kinds.max()) + 1)[kinds]  # (E, kinds)
        total, count = (self.mean * weights) @ members, weights @ members
        mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        rows, mine = np.arange(len(mean)), kinds[self.trajectory]
        inside = mean[rows, mine]
        mean[rows, mine] = np.nan
        outside = np.where(np.isnan(mean), np.inf, mean).min(axis=1)
        outside[np.isinf(outside)] = np.nan
        most = np.maximum(inside, outside)
        found: Array = np.divide(outside - inside, most, out=np.zeros_like(most), where=most != 0)
        return found


def measure(distances: Distances, name: str, kinds: Integers, strata: Integers) -> MeasuredSeparation:
    """Return a measure with its interval.

    Args:
        distances: Of the states.
        name: ``neighbours`` or ``silhouettes``, a method of them.
        kinds: Domain or task of each trajectory, 0 .. : (E,).
        strata: Task of each trajectory: (E,).
    """
    of = getattr(distances, name)
    everything = np.ones(len(kinds), bool)

    def mean(there: npt.NDArray[np.bool_]) -> float:
        values = of(kinds, there)
        known = ~np.isnan(values) & there[distances.trajectory]
        sums = np.bincount(distances.trajectory[known], values[known], len(kinds))
        counts = np.bincount(distances.trajectory[known], minlength=len(kinds))
        return float((sums[counts > 0] / counts[counts > 0]).mean()) if known.any() else np.nan

    value = mean(everything)
    if np.isnan(value):
        return MeasuredSeparation(None, None, None)
    sizes = np.bincount(strata)
    if sizes[sizes > 0].min() < FEWEST:
        return MeasuredSeparation(value, None, None, FEW_TRAJECTORIES)
    without = np.empty(len(kinds))
    for one in range(len(kinds)):
        there = everything.copy()
        there[one] = False
        without[one] = mean(there)
    means = np.bincount(strata, without, len(sizes)) / np.maximum(sizes, 1)
    squares = np.bincount(strata, (without - means[strata]) ** 2, len(sizes))
    used = sizes > 0
    deviation = float(np.sqrt((squares[used] * (sizes[used] - 1) / sizes[used]).sum()))
    if deviation < _NO_NOISE:
        return MeasuredSeparation(value, None, None, ALL_EQUAL)
    half = float(special.stdtrit(len(kinds) - used.sum(), 0.5 + LEVEL / 2)) * deviation
    least = 0.0 if name == "neighbours" else -1.0
    return MeasuredSeparation(value, max(value - half, least), min(value + half, 1.0))


def chance(distances: Distances, kinds: Integers) -> float:
    """Return how often a state of another trajectory, drawn at random, is of the same kind."""
    weights = np.where(self_free(distances), distances.sizes, 0)
    same = kinds == kinds[distances.trajectory][:, None]  # (n, E)
    shares = (weights * same).sum(axis=1) / weights.sum(axis=1)
    counts = np.bincount(distances.trajectory)
    return float((np.bincount(distances.trajectory, shares) / counts).mean())


def self_free(distances: Distances) -> npt.NDArray[np.bool_]:
    """Return which trajectories are others, for each state: (n, E)."""
    free: npt.NDArray[np.bool_] = ~distances.own
    return free
