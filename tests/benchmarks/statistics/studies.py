"""How often a study says better or worse where no level is: with shared and with own initial states.

    python tests/benchmarks/statistics/studies.py [--quick] [--studies 1000] [--seed 0]

Simulated studies go through the product's own functions: the seeds of ``lram.harness.storage.seeds`` name
the initial states of every cell's episodes, and ``lram.reports.sections.study.effects.effects`` says the
verdicts. A level does something of its own to each initial state (the interaction) and each training has
its luck; over all initial states no level is better. So every "better" and "worse" is false.

The first table has one score; the second has further measures and levels, of which none differs, and counts
the studies that say better or worse (higher, lower) of anything. Prints Markdown.
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path

import numpy as np

from lram.harness.storage.seeds import evaluation_seed, simulator_seed
from lram.harness.studies.study import Axis, Data, Evaluation, Level, Study
from lram.reports.samples import Resampling
from lram.reports.sections.study.cells import CellValues, StudyValues
from lram.reports.sections.study.effects import CANNOT_TELL, effects

HOW = Resampling(0, 2, 0.95)  # verdicts are by the t test: the bootstrap of the episodes is not needed


def simulated(
    rng: np.random.Generator,
    *,
    levels: int,
    seeds: int,
    tasks: int,
    episodes: int,
    interaction: float,
    training: float,
    own_starts: bool,
    others: bool,
) -> StudyValues:
    """Return a study without any effect.

    Args:
        rng: Draws everything.
        levels: Of its one axis, the base among them.
        seeds: Training seeds.
        tasks: Of one domain.
        episodes: A task.
        interaction: Standard deviation of what a level does to one initial state, in score.
        training: Standard deviation between trainings.
        own_starts: Each training seed is evaluated on initial states of its own, as studies are now.
        others: The other measures are there, too, with noise between trainings alone.
    """
    names = [f"toy/task-{number}" for number in range(tasks)]
    study = Study(
        name="simulated",
        question="",
        seeds=tuple(range(seeds)),
        recipe={},
        axes=(Axis("axis", tuple(Level(f"level {number}") for number in range(levels))),),
        data=Data(("/store",)),
        evaluation=Evaluation(tuple(names), episodes),
    )
    met: dict[tuple[int, int], float] = {}
    cells = []
    for seed, (number, level) in product(study.seeds, enumerate(study.axes[0].levels)):
        run_seed = evaluation_seed(study.evaluation.seed, seed) if own_starts else study.evaluation.seed
        luck = training * rng.standard_normal()
        scores: dict[str, dict[int, float]] = {}
        starts = {}
        for task, episode in product(names, range(episodes)):
            start = starts[task, episode] = simulator_seed(run_seed, task, episode)
            if (number, start) not in met:
                met[number, start] = interaction * rng.standard_normal()
            scores.setdefault(task, {})[episode] = 0.5 + luck + met[number, start]
        measured = {"score": scores}
        if others:
            for key in ("validation_loss", "repeated_predictions", "repeated_in_play"):
                measured[key] = {"": {0: rng.standard_normal()}}
            measured["decision_ms"] = {"": {0: float(np.exp(0.1 * rng.standard_normal()))}}
        cells.append(
            CellValues((level.name,), seed, "", "", "", 1, measured, simulator_seeds=starts),
        )
    return StudyValues(Path(), study, tuple(cells), "", (), own_starts)


def false_share(studies: int, seed: int, **how: object) -> float:
    """Return the share of studies without any effect that say better or worse of anything."""
    told = 0
    for number in range(studies):
        study = simulated(np.random.default_rng((seed, number)), **how)  # type: ignore[arg-type]
        told += any(effect.verdict != CANNOT_TELL for effect in effects(study, HOW))
    return told / studies


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="a case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="100 studies a case")
    asked = parser.parse_args()
    studies = 100 if asked.quick else asked.studies
    began = time.monotonic()
    sizes = {"tasks": 3, "episodes": 10}
    print(f"{studies} studies a case; 3 tasks of 10 episodes; 'better' or 'worse' of levels that are not.\n")
    print("| interaction sd | training sd | training seeds | shared initial states | own initial states |")
    print("|---|---|---|---|---|")
    for interaction, training in ((0.4, 0.02), (0.4, 0.2), (0.0, 0.02)):
        for seeds in (2, 3, 5, 10):
            shares = [
                false_share(
                    studies,
                    asked.seed,
                    levels=2,
                    seeds=seeds,
                    interaction=interaction,
                    training=training,
                    own_starts=own,
                    others=False,
                    **sizes,
                )
                for own in (False, True)
            ]
            print(f"| {interaction} | {training} | {seeds} | {shares[0]:.1%} | {shares[1]:.1%} |")
    print("\n| levels | measures | training seeds | studies that say anything false |\n|---|---|---|---|")
    for levels, seeds in product((2, 4), (3, 5, 10)):
        share = false_share(
            studies,
            asked.seed + 1,
            levels=levels,
            seeds=seeds,
            interaction=0.4,
            training=0.02,
            own_starts=True,
            others=True,
            **sizes,
        )
        print(f"| {levels} | 5 | {seeds} | {share:.1%} |")
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
