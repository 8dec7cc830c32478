"""The scores of a run as a line for trackers."""

from __future__ import annotations

from typing import Any

from lram.harness.storage.run_folder import Run
from lram.reports.evidence.collect import collect
from lram.reports.model import Estimate
from lram.reports.standing import standings


def scores_line(run: Run) -> dict[str, Any]:
    """Return each agent's score and success rate, over all tasks and by task, with the report's estimates.

    ``update`` is the number of recorded episodes; what has no value or no interval is not there. Of an agent:
    ``score``, ``score_low``, ``score_high`` and ``score_doubts``, for how many reasons the interval may not
    hold (:data:`lram.reports.model.Doubt`; a number, since trackers take no text), likewise ``success``, the
    number of ``scored`` episodes, and under ``tasks`` the same for each task, with ``return``.
    """
    evidence = collect([run])
    agents: dict[str, Any] = {}
    for agent, standing in zip(evidence.agents, standings(evidence), strict=True):
        cells = {task: cell for (label, task), cell in evidence.cells.items() if label == agent.label}
        agents[agent.label] = {
            **_values("score", standing.score.estimate),
            **_values("success", standing.success.estimate),
            "scored": sum(len(cell.scored) for cell in cells.values()),
            "tasks": {
                one.task: {
                    **_values("score", one.score),
                    **_values("success", one.success),
                    **_values("return", one.returns),
                }
                for one in standing.tasks
            },
        }
    recorded = sum(len(cell.records) for cell in evidence.cells.values())
    return {"kind": "scores", "update": recorded, "agents": agents}


def _values(name: str, estimate: Estimate | None) -> dict[str, float]:
    if estimate is None:
        return {}
    found = {name: estimate.value}
    if estimate.interval is not None:
        found |= {
            f"{name}_low": estimate.interval.low,
            f"{name}_high": estimate.interval.high,
            f"{name}_doubts": len(estimate.interval.doubts),
        }
    return found
