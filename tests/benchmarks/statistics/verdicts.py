"""How often verdicts on two agents are false, what their intervals cover, and whether named powers hold.

Simulated agents go through the product's own comparison. Beside each number stands what the methods gave that
were used before (:class:`Before`: a sign-flip test that was not studentised, bootstrap intervals that
borrowed noise, a power by the normal distribution, clusters of goals drawn again)::

    OMP_NUM_THREADS=1 nice python tests/benchmarks/statistics/verdicts.py       # half an hour of a core
    OMP_NUM_THREADS=1 python tests/benchmarks/statistics/verdicts.py --quick    # a minute; numbers are rough

Tables are Markdown; all is seeded.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist

import numpy as np

from lram.envs.task import Task
from lram.reports.comparison.compare import over_tasks
from lram.reports.comparison.paired_episodes import PairedTask
from lram.reports.samples import Resampling
from lram.reports.sections.inner_episodes.model import _mean_over, _tested
from lram.reports.statistics import SignFlips, equal_domain_weights, reach, shows_noise

Array = np.ndarray
Law = Callable[[np.random.Generator, tuple[int, int]], tuple[Array, Array]]
"""Scores of two agents, each (tasks, pairs), whose means are equal."""

LEVEL = 0.95
PATTERNS = 400
TABLES = ("exchangeable", "unequal", "coverage", "power", "inner", "cost")


def _twice(one: Callable[[np.random.Generator, tuple[int, int]], Array]) -> Law:
    return lambda draw, size: (one(draw, size), one(draw, size))


EXCHANGEABLE: dict[str, Law] = {
    "normal": _twice(lambda draw, size: draw.normal(0.5, 0.2, size)),
    "lognormal": _twice(lambda draw, size: 0.2 * draw.lognormal(0, 1, size)),
    "t(2.5)": _twice(lambda draw, size: 0.5 + 0.1 * draw.standard_t(2.5, size)),
    "success 0.5": _twice(lambda draw, size: 1.0 * (draw.random(size) < 0.5)),
    "success 0.9": _twice(lambda draw, size: 1.0 * (draw.random(size) < 0.9)),
    "success 0.1": _twice(lambda draw, size: 1.0 * (draw.random(size) < 0.1)),
}
UNEQUAL: dict[str, Law] = {
    "always 0.1, 1 in 10 jackpots": lambda d, size: (np.full(size, 0.1), 1.0 * (d.random(size) < 0.1)),
    "0.1 ± 0.02, 1 in 10 jackpots": lambda d, size: (d.normal(0.1, 0.02, size), 1.0 * (d.random(size) < 0.1)),
    "always 0.02, 1 in 50 jackpots": lambda d, size: (np.full(size, 0.02), 1.0 * (d.random(size) < 0.02)),
    "0.1 ± 0.02, jackpots ± 0.02": lambda d, size: (
        d.normal(0.1, 0.02, size),
        1.0 * (d.random(size) < 0.1) + d.normal(0, 0.02, size),
    ),
    "normal, lognormal": lambda d, size: (
        d.normal(0.33, 0.02, size),
        0.2 * d.lognormal(0, 1, size) + 0.33 - 0.2 * math.exp(0.5),
    ),
    "normal 0.02, normal 0.3": lambda d, size: (d.normal(0.5, 0.02, size), d.normal(0.5, 0.3, size)),
}


def domains_of(tasks: int) -> list[str]:
    """Return the domains of the tasks: 45 of one and one of another where there are 46."""
    return ["many"] * (tasks - 1) + ["single"] if tasks == 46 else ["many"] * tasks


def named(tasks: int) -> str:
    return "45 + 1" if tasks == 46 else str(tasks)


class Before:
    """The methods of before, on differences by task."""

    def __init__(self, differences: Sequence[Array], weights: Array, draw: np.random.Generator) -> None:
        self._differences, self._weights, self._draw = differences, weights, draw
        self.estimate = float(sum(w * d.mean() for w, d in zip(weights, differences, strict=True)))

    def p(self) -> float:
        terms = np.concatenate(
            [w * d / len(d) for w, d in zip(self._weights, self._differences, strict=True)]
        )
        if 2 ** min(len(terms), 40) <= PATTERNS:
            codes = np.arange(2 ** len(terms))[:, None]
            means = (1.0 - 2.0 * ((codes >> np.arange(len(terms))) & 1)) @ terms
            return float(np.mean(np.abs(means) >= abs(terms.sum()) * (1 - 1e-9)))
        signs = 2.0 * self._draw.integers(0, 2, size=(PATTERNS, len(terms))) - 1
        extreme = np.count_nonzero(np.abs(signs @ terms) >= abs(terms.sum()) * (1 - 1e-9))
        return float((extreme + 1) / (PATTERNS + 1))

    def interval(self) -> tuple[float, float] | None:
        noisy = [shows_noise(d) for d in self._differences]
        residuals = [
            (d - d.mean()) * math.sqrt(len(d) / (len(d) - 1))
            for d, own in zip(self._differences, noisy, strict=True)
            if own
        ]
        if not residuals:
            return None
        pool = np.concatenate(residuals)
        means = np.zeros(PATTERNS)
        for weight, d, own in zip(self._weights, self._differences, noisy, strict=True):
            n = len(d)
            if own:
                drawn = d.take(self._draw.integers(0, n, size=(PATTERNS, n))).mean(axis=1)
                means += weight * (d.mean() + math.sqrt(n / (n - 1)) * (drawn - d.mean()))
            else:
                means += weight * (d.mean() + self._draw.choice(pool, size=(PATTERNS, n)).mean(axis=1))
        low, high = np.quantile(means, [0.025, 0.975]) + (self.estimate - means.mean())
        return float(low), float(high)

    def shown(self) -> bool:
        interval = self.interval()
        beside = interval is None or interval[0] > 0 or interval[1] < 0
        return self.p() < 1 - LEVEL and beside

    def reach(self) -> tuple[float, int] | None:
        interval = self.interval()
        if interval is None or self.estimate == 0:
            return None
        z = NormalDist().inv_cdf(0.975)
        least = (z + NormalDist().inv_cdf(0.8)) * (interval[1] - interval[0]) / (2 * z)
        pairs = np.mean([len(d) for d in self._differences])
        fewest = (math.floor(math.log2(2 / (1 - LEVEL))) + 1) / len(self._differences)
        return least, math.ceil(max(pairs * (least / self.estimate) ** 2, fewest))


def task(domain: str, place: int) -> Task:
    return Task(domain, f"t{place}", "extra", None, "vector", None, "discrete", None, None, 1.0, 0.0, 1.0)


def after(first: Array, second: Array, seed: int) -> tuple[bool, tuple[float, float] | None]:
    """Return the product's verdict on scores (tasks, pairs), and its interval."""
    tasks = [
        PairedTask(task(domain, place), one, two, (not shows_noise(one), not shows_noise(two)))
        for place, (domain, one, two) in enumerate(zip(domains_of(len(first)), first, second, strict=True))
    ]
    found = over_tasks("one", "two", tasks, Resampling(seed, PATTERNS, LEVEL)).comparison
    assert found.difference is not None
    assert found.p is not None
    interval = found.difference.interval
    return found.p < 1 - LEVEL, (interval.low, interval.high) if interval else None


def errors(title: str, laws: dict[str, Law], designs: Sequence[tuple[int, int]], sets: int) -> Iterator[str]:
    yield f"### {title}: verdicts in 100, before → after"
    yield ""
    yield "| Scores | " + " | ".join(f"{named(tasks)} × {pairs}" for tasks, pairs in designs) + " |"
    yield "|---|" + "---:|" * len(designs)
    for name, law in laws.items():
        cells = []
        for tasks, pairs in designs:
            draw = np.random.default_rng([tasks, pairs, len(name)])
            weights = equal_domain_weights(domains_of(tasks))
            false = np.zeros(2)
            for number in range(sets):
                first, second = law(draw, (tasks, pairs))
                false += (
                    Before(list(first - second), weights, draw).shown(),
                    after(first, second, number)[0],
                )
            cells.append(" → ".join(f"{100 * value / sets:.0f}" for value in false))
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""


def coverage(designs: Sequence[tuple[int, int]], sets: int) -> Iterator[str]:
    """Intervals of differences where each task has a true difference of its own (sd 0.3)."""
    yield "### Intervals of differences: truths covered of 100, before → after (without an interval)"
    yield ""
    yield "| Scores | " + " | ".join(f"{named(tasks)} × {pairs}" for tasks, pairs in designs) + " |"
    yield "|---|" + "---:|" * len(designs)
    laws = {name: EXCHANGEABLE[name] for name in ("normal", "lognormal", "t(2.5)")}
    laws["normal, lognormal"] = UNEQUAL["normal, lognormal"]
    for name, law in laws.items():
        cells = []
        for tasks, pairs in designs:
            draw = np.random.default_rng([tasks, pairs, len(name)])
            weights = equal_domain_weights(domains_of(tasks))
            covered, known = np.zeros(2), np.zeros(2)
            for number in range(sets):
                own = draw.normal(0, 0.3, size=(tasks, 1))
                first, second = law(draw, (tasks, pairs))
                truth = float(weights @ own[:, 0])
                found = (
                    Before(list(first + own - second), weights, draw).interval(),
                    after(first + own, second, number)[1],
                )
                for place, interval in enumerate(found):
                    known[place] += interval is not None
                    covered[place] += interval is not None and interval[0] <= truth <= interval[1]
            told = [f"{100 * c / k:.0f}" if k else "–" for c, k in zip(covered, known, strict=True)]
            none = round(100 * (1 - known[1] / sets))
            cells.append(" → ".join(told) + (f" ({none})" if none else ""))
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""


def power(designs: Sequence[tuple[int, int]], sets: int, tries: int) -> Iterator[str]:
    """Each data set's answer is tried on new data, whose true difference is the one named."""
    yield "### Power, per cent, where 80 is promised, before → after"
    yield ""
    yield "| Tasks × pairs | at the detectable difference | with the episodes needed | unequal counts |"
    yield "|---|---:|---:|---:|"
    for tasks, pairs in designs:
        weights = equal_domain_weights(domains_of(tasks))
        cells = [
            _power(tasks, pairs, weights, sets, tries, uneven=False, needed=False),
            _power(tasks, pairs, weights, sets, tries, uneven=False, needed=True),
            _power(tasks, pairs, weights, sets, tries, uneven=True, needed=True),
        ]
        yield f"| {named(tasks)} × {pairs} | " + " | ".join(cells) + " |"
    yield ""


def _power(
    tasks: int, pairs: int, weights: Array, sets: int, tries: int, *, uneven: bool, needed: bool
) -> str:
    draw = np.random.default_rng([tasks, pairs, uneven])
    shown: list[list[float]] = [[], []]
    for _ in range(sets):
        counts = draw.integers(max(2, pairs // 2), 2 * pairs, tasks) if uneven else np.full(tasks, pairs)
        error = math.sqrt(float((weights**2 / counts).sum()))
        size = draw.choice([1.0, 2.0, 3.0]) * error
        seen = [draw.normal(size, 1, n) for n in counts]
        old = Before(seen, weights, draw).reach()
        new = reach(seen, weights, LEVEL, draw)
        value = abs(float(sum(w * d.mean() for w, d in zip(weights, seen, strict=True))))
        for place, found in enumerate((old, (new.detectable, new.needed) if new else None)):
            if found is None or (needed and (found[1] is None or found[1] * tasks > 3000)):
                continue
            true, sizes = (value, np.full(tasks, found[1])) if needed else (found[0], counts)
            won = 0
            for _ in range(tries):
                data = [draw.normal(true, 1, n) for n in sizes]
                won += (
                    Before(data, weights, draw).shown()
                    if place == 0
                    else SignFlips(data, weights, PATTERNS, draw).p() < 1 - LEVEL
                )
            shown[place].append(won / tries)
    return " → ".join(f"{100 * np.mean(one):.0f}" if one else "none" for one in shown)


def inner(sets: int) -> Iterator[str]:
    """Goals differ; two models have equal means over goals."""
    yield "### Inner episodes: false differences of two models in 100, means covered, before → after"
    yield ""
    goals = (2, 3, 5, 6, 10, 20)
    yield "| | " + " | ".join(f"{count} goals" for count in goals) + " |"
    yield "|---|" + "---:|" * len(goals)
    laws: dict[str, Callable[[np.random.Generator, int], Array]] = {
        "normal": lambda d, n: d.normal(0, 1, n),
        "lognormal": lambda d, n: d.lognormal(0, 1, n) - math.exp(0.5),
    }
    for name, law in laws.items():
        false, covered = [], []
        for count in goals:
            draw = np.random.default_rng([count, len(name)])
            wrong, held = np.zeros(2), np.zeros(2)
            for _ in range(sets):
                apart = law(draw, count) - law(draw, count)
                wrong += (not _holds(_clusters(apart, draw)), (_tested(apart, draw)[1] or 1.0) < 1 - LEVEL)
                units = law(draw, count)
                found = _mean_over(units).interval
                held += (_holds(_clusters(units, draw)), found is None or found.low <= 0 <= found.high)
            false.append(" → ".join(f"{100 * value / sets:.0f}" for value in wrong))
            covered.append(" → ".join(f"{100 * value / sets:.0f}" for value in held))
        yield f"| false, {name} | " + " | ".join(false) + " |"
        yield f"| covered, {name} | " + " | ".join(covered) + " |"
    yield ""


def _clusters(units: Array, draw: np.random.Generator) -> tuple[float, float]:
    """Return the interval of before: units drawn again, their spread widened."""
    n, mean = len(units), units.mean()
    drawn = units[draw.integers(0, n, size=(PATTERNS, n))].mean(axis=1)
    drawn = mean + math.sqrt(n / (n - 1)) * (drawn - mean)
    low, high = np.quantile(drawn, [0.025, 0.975]) + (mean - drawn.mean())
    return float(low), float(high)


def _holds(interval: tuple[float, float]) -> bool:
    return interval[0] <= 0 <= interval[1]


def cost() -> Iterator[str]:
    yield "### Processor time of one comparison (2,000 patterns)"
    yield ""
    yield "| Tasks × pairs | ms |"
    yield "|---|---:|"
    for tasks, pairs in ((10, 3), (50, 50), (469, 5)):
        draw, started = np.random.default_rng(0), time.process_time()
        for number in range(5):
            first, second = draw.normal(size=(2, tasks, pairs))
            listed = [
                PairedTask(task("many", place), one, two, (False, False))
                for place, (one, two) in enumerate(zip(first, second, strict=True))
            ]
            over_tasks("one", "two", listed, Resampling(number, 2000, LEVEL))
        yield f"| {tasks} × {pairs} | {200 * (time.process_time() - started):.0f} |"
    yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few data sets: does it run?")
    parser.add_argument("--sets", type=int, default=1000, help="data sets a number")
    parser.add_argument("--only", choices=TABLES, action="append", help="these tables (repeatable)")
    given = parser.parse_args()
    sets = 20 if given.quick else given.sets
    designs = [(1, 5), (1, 10), (1, 20), (1, 50), (8, 5), (46, 3), (46, 5), (46, 10)]
    widths = [(tasks, pairs) for tasks in (1, 8, 46) for pairs in (3, 5, 10, 20)]
    powers = [(1, 5), (1, 6), (1, 10), (1, 20), (8, 3), (8, 10), (46, 3), (46, 10)]
    tables = (
        errors("Exchangeable scores", EXCHANGEABLE, designs, sets),
        errors("Equal means, unequal spread", UNEQUAL, designs, sets),
        coverage(widths, sets),
        power(powers[:3] if given.quick else powers, max(4, sets // 12), 10),
        inner(sets),
        cost(),
    )
    for name, lines in zip(TABLES, tables, strict=True):
        if given.only and name not in given.only:
            continue
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()
