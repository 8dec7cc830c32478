"""Many timed decisions, of one kind or of two kinds in turns, with the collector of garbage away."""

from __future__ import annotations

import math

from lram.harness.garbage import collection_off
from lram.harness.timing.clock import Prepare, Stopwatch


def time_decisions(
    watch: Stopwatch, prepare: Prepare, *, seconds: float = math.inf, least: int, most: int
) -> tuple[int, ...]:
    """Return the nanoseconds of each decision: for about ``seconds``, ``least`` to ``most`` of them."""
    taken: list[int] = []
    spent = 0
    with collection_off(collect_first=True):
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
    with collection_off(collect_first=True):
        while len(first) < least or (len(first) < most and sum(first) + sum(second) < 1e9 * seconds):
            for prepare, taken in ((one, first), (other, second))[:: 1 if len(first) % 2 else -1]:
                taken.append(watch.time(prepare))
    return tuple(first), tuple(second)
