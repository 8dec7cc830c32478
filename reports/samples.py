"""The episodes of one agent, measured one way, and what can be estimated from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lram.agents.seed import check_seed
from lram.envs.returns import Range, return_range
from lram.envs.scores import audit, normalise
from lram.envs.task import Task
from lram.harness.storage.records import EpisodeRecord, PlannedTask
from lram.reports.evidence.evidence import Evidence
from lram.reports.model import (
    ALL_EQUAL,
    BORROWED,
    FEW,
    NOT_ESTIMABLE,
    Aggregate,
    ConfidenceInterval,
    Doubt,
    Estimate,
    LeftOut,
    RestsOn,
    rounded,
)
from lram.reports.ranges import mean_range, score_range, within
from lram.reports.statistics import (
    Array,
    MeanInterval,
    Moments,
    TaskScores,
    mean_interval,
    rate_interval,
)
from lram.reports.text import count, reason_without

ONE_EPISODE = "one episode"
"""Why a task has none."""

Weights = Callable[[Sequence[str]], Array]
"""Maps the domains of tasks to the tasks' weights in a mean over them, (tasks,)."""


def too_few_note(number: int, what: str = "episode") -> str:
    """Return the note where so many of ``what`` differ, but are too few to tell by how much."""
    return f"{NOT_ESTIMABLE} {count(number, what, 'trajectories' if what == 'trajectory' else f'{what}s')}"


def no_noise_note(numbers: Sequence[int], alike: str = "are all equal", of_pairs: bool = False) -> str:
    """Return why an aggregate has no interval none of whose tasks shows noise.

    Args:
        numbers: Of each task, how many episodes it has.
        alike: What is said of a task's that show no noise.
        of_pairs: The estimate is made of pairs of episodes, so many of each task.
    """
    one, several = ("one pair of episodes", "pairs of episodes") if of_pairs else (ONE_EPISODE, "episodes")
    if all(number == 1 for number in numbers):
        return f"{one} a task"
    if all(number > 1 for number in numbers):
        return f"the {several} of {'the' if len(numbers) == 1 else 'every'} task {alike}"
    return f"every task has {one}, or its {several} {alike}"


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made: their level, and seed and replicates of what is resampled (comparisons)."""

    seed: int
    resamples: int
    level: float

    def __post_init__(self) -> None:
        check_seed(self.seed)


@dataclass(frozen=True, slots=True)
class EpisodeMeasure:
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


RETURN = EpisodeMeasure(lambda task, record: record.episode_return)
SCORE = EpisodeMeasure(_score)
SUCCESS_ANY = EpisodeMeasure(lambda task, record: _flag(record.success_any), rate=True)
SUCCESS_LAST = EpisodeMeasure(lambda task, record: _flag(record.success_last), rate=True)


def values_of(evidence: Evidence, agent: str, task: Task, measure: EpisodeMeasure) -> Array:
    """Return one value an episode that counts, ordered by run seed and episode; often empty."""
    cell = evidence.cells.get((agent, task.id))
    found = [measure.of(task, record) for record in cell.counted.values()] if cell else []
    return np.array([value for value in found if value is not None], dtype=np.float64)


class AgentSamples:
    """One agent's values of one measure on every task that has any, and what they tell of means.

    Attributes:
        agent, how: The agent's label, and how intervals are made.
        tasks, values: The tasks that have any, and their values, (episodes,) each.
    """

    def __init__(self, evidence: Evidence, agent: str, measure: EpisodeMeasure, how: Resampling) -> None:
        self._evidence, self._measure = evidence, measure
        self.agent, self.how = agent, how
        found = [(p, values_of(evidence, agent, p.task, measure)) for p in evidence.tasks]
        kept = [(planned, values) for planned, values in found if len(values)]
        self.tasks = [planned.task for planned, _ in kept]
        self.values = [values for _, values in kept]
        self._place = {task.id: place for place, task in enumerate(self.tasks)}
        self._moments = Moments.of(self.values) if kept else None
        self._ranges = [_range_of(planned, values, measure) for planned, values in kept]
        self._singles = self._single_tasks()

    def task(self, task_id: str) -> Estimate | None:
        """Return the mean over one task's episodes; None where there is no value."""
        place = self._place.get(task_id)
        return None if place is None else self._singles[place]

    def aggregate(
        self,
        tasks: Sequence[Task],
        covered: set[str],
        weights: Weights,
        of: Callable[[Array], Array] | None = None,
    ) -> Aggregate:
        """Return the weighted mean over those of ``tasks`` that have a value.

        Args:
            tasks: The planned tasks that it is about.
            covered: Ids of all tasks that could have a value (:func:`covered`).
            weights: Of the tasks that entered, from their domains.
            of: What of each value is averaged, a function that only rises or only falls (None: the value).
        """
        places, rests_on = self.entered(tasks, covered)
        if self._moments is None or not places:
            return Aggregate(None, rests_on)
        domains = [self.tasks[place].domain for place in places]
        by_task, ranges = weights(domains), [self._ranges[place] for place in places]
        if of is None:
            moments = self._moments.take(np.array(places, np.int64))
        else:
            moments = Moments.of([of(self.values[place]) for place in places])
            ranges = [_range_through(of, bounds) for bounds in ranges]
        if self._measure.rate:
            (rate,) = _rates(moments, by_task, self.how.level)
            return Aggregate(rate, rests_on)
        found = mean_interval(by_task, moments, self.how.level, domains)
        bounds = mean_range(ranges, by_task)
        rests_on = replace(rests_on, borrowed_noise=int(found.borrowed) if found.estimable else 0)
        equal = all(map(self._alike, places))
        if equal and rests_on.tasks == 1:
            note = ALL_EQUAL
        else:
            # Scores that differ may count alike: those above 1 fall short of it by nothing.
            alike = "are all equal" if of is None or equal else "count alike"
            note = no_noise_note(moments.episodes.tolist(), alike=alike)
        return Aggregate(estimate_of(found, bounds, note, too_few_note(rests_on.episodes)), rests_on)

    def scores(self, places: Sequence[int]) -> TaskScores:
        """Return the values of the tasks at ``places``."""
        return TaskScores(
            tuple(self.values[place] for place in places), tuple(self.tasks[place].domain for place in places)
        )

    def entered(self, tasks: Sequence[Task], covered: set[str]) -> tuple[list[int], RestsOn]:
        """Return the places of those of ``tasks`` that have a value, and what an aggregate of them rests
        on.
        """
        places = [self._place[task.id] for task in tasks if task.id in self._place]
        absent = [task for task in tasks if task.id not in self._place]
        return places, RestsOn(
            tasks=len(places),
            of_tasks=sum(task.id in covered for task in tasks),
            episodes=sum(len(self.values[place]) for place in places),
            domains=tuple(dict.fromkeys(self.tasks[place].domain for place in places)),
            alike=sum(map(self._alike, places)),
            left_out=tuple(LeftOut(task.id, self._why_not(task)) for task in absent),
            unfinished=sum(task.id in covered and self._lacks_records(task) for task in absent),
        )

    def _alike(self, place: int) -> bool:
        assert self._moments is not None
        return len(self.values[place]) > 1 and float(self._moments.variance[place]) == 0

    def _single_tasks(self) -> list[Estimate]:
        """Return every task's own estimate."""
        if self._moments is None:
            return []
        found: dict[int, Estimate] = {}
        for episodes in np.unique(self._moments.episodes):
            places = np.flatnonzero(self._moments.episodes == episodes)
            moments = self._moments.each(places)
            if self._measure.rate:
                rates = _rates(moments, np.ones(1), self.how.level)
                found.update(zip(places.tolist(), rates, strict=True))
                continue
            note = ONE_EPISODE if episodes == 1 else ALL_EQUAL
            intervals = mean_interval(np.ones(1), moments, self.how.level)
            for at, place in enumerate(places):
                found[place] = estimate_of(
                    intervals, self._ranges[place], note, too_few_note(int(episodes)), at
                )
        return [found[place] for place in range(len(self.tasks))]

    def _lacks_records(self, task: Task) -> bool:
        cell = self._evidence.cells.get((self.agent, task.id))
        return cell is not None and len(cell.records) < cell.planned

    def _why_not(self, task: Task) -> str:
        cell = self._evidence.cells.get((self.agent, task.id))
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


def _range_of(planned: PlannedTask, values: Array, measure: EpisodeMeasure) -> Range:
    """Return the range of one episode's value, as far as the task's rules and its values tell it."""
    if measure.rate:
        return 0.0, 1.0
    bounds = return_range(planned.task, planned.protocol)
    return within(values, score_range(planned.task, bounds) if measure is SCORE else bounds)


def _range_through(of: Callable[[Array], Array], bounds: Range) -> Range:
    low, high = sorted(float(end) for end in of(np.array(bounds)))
    return low, high


def estimate_of(
    found: MeanInterval, bounds: Range, without: str, not_estimable: str, place: int | tuple[()] = ()
) -> Estimate:
    """Return the estimate at ``place`` of ``found``, its interval ended at ``bounds``.

    ``without`` is the note where no noise is to be seen, ``not_estimable`` where the noise cannot be
    estimated.
    """
    value = float(found.estimate[place])
    if not found.noisy[place]:
        return Estimate(rounded(value), None, without)
    if not found.estimable[place]:
        return Estimate(rounded(value), None, not_estimable)
    doubts: list[Doubt] = []
    if found.few[place]:
        doubts.append(FEW)
    if found.borrowed[place]:
        doubts.append(BORROWED)
    low, high = max(float(found.low[place]), bounds[0]), min(float(found.high[place]), bounds[1])
    return Estimate(rounded(value), _interval(low, high, value, "t", tuple(doubts)))


def _rates(moments: Moments, weights: Array, level: float) -> list[Estimate]:
    """Return the weighted mean of rates for each row of ``moments``; one for those without rows."""
    values = np.atleast_1d((weights * moments.mean).sum(axis=-1))
    solved = np.rint(np.atleast_2d(moments.mean) * moments.episodes)
    lows, highs = rate_interval(solved, moments.episodes, weights, level)
    return [
        Estimate(rounded(value), _interval(low, high, value, "score"))
        for value, low, high in zip(values.tolist(), lows.tolist(), highs.tolist(), strict=True)
    ]


def _interval(
    low: float,
    high: float,
    value: float,
    method: Literal["t", "score"],
    doubts: tuple[Doubt, ...] = (),
) -> ConfidenceInterval:
    """Return the interval; rounding must not put its own estimate outside."""
    return ConfidenceInterval(rounded(min(low, value)), rounded(max(high, value)), method, doubts)


def covered(evidence: Evidence, measure: EpisodeMeasure) -> set[str]:
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


def _anybody(evidence: Evidence, task: Task, measure: EpisodeMeasure) -> bool:
    cells = (evidence.cells.get((agent.label, task.id)) for agent in evidence.agents)
    return any(
        measure.of(task, record) is not None
        for cell in cells
        if cell is not None
        for record in cell.scored.values()
    )
