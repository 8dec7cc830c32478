"""Which episodes count, and with what: failing must not raise a score.

An episode without a score is one of two things:

* The **simulator** failed (a crash, a hang, an exception, a task given up for that): nothing is known of the
  agent, and the episode is missing from every number.
* The **agent** failed by its own fault (it gave NaN, a wrong shape, an action that the task does not have; or
  the task was given up for that): the episode counts as the worst that could have come of it. It is not
  solved, and its return is the least that the task can give (:func:`lram.envs.returns.least_return`). Where
  no least return is known, nothing can stand for it, and leaving it out would flatter: the agent has no
  return and no score on that task, so that its aggregates are marked and it is not compared there.

An agent that raises ends its run, so its episodes have no records. Until the run is complete, that agent
has no number on the tasks that miss episodes. Whose fault it was is told by the records
(:attr:`lram.harness.storage.records.EpisodeRecord.failed_by_agent`), those of earlier versions too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lram.envs.returns import least_return
from lram.envs.scores import audit
from lram.envs.task import Task
from lram.harness.storage.records import EpisodeRecord
from lram.harness.words import count
from lram.reports.model import Caveat, TaskResult
from lram.reports.text import listing

if TYPE_CHECKING:
    from lram.reports.collect import Evidence

Records = dict[tuple[int, int], EpisodeRecord]
"""By run seed and number of the episode."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What of one agent's episodes on one task counts.

    Attributes:
        records: Those that count, as they count: the scored ones, and one for each episode that failed by
            the agent's own fault, unsolved and with the least return. A return that does not count is None.
        failed: Episodes that failed by the agent's own fault.
        obstacle: Why the agent has no return and no score on the task; empty where it may have.
    """

    records: Records
    failed: int = 0
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class Notion:
    """What the scored episodes of a task tell of every episode: whether it can be solved, and its parts."""

    success: bool = False
    parts: int = 0


def notions(tasks: Mapping[str, Task], cells: Iterable[Records]) -> dict[str, Notion]:
    """Return what is known of each task; one that nobody has scored on is taken for its domain's others.

    Args:
        tasks: By id.
        cells: Records, those of one agent on one task together.
    """
    found: dict[str, Notion] = {}
    for cell in cells:
        # Records of a task agree on what it has, so one of them tells.
        first = next((record for record in cell.values() if record.status == "scored"), None)
        if first is not None:
            known = found.get(first.task, Notion())
            success = known.success or first.success_any is not None
            found[first.task] = Notion(success, max(known.parts, len(first.parts)))
    solved = {tasks[task].domain for task, notion in found.items() if notion.success}
    return {name: found.get(name) or Notion(task.domain in solved) for name, task in tasks.items()}


def counted(
    task: Task, records: Records, scored: Records, planned: int, notion: Notion, *, raised: bool
) -> Counted:
    """Return what counts of one agent's records on ``task``.

    Args:
        task: The task.
        records: All that was recorded.
        scored: Those with a score.
        planned: Episodes that were planned.
        notion: What is known of the task (:func:`notions`).
        raised: Whether the agent has ended a run by an error of its own.
    """
    missing = planned - len(records)
    errored = len(scored) < len(records)
    failed = sum(record.failed_by_agent for record in records.values()) if errored else 0
    if raised and missing:
        why = (
            f"the agent ended its run with an error of its own, and {missing} of "
            f"{count(planned, 'episode')} {'is' if missing == 1 else 'are'} missing: resume the run"
        )
        return Counted({}, failed, why)
    if not failed:
        return Counted(scored)
    least = least_return(task)
    stand_ins = {
        key: _worst(record, least, notion) for key, record in records.items() if record.failed_by_agent
    }
    if least is not None:
        return Counted(_in_order(records, scored | stand_ins), failed)
    without = {key: replace(record, episode_return=None, parts=()) for key, record in scored.items()}
    why = (
        f"{failed} of {count(planned, 'episode')} failed by the agent's own errors, and no least return is "
        "known that they could count with"
    )
    return Counted(_in_order(records, without | stand_ins), failed, why)


def _in_order(records: Records, some: Records) -> Records:
    return {key: some[key] for key in records if key in some}


def _worst(record: EpisodeRecord, least: float | None, notion: Notion) -> EpisodeRecord:
    """Return what a failed episode counts as; no more than its seed and its number is true of it."""
    unsolved = False if notion.success else None
    parts = () if least is None else (least / max(1, notion.parts),) * notion.parts
    return replace(
        record,
        status="scored",
        episode_return=least,
        success_any=unsolved,
        success_last=unsolved,
        parts=parts,
        failure=None,
    )


def barrier(evidence: Evidence, names: Mapping[str, str]) -> str:
    """Return why agents are not to be compared on the tasks that all of them play; empty where they are.

    A pair of episodes of which one failed by its agent's own fault, and cannot be counted, must not be left
    out: what is left would favour the agent that failed.

    Args:
        evidence: All runs.
        names: Labels of the agents, each with the name to call it by.
    """
    told = []
    shared = [
        planned.task
        for planned in evidence.tasks
        if audit(planned.task) is None and all(_plays(evidence, label, planned.task.id) for label in names)
    ]
    for label, name in names.items():
        cells = {task.id: evidence.cells[label, task.id] for task in shared}
        without = [task for task, cell in cells.items() if cell.obstacle]
        if without:
            told.append(f"{name} on {listing(without)}: {cells[without[0]].obstacle}")
    return "; ".join(told)


def _plays(evidence: Evidence, label: str, task: str) -> bool:
    cell = evidence.cells.get((label, task))
    return cell is not None and cell.planned > 0


def own_failures(results: Sequence[TaskResult], raised: Mapping[str, str]) -> Iterator[Caveat]:
    """Yield what is to be said of agents that failed by their own fault, and of those that ``raised``."""
    failed = [result for result in results if result.failed_by_agent]
    if failed:
        without = [result for result in failed if result.uncounted]
        text = (
            f"{count(sum(r.failed_by_agent for r in failed), 'episode')} failed by the agent's own errors. "
            "Such episodes count as the worst that could have come of them: not solved, and with the least "
            "return of the task."
        )
        if without:
            text += (
                f" On {count(len(without), 'task')} (counted by agent) no least return is known: there the "
                "agent has no return and no score, its aggregates are not comparable, and it is compared "
                "with no agent that plays the task."
            )
        yield Caveat(
            "own errors",
            text,
            tuple(
                f"{r.agent} on {r.task}: {r.failed_by_agent} of {r.planned}"
                f"{', not comparable' if r.uncounted else ''}"
                for r in failed
            ),
        )
    if raised:
        yield Caveat(
            "raised",
            f"{count(len(raised), 'agent has', 'agents have')} ended a run with an error of its own, and "
            "episodes are missing since. On tasks that miss any, such an agent has no number until the run "
            "is complete: what was recorded before may be its better episodes.",
            tuple(f"{label}: {error}" for label, error in raised.items()),
        )
