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

STABLE = 1.1
"""Warm-up ends when the slowest of the last three decisions took less than this times the fastest."""

_WARM_UP_CALLS = 30
_WARM_UP_S = 3.0
_FEWEST_ROUNDS = 7  # from 6 on there is an interval of 95% coverage


@dataclass(frozen=True, slots=True)
class Prepared:
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
class Candidate:
    """Something to time.

    Attributes:
        name: Unique among the candidates measured together.
        prepare: Builds it; called once, before any timing.
        baselines: Names that it is compared with; the fastest of them counts.
    """

    name: str
    prepare: Callable[[], Prepared]
    baselines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Effort:
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
class Samples:
    """What was measured of a candidate.

    Attributes:
        prepared: The candidate.
        rounds: Seconds of each decision, round by round.
        warm: Whether its times were stable before the first round.
    """

    prepared: Prepared
    rounds: tuple[tuple[float, ...], ...]
    warm: bool

    @property
    def medians(self) -> list[float]:
        """The median of each round, in seconds."""
        return [statistics.median(visit) for visit in self.rounds]

    @property
    def minimum(self) -> float:
        """The fastest decision, in seconds."""
        return min(min(visit) for visit in self.rounds)


@dataclass(frozen=True, slots=True)
class Interval:
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


@dataclass(frozen=True, slots=True)
class Timing:
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
    median: Interval
    p90: float
    spread: float
    decisions: int
    rounds: list[float] = field(default_factory=list)
    warm: bool = True

    @property
    def noisy(self) -> bool:
        """Whether the machine's moods are more than a tenth of the result, or warm-up did not settle."""
        return self.spread > 0.1 or not self.warm


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long the baseline takes: above 1, the candidate is faster.

    Attributes:
        baseline: Its name.
        times: Median of the rounds' ratios, with its interval.
        fastest: The same of the fastest decision of each: what is left when others disturb neither.
    """

    baseline: str
    times: Interval
    fastest: float


def measure(
    candidates: Sequence[Candidate],
    effort: Effort,
    *,
    synchronise: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Samples]:
    """Time ``candidates`` against each other; return what was measured, by name.

    At each visit one decision goes by untimed: its predecessor left the caches to other weights.

    Args:
        candidates: All are built first and stay in memory.
        effort: How much.
        synchronise: Waits until a device has done what was asked of it; called around each decision.
        clock: Seconds.
    """
    prepared = {candidate.name: candidate.prepare() for candidate in candidates}
    if len(prepared) < len(candidates):
        raise ValueError("two candidates of one measurement have the same name")

    def seconds(decide: Callable[[], object]) -> float:
        synchronise()
        start = clock()
        decide()
        synchronise()
        return clock() - start

    warm, visits = {}, {}
    for name, one in prepared.items():
        typical, warm[name] = _warm_up(lambda one=one: seconds(one.decide))  # type: ignore[misc]
        wanted = effort.visit_s / typical if typical else effort.visit_most
        visits[name] = max(1, min(effort.visit_most, int(wanted)))

    order = list(prepared)
    rounds: dict[str, list[tuple[float, ...]]] = {name: [] for name in prepared}
    shuffle = random.Random(effort.seed).shuffle
    collecting = gc.isenabled()
    gc.disable()
    try:
        begun = time.monotonic()
        for done in range(effort.rounds):
            if done >= _FEWEST_ROUNDS and time.monotonic() - begun > effort.limit_s:
                break
            gc.collect()
            shuffle(order)
            for name in order:
                decide = prepared[name].decide
                decide()
                rounds[name].append(tuple(seconds(decide) for _ in range(visits[name])))
    finally:
        if collecting:
            gc.enable()
    return {name: Samples(one, tuple(rounds[name]), warm[name]) for name, one in prepared.items()}


def _warm_up(seconds: Callable[[], float]) -> tuple[float, bool]:
    """Decide until the times are stable; return seconds of a decision, and whether they became so."""
    taken: list[float] = []
    while len(taken) < 3 or (len(taken) < _WARM_UP_CALLS and sum(taken[1:]) < _WARM_UP_S):
        taken.append(seconds())
        if len(taken) >= 3 and max(taken[-3:]) <= STABLE * min(taken[-3:]):
            return statistics.median(taken[-3:]), True
    return statistics.median(taken[-3:]), False


def summarise(samples: Samples) -> Timing:
    """Return the timing of a candidate in milliseconds."""
    decisions = sorted(1000 * second for visit in samples.rounds for second in visit)
    medians = [1000 * second for second in samples.medians]
    middle = median_interval(medians)
    first, _, third = (
        statistics.quantiles(medians, n=4, method="inclusive") if len(medians) > 1 else (0, 0, 0)
    )
    return Timing(
        minimum=decisions[0],
        median=middle,
        p90=decisions[math.ceil(0.9 * len(decisions)) - 1],
        spread=(third - first) / middle.median if middle.median else 0.0,
        decisions=len(decisions),
        rounds=medians,
        warm=samples.warm,
    )


def compare(samples: dict[str, Samples], name: str, baselines: Sequence[str]) -> Ratio | None:
    """Compare ``name`` with the fastest (by its median) of ``baselines``; None without any."""
    if not baselines:
        return None
    fastest = min(baselines, key=lambda baseline: statistics.median(samples[baseline].medians))
    theirs, ours = samples[fastest], samples[name]
    times = [slow / fast for slow, fast in zip(theirs.medians, ours.medians, strict=True)]
    return Ratio(fastest, median_interval(times), theirs.minimum / ours.minimum)


def median_interval(values: Sequence[float], coverage: float = 0.95) -> Interval:
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
    return Interval(statistics.median(ordered), ordered[rank - 1], ordered[n - rank], max(0.0, covered))
