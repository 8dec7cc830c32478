"""Collect trajectories: play agents as an evaluation does, and keep every scored episode in a store.

::

    STORE/
        card.json, index.jsonl, parts/     the trajectories (lram.agents.trajectories)
        runs/0001/                         the run that played them: plan, records, provenance

``lram report STORE/runs/0001`` reports on a run as on any other. Its initial states are not those of
``lram eval`` with the same seed, and every agent has its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from lram.agents.api import MinimalAgent
from lram.agents.places import placed
from lram.agents.trajectories import StoreWriter, TrajectoryStore
from lram.agents.trajectories.card import read_card
from lram.agents.trajectories.writer import check_writable
from lram.harness.errors import LramError
from lram.harness.evaluation import checked, go_on, machine_for, play, started_machine
from lram.harness.executors.contract import Executor, ExecutorSession
from lram.harness.executors.local import LOCAL
from lram.harness.machine import Machine, calm_threads
from lram.harness.plan import (
    OBJECT_SPEC,
    AgentsArgument,
    PlannedAgent,
    RunRequest,
    check_sources,
    domains_of,
    labelled_specs,
    plan_for,
)
from lram.harness.progress import Progress, quiet
from lram.harness.storage.records import AgentEntry, EpisodeRecord, RunPlan
from lram.harness.storage.run_folder import PLAN_FILE, Run, RunWriter
from lram.harness.storage.trajectory_sink import COMMIT_BYTES, TrajectorySink
from lram.harness.trust import NONE, Trust
from lram.harness.words import command

RUNS = "runs"
RESUME = "lram collect --resume"
_RUN = re.compile(r"[0-9]{4,9}")


@dataclass(frozen=True, slots=True)
class Notes:
    """What people say of the data they collect; it goes into the store's card.

    Attributes:
        note: Anything.
        license: Under what the data may be used.
    """

    note: str = ""
    license: str = ""


def collect(
    agents: AgentsArgument,
    tasks: str | Sequence[str],
    store: str | Path,
    *,
    episodes: int = 10,
    seed: int = 0,
    protocols: Mapping[str, str] | None = None,
    machine: Machine | None = None,
    notes: Notes | None = None,
    executor: Executor = LOCAL,
    progress: Progress = quiet,
) -> Run:
    """Play every agent on every task, keep the trajectories in ``store``, and return the run.

    A store that exists is added to. Where it has a run of just these arguments, that is continued, also where
    it is whole, if the user's code behind its agents and domains is what it was; ``notes`` take the place of
    what was said of it before.

    Args:
        agents: As :func:`lram.harness.evaluate` takes them; ``scripted~0.3`` is an agent with noise
            (:mod:`lram.agents.experts.noise`).
        tasks: A selection.
        store: Folder of the store.
        episodes: Episodes of every agent on every task.
        seed: Names the initial states and everything random.
        protocols: Protocol by domain, where it is not the domain's default.
        machine: How to spread the work over a machine.
        notes: What to say of the data.
        executor: Where to play; see :func:`lram.harness.evaluate`.
        progress: Told what happens.

    Raises:
        LramError: Bad input, a model without step/forward equivalence, or the store has some of these
            episodes already, or has them of other code of an agent or a domain.
        AgentError: The store cannot be written.
    """
    machine = machine or Machine()
    machine.check()
    calm_threads()
    path = placed(store)
    check_writable(path)
    request = RunRequest(agents, tasks, episodes, seed, protocols).on(machine)
    with executor.open(machine) as session:
        plan, built = plan_for(request, session)
        plan = replace(plan, collected=True)
        started = _started(path, plan)
        if started is None:
            return _new_run(session, path, plan, built, machine, notes or Notes(), progress)
        check_sources(started.plan)  # also where nothing is missing: it is asked for by today's code
    with StoreWriter(path, part_bytes=COMMIT_BYTES, resume=RESUME) as writer:
        named = labelled_specs(agents)
        given = {label: one for label, one in named.items() if not isinstance(one, str)}
        trust = Trust(specs=[one for one in named.values() if isinstance(one, str)])
        return _resume_run(writer, started, given, machine, progress, executor, trust, notes or Notes())


def _new_run(
    session: ExecutorSession,
    path: Path,
    plan: RunPlan,
    built: Mapping[str, PlannedAgent],
    machine: Machine,
    notes: Notes,
    progress: Progress,
) -> Run:
    items = plan.items()
    noted = checked(session, built, items)
    with StoreWriter(path, part_bytes=COMMIT_BYTES, resume=RESUME) as writer:
        folder = _next_folder(path)
        folder.parent.mkdir(exist_ok=True)
        with RunWriter.create(folder, plan) as run:
            writer.describe(_card(run.run, notes))
            play(session, run, built, items, machine, progress, noted, _sink(writer, run))
        writer.describe(_card(run.run, notes))
    return Run(folder)


def resume_collection(
    store: str | Path,
    *,
    agents: Mapping[str, MinimalAgent] | None = None,
    machine: Callable[[Run], Machine] = started_machine,
    executor: Executor = LOCAL,
    progress: Progress = quiet,
    trust: Trust = NONE,
) -> list[Run]:
    """Play what the runs of ``store`` still miss and return them all, oldest first.

    Args:
        store: Folder of the store.
        agents: Agents that a run knows as Python objects only.
        machine: Tells how to spread the work of a run; by default as it was started, as far as that decides
            records.
        executor: Where to play.
        progress: Told what happens.
        trust: What the caller vouches for; see :func:`lram.harness.resume`.

    Raises:
        LramError: The store has no run, or one cannot be continued.
        AgentError: It is no store, or it cannot be written.
    """
    path = placed(store)
    with StoreWriter(path, create=False, part_bytes=COMMIT_BYTES, resume=RESUME) as writer:
        runs = collected_runs(path)
        if not runs:
            new = command("collect", "AGENT...", "-o", path)
            raise LramError(f"{path} has no run to continue with: '{new}' adds one")
        machines = [machine(run) for run in runs]
        _check_interpreters(runs, machines)
        return [
            _resume_run(writer, run, agents, _restricted(its, run), progress, executor, trust)
            for run, its in zip(runs, machines, strict=True)
        ]


def _check_interpreters(runs: Sequence[Run], machines: Sequence[Machine]) -> None:
    """Raise LramError where an interpreter is given for a domain that no run has."""
    named = {name for machine in machines for name in machine.interpreters or {}}
    for name in sorted(named - {name for run in runs for name in domains_of(run.plan)}):
        raise LramError(f"an interpreter is given for the domain {name}, but no run has one of its tasks")


def _restricted(machine: Machine, run: Run) -> Machine:
    """Return ``machine`` without what it tells of domains that ``run`` does not have."""
    chosen = machine.interpreters or {}
    return replace(machine, interpreters={n: chosen[n] for n in chosen if n in domains_of(run.plan)})


def collected_runs(store: str | Path) -> list[Run]:
    """Return the runs in ``store``, oldest first."""
    folders = sorted((placed(store) / RUNS).glob("*"))
    return [Run(folder) for folder in folders if (folder / PLAN_FILE).is_file()]


def run_name(run: Run) -> str:
    """Return what trajectories call their run, such as ``runs/0001``."""
    return f"{RUNS}/{run.path.name}"


def _resume_run(
    trajectories: StoreWriter,
    run: Run,
    agents: Mapping[str, MinimalAgent] | None,
    machine: Machine,
    progress: Progress,
    executor: Executor,
    trust: Trust,
    notes: Notes = Notes(),
) -> Run:
    """Play what ``run`` still misses; what ``notes`` say goes before what the store's card said of it."""
    machine = machine_for(run, machine)
    earlier = _notes(trajectories.path, run)
    said = Notes(notes.note or earlier.note, notes.license or earlier.license)
    _recover(trajectories, run)
    trajectories.describe(_card(run, said))
    items = run.missing()
    if items:
        with RunWriter(run) as writer:
            sink = _sink(trajectories, writer)
            go_on(writer, items, agents, machine, progress, sink, executor, trust)
    trajectories.describe(_card(run, said))
    return Run(run.path)


def _recover(trajectories: StoreWriter, run: Run) -> None:
    """Write the records of the episodes whose trajectory was committed before the process was killed."""
    name = run_name(run)
    missing = {f"{name}|{item.id}" for item in run.missing()} & trajectories.committed
    if not missing:
        return
    store, sessions = TrajectoryStore(trajectories.path), run.provenance()
    with RunWriter(run) as writer:
        # A segment of its own, made where the last session was: that is the one that was killed.
        if sessions:
            writer.write_provenance(sessions[-1])
        for episode in store.episodes:
            if episode.origin in missing:
                writer.append(_record(store, episode.number))


def _record(store: TrajectoryStore, number: int) -> EpisodeRecord:
    text = store.record(number)
    try:
        return msgspec.json.decode(text, type=EpisodeRecord)
    except msgspec.DecodeError as error:
        episode = store.episodes[number]
        raise LramError(
            f"{store.path / episode.part}, episode {episode.place} has a damaged record ({error}); put the "
            "file back from a copy of the store"
        ) from error


def _sink(trajectories: StoreWriter, run: RunWriter) -> TrajectorySink:
    policies = {agent.label: _policy(agent) for agent in run.run.plan.agents}
    return TrajectorySink(trajectories, run, run_name(run.run), policies)


def _policy(agent: AgentEntry) -> str:
    """Return the specification; the label where that is an object or a place on this machine."""
    return agent.label if agent.spec == OBJECT_SPEC or os.sep in agent.spec else agent.spec


def _started(store: Path, plan: RunPlan) -> Run | None:
    """Return the run of ``store`` with just this plan; LramError for one that has some of its episodes."""
    for run in collected_runs(store):
        if _essence(run.plan) == _essence(plan):
            return run
    wanted = {(item.agent, item.task) for item in plan.items()}
    for run in collected_runs(store):
        shared = wanted & {(item.agent, item.task) for item in run.plan.items()}
        if run.plan.seed == plan.seed and shared:
            agent, task = min(shared)
            raise LramError(
                f"{store} has episodes of {agent} on {task} with the seed {plan.seed} already (in "
                f"{run_name(run)}, {run.plan.episodes} a task); give another --seed to add new ones"
            )
    return None


def _essence(plan: RunPlan) -> tuple[object, ...]:
    """Return what decides the episodes of ``plan``."""
    agents = [(agent.label, agent.spec, agent.info.digest) for agent in plan.agents]
    tasks = [(planned.task.id, planned.protocol) for planned in plan.tasks]
    return plan.seed, plan.episodes, agents, tasks, [(skip.agent, skip.task) for skip in plan.skipped]


def _next_folder(store: Path) -> Path:
    names = [folder.name for folder in (store / RUNS).glob("*")]
    used = max((int(name) for name in names if _RUN.fullmatch(name)), default=0)
    last = store / RUNS / f"{used:04d}"
    if used and not (last / PLAN_FILE).exists():
        with suppress(LramError):
            # Killed before its plan was there: begun again under the same name.
            RunWriter.check_vacant(last)
            return last
    return store / RUNS / f"{used + 1:04d}"


def _notes(store: Path, run: Run) -> Notes:
    """Return what people have said of ``run`` in the store's card."""
    for said in read_card(store)["additions"]:
        if said.get("name") == run_name(run):
            return Notes(said.get("note", ""), said.get("license", ""))
    return Notes()


def _card(run: Run, notes: Notes) -> dict[str, Any]:
    """Return what the store's card says of ``run``."""
    plan, sessions = run.plan, run.provenance()
    said = {"note": notes.note, "license": notes.license}
    return {
        "name": run_name(run),
        "made_by": "lram collect",
        "commands": list(dict.fromkeys(session.command for session in sessions)),
        "agents": {
            agent.label: {
                "policy": _policy(agent),
                "description": agent.info.description,
                "digest": agent.info.digest,
            }
            for agent in plan.agents
        },
        "tasks": len(plan.tasks),
        "episodes": plan.episodes,
        "seed": plan.seed,
        "protocols": sorted({planned.protocol for planned in plan.tasks}),
        "packages": sessions[-1].packages if sessions else {},
        "simulators": {name: facts for session in sessions for name, facts in session.workers.items()},
        **{name: text for name, text in said.items() if text},
    }
