"""How often `lram report --seeds-of` is right: intervals over trainings, and verdicts on equal models.

    python tests/benchmarks/statistics/training_seeds.py --data-sets 4000

Three tasks of ten episodes. Trainings of a model differ by 0.05; an episode's return has noise of 0.3; each
model has a liking of its own for each initial state (0.2) beside what the state is worth to all of them
(0.2). Trainings of a model meet the same initial states, or each its own; the first training of one model
always meets those of the first of the other.
"""

from __future__ import annotations

import argparse

import numpy as np

from lram.reports.statistics import over_seeds

TASKS, EPISODES, LEVEL = 3, 10, 0.95
TRAINING, EPISODE, STATE, LIKING = 0.05, 0.3, 0.2, 0.2
TRUTH = 0.6


def simulated(rng: np.random.Generator, trainings: int, *, shared: bool) -> np.ndarray:
    """Return the means of the trainings of two equal models, (2, trainings)."""
    starts = 1 if shared else trainings
    shape = (starts, TASKS, EPISODES)
    state = STATE * rng.normal(size=(1, *shape))
    liking = LIKING * rng.normal(size=(2, *shape))
    worth = TRUTH + TRAINING * rng.normal(size=(2, trainings, 1, 1))
    noise = EPISODE * rng.normal(size=(2, trainings, TASKS, EPISODES))
    return (worth + state + liking + noise).mean(axis=(2, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-sets", type=int, default=4000)
    asked = parser.parse_args()
    print("| trainings | initial states | interval holds the truth | equal models told apart |")
    print("|---|---|---:|---:|")
    for shared in (False, True):
        for trainings in (3, 5, 10):
            rng = np.random.default_rng([trainings, shared])
            held = told = 0
            for _ in range(asked.data_sets):
                one, two = simulated(rng, trainings, shared=shared)
                span, _ = over_seeds(one, LEVEL)
                held += span is not None and span[0] <= TRUTH <= span[1]
                p = over_seeds(one - two, LEVEL)[1]
                told += p is not None and p < 1 - LEVEL
            name = "the same" if shared else "each its own"
            print(f"| {trainings} | {name} | {held / asked.data_sets:.1%} | {told / asked.data_sets:.1%} |")


if __name__ == "__main__":
    main()
