"""Tests and intervals of paired differences: studentised sign flips, and Holm's correction for several tests.

* **Test** (Fisher 1935, studentised after Janssen 1997): the statistic is the weighted mean of the tasks'
  mean differences over its estimated standard error, sqrt(sum of w² s² / n). If swapping the two agents in
  any pair changes nothing, every pattern of signs is as probable as the observed one, and p is exact, however
  few pairs there are. Since each pattern has its own standard error, p also holds, the better the more pairs
  there are, where the means are equal and nothing else is: with tasks that differ by chance, in spread or in
  their mean differences. For one task the studentised and the plain test are the same.
* **Interval**: the means θ that the same test does not reject, with the same patterns, when θ is taken from
  each difference. So it leaves out 0 exactly where p is below 1 - level.
* **Limits**: n pairs give no p below 2 / 2^n (:func:`fewest_pairs`). And no test sees outcomes that did not
  occur: :mod:`lram.reports.statistics.unseen`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lram.reports.statistics.flips import flip
from lram.reports.statistics.streams import Array


class SignFlips:
    """The studentised sign-flip test of one weighted mean of paired differences.

    Attributes:
        estimate: The weighted mean of the tasks' mean differences.
        pairs: Their number, over all tasks.
        variance: Estimated, of the estimate: of the tasks with several pairs.
        noisy: Whether any task's differences differ, or some task has a single pair.
    """

    def __init__(
        self, differences: Sequence[Array], weights: Array, patterns: int, generator: np.random.Generator
    ) -> None:
        """Flip the signs.

        Args:
            differences: By task, the differences of its pairs, each (pairs,).
            weights: By task, its weight in the mean; they sum to 1.
            patterns: Sign patterns to draw; where there are no more than this, all are tried.
            generator: Draws them.
        """
        means = np.array([values.mean() for values in differences])
        scale = max(float(np.abs(values).max()) for values in differences)
        estimate = float((weights * means).sum())
        self.estimate = estimate if abs(estimate) > 1e-12 * scale else 0.0  # rounding is no difference
        self.pairs = sum(map(len, differences))
        self.variance = float(
            sum(
                weight**2 * values.var(ddof=1) / len(values)
                for weight, values in zip(weights, differences, strict=True)
                if len(values) > 1
            )
        )
        self.noisy = self.variance > (1e-9 * scale) ** 2 or any(len(values) == 1 for values in differences)
        residuals = [np.atleast_2d(values - self.estimate) for values in differences]
        self._flips = flip(residuals, weights, patterns, generator)

    def p(self, theta: float = 0.0) -> float:
        """Return the two-sided p-value of the hypothesis that the mean is ``theta``; 1 at the estimate."""
        u = self.estimate - theta
        return float(self._flips.p(np.array([0.0 if abs(u) <= 1e-12 * abs(self.estimate) else u]))[0])

    def interval(self, level: float) -> tuple[float, float] | None:
        """Return the means that the test does not reject; None where, in some direction, it could reject
        none.
                Without any noise (``noisy``) it has next to no width.
        """
        if self.pairs < fewest_pairs(level):
            return None
        ends = []
        step = 2 * np.sqrt(self.variance) or abs(self.estimate) or 1.0
        for sign in (1.0, -1.0):
            start = self.estimate if sign * self.estimate > 0 else sign * step
            ends.append(self.estimate - float(self._flips.reach(np.array([start]), 1 - level)[0]))
        low, high = ends
        return (low, high) if np.isfinite(low) and np.isfinite(high) else None


def fewest_pairs(level: float) -> int:
    """Return the least number of pairs with which p can be below 1 - ``level`` at all: 6 for 0.95."""
    pairs = 1
    while 2.0 ** (1 - pairs) >= (1 - level) * (1 + 1e-9):
        pairs += 1
    return pairs


def enough_patterns(tests: int, level: float, drawn: int) -> int:
    """Return how many sign patterns leave the least p of one of ``tests`` tests below 1 - ``level`` after
    Holm's correction; no fewer than ``drawn``.
    """
    return max(drawn, math.ceil(2 * tests / (1 - level)))


def finer_p(
    p: float,
    differences: Sequence[Array],
    weights: Array,
    patterns: tuple[int, int],
    generator: np.random.Generator,
) -> float:
    """Return ``p``, told from 0 by more patterns where those that were drawn could not tell it.

    Args:
        p: As ``patterns[0]`` patterns gave it.
        differences, weights: As of :class:`SignFlips`.
        patterns: How many gave ``p``, and how many to draw where it is the least that they can give.
        generator: Draws them.
    """
    drawn, wanted = patterns
    if wanted <= drawn or p > 1.5 / (drawn + 1):
        return p
    return SignFlips(differences, weights, wanted, generator).p()


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's (1979) step-down adjusted p-values, in the given order."""
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = worst
    return adjusted
