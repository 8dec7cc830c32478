"""How often the intervals of aggregates other than means hold the truth, by simulation::

    OMP_NUM_THREADS=1 nice python tests/benchmarks/statistics/aggregates.py            # some minutes
    OMP_NUM_THREADS=1 python tests/benchmarks/statistics/aggregates.py --quick         # a first look

Prints Markdown tables (those of docs/explanation/statistics.md): the optimality gap and the probability of
improvement, with the methods that reports call; and the bootstrap that a metric of another package gets
by default, on a median (which has no interval in reports), on the least of all tasks' means and on a
mean. A cell is the per cent of the printed 95% intervals that held the truth; then, where that was not
always, the share of evaluations that printed one. † marks cells where most printed intervals carry a
doubt; where some do, the coverage of those without stands behind.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from coverage import LEVEL, Seen, seen, table
from laws import LAWS, Array

from lram.reports.statistics import (
    Moments,
    TaskScores,
    centred_interval,
    equal_task_weights,
    mean_interval,
    median_of_task_means,
    redrawn,
    shortfall,
    stream,
    win_contributions,
    wins,
)

EPISODES = (3, 5, 10, 20, 50)
TASKS = (1, 8, 50)
NAMES = ("normal", "lognormal", "zero-inflated", "Bernoulli 0.5", "Bernoulli 0.9")
_LARGE = 2_000


def scores(name: str, rng: np.random.Generator, size: tuple[int, ...], shift: float = 0.0) -> Array:
    """Return scores of the law ``name``, around 0.5 to 1, so that some are above 1; rates stay 0 and 1."""
    drawn = LAWS[name].draw(rng, size)
    if name.startswith("Bernoulli"):
        return np.asarray(np.where(rng.random(size) < shift, 1.0, drawn))
    return 0.5 + 0.3 * drawn + shift


def welch(parts: list[Array], truth: float) -> Seen:
    """Return what Welch's interval of the mean over tasks of ``parts``, (simulations, n) each, does."""
    domains = ("a",) * len(parts)
    found = mean_interval(equal_task_weights(domains), Moments.of(parts), LEVEL, domains)
    return seen(found.low, found.high, found.few | (found.borrowed > 0), truth)


def gap(name: str, tasks: int, n: int, simulations: int, rng: np.random.Generator) -> Seen:
    """Return what the interval of the optimality gap does."""
    truth = float(shortfall(scores(name, rng, (_LARGE, _LARGE))).mean())
    return welch([shortfall(scores(name, rng, (simulations, n))) for _ in range(tasks)], truth)


def improvement(name: str, tasks: int, n: int, simulations: int, rng: np.random.Generator) -> Seen:
    """Return what the interval of the probability of improvement does; the first is better by 0.2."""
    shift = 0.2
    large = [scores(name, rng, (_LARGE, 200), by) for by in (shift, 0.0)]
    truth = float(np.mean([wins(one, other).mean() for one, other in zip(*large, strict=True)]))
    parts = [
        win_contributions(scores(name, rng, (simulations, n), shift), scores(name, rng, (simulations, n)))
        for _ in range(tasks)
    ]
    return welch(parts, truth)


def bootstrap(
    function: Callable[[TaskScores], Array], noise: float, tasks: int, n: int, simulations: int, seed: int
) -> Seen:
    """Return what the default bootstrap does for ``function``: noise that may grow with scores."""
    rng = stream(seed, "bootstrap", str(noise), str(tasks), str(n))
    means = np.linspace(0, 1, tasks) if tasks > 1 else np.array([0.5])
    scale = 0.3 * (1 + noise * means)
    domains = ("a",) * tasks
    truth = float(function(TaskScores(tuple(np.full(1, mean) for mean in means), domains)))
    ends, few = [], []
    for _ in range(simulations):
        values = [mean + s * rng.normal(size=n) for mean, s in zip(means, scale, strict=True)]
        estimate = float(function(TaskScores(tuple(values), domains)))
        drawn = TaskScores(tuple(task[redrawn(n, 400, rng)] for task in values), domains)
        ends.append(centred_interval(function(drawn), estimate, LEVEL))
        few.append(bool(mean_interval(equal_task_weights(domains), Moments.of(values), LEVEL, domains).few))
    low, high = np.array(ends).T
    return seen(low, high, np.array(few), truth)


def cell(found: Seen) -> str:
    """Return the text of a cell."""
    if not found.printed:
        return "–"
    notes = [f"{100 * found.printed:.0f}% printed"] if found.printed < 0.995 else []
    if 0.05 < found.doubted < 0.95:
        notes.append(f"{100 * found.undoubted:.0f} without †")
    text = f"{100 * found.coverage:.0f}{'†' if found.doubted > 0.5 else ''}"
    return f"{text} ({', '.join(notes)})" if notes else text


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--simulations", type=int, default=1000, help="a cell; a fifth of it for bootstraps")
    parser.add_argument("--quick", action="store_true", help="200 simulations at 3 and 10 episodes")
    given = parser.parse_args()
    episodes = (3, 10) if given.quick else EPISODES
    simulations = 200 if given.quick else given.simulations
    heads = [f"n = {n}" for n in episodes]

    def rows(what: str, of: Callable[..., Seen]) -> Iterator[list[str]]:
        for tasks in TASKS:
            for name in NAMES:
                streams = [stream(given.seed, what, name, str(tasks), str(n)) for n in episodes]
                found = [
                    of(name, tasks, n, simulations, rng) for n, rng in zip(episodes, streams, strict=True)
                ]
                yield [str(tasks), name, *map(cell, found)]

    def bootstraps() -> Iterator[list[str]]:
        functions: dict[str, Callable[[TaskScores], Array]] = {
            "mean of task means": lambda scores: np.asarray(scores.means.mean(axis=-1)),
            "median of task means": median_of_task_means,
            "least of task means": lambda scores: np.asarray(scores.means.min(axis=-1)),
        }
        for name, function in functions.items():
            for tasks in (8, 50):
                for noise in (0.0, 3.0):
                    found = [
                        bootstrap(function, noise, tasks, n, max(1, simulations // 5), given.seed)
                        for n in episodes
                    ]
                    title = "equal" if not noise else "four times as large at the highest mean"
                    yield [name, str(tasks), title, *map(cell, found)]

    table("Optimality gap", ["tasks", "scores", *heads], rows("gap", gap))
    table("Probability of improvement", ["tasks", "scores", *heads], rows("improvement", improvement))
    table("The default bootstrap", ["metric", "tasks", "noise", *heads], bootstraps())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
