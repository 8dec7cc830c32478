"""What sweeps that are shown together have in common, and what not; and sweeps of more than one machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lram.agents.backbones.registry import BUILT_IN
from lram.harness.latency.folder import LatencyRun
from lram.harness.latency.records import LatencyPlan, machine_of
from lram.reports import text
from lram.reports.model import Caveat

COMPUTING = (
    *("torch", "numba", "numpy", "lram-bench"),
    *(one.distribution for spec in BUILT_IN for one in spec.packages if one.computes),
)
"""Distributions whose versions may change a time."""

_SETTINGS: dict[str, Callable[[LatencyPlan], str]] = {
    "device": lambda plan: plan.device,
    "precision": lambda plan: plan.precision,
    "threads": lambda plan: text.count(plan.threads, "thread"),
    "windows": lambda plan: "windows of each context" if plan.windows == "whole" else "windows of the model",
    "task": lambda plan: plan.task.task.id,
}


def folder_names(runs: Sequence[LatencyRun]) -> list[str]:
    """Return what to call each folder: its name, or its path where another one has the same."""
    short = [run.path.resolve().name for run in runs]
    return [name if short.count(name) == 1 else str(run.path) for name, run in zip(short, runs, strict=True)]


def machines(run: LatencyRun) -> tuple[str, ...]:
    """Return the machines that a sweep was measured on, in words; none where nobody noted any."""
    return tuple(dict.fromkeys(machine_of(made, run.plan.device) for made in run.provenance()))


def differing(runs: Sequence[LatencyRun]) -> list[tuple[str, ...]]:
    """Return the settings of each sweep, in words, in which they are not all alike; machines aside."""
    asked = [of for of in _SETTINGS.values() if len({of(run.plan) for run in runs}) > 1]
    return [tuple(of(run.plan) for of in asked) for run in runs]


def machines_differ(runs: Sequence[LatencyRun]) -> bool:
    """Return whether some sweep was measured on another machine than another one."""
    return len({made for run in runs if (made := machines(run))}) > 1


def caveats(runs: Sequence[LatencyRun]) -> Iterator[Caveat]:
    """Yield what speaks against comparing sweeps, and the parts of one."""
    names = folder_names(runs)
    for name, run in zip(names, runs, strict=True):
        if len(found := machines(run)) > 1:
            yield Caveat(
                "latency-machines",
                f"Latency: {name} was begun on one machine and resumed on another; a difference between its "
                "agents, contexts or processes may be that of the machines. Measure it anew on one.",
                found,
            )
        versions = {
            package: tuple(dict.fromkeys(made.packages.get(package, "none") for made in run.provenance()))
            for package in COMPUTING
        }
        if changed := tuple(f"{package} {text.names(v)}" for package, v in versions.items() if len(v) > 1):
            yield Caveat(
                "latency-versions",
                f"Latency: {name} was begun with other versions than it was resumed with; a difference "
                "between its agents, contexts or processes may be theirs. Measure it anew.",
                changed,
            )
    elsewhere = machines_differ(runs)
    if elsewhere or any(differing(runs)):
        yield Caveat(
            "latency-settings",
            "Latency: sweeps with other settings or of other machines are drawn in one panel; a difference "
            "between their lines may be that and not the agents'. Only agents of one sweep are crossed.",
            tuple(
                f"{name}: {', '.join((*settings, *(machines(run) if elsewhere else ())))}"
                for name, settings, run in zip(names, differing(runs), runs, strict=True)
            ),
        )
