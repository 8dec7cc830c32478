"""How often the report's intervals hold the truth, by simulation, before and after::

    OMP_NUM_THREADS=1 nice python tests/benchmarks/statistics/coverage.py            # some minutes
    OMP_NUM_THREADS=1 python tests/benchmarks/statistics/coverage.py --quick         # a first look

Prints the Markdown tables of docs/explanation/statistics.md. ``before`` is the percentile bootstrap that
reports had, ``after`` calls the functions that reports call. A cell reads ``before -> after`` in per cent of
the intervals that were printed; then, where that was not always, the share of evaluations that printed one. †
marks cells where most printed intervals carry a doubt; where some do, the coverage of those without stands
behind.

Ends with the least coverage among the cells that carry no doubt, and with exit code 1 where it breaks the
promise of 90%.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import before
import numpy as np
import numpy.typing as npt
from laws import FRESH, JACKPOTS, LAWS, Design, Law, design, one_of, sample

from lram.reports.statistics import Moments, interquartile_mean, mean_interval, rate_interval, stream

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

LEVEL, PROMISE = 0.95, 0.90
EPISODES = (3, 5, 10, 20, 50)
DESIGNS = ("1", "8", "50", "45+1")
SOME, MOST = 0.1, 0.5  # shares of the printed intervals


@dataclass
class Sizes:
    """How much is simulated."""

    seed: int
    after: int
    before: int
    draws: int
    episodes: tuple[int, ...]
    least: list[tuple[float, float, str]] = field(default_factory=list)
    """Coverage, its standard error and the name of every cell with intervals that carry no doubt."""


@dataclass(frozen=True)
class Seen:
    """What a method printed: coverage and shares; NaN where nothing was printed."""

    coverage: float
    printed: float
    doubted: float
    undoubted: float
    width: float


def seen(low: Array, high: Array, doubt: Flags, truth: float) -> Seen:
    """Return what is to be said of intervals, NaN where none was printed."""
    told = ~np.isnan(low)
    if not told.any():
        return Seen(np.nan, 0.0, np.nan, np.nan, np.nan)
    holds, clear = (low <= truth + 1e-12) & (truth - 1e-12 <= high), told & ~doubt
    return Seen(
        float(holds[told].mean()),
        float(told.mean()),
        float(doubt[told].mean()),
        float(holds[clear].mean()) if clear.any() else np.nan,
        float((high - low)[told].mean()),
    )


def means(law: Law, plan: Design, name: str, sizes: Sizes) -> tuple[Seen, Seen]:
    """Return what the former and the present interval of a mean do."""
    rng = stream(sizes.seed, "means", name)
    tasks, truth = sample(law, plan, sizes.after, rng)
    found = mean_interval(plan.weights, Moments.of(tasks), LEVEL, plan.domains)
    after = seen(found.low, found.high, found.few | (found.borrowed > 0), truth)
    ends = [
        before.mean(one_of(tasks, s), plan.weights, plan.domains, LEVEL, sizes.draws, rng)
        for s in range(sizes.before)
    ]
    low, high = np.array(ends).T
    return seen(low, high, np.zeros(len(low), bool), truth), after


def rates(p: Array, counts: Sequence[int], name: str, sizes: Sizes) -> tuple[Seen, Seen]:
    """Return what the former and the present interval of a mean of rates do."""
    rng = stream(sizes.seed, "rates", name)
    n, weights, truth = np.array(counts), np.full(len(counts), 1 / len(counts)), float(np.mean(p))
    solved = rng.binomial(n, p, size=(sizes.after, len(counts))).astype(float)
    low, high = rate_interval(solved, n, weights, LEVEL)
    after = seen(low, high, np.zeros(len(low), bool), truth)
    ends = []
    for s in range(sizes.before):
        tasks = [np.repeat([1.0, 0.0], [int(k), int(m - k)]) for k, m in zip(solved[s], n, strict=True)]
        ends.append(before.rate(tasks, LEVEL, sizes.draws, rng))
    old_low, old_high = np.array(ends).T
    return seen(old_low, old_high, np.zeros(len(old_low), bool), truth), after


def cell(found: tuple[Seen, Seen], name: str, sizes: Sizes) -> str:
    """Return the cell's text, and remember what it says of intervals without a doubt."""
    old, new = found
    text = f"{_percent(old.coverage)} → {_percent(new.coverage)}"
    if new.printed == 0:
        return text
    if new.doubted < 1 - SOME:
        count = max(1.0, sizes.after * new.printed * (1 - new.doubted))
        sizes.least.append((new.undoubted, float(np.sqrt(PROMISE * (1 - PROMISE) / count)), name))
    text += "†" if new.doubted > MOST else ""
    notes = [f"{_percent(new.printed)}% printed"] if new.printed < 0.995 else []
    if SOME / 2 < new.doubted < 1 - SOME / 2:
        notes.append(f"{_percent(new.undoubted)} without †")
    return f"{text} ({', '.join(notes)})" if notes else text


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.0f}"


def table(title: str, head: Sequence[str], rows: Iterator[Sequence[str]]) -> None:
    """Print a table as Markdown, row by row."""
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def tables_of_means(sizes: Sizes) -> None:
    """Print the tables of returns: all laws by design; unequal counts and noise; jackpots; special cases."""
    heads = [f"n = {n}" for n in sizes.episodes]

    def grid(
        laws: dict[str, Law], designs: Sequence[str], counts: str = "equal", noise: str = "equal"
    ) -> Iterator[list[str]]:
        for which in designs:
            for name, law in laws.items():
                row = [which, name]
                for n in sizes.episodes:
                    key = f"{which} tasks, {name}, n={n}, counts {counts}, noise {noise}"
                    plan = design(which, n, counts=counts, noise=noise)
                    row.append(cell(means(law, plan, key, sizes), key, sizes))
                yield row

    head = ["tasks", "returns", *heads]
    table("Mean returns and scores: equal counts, equal noise", head, grid(dict(LAWS), DESIGNS))
    some = {name: LAWS[name] for name in ("normal", "lognormal", "zero-inflated", "Bernoulli 0.9")}
    table("Unequal counts (n/2, n, 2n)", head, grid(some, ("8", "50", "45+1"), counts="unequal"))
    table("Unequal noise (1, 3, 10)", head, grid(some, ("8", "50", "45+1"), noise="unequal"))
    table("Rare jackpots (3 in 100 episodes)", head, grid(dict(JACKPOTS), ("8", "50")))
    table(
        "Single tasks among others; in brackets the mean width over the right one",
        ["case", *heads],
        special(sizes),
    )


def special(sizes: Sizes) -> Iterator[list[str]]:
    """Yield the rows of one noisy task among 49 deterministic, and of one task with a single episode."""
    for name in ("normal", "lognormal"):
        rows = {f"49 of 50 tasks deterministic, one {name}": (1e-12, 1.0, False)}
        if name == "normal":
            rows["one task of 8 with one episode and 5 times the noise, normal"] = (1.0, 5.0, True)
            rows["one task of 8 with one episode and equal noise, normal"] = (1.0, 1.0, True)
        for title, (others, own, single) in rows.items():
            row = [title]
            for n in sizes.episodes:
                tasks = 8 if single else 50
                scale = np.full(tasks, 0.0 if others < 1 else others)
                scale[0] = own
                counts = ((1,) if single else (n,)) + (n,) * (tasks - 1)
                plan = Design(title, np.full(tasks, 1 / tasks), ("a",) * tasks, counts, scale)
                key = f"{title}, n={n}"
                found = means(LAWS[name], plan, key, sizes)
                spread = {"normal": 1.0, "lognormal": 2.161}[name]
                error = np.sqrt(((scale * spread / tasks) ** 2 / counts).sum())
                old, new = (one.width / (2 * 1.96 * error) for one in found)
                row.append(f"{cell(found, key, sizes)} [{old:.1f} → {new:.1f}]")
            yield row


def table_of_fresh_laws(sizes: Sizes) -> None:
    """Print what intervals without a doubt hold for laws that had no part in choosing the doubt's limits."""
    cases = [
        ("1", 160, "equal"),
        ("8", 20, "equal"),
        ("50", 4, "equal"),
        ("50", 5, "equal"),
        ("50", 10, "equal"),
    ]
    cases += [("8", 20, "unequal"), ("50", 5, "unequal"), ("50", 10, "unequal")]

    def rows() -> Iterator[list[str]]:
        for name, law in FRESH.items():
            row = [name]
            for which, n, noise in cases:
                plan = design(which, n, noise=noise)
                rng = stream(sizes.seed, "fresh", name, which, str(n), noise)
                tasks, truth = sample(law, plan, sizes.after, rng)
                found = mean_interval(plan.weights, Moments.of(tasks), LEVEL, plan.domains)
                new = seen(found.low, found.high, found.few | (found.borrowed > 0), truth)
                row.append(f"{_percent(new.undoubted)} ({_percent(1 - new.doubted)})")
            yield row

    heads = [f"{which} x {n}{', unequal noise' * (noise == 'unequal')}" for which, n, noise in cases]
    table("Laws that had no part in choosing: without † (share without †)", ["returns", *heads], rows())


def tables_of_rates(sizes: Sizes) -> None:
    """Print the tables of success rates."""

    def spread(tasks: int, p: float | None) -> Array:
        return np.full(tasks, p) if p is not None else (np.arange(tasks) + 0.5) / tasks

    def equal() -> Iterator[list[str]]:
        for tasks in (1, 2, 8, 50):
            for title, p in (("0.5", 0.5), ("0.9", 0.9), ("0.98", 0.98), ("spread over 0 to 1", None)):
                if tasks > 1 or p is not None:
                    row = [str(tasks), title]
                    for n in sizes.episodes:
                        key = f"rate {title}, {tasks} tasks, n={n}"
                        row.append(cell(rates(spread(tasks, p), (n,) * tasks, key, sizes), key, sizes))
                    yield row

    def unequal() -> Iterator[list[str]]:
        sets = ((30, 3), (3, 30), (1, 10, 50), (2, 100))
        for tasks in (2, 8, 50):
            for title, p in (("0.5", 0.5), ("0.9", 0.9), ("0.98", 0.98), ("spread over 0 to 1", None)):
                row = [str(tasks), title]
                for counts in sets:
                    key = f"rate {title}, {tasks} tasks, counts {counts}"
                    n = tuple(int(one) for one in np.resize(counts, tasks))
                    row.append(cell(rates(spread(tasks, p), n, key, sizes), key, sizes))
                yield row
        row = ["2", "0.97 and 0.03"]
        for counts in sets:
            key = f"rates 0.97 and 0.03, counts {counts}"
            n = tuple(int(one) for one in np.resize(counts, 2))
            row.append(cell(rates(np.array([0.97, 0.03]), n, key, sizes), key, sizes))
        yield row

    heads = [f"n = {n}" for n in sizes.episodes]
    table("Success rates: equal counts", ["tasks", "rates", *heads], equal())
    sets = ["30, 3 in turns", "3, 30", "1, 10, 50", "2, 100"]
    table("Success rates: unequal counts", ["tasks", "rates", *sets], unequal())
    solved, trials = np.array([30.0, 0.0]), np.array([30, 3])
    low, high = rate_interval(solved, trials, np.full(2, 0.5), LEVEL)
    rng = stream(sizes.seed, "always and never")
    old = before.rate([np.ones(30), np.zeros(3)], LEVEL, sizes.draws, rng)
    ends = [f"[{100 * first:.0f}, {100 * last:.0f}]" for first, last in (old, (low, high))]
    print(f"\n30 of 30 and 0 of 3 episodes solved, a mean of 50%: before {ends[0]}, after {ends[1]}.")


def table_of_iqm(sizes: Sizes) -> None:
    """Print what intervals of the interquartile mean of task means do; reports print none."""
    table(
        "IQM of task means: why it has no interval",
        ["tasks", "noise", "n", "shift over its standard error", "before", "bias-corrected", "widened"],
        _iqm_rows(sizes),
    )


def _iqm_rows(sizes: Sizes) -> Iterator[list[str]]:
    for tasks in (8, 50, 200):
        true = np.linspace(0, 1, tasks)
        noises = {
            "equal": np.full(tasks, 0.3),
            "in turns 0.03, 0.6": np.where(np.arange(tasks) % 2, 0.6, 0.03),
            "0.8 above a score of 0.6, else 0.05": np.where(true > 0.6, 0.8, 0.05),
        }
        truth = float(interquartile_mean(true))
        for title, scale in noises.items():
            for n in (3, 10):
                rng = stream(sizes.seed, "iqm", str(tasks), title, str(n))
                hits, estimates = [], []
                for _ in range(sizes.before):
                    values = true[:, None] + scale[:, None] * rng.normal(size=(tasks, n))
                    estimate = float(interquartile_mean(values.mean(axis=1)))
                    error = values.std(axis=1, ddof=1) / np.sqrt(n)
                    drawn = interquartile_mean(
                        values.mean(axis=1) + error * rng.normal(size=(sizes.draws, tasks))
                    )
                    bias, spread = drawn.mean() - estimate, 2 * drawn.std()
                    old = before.iqm(list(values), LEVEL, sizes.draws, rng)
                    corrected = (estimate - bias - spread, estimate - bias + spread)
                    wide = (
                        min(estimate, estimate - bias) - spread - abs(bias),
                        max(estimate, estimate - bias) + spread + abs(bias),
                    )
                    hits.append([low <= truth <= high for low, high in (old, corrected, wide)])
                    estimates.append(estimate)
                shift = (np.mean(estimates) - truth) / np.std(estimates)
                shares = [_percent(share) for share in np.mean(hits, axis=0)]
                yield [str(tasks), title, str(n), f"{shift:.1f}", *shares]


def main() -> int:
    """Print the tables; return 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--simulations", type=int, default=2000, help="of the present methods, a cell")
    parser.add_argument("--baseline", type=int, default=200, help="simulations of the former methods, a cell")
    parser.add_argument("--draws", type=int, default=200, help="bootstrap draws of the former methods")
    parser.add_argument("--quick", action="store_true", help="few simulations at 3 and 10 episodes")
    parser.add_argument("--fresh", action="store_true", help="only laws that had no part in choosing")
    given = parser.parse_args()
    sizes = Sizes(given.seed, given.simulations, given.baseline, given.draws, EPISODES)
    if given.quick:
        sizes = Sizes(given.seed, 400, 30, 100, (3, 10))
    print(
        f"Coverage of {LEVEL:.0%} intervals, in per cent, before → after: {sizes.after} simulations a cell "
        f"after, {sizes.before} before; seed {sizes.seed}."
    )
    if given.fresh:
        table_of_fresh_laws(sizes)
        return 0
    tables_of_means(sizes)
    table_of_fresh_laws(sizes)
    tables_of_rates(sizes)
    table_of_iqm(sizes)
    worst = sorted(sizes.least)[:5]
    listed = "; ".join(f"{share:.1%} ({name})" for share, _, name in worst)
    broken = [name for share, error, name in sizes.least if share < PROMISE - 2.5 * error]
    print(f"\nLeast coverage without a doubt, of {len(sizes.least)} cells: {listed}.")
    print(f"BELOW {PROMISE:.0%}: {'; '.join(broken)}" if broken else f"None is below {PROMISE:.0%}.")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
