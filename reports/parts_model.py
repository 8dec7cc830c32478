"""Scores by inner episode: what is read from the records, and what is estimated from it.

A *trial* is a scored episode that holds several inner episodes, its parts. Trials are grouped by what
their domain's tasks differ in (:func:`lram.envs.facets.facets`): in Dark-Room, by how the goal pays and by
whether it was held out.

The interval is that of other goals, not only of other starts: tasks are drawn again with all their trials
(a bootstrap of clusters), spread by sqrt(n / (n - 1)) as everywhere in these reports. A group of one task
draws its trials again, and a group of one trial has no interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lram.envs.facets import facets
from lram.envs.scores import audit
from lram.envs.task import Task
from lram.reports.aggregate import display_name
from lram.reports.collect import EpisodeKey, Evidence
from lram.reports.model import ALL_EQUAL, Estimate, Interval, rounded
from lram.reports.pairs import ALL_OR_NONE, Pairs
from lram.reports.statistics import Array, centred_interval, holm, shows_noise, sign_flip_p, stream

LEVEL = 0.95
RESAMPLES = 2000

Trials = dict[str, dict[EpisodeKey, Array]]
"""Returns by part, (parts,), of the trials of each task, by episode key."""


@dataclass(frozen=True, slots=True)
class Group:
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
class Curve:
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
        gain_p: Of the gain, by sign flips of the tasks' mean gains; two-sided. None for one task or trial.
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
    """One agent minus another on the trials that both have: mean return of an inner episode."""

    first: str
    second: str
    group: int
    tasks: int
    trials: int
    whole: Estimate
    last: Estimate


@dataclass(frozen=True, slots=True)
class PartsResult:
    """All of it; what ``summary.json`` keeps of the chapter."""

    level: float
    groups: tuple[Group, ...]
    curves: tuple[Curve, ...]
    differences: tuple[Difference, ...]


def estimate_parts(evidence: Evidence, seed: int, pairs: Pairs = ALL_OR_NONE) -> PartsResult | None:
    """Return the curves of every agent on every group, and how the models differ; None without parts.

    Args:
        evidence: Of all runs.
        seed: Of the resampling.
        pairs: Models to compare.
    """
    members = _members(evidence)
    groups = tuple(_group(name, tasks, evidence) for name, tasks in members.items())
    curves, differences = [], []
    for index, (group, tasks) in enumerate(zip(groups, members.values(), strict=True)):
        found: dict[str, Trials] = {}
        for place, agent in enumerate(evidence.agents):
            trials = _trials(evidence, agent.label, tasks, group.parts)
            if trials:
                found[agent.label] = trials
                planned = sum(_planned(evidence, agent.label, task) for task in tasks)
                about = (agent.label, display_name(agent), place, index)
                curves.append(_curve(*about, planned, trials, seed, group.name))
        models = [a.label for a in evidence.agents if a.info.kind == "model" and a.label in found]
        for first, second in pairs.of(models):
            differences += _difference(first, second, index, found, seed, group.name)
    return PartsResult(LEVEL, groups, tuple(_corrected(curves)), tuple(differences)) if curves else None


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
            members.setdefault(", ".join((task.domain, *facets(task).values())), []).append(task)
    return members


def _group(name: str, tasks: Sequence[Task], evidence: Evidence) -> Group:
    lengths = {
        len(parts)
        for task in tasks
        for agent in evidence.agents
        for parts in trials_of(evidence, agent.label, task).values()
    }
    parts = min(lengths)
    usable = all(audit(task) is None for task in tasks) and len(lengths) == 1
    protocols = {planned.task.id: planned.protocol for planned in evidence.tasks}
    return Group(
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
        task.id: {key: np.array(returns[:parts]) for key, returns in trials_of(evidence, agent, task).items()}
        for task in tasks
    }
    return {task: trials for task, trials in found.items() if trials}


def _planned(evidence: Evidence, agent: str, task: Task) -> int:
    cell = evidence.cells.get((agent, task.id))
    return cell.planned if cell else 0


def _curve(
    agent: str, name: str, place: int, group: int, planned: int, trials: Trials, seed: int, stratum: str
) -> Curve:
    clusters = [np.array(list(of_task.values())) for of_task in trials.values()]
    # What is made of the parts comes from the same draws as they do.
    table = [np.column_stack([rows, rows[:, -1] - rows[:, 0], rows.mean(axis=1)]) for rows in clusters]
    *parts, gain, whole = _estimates(table, stream(seed, "parts", agent, stratum))
    count = sum(map(len, clusters))
    p = _gain_p(table, stream(seed, "parts", "flips", agent, stratum))
    return Curve(agent, name, place, group, len(clusters), count, planned, tuple(parts), gain, p, whole)


def _gain_p(table: Sequence[Array], generator: np.random.Generator) -> float | None:
    gains = np.array([rows[:, -2].mean() for rows in table]) if len(table) > 1 else table[0][:, -2]
    if len(gains) < 2:
        return None
    return rounded(sign_flip_p([gains], np.ones(1), RESAMPLES, generator))


def _corrected(curves: Sequence[Curve]) -> list[Curve]:
    """Return the curves with p-values that are corrected for how many gains are tested."""
    known = [curve.gain_p for curve in curves if curve.gain_p is not None]
    adjusted = iter(holm(known))
    return [
        curve if curve.gain_p is None else replace(curve, gain_p_holm=rounded(next(adjusted)))
        for curve in curves
    ]


def _difference(
    first: str, second: str, group: int, found: dict[str, Trials], seed: int, stratum: str
) -> list[Difference]:
    """Return the difference on the trials that both played; nothing where there are none."""
    table = []
    for task, of_first in found[first].items():
        of_second = found[second].get(task, {})
        shared = [key for key in of_first if key in of_second]
        if shared:
            apart = np.array([of_first[key] - of_second[key] for key in shared])
            table.append(np.column_stack([apart.mean(axis=1), apart[:, -1]]))
    if not table:
        return []
    whole, last = _estimates(table, stream(seed, "parts", first, second, stratum))
    return [Difference(first, second, group, len(table), sum(map(len, table)), whole, last)]


def _estimates(clusters: Sequence[Array], generator: np.random.Generator) -> list[Estimate]:
    """Return the estimate of each column of ``clusters``, each (trials, columns): means of task means."""
    units = np.array([cluster.mean(axis=0) for cluster in clusters]) if len(clusters) > 1 else clusters[0]
    means, count = units.mean(axis=0), len(units)
    if count < 2:
        return [Estimate(rounded(value), None, "one trial") for value in means]
    drawn = units[generator.integers(0, count, size=(RESAMPLES, count))].mean(axis=1)
    drawn = means + np.sqrt(count / (count - 1)) * (drawn - means)
    return [_estimate(means[at], units[:, at], drawn[:, at]) for at in range(len(means))]


def _estimate(value: float, units: Array, replicates: Array) -> Estimate:
    if not shows_noise(units):
        return Estimate(rounded(value), None, ALL_EQUAL)
    low, high = centred_interval(replicates, value, LEVEL)
    return Estimate(rounded(value), Interval(rounded(low), rounded(high)))
