"""The warm-up: decisions that are made before any counts, until their times are stable."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from lram.harness.timing.clock import Prepare, Stopwatch

STABLE = 1.1
"""Times are stable when the slowest of the last three decisions took less than this times the fastest."""

_LAST = 3  # decisions that are looked at


@dataclass(frozen=True, slots=True)
class WarmUpRule:
    """When a warm-up ends: when the times are stable, or at one of these limits.

    Attributes:
        fewest: Decisions at least, stable or not.
        most: And at most.
        seconds: Of decisions after the first, which may have compiled or loaded something.
        first_s: A first decision that takes longer than this is the only one.
    """

    fewest: int = 1
    most: int = 30
    seconds: float = math.inf
    first_s: float = math.inf

    def ends(self, taken: Sequence[int]) -> bool:
        """Return whether a warm-up of decisions that took these nanoseconds is over."""
        return len(taken) >= self.fewest and (
            is_stable(taken)
            or len(taken) >= self.most
            or sum(taken[1:]) > 1e9 * self.seconds
            or taken[0] > 1e9 * self.first_s
        )


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How a warm-up went.

    Attributes:
        typical_ns: Median of its last three decisions.
        stable: Whether those were within a tenth of each other.
        decisions: How many there were.
    """

    typical_ns: int
    stable: bool
    decisions: int


def warm_up(watch: Stopwatch, prepare: Prepare, rule: WarmUpRule) -> WarmUp:
    """Decide, once at least, until ``rule`` says that it is enough."""
    taken = [watch.time(prepare)]
    while not rule.ends(taken):
        taken.append(watch.time(prepare))
    return WarmUp(int(statistics.median(taken[-_LAST:])), is_stable(taken), len(taken))


def is_stable(taken: Sequence[int]) -> bool:
    """Return whether the last three decisions took about the same time; fewer never did."""
    return len(taken) >= _LAST and max(taken[-_LAST:]) <= STABLE * min(taken[-_LAST:])
