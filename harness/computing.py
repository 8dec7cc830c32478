"""How models compute in a run: as it was started, as a session does it, and what differs.

Device, form of the step, rows of a pass and threads touch the last digits of a model's numbers, and
from there the course of an episode; the precision makes another agent. So a run remembers all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields

import msgspec

from lram.agents.api import AgentInfo
from lram.agents.compute import Compute
from lram.agents.devices import gpu_model, placed_in_turn
from lram.harness.plan import PlannedAgent
from lram.harness.storage.records import RunPlan
from lram.harness.storage.run_folder import Run

_RESOLVED = ("device", "precision", "step", "rows a pass")
"""Details by which agents tell what became of what was asked for (``auto``, for one)."""


def started_with(run: Run) -> tuple[Compute, int]:
    """Return how models computed, and with how many threads, when ``run`` was started."""
    if run.plan.compute is not None:
        return run.plan.compute, run.plan.threads
    # Before the plan kept it, it was among the settings of the first session.
    sessions = run.provenance()
    settings = sessions[0].settings if sessions else {}
    asked = {field.name: settings[field.name] for field in fields(Compute) if field.name in settings}
    return msgspec.convert(asked, Compute, strict=False), int(settings.get("threads", "1"))


def facts(info: AgentInfo, compute: Compute, threads: int) -> dict[str, str]:
    """Return how an agent computes, by name: as it tells where it does, otherwise as asked for."""
    asked = {name: str(value) for name, value in asdict(compute).items()}
    asked["rows a pass"] = asked.pop("rows")
    reported = {name: text for name, text in info.details if name in _RESOLVED}
    return {**asked, **reported, "threads": str(threads)}


def of_models(
    agents: Mapping[str, PlannedAgent], compute: Compute, threads: int, *, here: bool = True
) -> dict[str, dict[str, str]]:
    """Return by label how each model among ``agents`` computes.

    Args:
        agents: All that a session has built, in their order: they take the devices in turn.
        compute, threads: As asked for.
        here: They compute in this process, so that the model of their GPU (``gpu``) is known.
    """
    devices = placed_in_turn(agents, compute.device)
    found = {
        label: facts(agent.info, compute.on(devices[label]), threads)
        for label, agent in agents.items()
        if agent.info.kind == "model"
    }
    for settings in found.values():
        if here and (model := gpu_model(settings["device"])):
            settings["gpu"] = model
    return found


def changes(
    plan: RunPlan, start: tuple[Compute, int], now: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """Return what differs between a run's start and a session, such as ``threads 2 instead of 1``.

    Args:
        plan: The run's plan.
        start: How the run was started.
        now: What :func:`of_models` tells of the session.

    Returns:
        Labels of the agents by difference.
    """
    found: dict[str, list[str]] = {}
    compute, threads = start
    devices = placed_in_turn([entry.label for entry in plan.agents], compute.device)
    for entry in plan.agents:
        before = facts(entry.info, compute.on(devices[entry.label]), threads)
        for name, value in now.get(entry.label, {}).items():
            if value != before.get(name, value):
                found.setdefault(f"{name} {value} instead of {before[name]}", []).append(entry.label)
    return found
