"""How often "ready 99 times in 100" errs, and what the audit of inputs costs a sweep.

    python tests/benchmarks/statistics/clocks.py [--quick] [--sweeps 4000] [--seed 0] [--cost]

The first table simulates sweeps through ``lram.reports.sections.latency.readiness``: an agent is late in a
share of its decisions, those of one process being alike to a degree (the correlation of two decisions of one
process).
Beside the verdict of now stands that of before: the 99th of 100 decisions of all processes together, from 100
decisions on. ``--cost`` measures sweeps of a random agent and of a small model with and without distinct
inputs and their audit at every context, in turns. Prints Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from lram.harness.latency.folder import LatencyWriter
from lram.harness.latency.plan import LatencyRequest, make_plan
from lram.harness.latency.sweep import resume
from lram.reports.sections.latency.readiness import ready


def simulated(
    rng: np.random.Generator, late: float, processes: int, decisions: int, correlation: float
) -> list[int]:
    """Return the late decisions of each process."""
    rates = np.full(processes, late)
    if correlation:
        size = (1 - correlation) / correlation
        rates = rng.beta(late * size, (1 - late) * size, processes)
    return [int(count) for count in rng.binomial(decisions, rates)]


def before(late: list[int], decisions: int) -> bool | None:
    """Return the verdict of the 99th percentile, as it was."""
    total = len(late) * decisions
    return None if total < 100 else sum(late) <= total - int(np.ceil(0.99 * total))


def errors(sweeps: int, seed: int) -> None:
    """Print how often agents are called ready."""
    print(f"{sweeps} sweeps a row; five processes; how often the agent is said to be ready 99 times in 100\n")
    print(
        "| late in | decisions a process | correlation | ready, before | ready, now | late, now | cannot "
        "tell |"
    )
    print("|---|---|---|---|---|---|---|")
    for late in (0.001, 0.01, 0.02):
        for decisions in (30, 75, 200):
            for correlation in (0.0, 0.02, 0.1):
                rng = np.random.default_rng((seed, int(1e4 * late), decisions, int(1e3 * correlation)))
                given = [simulated(rng, late, 5, decisions, correlation) for _ in range(sweeps)]
                now = [ready(one, [decisions] * 5) for one in given]
                was = np.mean([before(one, decisions) is True for one in given])
                told = [np.mean([one is verdict for one in now]) for verdict in (True, False, None)]
                print(
                    f"| {late:.1%} | {decisions} | {correlation} | {was:.1%} | "
                    f"{told[0]:.1%} | {told[1]:.1%} | {told[2]:.1%} |"
                )


def cost(agents: list[str], rounds: int) -> None:
    """Print what a sweep takes with distinct inputs and their audit at every context, over without."""
    print("\n| agent | seconds, before | seconds, now | ratio |\n|---|---|---|---|")
    for agent in agents:
        request = LatencyRequest([agent], repeats=1, task="toy/image", loop=False)
        plan, inputs = make_plan(request, lambda text: None)
        taken: dict[bool, list[float]] = {False: [], True: []}
        with tempfile.TemporaryDirectory() as folder:
            for number in range(rounds):
                for distinct in (False, True)[:: 1 if number % 2 else -1]:
                    place = Path(folder) / f"{number}-{distinct}"
                    LatencyWriter.create(place, dataclasses.replace(plan, distinct=distinct), inputs).close()
                    began = time.perf_counter()
                    resume(place)
                    taken[distinct].append(time.perf_counter() - began)
        old, new = (statistics.median(taken[distinct]) for distinct in (False, True))
        print(f"| {agent} | {old:.1f} | {new:.1f} | {new / old:.2f} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=4000, help="a row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="400 sweeps a row")
    parser.add_argument("--cost", action="store_true", help="also measure what the audit takes")
    asked = parser.parse_args()
    errors(400 if asked.quick else asked.sweeps, asked.seed)
    if asked.cost:
        cost(["random", "mamba-1M"], 1 if asked.quick else 3)


if __name__ == "__main__":
    main()
