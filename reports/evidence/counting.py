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
has no number on the tasks that miss episodes. Whose fault it was stands in the records
(:attr:`lram.harness.storage.records.EpisodeRecord.failed_by_agent`), those of earlier versions too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from lram.envs.returns import least_return
from lram.envs.task import Task
from lram.harness.storage.records import EpisodeRecord
from lram.harness.words import count

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
