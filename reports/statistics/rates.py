"""Intervals of rates: Wilson (1927) score intervals."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np


def wilson_interval(successes: int, trials: int, level: float) -> tuple[float, float]:
    """Return Wilson's score interval for a rate of ``successes`` in ``trials`` >= 1."""
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes in {trials} trials is no rate")
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate, square = successes / trials, z * z
    centre = (rate + square / (2 * trials)) / (1 + square / trials)
    half = z / (1 + square / trials) * np.sqrt(rate * (1 - rate) / trials + square / (4 * trials**2))
    # At the ends the exact bound is 0 or 1; rounding must not step over it.
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == trials else float(centre + half)
    return low, high
