"""The episodes of one agent, measured one way, and what can be estimated from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lram.envs.scores import audit, normalise
from lram.envs.task import Task
from lram.harness.records import EpisodeRecord
from lram.reports.collect import Evidence
from lram.reports.model import ALL_EQUAL, Aggregate, Estimate, Interval, LeftOut, RestsOn, rounded
from lram.reports.statistics import (
    Array,
    centred_interval,
    shows_noise,
    stream,
    task_replicates,
    wilson_interval,
)
from lram.reports.text import reason_without

NO_NOISE = "every task has one episode or equal ones only"
"""Why an aggregate has no interval."""

Functional = Callable[[Array], Array]
"""Maps task means (tasks,) or (resamples, tasks) to an aggregate over the last axis."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made: the bootstrap's seed, its number of replicates, and the level."""

    seed: int
    resamples: int
    level: float


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that one scored episode gives.

    Attributes:
        of: The number; None where the task cannot give it.
        rate: Whether it is 0 or 1.
    """

    of: Callable[[Task, EpisodeRecord], float | None]
    rate: bool = False


def _flag(value: bool | None) -> float | None:
    return None if value is None else float(value)


def _score(task: Task, record: EpisodeRecord) -> float | None:
    return None if record.episode_return is None else normalise(task, record.episode_return)


RETURN = Measure(lambda task, record: record.episode_return)
SCORE = Measure(_score)
SUCCESS_ANY = Measure(lambda task, record: _flag(record.success_any), rate=True)
SUCCESS_LAST = Measure(lambda task, record: _flag(record.success_last), rate=True)


def values_of(evidence: Evidence, agent: str, task: Task, measure: Measure) -> Array:
    """Return one value an episode that counts, ordered by run seed and episode; often empty."""
    cell = evidence.cells.get((agent, task.id))
    found = [measure.of(task, record) for record in cell.counted.values()] if cell else []
    return np.array([value for value in found if value is not None], dtype=np.float64)


class Samples:
    """One agent's values of one measure on every task that has any, and their replicates."""

    def __init__(self, evidence: Evidence, agent: str, measure: Measure, how: Resampling) -> None:
        self._evidence, self._agent, self._measure, self._how = evidence, agent, measure, how
        found = [(p.task, values_of(evidence, agent, p.task, measure)) for p in evidence.tasks]
        kept = [(task, values) for task, values in found if len(values)]
        self.tasks = [task for task, _ in kept]
        self.values = [values for _, values in kept]
        self._place = {task.id: place for place, task in enumerate(self.tasks)}
        self._replicates = task_replicates(
            self.values,
            [task.domain for task in self.tasks],
            how.resamples,
            [stream(how.seed, agent, task.id) for task in self.tasks],
            # Only scores have one unit in all domains; a rate has Wilson's interval to fall back on.
            across=measure is SCORE,
        )

    def task(self, task_id: str) -> Estimate | None:
        """Return the mean over one task's episodes; None where there is no value.

        A rate has a Wilson interval, anything else a bootstrap interval where episodes differ.
        """
        if task_id not in self._place:
            return None
        place = self._place[task_id]
        values = self.values[place]
        if self._measure.rate:
            return Estimate(rounded(values.mean()), self._wilson([place]))
        if len(values) == 1:
            return Estimate(rounded(values[0]), None, "one episode")
        if not shows_noise(values):
            return Estimate(rounded(values.mean()), None, ALL_EQUAL)
        return Estimate(rounded(values.mean()), self._interval(self._replicates[:, place], values.mean()))

    def aggregate(
        self, tasks: Sequence[Task], covered: set[str], functional: Callable[[list[str]], Functional]
    ) -> Aggregate:
        """Return an aggregate over the means of those of ``tasks`` that have a value.

        Args:
            tasks: The planned tasks that it is about.
            covered: Ids of all tasks that could have a value (:func:`covered`).
            functional: Builds the aggregate from the domains of the tasks that entered.
        """
        places = [self._place[task.id] for task in tasks if task.id in self._place]
        domains = [self.tasks[place].domain for place in places]
        absent = [task for task in tasks if task.id not in self._place]
        rests_on = RestsOn(
            tasks=len(places),
            of_tasks=sum(task.id in covered for task in tasks),
            episodes=sum(len(self.values[place]) for place in places),
            domains=tuple(dict.fromkeys(domains)),
            borrowed_noise=sum(not shows_noise(self.values[place]) for place in places),
            left_out=tuple(LeftOut(task.id, self._why_not(task)) for task in absent),
            unfinished=sum(task.id in covered and self._lacks_records(task) for task in absent),
        )
        if not places:
            return Aggregate(None, rests_on)
        over = functional(domains)
        value = rounded(float(over(np.array([self.values[place].mean() for place in places]))))
        columns = self._replicates[:, places]
        unknown = int(np.isnan(columns[0]).sum())
        if self._measure.rate and unknown:
            return Aggregate(Estimate(value, self._wilson(places)), rests_on)
        if unknown:
            return Aggregate(Estimate(value, None, NO_NOISE), rests_on)
        return Aggregate(Estimate(value, self._interval(over(columns), value)), rests_on)

    def _interval(self, replicates: Array, estimate: float) -> Interval:
        low, high = centred_interval(replicates, estimate, self._how.level)
        if self._measure.rate:
            low, high = max(low, 0.0), min(high, 1.0)
        return Interval(rounded(low), rounded(high))

    def _wilson(self, places: Sequence[int]) -> Interval:
        """Return Wilson's interval of the pooled episodes.

        Over several tasks it ignores that episodes were drawn within tasks, which makes it wide
        rather than narrow; it stands in where the bootstrap sees no spread.
        """
        pooled = np.concatenate([self.values[place] for place in places])
        low, high = wilson_interval(int(pooled.sum()), len(pooled), self._how.level)
        return Interval(rounded(low), rounded(high), "wilson")

    def _lacks_records(self, task: Task) -> bool:
        cell = self._evidence.cells.get((self._agent, task.id))
        return cell is not None and len(cell.records) < cell.planned

    def _why_not(self, task: Task) -> str:
        cell = self._evidence.cells.get((self._agent, task.id))
        reference = audit(task) if self._measure is SCORE else None
        if cell is None:
            return "not in this agent's runs"
        if cell.skipped:
            return f"cannot play it: {reason_without(task.id, cell.skipped)}"
        if reference is not None:
            return reference
        if cell.obstacle and not (self._measure.rate and cell.counted):
            return cell.obstacle
        if not cell.scored:
            missing = cell.planned - len(cell.records)
            return f"no scored episode ({len(cell.records)} errored, {missing} missing)"
        return "no notion of success"


def covered(evidence: Evidence, measure: Measure) -> set[str]:
    """Return the ids of the planned tasks that could have a value.

    For scores these are the tasks with a usable reference, whether or not anybody has played them.
    Whether a task has a notion of success only its records tell; one without any scored record is
    taken for its domain's others.
    """
    if measure is SCORE:
        return {planned.task.id for planned in evidence.tasks if audit(planned.task) is None}
    valued = {p.task.id for p in evidence.tasks if _anybody(evidence, p.task, measure)}
    domains = {planned.task.domain for planned in evidence.tasks if planned.task.id in valued}
    unknown = {
        planned.task.id
        for planned in evidence.tasks
        if planned.task.domain in domains and not _anybody(evidence, planned.task, RETURN)
    }
    return valued | unknown


def _anybody(evidence: Evidence, task: Task, measure: Measure) -> bool:
    cells = (evidence.cells.get((agent.label, task.id)) for agent in evidence.agents)
    return any(
        measure.of(task, record) is not None
        for cell in cells
        if cell is not None
        for record in cell.scored.values()
    )
