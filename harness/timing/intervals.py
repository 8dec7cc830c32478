"""A median with its interval, without an assumption on the distribution."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MedianInterval:
    """A median of rounds, between two of them.

    Attributes:
        median: The median.
        low, high: An interval for it by order statistics.
        coverage: How often such an interval holds the median of what the rounds are drawn from; 0.95 or
            more from 6 rounds on.
    """

    median: float
    low: float
    high: float
    coverage: float


def median_interval(values: Sequence[float], coverage: float = 0.95) -> MedianInterval:
    """Return the median, and the narrowest pair of order statistics that covers it so often.

    For n independent values the k-th smallest and the k-th largest hold the median with probability
    1 - 2 P(Binomial(n, 1/2) < k), whatever the distribution (David and Nagaraja 2003, section 7.1).
    Too few values for ``coverage`` give their whole range, and what it covers.
    """
    ordered = sorted(values)
    n, rank, tail = len(ordered), 1, 0.5 ** len(ordered)
    covered = 1 - 2 * tail
    while 2 * rank < n:
        tail += math.comb(n, rank) * 0.5**n
        if 1 - 2 * tail < coverage:
            break
        rank, covered = rank + 1, 1 - 2 * tail
    median = statistics.median(ordered)
    return MedianInterval(median, ordered[rank - 1], ordered[n - rank], max(0.0, covered))
