"""What keeps agents from being compared: worlds of different rates, and failures of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lram.envs.scores import audit
from lram.envs.task import Task
from lram.reports.comparison.worlds import worlds
from lram.reports.evidence.evidence import Evidence
from lram.reports.text import listing


def barrier(evidence: Evidence, names: Mapping[str, str]) -> str:
    """Return why agents are not to be compared on the tasks that all of them play; empty where they are.

    Agents whose worlds have different rates (:mod:`lram.reports.comparison.worlds`) are not.
    A pair of episodes of which one failed by its agent's own fault, and cannot be counted, must not be left
    out: what is left would favour the agent that failed.

    Args:
        evidence: All runs.
        names: Labels of the agents, each with the name to call it by.
    """
    return barrier_between(
        [planned.task for planned in evidence.tasks if audit(planned.task) is None],
        {name: (evidence, label) for label, name in names.items()},
    )


def barrier_between(tasks: Sequence[Task], sides: Mapping[str, tuple[Evidence, str]]) -> str:
    """Return what :func:`barrier` does, for agents whose episodes are in several bodies of evidence.

    Args:
        tasks: That the comparison is about; of scores, those with a usable reference.
        sides: By the name to call each by: where its episodes are, and its label there.
    """
    rates = [evidence.realtime_hz.get(label, 0.0) for evidence, label in sides.values()]
    if differing := worlds(rates):
        return f"they acted in {differing}"
    obstacles = []
    shared = [task.id for task in tasks if all(_plays(*side, task.id) for side in sides.values())]
    for name, (evidence, label) in sides.items():
        cells = {task: evidence.cells[label, task] for task in shared}
        without = [task for task, cell in cells.items() if cell.obstacle]
        if without:
            obstacles.append(f"{name} on {listing(without)}: {cells[without[0]].obstacle}")
    return "; ".join(obstacles)


def _plays(evidence: Evidence, label: str, task: str) -> bool:
    cell = evidence.cells.get((label, task))
    return cell is not None and cell.planned > 0
