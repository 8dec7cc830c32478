"""Recorded episodes played again, through the machinery of an evaluation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lram.agents.api import MinimalAgent
from lram.harness import domain_files
from lram.harness.computing import of_models
from lram.harness.errors import LramError
from lram.harness.evaluation import checked, machine_for
from lram.harness.executors.contract import ExecutorSession, RolloutJob
from lram.harness.executors.local import LOCAL
from lram.harness.interpreters import used
from lram.harness.machine import Machine, calm_threads
from lram.harness.plan import OBJECT_SPEC, PlannedAgent, interpreters_of, reopen
from lram.harness.progress import Progress, Reporter, quiet
from lram.harness.replay.comparison import Replayed, differences
from lram.harness.replay.conditions import conditions
from lram.harness.rollout.observer import RolloutObserver
from lram.harness.storage.provenance import collect
from lram.harness.storage.records import EpisodeRecord, Provenance, RunPlan, WorkItem
from lram.harness.storage.run_folder import PLAN_FILE, Run
from lram.harness.trust import NONE, Trust, check_trusted

if TYPE_CHECKING:
    from lram.agents.trajectories.trajectory import Trajectory


def replay(
    run: Run,
    records: Sequence[EpisodeRecord],
    *,
    agents: Mapping[str, MinimalAgent] | None = None,
    machine: Machine | None = None,
    trust: Trust = NONE,
    progress: Progress = quiet,
    observer: RolloutObserver | None = None,
    on_replayed: Callable[[Replayed], None] = lambda replayed: None,
    around: Callable[[Mapping[str, str]], AbstractContextManager[None]] = lambda interpreters: nullcontext(),
    on_agents: Callable[[Mapping[str, PlannedAgent]], None] = lambda agents: None,
    command: str = "lram verify",
) -> list[Replayed]:
    """Play the episodes of ``records`` again and return what became of each, in plan order.

    Nothing is written to the run's folder.

    Args:
        run: Whose records they are.
        records: Scored ones.
        agents: Agents that the run knows as Python objects only, by label.
        machine: How to spread the work (None: models compute as the run was started, the rest as usual).
        trust: What the caller vouches for, of the modules and interpreters that the run's plan names.
        progress: Told what happens.
        observer: Watches the episodes; from here on, images may be asked for.
        on_replayed: Told of each episode as soon as it ends; conditions are not known yet then.
        around: Given the interpreters by domain, returns what is to be held meanwhile; called once it is
            clear that they may be started.
        on_agents: Given the agents by label, before they play.
        command: What asks for it, for sentences.

    Raises:
        LramError: The run was played in real time, an agent is not the one that played it, a simulator is
            not installed, the plan names code that nobody here has vouched for, or an agent raised.
    """
    if run.plan.realtime_hz:
        raise LramError(
            f"{run.path} was played in real time ({run.plan.realtime_hz:g} Hz): what happened in its "
            "episodes depends on how fast the machine thought then, so they cannot be replayed; replay a run "
            "without --realtime"
        )
    calm_threads()
    plan = restricted(run.plan, records)
    machine = machine_for(run, machine)
    _check_objects(plan, agents)
    check_trusted(
        run.path / PLAN_FILE,
        [entry.spec for entry in plan.agents],
        plan.interpreters,
        replace(trust, domains=[*trust.domains, *(machine.interpreters or ())]),
        f"{command} {run.path}",
        domain_files.paths(plan),
    )
    domain_files.reopen(plan.domain_files)
    interpreters = interpreters_of(plan, machine.interpreters)
    by_item = {record.item: record for record in records}
    items = [item for item in plan.items() if item in by_item]
    with (
        around(interpreters),
        LOCAL.open(machine) as session,
        tempfile.TemporaryDirectory(prefix="lram-replay-") as logs,
    ):
        built = reopen(plan, agents, interpreters, session)
        checked(session, built, items)
        on_agents(built)
        job = RolloutJob(plan, items, built, (), interpreters, Path(logs), observer=observer)
        with used(interpreters.values()), progress(items, len(items)) as report:
            sink = _Sink(by_item, report, on_replayed)
            session.play(job, sink)
        now = _here(session, built, machine)
    origins = run.origins()
    return [
        _judged(sink.done[item], origins.get(item), now, built[item.agent].info.kind == "model")
        for item in items
    ]


def restricted(plan: RunPlan, records: Sequence[EpisodeRecord]) -> RunPlan:
    """Return ``plan`` with only the agents, tasks and interpreters that ``records`` need.

    What the others need may not be here, and nobody asked for them.
    """
    labels, ids = {record.agent for record in records}, {record.task for record in records}
    tasks = tuple(planned for planned in plan.tasks if planned.task.id in ids)
    domains = {planned.task.domain for planned in tasks}
    return replace(
        plan,
        agents=tuple(entry for entry in plan.agents if entry.label in labels),
        tasks=tasks,
        interpreters={name: python for name, python in plan.interpreters.items() if name in domains},
        domain_files={name: source for name, source in plan.domain_files.items() if name in domains},
    )


class _Sink:
    """Where the replayed records arrive; they go nowhere else."""

    def __init__(
        self,
        by_item: Mapping[WorkItem, EpisodeRecord],
        report: Reporter,
        on_replayed: Callable[[Replayed], None],
    ) -> None:
        self._by_item, self._report, self._on_replayed = by_item, report, on_replayed
        self.done: dict[WorkItem, Replayed] = {}

    def record(self, record: EpisodeRecord, trajectory: Trajectory | None = None) -> None:
        before = self._by_item[record.item]
        replayed = Replayed(before, record, differences(before, record))
        self.done[record.item] = replayed
        self._report.record(record)
        self._on_replayed(replayed)

    def heartbeat(self, active: int, decisions: int) -> None:
        self._report.heartbeat(active, decisions)


def _check_objects(plan: RunPlan, agents: Mapping[str, MinimalAgent] | None) -> None:
    for entry in plan.agents:
        if entry.spec == OBJECT_SPEC and entry.label not in (agents or {}):
            raise LramError(
                f"agent {entry.label} was given as a Python object, which no command can make again; replay "
                f"from Python with lram.harness.replay.replay(run, records, agents={{{entry.label!r}: ...}})"
            )


def _here(session: ExecutorSession, built: Mapping[str, PlannedAgent], machine: Machine) -> Provenance:
    """Return the provenance of this replay, which is written nowhere."""
    compute = of_models(built, machine.compute(), machine.threads, here=not session.remote)
    return replace(collect({}, {}, compute=compute), workers=session.report().workers)


def _judged(replayed: Replayed, then: Provenance | None, now: Provenance, model: bool) -> Replayed:
    return replace(replayed, conditions=conditions(replayed.record, then, now, model=model))
