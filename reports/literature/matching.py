"""Which published numbers may stand beside a report's own.

A number may where its protocol is the one that the task was played under, where the world waited for an
agent, as it does in every protocol, and, if it is a score, where its normaliser is the report's. A raw return
is normalised by the report's own references. Every other number of the same tasks is kept with the reason, so
that a report can say it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lram.envs.scores import Normaliser, scaled
from lram.reports.literature.cells import Metric, PublishedCell, published
from lram.reports.model import Summary, rounded


@dataclass(frozen=True, slots=True)
class ReportTask:
    """What of a report's task decides which numbers it may stand beside.

    Attributes:
        id: ``domain/name``.
        protocol: Id of the protocol that it was played under.
        references: Random return and reference of the report's scores; None where they carry no score.
        waited: Whether the world waited for any agent that plays it, and was not one of ``--realtime``.
    """

    id: str
    protocol: str
    references: tuple[float, float] | None
    waited: bool = True


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """A published number that agrees, with its normalised score (None: the task has no usable reference)."""

    cell: PublishedCell
    score: float | None


@dataclass(frozen=True, slots=True)
class PublishedMean:
    """The mean score of one system over the tasks of one domain.

    Attributes:
        tasks: Ids of the tasks that it rests on: those of the report that have a published score.
        lacking: The domain's other tasks of the report that could have a score.
    """

    system: str
    domain: str
    score: float
    tasks: tuple[str, ...]
    lacking: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether it rests on the same tasks as an agent's mean of the domain."""
        return not self.lacking


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Published numbers of a report's tasks that do not stand beside its own, and why."""

    system: str
    domain: str
    metric: Metric
    reason: str
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Literature:
    """What is published of a report's tasks.

    Attributes:
        tasks: The report's.
        scores: The numbers that agree, in the order of the tasks.
        unmatched: The others.
    """

    tasks: tuple[ReportTask, ...]
    scores: tuple[PublishedScore, ...]
    unmatched: tuple[Unmatched, ...]

    def __bool__(self) -> bool:
        return bool(self.scores or self.unmatched)

    def systems(self, domain: str) -> list[str]:
        """Return the systems that have a number that agrees in ``domain``."""
        return list(dict.fromkeys(one.cell.system for one in self.scores if one.cell.domain == domain))

    def of(self, system: str, domain: str) -> dict[str, PublishedScore]:
        """Return the numbers of ``system`` that agree in ``domain``, by task id."""
        found = (one for one in self.scores if (one.cell.system, one.cell.domain) == (system, domain))
        return {one.cell.task: one for one in found}

    def means(self, domain: str) -> list[PublishedMean]:
        """Return the mean score of each system in ``domain`` that has any there."""
        could = [task.id for task in self.tasks if task.references and _domain(task.id) == domain]
        found = []
        for system in self.systems(domain):
            scores = {task: one.score for task, one in self.of(system, domain).items()}
            values = {task: score for task in could if (score := scores.get(task)) is not None}
            if values:
                mean = rounded(sum(value / len(values) for value in values.values()))
                lacking = tuple(task for task in could if task not in values)
                found.append(PublishedMean(system, domain, mean, tuple(values), lacking))
        return found


def beside_summary(summary: Summary) -> Literature:
    """Return what is published of the tasks of ``summary``."""
    late = {agent.label for agent in summary.agents if agent.realtime_hz}
    waited = {result.task for result in summary.results if result.agent not in late}
    tasks = [
        ReportTask(
            task.id,
            task.protocol,
            _references(task.score_random, task.score_reference, task.audit),
            task.id in waited or not late,
        )
        for task in summary.tasks
    ]
    return beside(tasks, summary.normaliser)


def beside(
    tasks: Sequence[ReportTask], normaliser: Normaliser, cells: Iterable[PublishedCell] | None = None
) -> Literature:
    """Return what is published of ``tasks``.

    Args:
        tasks: The report's.
        normaliser: Of its scores.
        cells: Published numbers; those of the package where nothing is said.
    """
    by_task: dict[str, list[PublishedCell]] = {}
    for cell in published() if cells is None else cells:
        by_task.setdefault(cell.task, []).append(cell)
    scores: list[PublishedScore] = []
    others: dict[tuple[str, str, Metric, str], list[str]] = {}
    for task in tasks:
        for cell in by_task.get(task.id, ()):
            if reason := _why_not(cell, task, normaliser):
                others.setdefault((cell.system, cell.domain, cell.metric, reason), []).append(task.id)
            else:
                scores.append(PublishedScore(cell, _score(cell, task)))
    unmatched = tuple(Unmatched(*key, tuple(named)) for key, named in others.items())
    return Literature(tuple(tasks), tuple(scores), unmatched)


def _why_not(cell: PublishedCell, task: ReportTask, normaliser: Normaliser) -> str:
    """Return why ``cell`` may not stand beside a report's own; empty where it may."""
    if not cell.agrees_with:
        return cell.reason
    if cell.agrees_with != task.protocol:
        return f"agrees with {cell.agrees_with}, and the task was played under {task.protocol}"
    if not task.waited:
        return "measured in a world that waits, and that of this report's agents did not (--realtime)"
    if cell.metric == "score" and cell.normaliser != normaliser:
        return f"a score by the normaliser {cell.normaliser}, and this report's are by {normaliser}"
    return ""


def _score(cell: PublishedCell, task: ReportTask) -> float | None:
    if task.references is None:
        return None
    return cell.value if cell.metric == "score" else rounded(scaled(cell.value, *task.references))


def _references(random: float | None, reference: float | None, audit: str) -> tuple[float, float] | None:
    return None if audit or random is None or reference is None else (random, reference)


def _domain(task: str) -> str:
    return task.partition("/")[0]
