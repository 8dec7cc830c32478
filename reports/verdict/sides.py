"""The two sides of a verdict: agents of runs, found by name, and what is known of both under one roof."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from lram.envs.scores import Normaliser
from lram.harness.domain_files import differing
from lram.harness.errors import LramError
from lram.harness.storage.records import PlannedTask
from lram.harness.storage.run_folder import PLAN_FILE, Run
from lram.harness.words import count
from lram.reports.comparison.worlds import worlds
from lram.reports.evidence.collect import collect, severally
from lram.reports.evidence.evidence import Evidence, ValuesByFact

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: an agent of some runs, and whose references its scores have."""

    label: str
    runs: tuple[Run, ...]
    normaliser: Normaliser = "paper"


def find_side(text: str, runs: Sequence[Run]) -> Side:
    """Return the agent that ``text`` names.

    Args:
        text: The folder of a run that has one agent, ``FOLDER:LABEL``, or the label of an agent in ``runs``.
        runs: Where labels are looked up.

    Raises:
        LramError: It is none of these, or the folder's run has several agents.
    """
    mine = tuple(run for run in runs if text in _labels(run))
    folder_too = mine and (Path(text) / PLAN_FILE).is_file()
    if folder_too and not any(run.path.resolve() == Path(text).resolve() for run in mine):
        raise LramError(
            f"{text!r} is an agent of {mine[0].path} and also the folder of a run; write "
            f"{mine[0].path}:{text} for the agent, or ./{text} for the folder"
        )
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


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a side.

    Attributes:
        label: In its runs.
        name: That tells it from the other side, whose label may be the same.
        evidence: Of its runs.
    """

    label: str
    name: str
    evidence: Evidence


def known(first: Side, second: Side) -> tuple[Known, Known]:
    """Return what is known of both sides.

    Raises:
        LramError: A side's own runs contradict each other, or are damaged.
    """
    names = [side.label for side in (first, second)]
    if first.label == second.label:
        names = [f"{first.label} (first)", f"{second.label} (second)"]
    one, other = (
        Known(side.label, name, collect(side.runs, side.normaliser))
        for side, name in zip((first, second), names, strict=True)
    )
    return one, other


def _labels(run: Run) -> list[str]:
    return [agent.label for agent in run.plan.agents]


def obstacle(first: Known, second: Known) -> str:
    """Return why the two cannot be compared at all; empty where they may be."""
    evidence = [side.evidence for side in (first, second)]
    if any(found.collected for found in evidence):
        return "a run was played to collect training data, and its agents met initial states of their own"
    rates = [side.evidence.realtime_hz.get(side.label, 0.0) for side in (first, second)]
    if found_apart := worlds(rates):
        return f"they acted in {found_apart}"
    if changed := differing(*(found.domain_files for found in evidence)):
        return f"the source of {', '.join(changed)} is not the same in the two runs"
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


def without_pairs(first: Known, second: Known) -> str:
    """Return why the two have no pair of episodes."""
    tasks = [{task for agent, task in side.evidence.cells if agent == side.label} for side in (first, second)]
    shared = tasks[0] & tasks[1]
    if not shared:
        return "they have no task in common"
    if not set(first.evidence.run_seeds) & set(second.evidence.run_seeds):
        seeds = [", ".join(map(str, side.evidence.run_seeds)) for side in (first, second)]
        return (
            f"their runs have other seeds ({seeds[0]} and {seeds[1]}), so no two episodes began alike; "
            "evaluate both with one --seed"
        )
    return (
        f"of {count(len(shared), 'task')} in common none has episodes of both that began alike and have a "
        "normalised score"
    )


def together(first: Known, second: Known) -> Evidence:
    """Return the evidence on both, each under its name."""
    sides = (first, second)
    entries = [
        replace(agent, label=side.name)
        for side in sides
        for agent in side.evidence.agents
        if agent.label == side.label
    ]
    tasks = {planned.task.id: planned for side in sides for planned in side.evidence.tasks}
    played = _united(side.evidence.played for side in sides)
    return replace(
        first.evidence,
        agents=tuple(entries),
        tasks=tuple(tasks.values()),
        cells={
            (side.name, task): cell
            for side in sides
            for (agent, task), cell in side.evidence.cells.items()
            if agent == side.label
        },
        run_seeds=tuple(sorted({seed for side in sides for seed in side.evidence.run_seeds})),
        disagreements=_of_both(sides, _about),
        mixtures=_named(sides, lambda evidence: evidence.mixtures),
        sources=_named(sides, lambda evidence: evidence.sources),
        raised=_named(sides, lambda evidence: evidence.raised),
        broken_promises=_named(sides, lambda evidence: evidence.broken_promises),
        own_rows={task: row for side in sides for task, row in side.evidence.own_rows.items()},
        simulators=severally(played),
        played=played,
        unsigned=_of_both(sides, lambda side: side.evidence.unsigned),
        realtime_hz=_named(sides, lambda evidence: evidence.realtime_hz),
    )


def _named(sides: Sequence[Known], of: Callable[[Evidence], Mapping[str, T]]) -> dict[str, T]:
    """Return what is known of the sides' own agents, by the sides' names."""
    return {side.name: found[side.label] for side in sides if side.label in (found := of(side.evidence))}


def _about(side: Known) -> tuple[str, ...]:
    """Return the disagreements on the side's own agent; an item's name begins with the agent's label."""
    return tuple(item for item in side.evidence.disagreements if item.startswith(f"{side.label}|"))


def _of_both(sides: Sequence[Known], of: Callable[[Known], tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for side in sides for item in of(side)))


def _united(parts: Iterable[dict[str, ValuesByFact]]) -> dict[str, ValuesByFact]:
    """Return all values of each fact of each domain."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for part in parts:
        for name, facts in part.items():
            for fact, values in facts.items():
                found.setdefault(name, {}).setdefault(fact, {}).update(dict.fromkeys(values))
    return {name: {fact: tuple(values) for fact, values in facts.items()} for name, facts in found.items()}
