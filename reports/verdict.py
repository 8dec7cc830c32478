"""Two checkpoints against each other: one word, and what it rests on.

The comparison is the report's (:mod:`lram.reports.comparison`): pairs of episodes that began alike,
normalised scores, the mean of domain means. The two sides may come from different runs, under the same or
different labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Literal

from lram.envs.scores import Normaliser
from lram.harness.errors import LramError
from lram.harness.records import PlannedTask
from lram.harness.store import PLAN_FILE, Run
from lram.harness.words import count
from lram.reports.collect import Evidence, collect
from lram.reports.comparison import paired
from lram.reports.model import Estimate, rounded
from lram.reports.samples import Resampling

Word = Literal["better", "worse", "no difference shown", "not comparable"]

POWER = 0.8
"""How probable it shall be that a true difference of the observed size is shown."""

_FIRST, _SECOND = "A", "B"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: an agent of some runs, and whose references its scores have."""

    label: str
    runs: tuple[Run, ...]
    normaliser: Normaliser = "paper"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of the first against the second.

    Attributes:
        word: ``better`` and ``worse`` are of the first. They need a p below 1 - ``level`` and an interval
            without 0, the latter where there is one: where all pairs differ alike, there is none.
        first, second: Labels.
        difference: First minus second in the mean of domain means of the normalised score; None where
            the word is ``not comparable``.
        p: Two-sided, of the sign-flip test.
        tasks, domains, episodes: What it rests on: tasks of both, their domains, pairs of episodes.
        episodes_needed: Pairs a task with which a true difference of the observed size would be shown
            four times in five; None where nothing can be told.
        detectable: The least difference that as many episodes show four times in five; likewise.
        reason: Why they do not compare; empty where they do.
        notes: What to know beside it.
        level, seed: Of the interval and of the resampling.
    """

    word: Word
    first: str
    second: str
    difference: Estimate | None
    p: float | None
    tasks: int
    domains: tuple[str, ...]
    episodes: int
    episodes_needed: int | None
    detectable: float | None
    reason: str
    notes: tuple[str, ...]
    level: float
    seed: int


def find_side(text: str, runs: Sequence[Run]) -> Side:
    """Return the agent that ``text`` names.

    Args:
        text: The folder of a run that has one agent, ``FOLDER:LABEL``, or the label of an agent in ``runs``.
        runs: Where labels are looked up.

    Raises:
        LramError: It is none of these, or the folder's run has several agents.
    """
    mine = tuple(run for run in runs if text in _labels(run))
    if mine:
        return Side(text, mine)
    if (Path(text) / PLAN_FILE).is_file():
        run = Run(text)
        labels = _labels(run)
        if len(labels) > 1:
            raise LramError(
                f"{text} has {len(labels)} agents ({', '.join(labels)}); write {text}:LABEL for one of them"
            )
        return Side(labels[0], (run,))
    for place in (place for place, sign in enumerate(text) if sign == ":"):
        folder, label = text[:place], text[place + 1 :]
        if (Path(folder) / PLAN_FILE).is_file():
            run = Run(folder)
            if label not in _labels(run):
                raise LramError(f"{folder} has no agent {label!r}; it has {', '.join(_labels(run))}")
            return Side(label, (run,))
    if (Path(text) / "extrapolation.json").is_file():
        raise LramError(f"{text} is an extrapolation; its scores are a run of their own, {text}/scores")
    known = list(dict.fromkeys(label for run in runs for label in _labels(run)))
    where = f"the runs have {', '.join(known)}" if known else "name runs with --runs, or write FOLDER:LABEL"
    raise LramError(f"{text!r} is neither the folder of a run nor an agent of one; {where}")


def judge(first: Side, second: Side, *, seed: int = 0, resamples: int = 2000, level: float = 0.95) -> Verdict:
    """Return the verdict on ``first`` against ``second``.

    Args:
        first, second: The two agents.
        seed: Of the bootstrap and of the sign flips.
        resamples: Replicates of both.
        level: Of the interval; a difference is shown where p is below 1 - ``level`` too.

    Raises:
        LramError: A side's own runs contradict each other.
    """
    sides = _evidence(first), _evidence(second)
    reason = _obstacle(*sides)
    together = _together(*sides)
    found = paired(together, _FIRST, _SECOND, Resampling(seed, resamples, level))
    if not reason and found.difference is None:
        reason = _without_pairs(*sides)
    notes = () if reason else tuple(_notes(first, second, together, found.tasks))
    if reason or found.difference is None:
        return Verdict(
            "not comparable",
            first.label,
            second.label,
            None,
            None,
            0,
            (),
            0,
            None,
            None,
            reason,
            notes,
            level,
            seed,
        )
    word: Word = "no difference shown"
    interval, value = found.difference.interval, found.difference.value
    beside_zero = interval is None or interval.low > 0 or interval.high < 0
    if found.p is not None and found.p < 1 - level and beside_zero:
        word = "better" if value > 0 else "worse"
    needed, detectable = _needed(found.difference, found.episodes, found.tasks, level)
    return Verdict(
        word,
        first.label,
        second.label,
        found.difference,
        found.p,
        found.tasks,
        found.domains,
        found.episodes,
        needed,
        detectable,
        "",
        notes,
        level,
        seed,
    )


def _labels(run: Run) -> list[str]:
    return [agent.label for agent in run.plan.agents]


def _evidence(side: Side) -> tuple[str, Evidence]:
    return side.label, collect(side.runs, side.normaliser)


def _obstacle(first: tuple[str, Evidence], second: tuple[str, Evidence]) -> str:
    """Return why the two cannot be compared at all; empty where they may be."""
    evidence = [found for _, found in (first, second)]
    if any(found.collected for found in evidence):
        return "a run was played to collect training data, and its agents met initial states of their own"
    rates = [found.realtime_hz.get(label, 0.0) for label, found in (first, second)]
    if rates[0] != rates[1]:
        shown = [f"at {hz:g} Hz" if hz else "that waited" for hz in rates]
        return f"one acted in a world {shown[0]}, the other in one {shown[1]}"
    others = {planned.task.id: planned for planned in evidence[1].tasks}
    for planned in evidence[0].tasks:
        other = others.get(planned.task.id)
        if other is None:
            continue
        if other.protocol != planned.protocol:
            return f"{planned.task.id} was run under {planned.protocol} and under {other.protocol}"
        if _references(other) != _references(planned):
            return f"{planned.task.id} has other score references in the two runs"
    return ""


def _references(planned: PlannedTask) -> tuple[float | None, float | None]:
    return planned.task.score_random, planned.task.score_reference


def _without_pairs(first: tuple[str, Evidence], second: tuple[str, Evidence]) -> str:
    tasks = [{task for agent, task in found.cells if agent == label} for label, found in (first, second)]
    shared = tasks[0] & tasks[1]
    if not shared:
        return "they have no task in common"
    if first[1].run_seeds != second[1].run_seeds and not set(first[1].run_seeds) & set(second[1].run_seeds):
        seeds = [", ".join(map(str, found.run_seeds)) for _, found in (first, second)]
        return (
            f"their runs have other seeds ({seeds[0]} and {seeds[1]}), so no two episodes began alike; "
            "evaluate both with one --seed"
        )
    return (
        f"of {count(len(shared), 'task')} in common none has episodes of both that began alike and have a "
        "normalised score"
    )


def _together(first: tuple[str, Evidence], second: tuple[str, Evidence]) -> Evidence:
    """Return the evidence on both under the labels A and B, so that equal labels do not collide."""
    (one, found), (other, also) = first, second
    entries = []
    for name, label, evidence in ((_FIRST, one, found), (_SECOND, other, also)):
        entry = next(agent for agent in evidence.agents if agent.label == label)
        entries.append(replace(entry, label=name))
    tasks = {planned.task.id: planned for planned in (*found.tasks, *also.tasks)}
    cells = {
        (name, task): cell
        for name, label, evidence in ((_FIRST, one, found), (_SECOND, other, also))
        for (agent, task), cell in evidence.cells.items()
        if agent == label
    }
    return replace(found, agents=tuple(entries), tasks=tuple(tasks.values()), cells=cells)


def _notes(first: Side, second: Side, together: Evidence, tasks: int) -> Iterator[str]:
    names = {_FIRST: first.label, _SECOND: second.label}
    digests = {agent.info.digest for agent in together.agents}
    if len(digests) == 1 and "" not in digests:
        yield "both are the same checkpoint (equal digests)"
    for agent in together.agents:
        name = names[agent.label]
        cells = [cell for (label, _), cell in together.cells.items() if label == agent.label]
        if agent.info.trained is False:
            yield f"{name} has random weights"
        errored = sum(record.status == "errored" for cell in cells for record in cell.records.values())
        if errored:
            yield f"{count(errored, 'episode')} of {name} errored and are left out"
        missing = sum(cell.planned - len(cell.records) for cell in cells)
        if missing:
            yield f"{count(missing, 'episode')} of {name} are missing: its run is not finished"
    planned = len(together.tasks)
    if 0 < tasks < planned:
        yield f"it rests on {tasks} of {count(planned, 'task')}: the others have no pair of scored episodes"
    if any(agent.info.kind == "model" for agent in together.agents):
        yield "it is about these two checkpoints; training again may give others (lram ablate tells)"


def _needed(difference: Estimate, pairs: int, tasks: int, level: float) -> tuple[int | None, float | None]:
    """Return the episodes a task that would show ``difference``, and what as many as now would show.

    With n pairs in all, the least p of the sign-flip test is 2 / 2^n, which must be below 1 - ``level`` too.
    """
    if difference.interval is None:
        return None, None
    normal = NormalDist()
    z = normal.inv_cdf((1 + level) / 2)
    error = (difference.interval.high - difference.interval.low) / (2 * z)
    if error <= 0:
        return None, None
    least = (z + normal.inv_cdf(POWER)) * error
    if difference.value == 0:
        return None, rounded(least)
    needed = pairs / tasks * (least / difference.value) ** 2
    fewest = (math.floor(math.log2(2 / (1 - level))) + 1) / tasks
    return math.ceil(max(needed, fewest)) if needed < 1e9 else None, rounded(least)
