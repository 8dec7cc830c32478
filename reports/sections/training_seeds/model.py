"""Models that were trained several times: means over their trainings, and differences between models.

A training's value is the mean of domain means of its task means. A model's is the mean over its trainings,
with a t interval over them: that holds the noise of training and, with it, of each training's episodes.
Two models are compared by the differences of their trainings, the first of one against the first of the
other and so on, over the episodes that began alike where both have such. The p is of a t-test over these
differences, corrected (Holm) for all pairs of models; below three there is none.

Everything rests on the tasks that each training of each model has a value of: means over other tasks do not
compare. Where the agent's own failures leave a training without a score on a task
(:mod:`lram.reports.evidence.counting`), its model is not compared: what is left of it would flatter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Literal

import numpy as np

from lram.envs.scores import audit, normalise
from lram.harness.errors import LramError
from lram.harness.storage.records import EpisodeRecord
from lram.reports import text
from lram.reports.comparison.worlds import worlds
from lram.reports.evidence.evidence import EpisodeKey, Evidence, TaskEpisodes
from lram.reports.model import ConfidenceInterval, Estimate, rounded
from lram.reports.seed_groups import SeedGroup
from lram.reports.statistics import Array, equal_domain_weights, holm, over_seeds, seeds_needed, untested

ALL = ""
"""In place of a domain: several of them, each with the same weight."""

Measure = Literal["score", "success_any", "success_last"]
Verdict = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True, slots=True)
class SeedMean:
    """What the trainings of one model have in one measure.

    Attributes:
        group: Name of the model.
        domain: Its tasks only; :data:`ALL` for those of several domains.
        measure: Normalised score, or the share of episodes solved at any or at the last step.
        tasks: How many it rests on.
        trainings: Each training's value, by label.
        mean: With its t interval over the trainings; None where one has no value, and ``reason`` why.
        reason: Likewise.
    """

    group: str
    domain: str
    measure: Measure
    tasks: int
    trainings: tuple[tuple[str, float], ...]
    mean: Estimate | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SeedDifference:
    """One model against another by normalised score.

    Attributes:
        first, second: Their names; the difference is the first's minus the second's.
        difference: Mean over the pairs of trainings, with its t interval; None without any pair.
        pairs: The pairs' differences.
        p, p_holm: Two-sided, and corrected for all pairs of models; None below three pairs, or where they do
            not differ.
        verdict: Of the first.
        reason: Why it was not tested; empty where it was.
        needed: Trainings of each that would tell, by the observed effect and spread; None where unknown.
    """

    first: str
    second: str
    difference: Estimate | None
    pairs: tuple[float, ...] = ()
    p: float | None = None
    p_holm: float | None = None
    verdict: Verdict = "cannot tell"
    reason: str = ""
    needed: int | None = None


@dataclass(frozen=True, slots=True)
class SeedsResult:
    """All of it.

    Attributes:
        level: Of the intervals.
        groups: As they were named.
        means, differences: Model by model, and pair by pair.
        left_out: Tasks that some training has no value of, and why.
        shared: Models of which trainings met the same initial states.
        unfinished: Trainings that miss episodes.
        unpaired: Models with another number of trainings than others.
        lost: Trainings that lost episodes of a task to errors, with how many count.
        apart: Models, and pairs of them, whose trainings acted in worlds of different rates.
    """

    level: float
    groups: tuple[SeedGroup, ...]
    means: tuple[SeedMean, ...]
    differences: tuple[SeedDifference, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    shared: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    unpaired: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()


def estimate_seeds(evidence: Evidence, groups: Sequence[SeedGroup], level: float) -> SeedsResult:
    """Return what the trainings of ``groups`` have, with intervals at ``level``.

    Raises:
        LramError: An agent is not there, or two of one model have the same weights.
    """
    _check(evidence, groups)
    labels = [label for group in groups for label in group.agents]
    tasks = [planned.task for planned in evidence.tasks]
    left_out: list[tuple[str, str]] = []
    values: dict[Measure, dict[str, _Values]] = {"score": {}, "success_any": {}, "success_last": {}}
    failing: dict[str, str] = {}
    for task in tasks:
        cells = {label: evidence.cells.get((label, task.id)) for label in labels}
        if all(cell is None for cell in cells.values()):
            continue
        for label, cell in cells.items():
            if cell is not None and cell.obstacle and audit(task) is None:
                failing.setdefault(label, f"{task.id}: {cell.obstacle}")
        lacking = [cause for label, cell in cells.items() if (cause := _without(label, cell))]
        if lacking:
            left_out.append((task.id, text.listing(lacking, 3)))
            continue
        found = {label: cell for label, cell in cells.items() if cell is not None}
        for measure, of in _MEASURES.items():
            if measure == "score" and (why := audit(task)):
                left_out.append((task.id, why))
                continue
            scored = {
                label: _by_episode(cell, lambda record, of=of, task=task: of(task, record))  # type: ignore[misc]
                for label, cell in found.items()
            }
            if all(scored.values()):
                values[measure][task.id] = scored
            elif measure == "score":
                without = [label for label, episodes in scored.items() if not episodes]
                left_out.append((task.id, f"{text.listing(without, 3)} has no score of it"))
    means = [
        mean if not (why := worlds_apart(evidence, group)) else _refused(mean, why)
        for group in groups
        for measure in values
        for domain in _domains(values[measure])
        if (mean := _mean(group, domain, measure, values[measure], failing, level)) is not None
    ]
    differences = [
        SeedDifference(one.name, other.name, None, reason=f"not comparable: {why}")
        if (why := worlds_apart(evidence, one, other))
        else _difference(one, other, values["score"], failing, level)
        for one, other in combinations(groups, 2)
    ]
    return SeedsResult(
        level,
        tuple(groups),
        tuple(means),
        tuple(_judged(differences, level)),
        tuple(left_out),
        tuple(group.name for group in groups if _meet_the_same(evidence, group)),
        tuple(label for label in labels if _is_unfinished(evidence, label)),
        tuple(_unpaired(groups)),
        tuple(
            f"{label} on {task.id}: {len(cell.counted)} of {text.count(cell.planned, 'episode')}"
            for label in labels
            for task in tasks
            if (cell := evidence.cells.get((label, task.id))) is not None
            and 0 < len(cell.counted) < len(cell.records)
        ),
        tuple(_apart(evidence, groups)),
    )


def worlds_apart(evidence: Evidence, *models: SeedGroup) -> str:
    """Return that trainings of ``models`` acted in worlds of different rates; empty where they did not."""
    labels = (label for model in models for label in model.agents)
    found = worlds(evidence.realtime_hz.get(label, 0.0) for label in labels)
    return f"their trainings acted in {found}" if found else ""


def _apart(evidence: Evidence, groups: Sequence[SeedGroup]) -> Iterator[str]:
    mixed = [group.name for group in groups if worlds_apart(evidence, group)]
    yield from mixed
    for one, other in combinations(groups, 2):
        if worlds_apart(evidence, one, other) and not {one.name, other.name} & set(mixed):
            yield f"{one.name} against {other.name}"


def _refused(mean: SeedMean, why: str) -> SeedMean:
    return replace(mean, trainings=(), mean=None, reason=f"not comparable: {why}")


_Values = dict[str, dict[EpisodeKey, float]]
"""Of one task: by label of the training, by episode."""

_MEASURES: Mapping[Measure, Callable[..., float | None]] = {
    "score": lambda task, record: (
        None if record.episode_return is None else normalise(task, record.episode_return)
    ),
    "success_any": lambda task, record: None if record.success_any is None else float(record.success_any),
    "success_last": lambda task, record: None if record.success_last is None else float(record.success_last),
}


def _check(evidence: Evidence, groups: Sequence[SeedGroup]) -> None:
    digests = {agent.label: agent.info.digest for agent in evidence.agents}
    for group in groups:
        weights: dict[str, str] = {}
        for label in group.agents:
            if label not in digests:
                raise LramError(f"no agent of these runs is called {label!r}, a training of {group.name!r}")
            digest = digests[label]
            if digest and digest in weights:
                raise LramError(
                    f"{weights[digest]!r} and {label!r} have the same weights, so they are no two trainings "
                    f"of {group.name!r}; leave one of them out"
                )
            weights[digest] = label


def _without(label: str, cell: TaskEpisodes | None) -> str:
    """Return why a training has no episode of a task that counts; empty where it has one."""
    if cell is not None and cell.counted:
        return ""
    if cell is None:
        return f"{label} was not to play it"
    if cell.skipped:
        return f"{label} cannot play it"
    if cell.records:
        return f"{text.count(len(cell.records), 'episode')} of {label} errored, and no other is there"
    return f"{label} has played no episode of it yet"


def _by_episode(cell: TaskEpisodes, of: Callable[[EpisodeRecord], float | None]) -> dict[EpisodeKey, float]:
    found = {key: of(record) for key, record in cell.counted.items()}
    return {key: value for key, value in found.items() if value is not None}


def _domains(of: Mapping[str, _Values]) -> list[str]:
    """Return the domains of tasks, and before them :data:`ALL` where they are several."""
    found = list(dict.fromkeys(task.partition("/")[0] for task in of))
    return [ALL, *found] if len(found) > 1 else found


def _value(of: Mapping[str, _Values], label: str, partner: str = "") -> float:
    """Return the mean of domain means of task means, over episodes that ``partner`` began alike, if any."""
    means = []
    for found in of.values():
        mine, theirs = found[label], found.get(partner, {})
        shared = [key for key in mine if key in theirs] or list(mine)
        means.append(float(np.mean([mine[key] for key in shared])))
    weights = equal_domain_weights([task.partition("/")[0] for task in of])
    return float((weights * np.array(means)).sum())


def _mean(
    group: SeedGroup,
    domain: str,
    measure: Measure,
    of: Mapping[str, _Values],
    failing: Mapping[str, str],
    level: float,
) -> SeedMean | None:
    mine = {task: found for task, found in of.items() if domain in (ALL, task.partition("/")[0])}
    if not mine:
        return None
    found = SeedMean(group.name, domain, measure, len(mine), (), None)
    if measure == "score" and (why := _obstacle(group, failing)):
        return replace(found, reason=why)
    values = np.array([_value(mine, label) for label in group.agents])
    span, _ = over_seeds(values, level)
    if span is not None and measure != "score":
        span = (max(span[0], 0.0), min(span[1], 1.0))
    return replace(
        found,
        trainings=tuple(
            (label, rounded(float(value))) for label, value in zip(group.agents, values, strict=True)
        ),
        mean=_estimate(values, span),
    )


def _estimate(values: Array, span: tuple[float, float] | None) -> Estimate:
    interval = None if span is None else ConfidenceInterval(rounded(span[0]), rounded(span[1]), "t")
    return Estimate(rounded(float(values.mean())), interval, "" if span else untested(len(values)))


def _obstacle(group: SeedGroup, failing: Mapping[str, str]) -> str:
    first = next((label for label in group.agents if label in failing), None)
    return "" if first is None else f"not comparable: {first} ({failing[first]})"


def _difference(
    one: SeedGroup, other: SeedGroup, of: Mapping[str, _Values], failing: Mapping[str, str], level: float
) -> SeedDifference:
    empty = SeedDifference(one.name, other.name, None)
    if why := _obstacle(one, failing) or _obstacle(other, failing):
        return replace(empty, reason=why)
    if not of:
        return replace(empty, reason="no task that all trainings have a score of")
    pairs = list(zip(one.agents, other.agents, strict=False))
    values = np.array([_value(of, a, b) - _value(of, b, a) for a, b in pairs])
    span, p = over_seeds(values, level)
    return replace(
        empty,
        difference=_estimate(values, span),
        pairs=tuple(rounded(float(value)) for value in values),
        p=None if p is None else rounded(p),
        reason=untested(len(values)) if p is None else "",
    )


def _judged(found: Sequence[SeedDifference], level: float) -> list[SeedDifference]:
    """Return the differences with corrected p-values and verdicts; what is not tested counts among them."""
    corrected = holm([1.0 if one.p is None else one.p for one in found])
    judged = []
    for one, p in zip(found, corrected, strict=True):
        if one.p is None or one.difference is None:
            judged.append(one)
        elif p < 1 - level:
            verdict: Verdict = "better" if one.difference.value > 0 else "worse"
            judged.append(replace(one, p_holm=rounded(p), verdict=verdict))
        else:
            needed = seeds_needed(np.array(one.pairs), (1 - level) / len(found))
            judged.append(replace(one, p_holm=rounded(p), needed=needed))
    return judged


def _meet_the_same(evidence: Evidence, group: SeedGroup) -> bool:
    met = [
        {(task, key) for (of, task), cell in evidence.cells.items() if of == label for key in cell.counted}
        for label in group.agents
    ]
    return any(first & second for first, second in combinations(met, 2))


def _is_unfinished(evidence: Evidence, label: str) -> bool:
    return any(
        len(cell.records) < cell.planned and not cell.skipped
        for (of, _), cell in evidence.cells.items()
        if of == label
    )


def _unpaired(groups: Sequence[SeedGroup]) -> list[str]:
    counts = [len(group.agents) for group in groups]
    if all(one == two for one, two in pairwise(counts)):
        return []
    return [f"{group.name}: {text.count(len(group.agents), 'training')}" for group in groups]
