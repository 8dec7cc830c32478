"""Where the episodes of a run are played: the contract, and this machine, which is the usual place.

Whoever plays hands records to a :class:`Sink` as episodes end, one for every item and in any order; the
sink writes them. So the same plan gives the same records wherever it is played.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from lram.agents.api import Agent
from lram.envs.errors import WorkerStartError
from lram.envs.workers.pool import Pool
from lram.harness.errors import LramError
from lram.harness.gate.contract import contract_note
from lram.harness.gate.equivalence import pass_gate
from lram.harness.machine import Machine, cores, rollout_settings, threads
from lram.harness.plan import Here, Place, Player
from lram.harness.rollout.loop import Rollout
from lram.harness.rollout.occupancy import Occupied
from lram.harness.storage.provenance import worker_versions
from lram.harness.storage.records import EpisodeRecord, Failure, PlannedTask, RunPlan, WorkItem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lram.agents.trajectories.trajectory import Trajectory


class Sink(Protocol):
    """Takes what is played."""

    def record(self, record: EpisodeRecord, trajectory: Trajectory | None = None) -> None:
        """Take a record; of a scored episode with its trajectory, where those are wanted."""
        ...

    def heartbeat(self, active: int, decisions: int) -> None:
        """Take note of the episodes in flight and of the decisions so far; comes several times a second."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be played.

    Attributes:
        plan: Of the run.
        items: Those of its items that are to be played, in plan order.
        players: Agents by label, as the stage made them.
        settled: How other items were settled before: scored (None), or errored.
        interpreters: Executable by domain, where it is not played in this interpreter.
        logs: Folder for what workers print.
        tapes: Trajectories are wanted.
    """

    plan: RunPlan
    items: Sequence[WorkItem]
    players: Mapping[str, Player]
    settled: Sequence[tuple[WorkItem, Failure | None]]
    interpreters: Mapping[str, str]
    logs: Path
    tapes: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What became known of the machines while they played.

    Attributes:
        workers: By domain: versions of what matters in its worker's interpreter.
        notes: Anything else for the provenance.
    """

    workers: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


class Stage(Place, Protocol):
    """A place that is ready to plan for, and to play."""

    def check(self, players: Mapping[str, Player]) -> dict[str, str]:
        """Let models among ``players`` pass the gate, and check others' contract; return what to note.

        What is noted comes by label. Raises LramError where a model does not pass.
        """
        ...

    def play(self, work: Work, sink: Sink) -> None:
        """Play; every item's record has gone to ``sink`` when this returns.

        Raises:
            AgentRaisedError: An agent raised; records handed out so far stand.
            LramError: Nothing can be played any more; likewise.
        """
        ...

    def told(self) -> Told:
        """Return what is known so far, also after ``play`` has raised."""
        ...


class Backend(Protocol):
    """A kind of place.

    Attributes:
        name: ``local`` or ``ray``.
    """

    name: str

    def open(self, machine: Machine) -> AbstractContextManager[Stage]:
        """Return a stage for as long as the context is held; ``machine`` tells how each machine works."""
        ...


class Local:
    """This machine."""

    name = "local"

    @contextmanager
    def open(self, machine: Machine) -> Iterator[Stage]:
        """Return a stage on this machine."""
        yield _LocalStage(machine)


LOCAL = Local()


class _LocalStage(Here):
    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.compute())
        self._machine = machine
        self._told = Told()
        self._tasks: Sequence[PlannedTask] = ()

    def players(
        self, specs: Mapping[str, str | Agent], tasks: Sequence[PlannedTask], seed: int
    ) -> Mapping[str, Agent]:
        self._tasks = tasks
        return super().players(specs, tasks, seed)

    def check(self, players: Mapping[str, Player]) -> dict[str, str]:
        agents = cast(Mapping[str, Agent], players)
        with threads(self._machine.threads):
            noted = pass_gate(agents)
            for label, agent in agents.items():
                if label not in noted and (note := contract_note(label, agent, self._tasks)):
                    noted[label] = note
            return noted

    def play(self, work: Work, sink: Sink) -> None:
        machine = self._machine
        _tell(work.plan, work.interpreters)
        settings = rollout_settings(work.plan, machine, len(work.items), machine.workers or cores())
        pool = Pool(
            log_folder=work.logs,
            interpreters=work.interpreters,
            parked=settings.workers + 2,
        )
        rollout = Rollout(
            cast(Mapping[str, Agent], work.players),
            {planned.task.id: planned for planned in work.plan.tasks},
            pool,
            settings,
            (lambda tape, record: sink.record(record, tape.trajectory(record))) if work.tapes else None,
        )
        for item, failure in work.settled:
            rollout.note(item, failure)
        self._told.notes.update(lanes=str(settings.lanes), workers=str(settings.workers))
        with pool, threads(machine.threads):
            try:
                rollout.run(work.items, sink.record, sink.heartbeat)
            except WorkerStartError as error:
                raise LramError(f"{error}; free what it lacks, then resume the run") from error
            finally:
                self._told.workers.update(worker_versions(pool.facts))
                self._told.notes["spread"] = spread_text(rollout.occupancy.result(), "lanes")

    def told(self) -> Told:
        return self._told


def spread_text(occupied: Occupied, places: str) -> str:
    """Return in words how well the places of a run were used, and what its end left idle."""
    if not occupied.wall_s:
        return f"{occupied.places} {places}, nothing was played"
    return (
        f"{occupied.places} {places} busy {occupied.busy_share:.0%} of {occupied.wall_s:.1f} s; in the last "
        f"{occupied.tail_s:.1f} s, when nothing waited any more, {occupied.tail_share:.1%} of all stood idle"
    )


def _tell(plan: RunPlan, interpreters: Mapping[str, str]) -> None:
    """Say on standard error which domains are played elsewhere; nothing where all are played here."""
    protocols = {task.task.domain: task.protocol for task in plan.tasks}
    by_place: dict[str, list[str]] = {}
    for name, protocol in protocols.items():
        by_place.setdefault(interpreters.get(name, "this interpreter"), []).append(protocol)
    if interpreters:
        places = "; ".join(f"{', '.join(names)} in {where}" for where, names in by_place.items())
        with suppress(OSError):
            print(f"lram: {places}", file=sys.stderr, flush=True)
