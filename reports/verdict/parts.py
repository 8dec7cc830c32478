"""A verdict's parts: the same two agents on each domain, or, of one domain, on each task.

Each part is compared as the whole is. The more parts, the likelier one of them seems worse by chance, so a
part's word is by a p that is corrected (Holm) for all parts: where the two agents are alike, the probability
that any part is called better or worse is at most 1 - level, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lram.envs.scores import audit
from lram.envs.task import Task
from lram.reports.comparison.compare import finer, over_tasks
from lram.reports.comparison.paired_episodes import PairedTask
from lram.reports.model import Comparison, rounded
from lram.reports.samples import Resampling
from lram.reports.statistics import holm
from lram.reports.verdict.judging import Judged, Word

_PATTERNS = 2000

Kind = Literal["domain", "task"]


@dataclass(frozen=True, slots=True)
class PartVerdict:
    """The first against the second on a part of the tasks.

    Attributes:
        kind, name: A domain or a task, and which.
        word: As of the whole, by ``p_holm``; ``no score`` where no task has a usable reference.
        planned: Tasks of the part that both were to play.
        comparison: First minus second, its interval for this part alone; None where nothing was compared.
        reason: Why nothing was; empty where something was.
    """

    kind: Kind
    name: str
    word: Word | Literal["no score"]
    planned: int
    comparison: Comparison | None
    reason: str = ""


def judge_parts(judged: Judged) -> tuple[PartVerdict, ...]:
    """Return the parts of a verdict, in the order of the tasks.

    They are the domains; where there is one domain, its tasks; none where there is one task, or where the two
    do not compare at all.
    """
    if judged.pairing is None:
        return ()
    verdict, names = judged.verdict, judged.pairing.comparison
    shared = [
        planned.task
        for planned in judged.evidence.tasks
        if all(_plays(judged, label, planned.task.id) for label in (names.first, names.second))
    ]
    kind: Kind = "domain" if len({task.domain for task in shared}) > 1 else "task"
    parts = _grouped(shared, (lambda task: task.domain) if kind == "domain" else (lambda task: task.id))
    if len(parts) < 2:
        return ()
    how = Resampling(verdict.seed, _PATTERNS, verdict.level)
    pairs = {one.task.id: one for one in judged.pairing.tasks}
    found = [_compared(names.first, names.second, tasks, pairs, how, len(parts)) for tasks in parts.values()]
    corrected = _corrected(found)
    return tuple(
        _part(kind, name, tasks, one, verdict.level)
        for (name, tasks), one in zip(parts.items(), corrected, strict=True)
    )


def _plays(judged: Judged, label: str, task: str) -> bool:
    cell = judged.evidence.cells.get((label, task))
    return cell is not None and cell.planned > 0


def _grouped(tasks: Sequence[Task], name: Callable[[Task], str]) -> dict[str, list[Task]]:
    parts: dict[str, list[Task]] = {}
    for task in tasks:
        parts.setdefault(name(task), []).append(task)
    return parts


def _compared(
    first: str,
    second: str,
    tasks: Sequence[Task],
    pairs: dict[str, PairedTask],
    how: Resampling,
    tests: int,
) -> Comparison | None:
    """Return the comparison on ``tasks``, one of so many ``tests``; None without a pair of episodes."""
    mine = [pairs[task.id] for task in tasks if task.id in pairs]
    return finer(over_tasks(first, second, mine, how), how, tests) if mine else None


def _corrected(found: Sequence[Comparison | None]) -> list[Comparison | None]:
    """Return the comparisons with p-values corrected for all of them."""
    adjusted = iter(holm([one.p for one in found if one is not None and one.p is not None]))
    return [
        one if one is None or one.p is None else replace(one, p_holm=rounded(next(adjusted))) for one in found
    ]


def _part(
    kind: Kind, name: str, tasks: Sequence[Task], comparison: Comparison | None, level: float
) -> PartVerdict:
    if comparison is None or comparison.difference is None or comparison.p_holm is None:
        without = [audit(task) for task in tasks]
        if all(without):
            return PartVerdict(kind, name, "no score", len(tasks), None, str(without[0]))
        reason = "no episodes of both that began alike and have a normalised score"
        return PartVerdict(kind, name, "not comparable", len(tasks), None, reason)
    word: Word = "no difference shown"
    if comparison.p_holm < 1 - level:
        word = "better" if comparison.difference.value > 0 else "worse"
    return PartVerdict(kind, name, word, len(tasks), comparison)
