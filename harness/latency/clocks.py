"""The timing itself: one decision at a time, between two moments at which the device has nothing to do."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lram.harness.bench.measure import STABLE
from lram.harness.storage.segments import no_collection as uncollected

Prepare = Callable[[], Callable[[], object]]
"""Makes ready what is not to be timed (inputs, the state taken back), and returns what is."""

_WARM_UP_CALLS = 30


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """How a decision is timed.

    Attributes:
        synchronise: Waits until the device has done what was asked of it; called before and after.
        clock: Nanoseconds.
    """

    synchronise: Callable[[], object] = lambda: None
    clock: Callable[[], int] = time.perf_counter_ns

    def time(self, prepare: Prepare) -> int:
        """Return the nanoseconds of one decision."""
        decide = prepare()
        self.synchronise()
        start = self.clock()
        decide()
        self.synchronise()
        return self.clock() - start


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


def warm_up(watch: Stopwatch, prepare: Prepare, seconds: float) -> WarmUp:
    """Decide until the times are stable, but not for more than ``seconds`` after the first decision."""
    taken = [watch.time(prepare)]
    while len(taken) < 3 or not _stable(taken):
        if len(taken) >= _WARM_UP_CALLS or sum(taken[1:]) > 1e9 * seconds or taken[0] > 1e9 * seconds:
            break
        taken.append(watch.time(prepare))
    return WarmUp(int(statistics.median(taken[-3:])), len(taken) >= 3 and _stable(taken), len(taken))


def _stable(taken: list[int]) -> bool:
    return max(taken[-3:]) <= STABLE * min(taken[-3:])


def time_decisions(
    watch: Stopwatch, prepare: Prepare, *, seconds: float, least: int, most: int
) -> tuple[int, ...]:
    """Return the nanoseconds of each decision: for about ``seconds``, ``least`` to ``most`` of them."""
    taken: list[int] = []
    spent = 0
    with no_collection():
        while len(taken) < least or (len(taken) < most and spent < 1e9 * seconds):
            taken.append(watch.time(prepare))
            spent += taken[-1]
    return tuple(taken)


def time_in_turns(
    watch: Stopwatch, one: Prepare, other: Prepare, *, seconds: float, least: int, most: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the nanoseconds of two kinds of decisions, made in turns and beginning with each in turn."""
    first: list[int] = []
    second: list[int] = []
    with no_collection():
        while len(first) < least or (len(first) < most and sum(first) + sum(second) < 1e9 * seconds):
            for prepare, taken in ((one, first), (other, second))[:: 1 if len(first) % 2 else -1]:
                taken.append(watch.time(prepare))
    return tuple(first), tuple(second)


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect garbage now, and not while decisions are timed."""
    gc.collect()
    with uncollected():
        yield
