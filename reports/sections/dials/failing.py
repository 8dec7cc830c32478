"""From which value of a dial on an agent fails, and how surely that is known.

The point is F, the smallest value measured at which the mean score is below :data:`HALF`. What is known of
it is an interval [L, U] of measured values. With a the chance of error (0.05 for an interval of 95%):

* **L** is the smallest value that is not shown to be held: it cannot be shown at a / 2 that its mean is above
  :data:`HALF`. L is above F only where that is shown, wrongly, of F itself, so no correction is needed for
  how many values there are.
* **U** is the smallest value that is shown to fail, at a / (2 (k - 1)) for k values. U is below F only where
  that is shown, wrongly, of one of the values before F, of which there are k - 1 at most.

So [L, U] holds F with a probability of at least 1 - a, by the union bound, however the scores go up and down
between the values, if each single test keeps its error. For returns of known range it does so exactly, for
every law on that range and any number of episodes: the test bets (Waudby-Smith and Ramdas 2024, "Estimating
means of bounded random variables by betting", JRSS B 86). A gambler who stakes a share f of his capital on
each episode, at odds that are fair where the mean is m, holds

    K = mean over f of  prod over episodes (1 - f + f x / m),    x and m as shares of the range,

which is 1 in expectation where the mean is m and less where it is below, so by Markov's inequality it reaches
1 / error with a probability of ``error`` at most. The shares f are a grid, so nothing depends on the order of
the episodes. Where the domain does not tell the range of returns, Student's bound takes the test's place
(:mod:`lram.reports.statistics.means`), and what it is worth for few episodes stands there.

Percentiles of F over resampled episodes are no such interval: in simulations of 30 episodes a value they held
F 63 to 79 times in 100 where four values lie at 0.52, and 26 to 37 times where six lie at 0.51.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lram.envs.returns import Range
from lram.reports.statistics import Array, Moments, mean_interval, shows_noise

HALF = 0.5
"""Of the way from chance (0) to the best (1): below it an agent is said to fail."""

_SHARES = np.arange(1, 20) / 20


@dataclass(frozen=True, slots=True)
class FailingPoint:
    """Where an agent fails.

    Attributes:
        at: The smallest value at which the mean is below :data:`HALF`; None where it is at none measured.
        low: The smallest value that is not shown to be held; None where all are.
        high: The smallest value that is shown to fail; None where none is.
        held: The value measured before ``at`` (the largest where ``at`` is None); None where there is none.
        again: The smallest value above ``at`` at which the mean is not below :data:`HALF`; None where there
            is none.
    """

    at: int | None
    low: int | None
    high: int | None
    held: int | None
    again: int | None


def failing_point(
    dials: Sequence[int], scores: Sequence[Array], ranges: Sequence[Range], level: float
) -> FailingPoint:
    """Return where an agent fails.

    Args:
        dials: The values measured, ascending; at least one.
        scores: Normalised scores of the episodes at each.
        ranges: Of one episode's score at each.
        level: Of the interval, such as 0.95.
    """
    count, error = len(dials), (1 - level) / 2
    means = [float(values.mean()) for values in scores]
    place = next((i for i, mean in enumerate(means) if mean < HALF), count)
    both = list(zip(dials, scores, ranges, strict=True))
    return FailingPoint(
        at=dials[place] if place < count else None,
        low=next((d for d, values, bounds in both if not is_above(values, HALF, bounds, error)), None),
        high=next(
            (
                d
                for d, values, bounds in both
                if is_above(-values, -HALF, (-bounds[1], -bounds[0]), error / max(count - 1, 1))
            ),
            None,
        ),
        held=dials[place - 1] if place else None,
        again=next((dials[i] for i in range(place + 1, count) if means[i] >= HALF), None),
    )


def is_above(values: Array, bar: float, bounds: Range, error: float) -> bool:
    """Return whether ``values`` (n,) in ``bounds`` show at ``error`` that the true mean is above ``bar``."""
    low, high = bounds
    if not math.isfinite(high - low):
        return _by_student(values, bar, error)
    if not low < bar < high:
        return bar <= low
    odds = np.clip((values - low) / (bar - low), 0.0, None)
    logs = np.log1p(_SHARES[:, None] * (odds - 1.0)).sum(axis=1)
    capital = float(np.logaddexp.reduce(logs)) - math.log(len(_SHARES))
    return capital >= -math.log(error)


def _by_student(values: Array, bar: float, error: float) -> bool:
    if not shows_noise(values):
        return False
    found = mean_interval(np.ones(1), Moments.of([values]), 1 - 2 * error)
    return bool(found.estimable) and float(found.low) > bar
