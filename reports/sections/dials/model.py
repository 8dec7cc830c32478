"""Scores against the dial: what is read from the records, and what is estimated from it.

A *family* is the tasks of one domain that differ in one number, their dial (:class:`lram.envs.task.Dial`),
such as ``parity`` of 10, 20, 40 bits. Families with two values or more make the section.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lram.envs.dials import domain_is_known, task_dial
from lram.envs.errors import SelectionError
from lram.envs.returns import Range, return_range
from lram.envs.scores import audit
from lram.envs.task import Dial
from lram.harness.storage.records import AgentEntry, PlannedTask
from lram.reports.evidence.evidence import Evidence, display_name
from lram.reports.model import ConfidenceInterval, Estimate, rounded
from lram.reports.ranges import score_range, within
from lram.reports.samples import SCORE, AgentSamples, Resampling, values_of
from lram.reports.sections.dials.failing import FailingPoint, failing_point
from lram.reports.statistics import Array, rate_interval

_NUMBERED = re.compile(r"(.+)-\d+")


@dataclass(frozen=True, slots=True)
class DialFamily:
    """Tasks that differ in one number.

    Attributes:
        domain, family: Names.
        unit: What the number counts.
        theory: What is known of who can solve the family; empty where nothing is said.
        protocol: Under which they were played.
        dials: The values that were planned, ascending.
        tasks: Ids of the tasks at them.
    """

    domain: str
    family: str
    unit: str
    theory: str
    protocol: str
    dials: tuple[int, ...]
    tasks: tuple[str, ...]

    @property
    def name(self) -> str:
        """``domain, family``."""
        return f"{self.domain}, {self.family}"


@dataclass(frozen=True, slots=True)
class DialPoint:
    """One agent at one value of a dial.

    Attributes:
        dial: The value.
        task: Id of the task.
        episodes, of_episodes: That the score rests on, and that were planned.
        trained: Whether the agent was trained on the task; None where that is not recorded.
        score: Mean normalised score: 0 is chance, 1 the best.
    """

    dial: int
    task: str
    episodes: int
    of_episodes: int
    trained: bool | None
    score: Estimate


@dataclass(frozen=True, slots=True)
class DialCurve:
    """One agent on one family.

    Attributes:
        agent, name: Label, and what it is called in reports.
        place: Of the agent in the report, for its colour.
        family: Index of the family.
        trained: Values that it was trained on, also those that were not played; None where not recorded.
        points: By value.
        failing: Where it fails.
    """

    agent: str
    name: str
    place: int
    family: int
    trained: tuple[int, ...] | None
    points: tuple[DialPoint, ...]
    failing: FailingPoint

    @property
    def largest(self) -> int:
        """The largest value measured."""
        return self.points[-1].dial


@dataclass(frozen=True, slots=True)
class DialsResult:
    """All of it; what ``summary.json`` keeps of the section.

    Attributes:
        level: Of the intervals.
        families: In the order of the plans.
        curves: By family, then by agent.
        unknown: Domains that are not installed, with tasks whose names end with a number.
    """

    level: float
    families: tuple[DialFamily, ...]
    curves: tuple[DialCurve, ...]
    unknown: tuple[str, ...]


def estimate_dials(evidence: Evidence, how: Resampling) -> DialsResult | None:
    """Return the curve of every agent on every family; None where no family has two values."""
    families = families_of(evidence.tasks)
    unknown = _unknown(evidence.tasks)
    if not families and not unknown:
        return None
    planned = {one.task.id: one for one in evidence.tasks}
    samples = {agent.label: AgentSamples(evidence, agent.label, SCORE, how) for agent in evidence.agents}
    curves = [
        curve
        for index, family in enumerate(families)
        for place, agent in enumerate(evidence.agents)
        if (curve := _curve(evidence, samples[agent.label], agent, place, index, family, planned)) is not None
    ]
    return DialsResult(how.level, families, tuple(curves), unknown)


def families_of(tasks: Sequence[PlannedTask]) -> tuple[DialFamily, ...]:
    """Return the families of ``tasks`` that have two values or more."""
    found: dict[tuple[str, str], dict[int, tuple[PlannedTask, Dial]]] = {}
    for one in tasks:
        dial = known_dial(one.task.id)
        if dial is not None:
            found.setdefault((one.task.domain, dial.family), {})[dial.value] = one, dial
    families = []
    for (domain, name), values in found.items():
        if len(values) < 2:
            continue
        ordered = sorted(values)
        one, dial = values[ordered[0]]
        families.append(
            DialFamily(
                domain,
                name,
                dial.unit,
                dial.theory,
                one.protocol,
                tuple(ordered),
                tuple(values[value][0].task.id for value in ordered),
            )
        )
    return tuple(families)


def trained_dials(training_tasks: Iterable[str] | None, domain: str, family: str) -> tuple[int, ...] | None:
    """Return the values of a family's dial among the tasks of a training; None where not recorded."""
    if training_tasks is None:
        return None
    dials = [known_dial(task) for task in training_tasks if task.partition("/")[0] == domain]
    return tuple(sorted({dial.value for dial in dials if dial is not None and dial.family == family}))


def known_dial(task: str) -> Dial | None:
    """Return the dial of a task by its id; None where it has none or its domain is not installed."""
    try:
        return task_dial(task)
    except SelectionError:
        return None


def _unknown(tasks: Sequence[PlannedTask]) -> tuple[str, ...]:
    """Return the domains that are not installed of which two tasks differ in a number at their names' "
    "ends."""
    stems: dict[str, list[str]] = {}
    for one in tasks:
        if found := _NUMBERED.fullmatch(one.task.name):
            stems.setdefault(one.task.domain, []).append(found[1])
    return tuple(
        domain
        for domain, names in stems.items()
        if len(set(names)) < len(names) and not domain_is_known(domain)
    )


def _curve(
    evidence: Evidence,
    samples: AgentSamples,
    agent: AgentEntry,
    place: int,
    index: int,
    family: DialFamily,
    planned: Mapping[str, PlannedTask],
) -> DialCurve | None:
    points: list[DialPoint] = []
    scores: list[Array] = []
    ranges: list[Range] = []
    recorded = agent.info.training_tasks
    for dial, task in zip(family.dials, family.tasks, strict=True):
        values = values_of(evidence, agent.label, planned[task].task, SCORE)
        usual = samples.task(task)
        if usual is None or not len(values):
            continue
        bounds = _score_range(planned[task], values)
        points.append(
            DialPoint(
                dial,
                task,
                len(values),
                evidence.cells[agent.label, task].planned,
                None if recorded is None else task in recorded,
                _rate(values, bounds, samples.how.level) or usual,
            )
        )
        scores.append(values)
        ranges.append(bounds)
    if not points:
        return None
    return DialCurve(
        agent.label,
        display_name(agent),
        place,
        index,
        trained_dials(recorded, family.domain, family.family),
        tuple(points),
        failing_point([point.dial for point in points], scores, ranges, samples.how.level),
    )


def _score_range(planned: PlannedTask, values: Array) -> Range:
    bounds = return_range(planned.task, planned.protocol)
    return within(values, score_range(planned.task, bounds)) if audit(planned.task) is None else bounds


def _rate(values: Array, bounds: Range, level: float) -> Estimate | None:
    """Return the mean with Wilson's interval where every episode has the least or the greatest score."""
    low, high = bounds
    if not np.isfinite(high - low) or high <= low:
        return None
    shares = (values - low) / (high - low)
    if not np.all(np.minimum(np.abs(shares), np.abs(shares - 1)) < 1e-9):
        return None
    ends = rate_interval(np.array([shares.sum()]), np.array([len(values)]), np.ones(1), level)
    mean = float(values.mean())
    under, over = (low + (high - low) * float(end) for end in ends)
    return Estimate(
        rounded(mean),
        ConfidenceInterval(rounded(min(under, mean)), rounded(max(over, mean)), "score"),
    )
