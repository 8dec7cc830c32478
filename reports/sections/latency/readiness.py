"""Whether decisions are ready in time 99 times in 100, with what so many decisions can show.

The question is whether the share of late decisions is 1% or less. It is answered from the decisions of
several processes by exact one-sided bounds (Clopper and Pearson 1934) of that share: ready where the upper
one is at most 1%, late where the lower one is above 1%, and otherwise it is undecided. So an agent that is
late more often passes in at most one case of twenty, and so does the opposite. With no late decision at all
this takes log(0.05) / log(0.99) = 299 decisions, with one 473.

Decisions of one process share its memory and its moment, so that late ones may come together. Where the
processes' shares differ by more than chance, the counts are divided by the factor by which their variance
exceeds that of independent decisions (the design effect: Kish 1965; Rao and Scott 1992), before the bounds
are taken. What never showed in the processes that were measured cannot be corrected for: the bound is for
processes like these, and ``processes_like_these`` tells how many of all processes that says something about.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

SHARE = 0.99
"""Share of the decisions that are to be ready in time."""

LEVEL = 0.95
"""One-sided, of each verdict."""


def decisions_needed(share: float = SHARE, level: float = LEVEL) -> int:
    """Return the decisions from which on "ready in ``share`` of all" can be shown, none of them being late.

    If more than 1 - ``share`` of all decisions were late, n of n would be in time with probability below
    ``share`` ** n: 299 for 99% at a level of 95%, 459 at 99%.
    """
    return math.ceil(math.log(1 - level) / math.log(share))


def ready(late: Sequence[int], decisions: Sequence[int]) -> bool | None:
    """Return whether ``SHARE`` of all decisions are in time; None where that is undecided.

    Args:
        late: Late decisions of each process.
        decisions: All decisions of each process, 1 or more.
    """
    low, high = late_share(late, decisions)
    if high <= 1 - SHARE:
        return True
    return False if low > 1 - SHARE else None


def late_share(late: Sequence[int], decisions: Sequence[int]) -> tuple[float, float]:
    """Return the lower and the upper bound of the share of late decisions, each at ``LEVEL``."""
    effect = design_effect(late, decisions)
    total = sum(decisions) / effect
    count = sum(late) / effect
    low = 0.0 if count == 0 else float(special.betaincinv(count, total - count + 1, 1 - LEVEL))
    high = 1.0 if count >= total else float(special.betaincinv(count + 1, total - count, LEVEL))
    return low, high


def design_effect(late: Sequence[int], decisions: Sequence[int]) -> float:
    """Return by what the variance of the share of late decisions exceeds that of independent ones, at least "
    "1."""
    given, sizes = np.asarray(late, dtype=np.float64), np.asarray(decisions, dtype=np.float64)
    share = given.sum() / sizes.sum()
    if len(sizes) < 2 or not 0 < share < 1:
        return 1.0
    chance = sizes * share * (1 - share)
    return max(1.0, float(((given - sizes * share) ** 2 / chance).sum() / (len(sizes) - 1)))


def processes_like_these(count: int) -> float:
    """Return the share of all processes that ``count`` of ``count`` good ones speak for, at ``LEVEL``.

    If fewer than p of all processes were good, that all of ``count`` are would have a probability below
    p ** ``count``: with five processes, at least 55% of all are good.
    """
    return float((1 - LEVEL) ** (1 / count))
