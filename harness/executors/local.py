"""This machine, the usual place to work."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

from lram.agents.api import Agent
from lram.envs.errors import WorkerStartError
from lram.envs.workers.pool import Pool
from lram.harness.errors import LramError
from lram.harness.executors.contract import (
    ExecutionReport,
    ExecutorJob,
    ExecutorSession,
    JobFailedError,
    JobUpdate,
    Log,
    RecordSink,
    RolloutJob,
    spread_text,
)
from lram.harness.gate.contract import contract_note
from lram.harness.gate.equivalence import pass_gate
from lram.harness.machine import Machine, cores, rollout_settings, threads
from lram.harness.plan import LocalPlanning, PlannedAgent
from lram.harness.rollout.loop import Rollout
from lram.harness.storage.provenance import worker_versions
from lram.harness.storage.records import PlannedTask, RunPlan

_POLL_S = 0.2


class LocalExecutor:
    """This machine."""

    name = "local"

    def check_for_cells(self) -> None:
        """Do nothing: there are no settings."""

    @contextmanager
    def open(self, machine: Machine | None = None, log: Log | None = None) -> Iterator[ExecutorSession]:
        """Return a session on this machine; what there is to tell of it, jobs tell themselves."""
        yield _LocalSession(machine or Machine())


LOCAL = LocalExecutor()


@dataclass(slots=True, eq=False)
class _LocalWork:
    """A job in progress."""

    job: ExecutorJob[Any]
    results: Iterator[Any]
    began: float


class _LocalSession(LocalPlanning):
    remote = False

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.compute())
        self._machine = machine
        self._report = ExecutionReport()
        self._tasks: Sequence[PlannedTask] = ()

    def agents(
        self, specs: Mapping[str, str | Agent], tasks: Sequence[PlannedTask], seed: int
    ) -> Mapping[str, Agent]:
        self._tasks = tasks
        return super().agents(specs, tasks, seed)

    def check(self, agents: Mapping[str, PlannedAgent]) -> dict[str, str]:
        built = cast(Mapping[str, Agent], agents)
        with threads(self._machine.threads):
            noted = pass_gate(built)
            for label, agent in built.items():
                if label not in noted and (note := contract_note(label, agent, self._tasks)):
                    noted[label] = note
            return noted

    def play(self, job: RolloutJob, sink: RecordSink) -> None:
        machine = self._machine
        _log_interpreters(job.plan, job.interpreters)
        settings = rollout_settings(job.plan, machine, len(job.items), machine.workers or cores())
        pool = Pool(
            log_folder=job.logs,
            interpreters=job.interpreters,
            parked=settings.workers + 2,
        )
        rollout = Rollout(
            cast(Mapping[str, Agent], job.agents),
            {planned.task.id: planned for planned in job.plan.tasks},
            pool,
            settings,
            (lambda recorder, record: sink.record(record, recorder.trajectory(record)))
            if job.trajectories
            else None,
            job.observer,
        )
        for item, failure in job.settled:
            rollout.note(item, failure)
        self._report.notes.update(lanes=str(settings.lanes), workers=str(settings.workers))
        with pool, threads(machine.threads):
            try:
                rollout.run(job.items, sink.record, sink.heartbeat)
            except WorkerStartError as error:
                raise LramError(f"{error}; free what it lacks, then resume the run") from error
            finally:
                self._report.workers.update(worker_versions(pool.facts))
                self._report.notes["spread"] = spread_text(rollout.occupancy.result(), "lanes")
                if rollout.overlap.passes:
                    self._report.notes["overlap"] = str(rollout.overlap)

    def report(self) -> ExecutionReport:
        return self._report

    def run(self, jobs: Sequence[ExecutorJob[Any]], at_once: int | None = None) -> Iterator[JobUpdate | None]:
        waiting, running = deque(jobs), list[_LocalWork]()
        try:
            while waiting or running:
                while waiting and len(running) < (at_once or 1):
                    job = waiting.popleft()
                    running.append(_LocalWork(job, job.work(), time.monotonic()))
                    yield JobUpdate(job, "started")
                updates = [update for work in list(running) for update in _advance(work, running)]
                yield from updates
                if not updates:
                    time.sleep(_POLL_S)
                    yield None
        except BaseException:
            # All are asked at once; then each is waited for.
            for work in running:
                work.job.cancel()
            for work in running:
                cast(Any, work.results).close()
            raise


def _advance(work: _LocalWork, running: list[_LocalWork]) -> list[JobUpdate]:
    """Return what has come of a job since the last time; one that is over leaves ``running``."""
    try:
        result = next(work.results)
    except StopIteration:
        running.remove(work)
        return [JobUpdate(work.job, "done", seconds=time.monotonic() - work.began)]
    except JobFailedError as error:
        running.remove(work)
        return [JobUpdate(work.job, "failed", reason=str(error))]
    return [] if result is None else [JobUpdate(work.job, "result", result)]


def _log_interpreters(plan: RunPlan, interpreters: Mapping[str, str]) -> None:
    """Say on standard error which domains are played elsewhere; nothing where all are played here."""
    protocols = {task.task.domain: task.protocol for task in plan.tasks}
    by_place: dict[str, list[str]] = {}
    for name, protocol in protocols.items():
        by_place.setdefault(interpreters.get(name, "this interpreter"), []).append(protocol)
    if interpreters:
        places = "; ".join(f"{', '.join(names)} in {where}" for where, names in by_place.items())
        with suppress(OSError):
            print(f"lram: {places}", file=sys.stderr, flush=True)
