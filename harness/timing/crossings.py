"""From which context on one of two takes less time than the other: in each round, with an interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from lram.harness.timing.intervals import median_interval

FEWEST_ROUNDS = 5
"""Rounds from which on a crossing is stated: their range then covers 93.75%; that of two covers a half, that
of four seven eighths."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A context, or that it lies below the shortest or beyond the longest one measured."""

    where: Literal["at", "below", "beyond"]
    context: float

    def __str__(self) -> str:
        return f"{self.context:.0f}" if self.where == "at" else f"{self.where} {self.context:.0f}"


@dataclass(frozen=True, slots=True)
class RoundsCrossing:
    """The crossing over rounds.

    Attributes:
        middle: Median of the rounds' crossings; always within the interval.
        low, high: Its interval by order statistics.
    """

    middle: Bound
    low: Bound
    high: Bound


def crossing(contexts: Sequence[int], first: Sequence[float], second: Sequence[float]) -> Bound:
    """Return from which context on ``first`` takes less than ``second``, up to the longest.

    Between two contexts times are taken to lie on a line.

    Args:
        contexts: Ascending.
        first, second: Times at each.
    """
    slower = [mine - theirs for mine, theirs in zip(first, second, strict=True)]
    if slower[-1] >= 0:
        return Bound("beyond", float(contexts[-1]))
    for (short, before), (long, after) in reversed(list(pairwise(zip(contexts, slower, strict=True)))):
        if before >= 0:
            return Bound("at", short + (long - short) * before / (before - after))
    return Bound("below", float(contexts[0]))


def rounds_crossing(found: Sequence[Bound]) -> RoundsCrossing:
    """Return the median of the rounds' crossings with its interval, those outside the contexts at the ends.

    Of an even number the median lies between two; where one of them is outside the contexts, it is the later
    one: there is no half way.

    Args:
        found: One a round, one at least.
    """
    place = {"below": -math.inf, "beyond": math.inf}
    ordered = sorted(found, key=lambda one: place.get(one.where, one.context))
    before, after = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    middle = after
    if before.where == after.where == "at":
        middle = Bound("at", statistics.median((before.context, after.context)))
    # Ranks, not values, are asked for: the median of two infinities is no number.
    ranks = median_interval(range(len(ordered)))
    return RoundsCrossing(middle, ordered[int(ranks.low)], ordered[int(ranks.high)])
