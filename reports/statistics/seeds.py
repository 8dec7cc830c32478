"""Values of trainings that differ in their seed alone: a t interval over them, and a t-test of their mean."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from lram.reports.statistics.power import POWER
from lram.reports.statistics.streams import Array

MOST_SEEDS = 200
"""Training seeds beyond which no number of them is guessed."""
LEAST_SEEDS = 3
"""Training seeds below which no verdict is given: their spread is that of one pair of numbers."""


def over_seeds(values: Array, level: float) -> tuple[tuple[float, float] | None, float | None]:
    """Return the t interval of the mean of (n,) values, and the p of a mean of 0, as far as n allows."""
    n = len(values)
    if n < 2 or np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return None, None
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n)
    reach = float(special.stdtrit(n - 1, (1 + level) / 2)) * error
    p = float(2 * special.stdtr(n - 1, -abs(mean) / error))
    return (mean - reach, mean + reach), p if n >= LEAST_SEEDS else None


def untested(seeds: int) -> str:
    """Return why so many seeds were not tested."""
    if seeds < LEAST_SEEDS:
        return f"{seeds} seed{'s' if seeds > 1 else ''}"
    return "seeds do not differ"


def seeds_needed(values: Array, alpha: float) -> int | None:
    """Return the seeds with which a t-test at ``alpha`` would show the observed effect ``POWER`` often.

    Args:
        values: The seeds' differences (n,), n >= 2: their mean and standard deviation are taken for true.
        alpha: Of the two-sided test.

    Returns:
        At least one more than there are; None beyond ``MOST_SEEDS``.
    """
    from scipy import stats  # takes a second to import

    spread = float(np.std(values, ddof=1))
    size = abs(float(np.mean(values))) / spread if spread else 0.0
    if not size:
        return None
    n = np.arange(len(values) + 1, MOST_SEEDS + 1)
    bar = special.stdtrit(n - 1, 1 - alpha / 2)
    shift = size * np.sqrt(n)
    enough = stats.nct.sf(bar, n - 1, shift) + stats.nct.cdf(-bar, n - 1, shift) >= POWER
    return int(n[enough.argmax()]) if enough.any() else None
