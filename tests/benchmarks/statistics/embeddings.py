"""How often the intervals of ``lram embed`` hold what they say, beside two that look simpler.

    python tests/benchmarks/statistics/embeddings.py [--draws 400] [--seed 0]

Trajectories of a task lie around the task's centre, the states of a trajectory around the trajectory's own
place. Truth is the mean of the estimates over all draws: what such a design measures on average. *Fixed
neighbours*: a t interval over trajectories that takes the others as given. *States*: as if all states were
independent. Where no trajectory makes a difference there is no interval, which has a column: its shares are
of the draws that have one. Prints Markdown.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats

from lram.reports.sections.embedding.measures import Distances, measure

# Tasks, trajectories of each, states of each, width, spread of trajectories, of states, and of centres.
DESIGNS = (
    (3, 10, 5, 8, 1.0, 0.5, 1.0),
    (5, 10, 5, 8, 0.7, 0.7, 1.0),
    (5, 4, 5, 8, 1.0, 0.5, 1.0),
    (2, 20, 5, 4, 1.5, 0.5, 1.0),
    (2, 4, 5, 8, 1.0, 0.3, 1.0),
    (3, 4, 5, 8, 1.0, 0.3, 1.6),
    (2, 10, 5, 8, 1.0, 0.3, 1.6),
    (5, 10, 5, 8, 1.0, 0.3, 1.6),
)


def draw(rng: np.random.Generator, centres: np.ndarray, design: tuple) -> dict[str, list[tuple]]:
    """Return of each measure: the estimate, and the intervals of the three methods."""
    tasks, each, per, width, between, within, _ = design
    kinds = np.repeat(np.arange(tasks), each)
    trajectory = np.repeat(np.arange(tasks * each), per)
    places = centres[kinds] + between * rng.normal(size=(len(kinds), width))
    states = (places[trajectory] + within * rng.normal(size=(len(trajectory), width))).astype(np.float32)
    distances, everything, found = Distances(states, trajectory), np.ones(len(kinds), bool), {}
    for name in ("neighbours", "silhouettes"):
        one = measure(distances, name, kinds, kinds)
        values = getattr(distances, name)(kinds, everything)
        means = np.bincount(trajectory, values) / per
        spread = [means[kinds == task].var(ddof=1) / each for task in range(tasks)]
        fixed = stats.t.ppf(0.975, len(kinds) - tasks) * np.sqrt(sum(spread)) / tasks
        naive = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
        around = [(one.value - half, one.value + half) for half in (fixed, naive)]
        found[name] = (one.value, (one.low, one.high), *around)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print(
        "| tasks | trajectories | states | measure | truth | no interval | jackknife "
        "| fixed neighbours | states |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for design in DESIGNS:
        rng = np.random.default_rng([asked.seed, *design[:4]])
        centres = design[6] * rng.normal(size=(design[0], design[3]))
        drawn = [draw(rng, centres, design) for _ in range(asked.draws)]
        for name in ("neighbours", "silhouettes"):
            rows = [one[name] for one in drawn]
            truth = np.mean([row[0] for row in rows])
            without = np.mean([row[1][0] is None for row in rows])
            shown = [row for row in rows if row[1][0] is not None]
            held = [np.mean([row[k][0] <= truth <= row[k][1] for row in shown]) for k in (1, 2, 3)]
            shares = " | ".join(f"{100 * share:.0f}%" for share in held)
            row = " | ".join(map(str, design[:3]))
            print(f"| {row} | {name} | {truth:.3f} | {100 * without:.0f}% | {shares} |", flush=True)


if __name__ == "__main__":
    main()
