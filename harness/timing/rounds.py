"""Timing of candidates that are compared: in turns, in one process, until a median is known.

Machines change their speed from second to second (other processes, clocks, caches). So time is cut
into rounds; each round visits every candidate once, in an order of its own, and takes a few decisions
there. A ratio of two candidates is formed within each round, where both met the same machine, and the
rounds give its spread.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lram.harness.garbage import collection_off
from lram.harness.timing.clock import Stopwatch
from lram.harness.timing.intervals import MedianInterval, median_interval
from lram.harness.timing.warm_up import WarmUpRule, warm_up

WARM_UP = WarmUpRule(fewest=3, seconds=3.0)
"""A candidate's warm-up: however long its first decision took (it may compile), there are two more."""

_FEWEST_ROUNDS = 7  # from 6 on there is an interval of 95% coverage


@dataclass(frozen=True, slots=True)
class PreparedDecision:
    """A candidate that is ready to run.

    Attributes:
        decide: Makes one decision for all rows.
        read_bytes: What a decision must at least read (weights, a cache).
        update_bytes: What it must at least read and write back (a recurrent state).
        state_bytes: What all rows keep between decisions.
        detail: How it is computed, with versions.
    """

    decide: Callable[[], object]
    read_bytes: int = 0
    update_bytes: int = 0
    state_bytes: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TimedCandidate:
    """Something to time.

    Attributes:
        name: Unique among the candidates measured together.
        prepare: Builds it; called once, before any timing.
    """

    name: str
    prepare: Callable[[], PreparedDecision]


@dataclass(frozen=True, slots=True)
class RoundEffort:
    """How much is measured.

    Attributes:
        rounds: At most so many.
        visit_s: About so many seconds of decisions at a visit (one decision at least).
        visit_most: And at most so many decisions.
        limit_s: No new round is begun after so many seconds, once there are enough for an interval.
        seed: Names the order of visits.
    """

    rounds: int = 15
    visit_s: float = 0.05
    visit_most: int = 10
    limit_s: float = math.inf
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TimedRounds:
    """What was measured of a candidate.

    Attributes:
        prepared: The candidate.
        rounds: Nanoseconds of each decision, round by round.
        warm: Whether its times were stable before the first round.
    """

    prepared: PreparedDecision
    rounds: tuple[tuple[int, ...], ...]
    warm: bool

    @property
    def medians(self) -> list[float]:
        """The median of each round, in nanoseconds."""
        return [statistics.median(visit) for visit in self.rounds]


@dataclass(frozen=True, slots=True)
class TimingSummary:
    """Milliseconds of one decision.

    Attributes:
        minimum: The fastest decision.
        median: Median of the rounds' medians, with its interval.
        p90: Nine of ten decisions were at least as fast.
        spread: Interquartile range of the rounds' medians over their median.
        decisions: How many were timed.
        rounds: The median of each round.
        warm: Whether the times were stable before the first round.
    """

    minimum: float
    median: MedianInterval
    p90: float
    spread: float
    decisions: int
    rounds: list[float] = field(default_factory=list)
    warm: bool = True

    @property
    def noisy(self) -> bool:
        """Whether the machine's moods are more than a tenth of the result, or warm-up did not settle."""
        return self.spread > 0.1 or not self.warm


def time_in_rounds(
    candidates: Sequence[TimedCandidate], effort: RoundEffort, watch: Stopwatch | None = None
) -> dict[str, TimedRounds]:
    """Time ``candidates`` against each other; return what was measured, by name.

    At each visit one decision goes by untimed: its predecessor left the caches to other weights.

    Args:
        candidates: All are built first and stay in memory.
        effort: How much.
        watch: The clock of their device; None: of the processor.

    Raises:
        ValueError: Two candidates have the same name.
    """
    watch = watch or Stopwatch()
    prepared = {candidate.name: candidate.prepare() for candidate in candidates}
    if len(prepared) < len(candidates):
        raise ValueError("two candidates of one measurement have the same name")
    ready = {name: lambda decide=one.decide: decide for name, one in prepared.items()}

    warm, visits = {}, {}
    for name, prepare in ready.items():
        found = warm_up(watch, prepare, WARM_UP)
        wanted = 1e9 * effort.visit_s / found.typical_ns if found.typical_ns else effort.visit_most
        warm[name], visits[name] = found.stable, max(1, min(effort.visit_most, int(wanted)))

    order = list(prepared)
    rounds: dict[str, list[tuple[int, ...]]] = {name: [] for name in prepared}
    shuffle = random.Random(effort.seed).shuffle
    with collection_off():
        begun = time.monotonic()
        for done in range(effort.rounds):
            if done >= _FEWEST_ROUNDS and time.monotonic() - begun > effort.limit_s:
                break
            gc.collect()
            shuffle(order)
            for name in order:
                prepared[name].decide()
                rounds[name].append(tuple(watch.time(ready[name]) for _ in range(visits[name])))
    return {name: TimedRounds(one, tuple(rounds[name]), warm[name]) for name, one in prepared.items()}


def summarise(timed: TimedRounds) -> TimingSummary:
    """Return the timing of a candidate in milliseconds."""
    decisions = sorted(ns / 1e6 for visit in timed.rounds for ns in visit)
    medians = [ns / 1e6 for ns in timed.medians]
    middle = median_interval(medians)
    first, _, third = (
        statistics.quantiles(medians, n=4, method="inclusive") if len(medians) > 1 else (0, 0, 0)
    )
    return TimingSummary(
        minimum=decisions[0],
        median=middle,
        p90=decisions[math.ceil(0.9 * len(decisions)) - 1],
        spread=(third - first) / middle.median if middle.median else 0.0,
        decisions=len(decisions),
        rounds=medians,
        warm=timed.warm,
    )
