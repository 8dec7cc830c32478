"""Where a failure of an agent keeps it from being compared."""

from __future__ import annotations

from collections.abc import Mapping

from lram.envs.scores import audit
from lram.reports.evidence.evidence import Evidence
from lram.reports.text import listing


def barrier(evidence: Evidence, names: Mapping[str, str]) -> str:
    """Return why agents are not to be compared on the tasks that all of them play; empty where they are.

    A pair of episodes of which one failed by its agent's own fault, and cannot be counted, must not be left
    out: what is left would favour the agent that failed.

    Args:
        evidence: All runs.
        names: Labels of the agents, each with the name to call it by.
    """
    obstacles = []
    shared = [
        planned.task
        for planned in evidence.tasks
        if audit(planned.task) is None and all(_plays(evidence, label, planned.task.id) for label in names)
    ]
    for label, name in names.items():
        cells = {task.id: evidence.cells[label, task.id] for task in shared}
        without = [task for task, cell in cells.items() if cell.obstacle]
        if without:
            obstacles.append(f"{name} on {listing(without)}: {cells[without[0]].obstacle}")
    return "; ".join(obstacles)


def _plays(evidence: Evidence, label: str, task: str) -> bool:
    cell = evidence.cells.get((label, task))
    return cell is not None and cell.planned > 0
