"""What the section holds: a published system's mean and an agent's, over the tasks that both have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lram.envs.scores import audit
from lram.envs.task import Task
from lram.reports.evidence.evidence import Evidence, display_name
from lram.reports.literature import Literature, ReportTask, beside
from lram.reports.model import rounded
from lram.reports.samples import SCORE, values_of


@dataclass(frozen=True, slots=True)
class MeansOnSharedTasks:
    """Mean scores of a published system and of an agent over the tasks of a domain that both have.

    Attributes:
        domain, system: Where, and whose numbers are published.
        agent, name: The agent's label and what people read.
        tasks: Ids of the tasks with a score of both; none of an agent for which the world did not wait.
        of_tasks: Tasks of the domain in the report that could have a score.
        published, measured: Mean normalised scores over ``tasks``; None where there are none.
        waited: Whether the world waited for the agent, as it does in every protocol.
    """

    domain: str
    system: str
    agent: str
    name: str
    tasks: tuple[str, ...]
    of_tasks: int
    published: float | None
    measured: float | None
    waited: bool


def literature_of(evidence: Evidence) -> Literature:
    """Return what is published of the tasks of ``evidence``."""
    waited = {task for label, task in evidence.cells if label not in evidence.realtime_hz}
    tasks = [
        ReportTask(
            one.task.id,
            one.protocol,
            _references(one.task),
            one.task.id in waited or not evidence.realtime_hz,
        )
        for one in evidence.tasks
    ]
    return beside(tasks, evidence.normaliser)


def shared_means(evidence: Evidence, found: Literature) -> list[MeansOnSharedTasks]:
    """Return a row for each domain, published system and agent."""
    return list(_rows(evidence, found))


def _rows(evidence: Evidence, found: Literature) -> Iterator[MeansOnSharedTasks]:
    for domain in dict.fromkeys(one.task.domain for one in evidence.tasks):
        inside = [one.task for one in evidence.tasks if one.task.domain == domain and not audit(one.task)]
        for system in found.systems(domain):
            theirs = {
                task: one.score for task, one in found.of(system, domain).items() if one.score is not None
            }
            for agent in evidence.agents if theirs else ():
                ours = {
                    task.id: float(np.mean(values))
                    for task in inside
                    if task.id in theirs
                    and agent.label not in evidence.realtime_hz
                    and len(values := values_of(evidence, agent.label, task, SCORE))
                }
                yield MeansOnSharedTasks(
                    domain=domain,
                    system=system,
                    agent=agent.label,
                    name=display_name(agent),
                    tasks=tuple(ours),
                    of_tasks=len(inside),
                    published=_mean([theirs[task] for task in ours]),
                    measured=_mean(list(ours.values())),
                    waited=agent.label not in evidence.realtime_hz,
                )


def _references(task: Task) -> tuple[float, float] | None:
    if audit(task) or task.score_random is None or task.score_reference is None:
        return None
    return task.score_random, task.score_reference


def _mean(values: list[float]) -> float | None:
    return rounded(sum(value / len(values) for value in values)) if values else None
