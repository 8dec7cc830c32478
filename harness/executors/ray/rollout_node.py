"""What a node does: tells of itself, builds agents, and plays jobs. Runs in Ray's processes there."""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from lram.agents.trajectories.trajectory import Trajectory
from lram.envs.errors import WorkerStartError
from lram.envs.registry import add_file, load_domain
from lram.envs.workers.pool import Pool
from lram.harness.errors import LramError, as_lram_error
from lram.harness.executors.ray import agents
from lram.harness.executors.ray.messages import (
    AgentOrder,
    DomainFacts,
    JobError,
    JobOrder,
    NodeFacts,
    RolloutUpdate,
)
from lram.harness.executors.ray.node import die_with_raylet, own_folder
from lram.harness.executors.ray.source import source_digest
from lram.harness.executors.ray.transfer import Artifacts
from lram.harness.interpreters import resolve, used
from lram.harness.interpreters.readiness import LackingError, adapter, readiness
from lram.harness.machine import threads
from lram.harness.rollout.loop import AgentRaisedError, Rollout, RolloutSettings
from lram.harness.rollout.recorder import TrajectoryRecorder
from lram.harness.storage.provenance import collect, worker_versions
from lram.harness.storage.records import EpisodeRecord, PlannedTask, WorkItem

_NO_FILES: Mapping[str, tuple[str, str]] = MappingProxyType({})
_SPEAK_S = 0.2  # how long a record waits for others to share its message
_HEARTBEAT_S = 2.0
_WORDS = 4000  # of a worker's log


def facts(
    domains: Mapping[str, Sequence[str]],
    pythons: Mapping[str, str],
    files: Mapping[str, tuple[str, str]] = _NO_FILES,
) -> NodeFacts:
    """Return what this node is and can play.

    Args:
        domains: By name, the names of the tasks to play.
        pythons: What the user says of interpreters, by domain.
        files: Path and SHA-256 of the file that a domain is from, where it is from one.
    """
    made = collect({}, {})
    return NodeFacts(
        host=platform.node(),
        python=made.python,
        cpu=made.cpu,
        gpu=made.gpu,
        packages=made.packages,
        source=source_digest(),
        domains={
            name: _domain_facts(name, tasks, pythons, files.get(name)) for name, tasks in domains.items()
        },
    )


def _domain_facts(
    name: str, tasks: Sequence[str], pythons: Mapping[str, str], file: tuple[str, str] | None
) -> DomainFacts:
    try:
        _know(file)
        domain = adapter(name)
        python = resolve([name], {name: pythons[name]} if name in pythons else None).get(name)
    except LramError as error:
        return DomainFacts(lacks=str(error))
    fits, lacks = [], ""
    for protocol in domain.protocols:
        try:
            readiness(domain, tasks, python, protocol.name)
            fits.append(protocol.name)
        except LackingError as error:
            return DomainFacts(python or "", (), f"{error.what}: {error.how}")
        except LramError as error:
            lacks = lacks or str(error)
    return DomainFacts(python or "", tuple(fits), lacks)


@as_lram_error()
def _know(file: tuple[str, str] | None) -> None:
    """Make the domain of a file known that lies here, too, and is the driver's."""
    if file is not None:
        add_file(*file)


def examine() -> bytes:
    """Try what ``lram doctor`` tries; return the findings as JSON."""
    from lram.harness import doctor

    return msgspec.json.encode(doctor.examine())


def describe(order: bytes, files: Artifacts, tasks: bytes) -> bytes:
    """Build an agent and tell of it; JSON of messages in and out."""
    return msgspec.json.encode(
        agents.describe(
            msgspec.json.decode(order, type=AgentOrder),
            files,
            msgspec.json.decode(tasks, type=tuple[PlannedTask, ...]),
        )
    )


def play(order: bytes, files: Artifacts) -> Iterator[tuple[bytes, list[dict[str, Any]]]]:
    """Play a job; yield :class:`RolloutUpdate` as JSON, with the trajectories of its scored records."""
    die_with_raylet()
    job = msgspec.json.decode(order, type=JobOrder)
    with own_folder("jobs") as folder:
        yield from _Job(job, files, folder).play()


class _Job:
    def __init__(self, order: JobOrder, files: Artifacts, logs: Path) -> None:
        self._order, self._files, self._logs = order, files, logs
        self._records: list[EpisodeRecord] = []
        self._trajectories: list[dict[str, Any]] = []
        self._active = self._decisions = 0
        self._failed = False
        self._rollout: Rollout | None = None
        self._began = time.perf_counter()
        self._first: float | None = None

    def play(self) -> Iterator[tuple[bytes, list[dict[str, Any]]]]:
        """Play, speaking now and then."""
        job, failed = self._order, None
        pool: Pool | None = None
        try:
            _know(job.domain_file)
            agent, _ = agents.prepared(job.agent, self._files)
            domain = job.task.task.domain
            python = {domain: job.python} if job.python else {}
            pool = Pool(log_folder=self._logs, interpreters=python, parked=job.settings.workers)
            with used(python.values()), pool, threads(job.agent.threads):
                self._rollout = rollout = Rollout(
                    {job.agent.label: agent},
                    {job.task.task.id: job.task},
                    pool,
                    self._settings(),
                    self._recorded(),
                )
                if job.begun:
                    rollout.begun(domain)
                for label, episode, failure in job.settled:
                    rollout.note(WorkItem(label, job.task.task.id, episode), failure)
                items = [WorkItem(job.agent.label, job.task.task.id, number) for number in job.episodes]
                rollout.start(items, self._record, self._heartbeat)
                spoke = time.perf_counter()
                while rollout.turn():
                    wait = _SPEAK_S if self._records and not self._silent else _HEARTBEAT_S
                    if time.perf_counter() - spoke >= wait:
                        yield self._update()
                        spoke = time.perf_counter()
        except AgentRaisedError as error:
            story = "".join(traceback.format_exception(error.__cause__))
            failed = JobError("agent", str(error), story)
        except (LramError, WorkerStartError) as error:
            failed = JobError("node", str(error))
        if failed is None and self._rollout is not None and (dead := self._rollout.dead(domain)):
            # It is this node's, as far as is known here: others may play what was to be played.
            self._records, failed = [], JobError("dead", dead)
        yield self._last(failed, pool)

    def _settings(self) -> RolloutSettings:
        job = self._order
        domain = job.task.task.domain
        return replace(job.settings, start_s={domain: load_domain(domain).start_s})

    def _recorded(self) -> Any:
        if not self._order.trajectories:
            return None

        def take(recorder: TrajectoryRecorder, record: EpisodeRecord) -> None:
            self._trajectories.append(_plain(recorder.trajectory(record)))
            self._record(record)

        return take

    def _record(self, record: EpisodeRecord) -> None:
        self._records.append(record)
        self._failed = self._failed or record.failure is not None

    @property
    def _silent(self) -> bool:
        """Whether failures are held back, because the simulator may not live on this node at all."""
        return not (self._order.begun or self._decisions)

    def _heartbeat(self, active: int, decisions: int) -> None:
        self._active, self._decisions = active, decisions
        if decisions and self._first is None:
            self._first = time.perf_counter()

    def _update(self) -> tuple[bytes, list[dict[str, Any]]]:
        reported = [] if self._silent else self._records
        flying = self._rollout.playing if self._rollout is not None else []
        update = RolloutUpdate(
            tuple(reported),
            self._active,
            self._decisions,
            words=self._words() if any(record.failure for record in reported) else {},
            flying=tuple(item.episode for item in flying),
        )
        trajectories = self._trajectories
        if reported:
            self._records, self._trajectories = [], []
            return msgspec.json.encode(update), trajectories
        return msgspec.json.encode(update), []

    def _last(self, error: JobError | None, pool: Pool | None) -> tuple[bytes, list[dict[str, Any]]]:
        now = time.perf_counter()
        versions = worker_versions(pool.facts) if pool is not None else {}
        update = RolloutUpdate(
            tuple(self._records),
            0,
            self._decisions,
            done=True,
            error=error,
            workers=versions.get(self._order.task.task.domain, {}),
            start_s=(self._first or now) - self._began,
            wall_s=now - self._began,
            words=self._words() if self._failed else {},
        )
        return msgspec.json.encode(update), self._trajectories

    def _words(self) -> dict[str, str]:
        said = {}
        for log in sorted(self._logs.glob("*.log")):
            with suppress(OSError):
                if words := log.read_bytes()[-_WORDS:].decode(errors="replace"):
                    said[log.name] = words
        return said


def _plain(trajectory: Trajectory) -> dict[str, Any]:
    """Return what a trajectory holds as arrays and plain values; the record tells the rest."""
    return {
        "observations": trajectory.observations,
        "actions": trajectory.actions,
        "rewards": trajectory.rewards,
        "signals": trajectory.signals,
        "success": trajectory.success,
        "context_starts": list(trajectory.context_starts),
        "record": trajectory.record,
    }
