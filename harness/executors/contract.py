"""Where work is done: the contract that every executor keeps.

An :class:`Executor` is this machine (:mod:`.local`) or a Ray cluster (:mod:`.ray`). Opened, it is an
:class:`ExecutorSession`, which does work of two shapes:

* :meth:`ExecutorSession.play` plays the episodes of a run (evaluation and collection). Records are pushed
  to a :class:`RecordSink` as episodes end, one for every item and in any order: a record must be written
  before the rollout continues. So the same plan gives the same records wherever it is played.
* :meth:`ExecutorSession.run` does independent :class:`ExecutorJob` objects (cells of a study, a sweep)
  and gives a stream of :class:`JobUpdate`. To stop reading is to cancel: closing the stream ends what runs,
  after it has saved what it can.

What is lost (a process, a node) is done again by the executor, as often as is reasonable; a stream tells of
it, and records note it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from lram.harness.machine import Machine
from lram.harness.plan import PlannedAgent, PlanningPlace
from lram.harness.rollout.observer import RolloutObserver
from lram.harness.rollout.occupancy import Occupied
from lram.harness.storage.records import EpisodeRecord, Failure, RunPlan, WorkItem

if TYPE_CHECKING:
    from lram.agents.trajectories.trajectory import Trajectory

Log = Callable[[str], object]
"""Receives what is done, line by line, for people who wait."""


class RecordSink(Protocol):
    """Takes what is played."""

    def record(self, record: EpisodeRecord, trajectory: Trajectory | None = None) -> None:
        """Take a record; of a scored episode with its trajectory, where those are wanted."""
        ...

    def heartbeat(self, active: int, decisions: int) -> None:
        """Take note of the episodes in flight and of the decisions so far; comes several times a second."""
        ...


@dataclass(frozen=True, slots=True)
class RolloutJob:
    """Episodes of a run that are to be played.

    Attributes:
        plan: Of the run.
        items: Those of its items that are to be played, in plan order.
        agents: By label, as the session made them.
        settled: How other items were settled before: scored (None), or errored.
        interpreters: Executable by domain, where it is not played in this interpreter.
        logs: Folder for what workers print.
        trajectories: Whether they are wanted.
        observer: Sees each step and the images that it wants; on this machine only.
    """

    plan: RunPlan
    items: Sequence[WorkItem]
    agents: Mapping[str, PlannedAgent]
    settled: Sequence[tuple[WorkItem, Failure | None]]
    interpreters: Mapping[str, str]
    logs: Path
    trajectories: bool = False
    observer: RolloutObserver | None = None


@dataclass(frozen=True, slots=True)
class ExecutionReport:
    """What became known of the machines while they played.

    Attributes:
        workers: By domain: versions of what matters in its worker's interpreter.
        notes: Anything else for the provenance.
    """

    workers: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


class JobFailedError(Exception):
    """A job has failed for a reason of its own, in one sentence; other jobs are still done."""


ResultT_co = TypeVar("ResultT_co", covariant=True)


class ExecutorJob(Protocol[ResultT_co]):
    """One thing to be done at one place."""

    @property
    def title(self) -> str:
        """What people call it."""
        ...

    def work(self) -> Iterator[ResultT_co | None]:
        """Do it on this machine, and yield results as they come; None: nothing new yet.

        Closing the iterator ends what works on it, and waits for that.

        Raises:
            JobFailedError: It has failed.
            LramError: Nothing of its kind can be done.
        """
        ...

    def cancel(self) -> None:
        """Ask what works on it to save what it can and end; the iterator is closed after that."""
        ...


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """What happened to a job.

    Attributes:
        job: Which.
        state: ``started``; ``result``: it gave one; ``done``; ``failed``: it is not tried again; ``lost``:
            its process or node has gone, and it is done again.
        result: What it gave.
        reason: Why it failed or was lost.
        seconds: That it took, when it is done.
        node: Where it is, as people know it; empty: on this machine.
    """

    job: Any
    state: Literal["started", "result", "done", "failed", "lost"]
    result: Any = None
    reason: str = ""
    seconds: float = 0.0
    node: str = ""


class ExecutorSession(PlanningPlace, Protocol):
    """An executor that is ready to plan for, and to work.

    Attributes:
        remote: Whether jobs are done by other processes than this one's, perhaps on other machines.
    """

    remote: bool

    def check(self, agents: Mapping[str, PlannedAgent]) -> dict[str, str]:
        """Let models among ``agents`` pass the gate, and check others' contract; return what to note.

        What is noted comes by label. Raises LramError where a model does not pass.
        """
        ...

    def play(self, job: RolloutJob, sink: RecordSink) -> None:
        """Play; every item's record has gone to ``sink`` when this returns.

        Raises:
            AgentRaisedError: An agent raised; records handed out so far stand.
            LramError: Nothing can be played any more; likewise.
        """
        ...

    def report(self) -> ExecutionReport:
        """Return what is known so far, also after ``play`` has raised."""
        ...

    def run(self, jobs: Sequence[ExecutorJob[Any]], at_once: int | None = None) -> Iterator[JobUpdate | None]:
        """Do ``jobs``, all of one kind; yield what happens to them, and None while nothing does.

        Args:
            jobs: What is to be done, in the order in which they are begun.
            at_once: Jobs at a time (None: as many as is usual for the executor).

        Raises:
            LramError: Nothing can be done any more; what is done stands.
        """
        ...


class Executor(Protocol):
    """A place to work.

    Attributes:
        name: ``local`` or ``ray``.
    """

    name: str

    def check_for_cells(self) -> None:
        """Raise LramError where its settings make no sense for cells of studies."""
        ...

    def open(
        self, machine: Machine | None = None, log: Log | None = None
    ) -> AbstractContextManager[ExecutorSession]:
        """Return a session for as long as the context is held.

        Args:
            machine: How each machine plays episodes (None: as usual).
            log: Told what is done (None: as the executor was made).
        """
        ...


def spread_text(occupied: Occupied, places: str) -> str:
    """Return in words how well the places of a run were used, and what its end left idle."""
    if not occupied.wall_s:
        return f"{occupied.places} {places}, nothing was played"
    return (
        f"{occupied.places} {places} busy {occupied.busy_share:.0%} of {occupied.wall_s:.1f} s; in the last "
        f"{occupied.tail_s:.1f} s, when nothing waited any more, {occupied.tail_share:.1%} of all stood idle"
    )
