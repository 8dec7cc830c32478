"""Tests of paired differences: sign flips (Fisher 1935), and Holm's correction (1979) for several tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from lram.reports.statistics.streams import Array

_CHUNK = 4_000_000  # cells of a sign-flip block: 32 MB


def sign_flip_p(
    differences: Sequence[Array], weights: Array, resamples: int, generator: np.random.Generator
) -> float:
    """Return the two-sided p-value of a weighted mean of paired differences.

    If the two agents were equally good at every task, each paired difference could as well have had
    the other sign. The statistic is the weighted sum of the tasks' mean differences. All sign
    patterns are tried where there are no more than ``resamples``, otherwise ``resamples`` random
    ones, counting the observed one: p is never 0.

    Args:
        differences: Per task, the differences of its episode pairs, each (n,).
        weights: Per task, its weight in the aggregate.
        resamples: Number of random sign patterns.
        generator: Draws them.
    """
    terms = np.concatenate([w * d / len(d) for w, d in zip(weights, differences, strict=True)])
    observed = abs(terms.sum())
    # Patterns that tie with the observed one must not be lost to rounding.
    bar = observed - 1e-9 * max(observed, float(np.abs(terms).sum()))
    if 2 ** min(len(terms), 40) <= resamples:
        patterns = np.array(list(product((1.0, -1.0), repeat=len(terms))))
        return float(np.mean(np.abs(patterns @ terms) >= bar))
    extreme, block = 0, max(1, _CHUNK // len(terms))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        signs = generator.integers(0, 2, size=(rows, len(terms)), dtype=np.int8).astype(np.float64)
        signs *= 2.0
        signs -= 1.0
        extreme += int(np.count_nonzero(np.abs(signs @ terms) >= bar))
    return (extreme + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the given order."""
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = worst
    return adjusted
