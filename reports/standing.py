"""How agents stand at the end of a run: the report's estimates, without what takes long or needs asking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lram.reports.evidence.evidence import Evidence, display_name
from lram.reports.model import Aggregate, Estimate
from lram.reports.samples import RETURN, SCORE, SUCCESS_ANY, AgentSamples, Resampling, covered
from lram.reports.statistics import equal_domain_weights

_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class TaskStanding:
    """An agent on one task; None where it has no value.

    Attributes:
        task: Id of the task.
        score: Mean normalised score.
        success: Share of the episodes that were solved at some time.
        returns: Mean return.
    """

    task: str
    score: Estimate | None
    success: Estimate | None
    returns: Estimate | None


@dataclass(frozen=True, slots=True)
class Standing:
    """An agent over all tasks.

    Attributes:
        name: Its label; of a model with random weights with a word that says so.
        score: Mean of domain means of normalised scores, as in reports.
        success: Mean of domain means of success rates.
        tasks: Task by task, those of its plan.
    """

    name: str
    score: Aggregate
    success: Aggregate
    tasks: tuple[TaskStanding, ...]


def standings(evidence: Evidence) -> Iterator[Standing]:
    """Yield each agent of ``evidence``, with 95% intervals; one agent's samples are held at a time."""
    how = Resampling(0, 1, _LEVEL)  # nothing here is resampled
    scored, solved = covered(evidence, SCORE), covered(evidence, SUCCESS_ANY)
    tasks = [planned.task for planned in evidence.tasks]
    for agent in evidence.agents:
        score, success, returns = (
            AgentSamples(evidence, agent.label, measure, how) for measure in (SCORE, SUCCESS_ANY, RETURN)
        )
        yield Standing(
            display_name(agent),
            score.aggregate(tasks, scored, equal_domain_weights),
            success.aggregate(tasks, solved, equal_domain_weights),
            tuple(
                TaskStanding(task.id, score.task(task.id), success.task(task.id), returns.task(task.id))
                for task in tasks
                if (cell := evidence.cells.get((agent.label, task.id))) is not None and cell.planned
            ),
        )
