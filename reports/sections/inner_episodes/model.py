"""Scores by inner episode: what is read from the records, and what is estimated from it.

A *trial* is a scored episode that holds several inner episodes, its parts. Trials are grouped by the
attributes of their tasks (:func:`lram.envs.attributes.task_attributes`): in Dark-Room, by how the goal pays
and by whether it was held out.

Everything is about other goals, not only about other starts: the unit is the task, with the mean of its
trials (in a group of one task, the trial). A mean has a t interval over the units. A gain, and a difference
of two models on the trials that both have, are tested by sign flips of the units' values, and their interval
is the one that belongs to that test (:mod:`lram.reports.statistics.paired`): below six units there is neither
a verdict nor an interval. Gains are corrected (Holm) for all curves, differences for all that are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from lram.envs.attributes import task_attributes
from lram.envs.scores import audit
from lram.envs.task import Task
from lram.reports.comparison.barrier import barrier_between
from lram.reports.comparison.pairs import ALL_OR_NONE, Pairs
from lram.reports.evidence.evidence import EpisodeKey, Evidence, display_name
from lram.reports.model import ALL_EQUAL, ConfidenceInterval, Estimate, rounded
from lram.reports.statistics import (
    Array,
    SignFlips,
    enough_patterns,
    finer_p,
    holm,
    shows_noise,
    stream,
)

LEVEL = 0.95
PATTERNS = 2000
"""Random sign patterns of a test; more where they could not show what Holm's correction leaves standing."""

TOO_FEW = "too few tasks"
"""Why a gain or a difference has no interval."""

TrialKey = tuple[EpisodeKey, int]
"""A trial: its episode, and the simulator's seed, without which two trials need not have begun alike."""

Trials = dict[str, dict[TrialKey, Array]]
"""Returns by part, (parts,), of the trials of each task."""


@dataclass(frozen=True, slots=True)
class TaskGroup:
    """Tasks that are shown together.

    Attributes:
        name: What they have in common, such as ``darkroom, heldout, sparse``.
        protocol: Under which they were played.
        parts: Inner episodes of a trial.
        tasks: Their number.
        random, reference: Mean of the tasks' score references, for one inner episode (None: a task has none
            that is usable).
    """

    name: str
    protocol: str
    parts: int
    tasks: int
    random: float | None
    reference: float | None


@dataclass(frozen=True, slots=True)
class InnerEpisodeCurve:
    """One agent on one group: the mean return of each inner episode.

    Attributes:
        agent: Its label.
        name: What it is called in reports.
        place: Of the agent in the report, for its colour.
        group: Index of the group.
        tasks, trials: That the means rest on.
        of_trials: Trials that were planned.
        parts: Mean return of the first, second, ... inner episode.
        gain: Last minus first.
        gain_p: Of the gain, by sign flips of the tasks' mean gains (of one task: the trials'); two-sided.
            None for a single trial.
        gain_p_holm: The same, corrected (Holm) for as many curves as there are.
        whole: Mean over all inner episodes.
    """

    agent: str
    name: str
    place: int
    group: int
    tasks: int
    trials: int
    of_trials: int
    parts: tuple[Estimate, ...]
    gain: Estimate
    gain_p: float | None
    whole: Estimate
    gain_p_holm: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One agent minus another on the trials that both have: mean return of an inner episode.

    Attributes:
        first, second: Labels.
        group: Index of the group.
        tasks, trials: That it rests on.
        whole, last: Over all inner episodes, and in the last one.
        p: Of ``whole``, by sign flips of the tasks' mean differences; two-sided. None for a single trial.
        p_holm: The same, corrected (Holm) for all differences that are shown.
    """

    first: str
    second: str
    group: int
    tasks: int
    trials: int
    whole: Estimate
    last: Estimate
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True, slots=True)
class PartsResult:
    """All of it; what ``summary.json`` keeps of the section."""

    level: float
    groups: tuple[TaskGroup, ...]
    curves: tuple[InnerEpisodeCurve, ...]
    differences: tuple[Difference, ...]
    not_compared: tuple[str, ...] = ()
    """Pairs of models without a difference on a group, as one failed by its own errors; with the reason."""


def estimate_parts(evidence: Evidence, seed: int, pairs: Pairs = ALL_OR_NONE) -> PartsResult | None:
    """Return the curves of every agent on every group, and how the models differ; None without parts.

    Args:
        evidence: Of all runs.
        seed: Of the resampling.
        pairs: Models to compare.
    """
    members = _members(evidence)
    groups = tuple(_group(name, tasks, evidence) for name, tasks in members.items())
    played = [
        {
            agent.label: trials
            for agent in evidence.agents
            if (trials := _trials(evidence, agent.label, tasks, group.parts))
        }
        for group, tasks in zip(groups, members.values(), strict=True)
    ]
    gains = sum(map(len, played))
    curves, compared, without = [], [], []
    for index, (group, tasks, found) in enumerate(zip(groups, members.values(), played, strict=True)):
        for place, agent in enumerate(evidence.agents):
            if agent.label in found:
                planned = sum(_planned(evidence, agent.label, task) for task in tasks)
                about = (agent.label, display_name(agent), place, index)
                curves.append(_curve(*about, planned, found[agent.label], seed, group.name, gains))
        models = [a.label for a in evidence.agents if a.info.kind == "model" and a.label in found]
        for first, second in pairs.of(models):
            sides = {label: (evidence, label) for label in (first, second)}
            if why := barrier_between(tasks, sides):
                without.append(f"{first} against {second} ({group.name.replace(', ', ' ')}): {why}")
            elif clusters := _shared(found[first], found[second]):
                compared.append((first, second, index, clusters))
    differences = [
        _difference(first, second, index, clusters, seed, groups[index].name, len(compared))
        for first, second, index, clusters in compared
    ]
    return (
        PartsResult(
            LEVEL, groups, tuple(_corrected(curves)), tuple(_all_corrected(differences)), tuple(without)
        )
        if curves
        else None
    )


def trials_of(evidence: Evidence, agent: str, task: Task) -> dict[EpisodeKey, tuple[float, ...]]:
    """Return the returns of the inner episodes of every scored trial, by episode key."""
    cell = evidence.cells.get((agent, task.id))
    return {key: record.parts for key, record in cell.counted.items() if record.parts} if cell else {}


def _members(evidence: Evidence) -> dict[str, list[Task]]:
    """Return the tasks with parts by the name of their group."""
    members: dict[str, list[Task]] = {}
    for planned in evidence.tasks:
        task = planned.task
        if any(trials_of(evidence, agent.label, task) for agent in evidence.agents):
            members.setdefault(", ".join((task.domain, *task_attributes(task).values())), []).append(task)
    return members


def _group(name: str, tasks: Sequence[Task], evidence: Evidence) -> TaskGroup:
    lengths = {
        len(parts)
        for task in tasks
        for agent in evidence.agents
        for parts in trials_of(evidence, agent.label, task).values()
    }
    parts = min(lengths)
    usable = all(audit(task) is None for task in tasks) and len(lengths) == 1
    protocols = {planned.task.id: planned.protocol for planned in evidence.tasks}
    return TaskGroup(
        name,
        protocols[tasks[0].id],
        parts,
        len(tasks),
        _mean([task.score_random for task in tasks], parts) if usable else None,
        _mean([task.score_reference for task in tasks], parts) if usable else None,
    )


def _mean(values: Sequence[float | None], parts: int) -> float:
    return rounded(float(np.mean([value for value in values if value is not None])) / parts)


def _trials(evidence: Evidence, agent: str, tasks: Sequence[Task], parts: int) -> Trials:
    found = {
        task.id: {
            (key, evidence.cells[agent, task.id].counted[key].seed): np.array(returns[:parts])
            for key, returns in trials_of(evidence, agent, task).items()
        }
        for task in tasks
    }
    return {task: trials for task, trials in found.items() if trials}


def _planned(evidence: Evidence, agent: str, task: Task) -> int:
    cell = evidence.cells.get((agent, task.id))
    return cell.planned if cell else 0


def _curve(
    agent: str,
    name: str,
    place: int,
    group: int,
    planned: int,
    trials: Trials,
    seed: int,
    stratum: str,
    tests: int,
) -> InnerEpisodeCurve:
    clusters = [np.array(list(of_task.values())) for of_task in trials.values()]
    units = _units(clusters)
    parts = tuple(_mean_over(units[:, part]) for part in range(units.shape[1]))
    gain, p = _tested(units[:, -1] - units[:, 0], seed, ("flips", agent, stratum), tests)
    whole = _mean_over(units.mean(axis=1))
    count = sum(map(len, clusters))
    return InnerEpisodeCurve(agent, name, place, group, len(clusters), count, planned, parts, gain, p, whole)


def _corrected(curves: Sequence[InnerEpisodeCurve]) -> list[InnerEpisodeCurve]:
    """Return the curves with p-values that are corrected for how many gains are tested."""
    known = [curve.gain_p for curve in curves if curve.gain_p is not None]
    adjusted = iter(holm(known))
    return [
        curve if curve.gain_p is None else replace(curve, gain_p_holm=rounded(next(adjusted)))
        for curve in curves
    ]


def _all_corrected(differences: Sequence[Difference]) -> list[Difference]:
    """Return the differences with p-values that are corrected for how many are tested."""
    adjusted = iter(holm([one.p for one in differences if one.p is not None]))
    return [one if one.p is None else replace(one, p_holm=rounded(next(adjusted))) for one in differences]


def _shared(first: Trials, second: Trials) -> list[Array]:
    """Return first minus second by task, each (trials, parts), on the trials that both played."""
    clusters = []
    for task, of_first in first.items():
        of_second = second.get(task, {})
        shared = [key for key in of_first if key in of_second]
        if shared:
            clusters.append(np.array([of_first[key] - of_second[key] for key in shared]))
    return clusters


def _difference(
    first: str, second: str, group: int, clusters: Sequence[Array], seed: int, stratum: str, tests: int
) -> Difference:
    units = _units(clusters)
    about = (first, second, stratum)
    whole, p = _tested(units.mean(axis=1), seed, about, tests)
    last, _ = _tested(units[:, -1], seed, about)
    return Difference(first, second, group, len(clusters), sum(map(len, clusters)), whole, last, p)


def _units(clusters: Sequence[Array]) -> Array:
    """Return (units, parts) of ``clusters``, each (trials, parts): task means, or the trials of one task."""
    return np.array([cluster.mean(axis=0) for cluster in clusters]) if len(clusters) > 1 else clusters[0]


def _mean_over(units: Array) -> Estimate:
    """Return the mean of ``units`` with its t interval."""
    value, count = float(units.mean()), len(units)
    if count < 2:
        return Estimate(rounded(value), None, "one trial")
    if not shows_noise(units):
        return Estimate(rounded(value), None, ALL_EQUAL)
    half = float(special.stdtrit(count - 1, (1 + LEVEL) / 2) * units.std(ddof=1) / np.sqrt(count))
    return Estimate(rounded(value), ConfidenceInterval(rounded(value - half), rounded(value + half), "t"))


def _tested(units: Array, seed: int, about: tuple[str, ...], tests: int = 1) -> tuple[Estimate, float | None]:
    """Return the mean of ``units`` with the interval and the p of one test, that of sign flips.

    Args:
        units: (units,).
        seed, about: Of the random signs.
        tests: For how many p is corrected.
    """
    value = rounded(float(units.mean()))
    if len(units) < 2:
        return Estimate(value, None, "one trial"), None
    test = SignFlips([units], np.ones(1), PATTERNS, stream(seed, "parts", *about))
    interval = test.interval(LEVEL)
    if not shows_noise(units):
        estimate = Estimate(value, None, ALL_EQUAL)
    elif interval is None:
        estimate = Estimate(value, None, TOO_FEW)
    else:
        estimate = Estimate(
            value, ConfidenceInterval(rounded(interval[0]), rounded(interval[1]), "sign flips")
        )
    patterns = (PATTERNS, enough_patterns(tests, LEVEL, PATTERNS))
    p = finer_p(test.p(), [units], np.ones(1), patterns, stream(seed, "parts", *about, "finer"))
    return estimate, rounded(p)
