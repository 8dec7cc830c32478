"""Evaluate agents on tasks: plan, play, record; and go on where an interrupted run stopped."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lram.agents.api import Agent, AgentError
from lram.agents.compute import ROWS, Compute, Precision, StepForm
from lram.envs.pool import Pool, WorkerStartError
from lram.envs.process import Deadlines
from lram.harness import seeds
from lram.harness.computing import changes, of_models, started_with
from lram.harness.errors import LramError
from lram.harness.gate import pass_gate
from lram.harness.interpreters import used
from lram.harness.plan import AgentsArgument, Request, interpreters_of, make_plan, reopen
from lram.harness.progress import Progress, quiet
from lram.harness.provenance import collect, worker_versions
from lram.harness.records import EpisodeRecord, RunPlan, WorkItem
from lram.harness.rollout import AgentRaisedError, Rollout, RolloutSettings
from lram.harness.store import Run, RunWriter

if TYPE_CHECKING:
    from lram.harness.archive import Archive


@dataclass(frozen=True, slots=True)
class Machine:
    """How the work is spread over this machine; what touches a model's digits is told below.

    Attributes:
        lanes: Episodes in flight, over all workers.
        workers: Worker processes that play at the same time (None: one a core).
        threads: Threads of the agents' tensor library. With one, a model's numbers repeat bit for
            bit; with more, how the work is split may change their last digits.
        device: Where models act, as torch names it; another device gives other last digits.
        precision: Type of the models' weights, ``float32`` or ``bfloat16``; it is part of what an agent is.
        step: Form of the models' step (:mod:`lram.agents.stepping`); another form gives other last digits.
        rows: Lanes that share a pass of a model, 1 or a multiple of 8; likewise.
        interpreters: By domain, where it is neither the one that is installed for it nor this one: a
            Python executable, the folder of a virtual environment, or ``main`` for this one. A run that
            is gone on with keeps those that it was started with.
        attempts: How often an episode is tried before it is recorded as errored.
        quarantine_after: A task whose first so many episodes all errored is given up.
        deadlines: How long a worker may take for one answer.
        shuffle: Play the episodes in random order.
    """

    lanes: int = 8
    workers: int | None = None
    threads: int = 1
    device: str = "cpu"
    precision: Precision = "float32"
    step: StepForm = "auto"
    rows: int = ROWS
    interpreters: Mapping[str, str] | None = None
    attempts: int = 2
    quarantine_after: int = 3
    deadlines: Deadlines = field(default_factory=Deadlines)
    shuffle: bool = False

    def check(self) -> None:
        """Raise LramError for a number that makes no sense."""
        for name in ("lanes", "workers", "threads", "attempts", "quarantine_after"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise LramError(f"{name} is {value}; it must be 1 or more")
        for name, seconds in asdict(self.deadlines).items():
            if not seconds > 0:
                raise LramError(f"the deadline {name} is {seconds:g} s; it must be above 0")
        try:
            self.compute()
        except AgentError as error:
            raise LramError(str(error)) from error

    def compute(self) -> Compute:
        """Return how models compute here."""
        return Compute(self.device, self.precision, self.step, self.rows)


def evaluate(
    agents: AgentsArgument,
    tasks: str | Sequence[str],
    output: str | Path,
    *,
    episodes: int = 10,
    seed: int = 0,
    protocols: Mapping[str, str] | None = None,
    realtime_hz: float = 0.0,
    machine: Machine | None = None,
    progress: Progress = quiet,
) -> Run:
    """Play every agent on every task and return the run.

    Args:
        agents: Specifications such as ``random``, ``xlstm[7:1]-16M``, a checkpoint folder or
            ``module:factory``, each plain or as ``label=specification``; or label -> specification
            or :class:`lram.agents.api.Agent` object.
        tasks: A selection, such as ``metaworld/*``, ``atari/freeway,dmcontrol@heldout`` or ``lram432``.
        output: Folder of the run; it must not hold anything yet.
        episodes: Episodes of every agent on every task.
        seed: Names the initial states and everything random.
        protocols: Protocol by domain, where it is not the domain's default.
        realtime_hz: The world does not wait: it takes so many steps in a second of the agent's thinking,
            with the agent's last action. One episode is played at a time, whatever ``machine`` says, and
            labels tell the rate. Scores then depend on the machine.
        machine: How to spread the work.
        progress: Told what happens; see :mod:`lram.harness.progress`.

    Returns:
        The run; ``run.episodes()`` is its records as a pandas frame.

    Raises:
        LramError: Bad input, or a model without parity (:mod:`lram.harness.gate`), and nothing was
            written; or an agent raised, and the run can be resumed.
    """
    machine = machine or Machine()
    machine.check()
    calm_threads()
    RunWriter.check_vacant(output)
    request = Request(
        agents=agents,
        tasks=tasks,
        episodes=episodes,
        seed=seed,
        protocols=protocols,
        interpreters=machine.interpreters,
        compute=machine.compute(),
        threads=machine.threads,
        realtime_hz=realtime_hz,
    )
    plan, built = make_plan(request)
    noted = checked(built, plan.items(), machine)
    with RunWriter.create(output, plan) as writer:
        play(writer, built, plan.items(), machine, progress, noted)
    return Run(output)


def resume(
    run: str | Path | Run,
    *,
    agents: Mapping[str, Agent] | None = None,
    retry_errors: bool = False,
    machine: Machine | None = None,
    progress: Progress = quiet,
) -> Run:
    """Play what a run still misses and return it.

    Args:
        run: The run or its folder.
        agents: Agents that the run knows as Python objects only.
        retry_errors: Play the errored episodes again, too.
        machine: How to spread the work (None: models compute as the run was started, the rest as
            usual). Device, step, rows and threads may differ from the run's start: that is said on
            standard error, kept with the session and named by reports.
        progress: Told what happens.

    Raises:
        LramError: It is no run, it is in use, ``machine`` has another precision than the run, an agent
            is not the one it was started with, or a model has no parity.
    """
    opened = run if isinstance(run, Run) else Run(run)
    if opened.plan.collected:
        raise LramError(
            f"{opened.path} belongs to a collection of trajectories; go on with "
            f"'lram collect --resume {opened.path.parent.parent}'"
        )
    machine = machine_for(opened, machine)
    with RunWriter(opened) as writer:
        items = opened.missing()
        if retry_errors:
            errored = {record.item for record in opened.records() if record.status == "errored"}
            again = errored | set(items)
            items = [item for item in opened.plan.items() if item in again]
        if items:
            go_on(writer, items, agents, machine, progress)
    return Run(opened.path)


def machine_for(run: Run, machine: Machine | None) -> Machine:
    """Return the settings to go on with ``run``; LramError where its models would be other agents."""
    started = started_machine(run)
    machine = machine or started
    machine.check()
    if machine.precision != started.precision:
        raise LramError(
            f"the run was started with --precision {started.precision}, and {machine.precision} makes other "
            f"agents of its models; go on with {started.precision}, or start a new run"
        )
    return machine


def go_on(
    writer: RunWriter,
    items: list[WorkItem],
    agents: Mapping[str, Agent] | None,
    machine: Machine,
    progress: Progress,
    archive: Archive | None = None,
) -> None:
    """Play ``items`` of a run that was started before, after checking that its agents are still the same.

    Args:
        writer: Of the run.
        items: What to play.
        agents: Agents that the run knows as Python objects only.
        machine: What :func:`machine_for` gave.
        progress: Told what happens.
        archive: Where trajectories and records go instead of ``writer`` alone.
    """
    calm_threads()
    opened = writer.run
    interpreters = interpreters_of(opened.plan, machine.interpreters)
    built = reopen(opened.plan, agents, interpreters, machine.compute())
    noted = checked(built, items, machine)
    if changed := _changed(opened, _playing(built, items), machine):
        # To where progress goes, too; a reader that is gone must not end the run.
        with suppress(OSError):
            print(
                f"lram: this session computes otherwise than the run's start: {changed}; "
                "last digits may differ",
                file=sys.stderr,
                flush=True,
            )
        noted["changed since the run's start"] = changed
    play(writer, built, items, machine, progress, noted, archive)


def started_machine(run: Run) -> Machine:
    """Return settings with which models compute as when ``run`` was started; the rest is as usual."""
    compute, threads = started_with(run)
    return Machine(**asdict(compute), threads=threads)


def play(
    writer: RunWriter,
    agents: Mapping[str, Agent],
    items: list[WorkItem],
    machine: Machine,
    progress: Progress,
    noted: Mapping[str, str],
    archive: Archive | None = None,
) -> None:
    """Play ``items`` with agents that were checked, and write their records.

    Args:
        writer: Of the run.
        agents: By label.
        items: What to play.
        machine: How to spread the work.
        progress: Told what happens.
        noted: What :func:`checked` gave, and whatever else belongs to the provenance.
        archive: Where trajectories and records go instead of ``writer`` alone.
    """
    plan = writer.run.plan
    settings = _settings(plan, machine, len(items))
    interpreters = interpreters_of(plan, machine.interpreters)
    facts = {
        **asdict(machine),
        "lanes": settings.lanes,
        "workers": settings.workers,
        "interpreters": interpreters,
        **noted,
    }
    compute = of_models(_playing(agents, items), machine.compute(), machine.threads)
    provenance = collect(facts, {}, compute=compute)
    writer.write_provenance(provenance)
    pool = Pool(
        log_folder=writer.log_folder(),
        interpreters=interpreters,
        parked=settings.workers + 2,
    )
    _tell(plan, interpreters)
    with (
        used(interpreters.values()),
        pool,
        threads(machine.threads),
        progress(items, len(plan.items())) as report,
    ):
        on_tape = None if archive is None else archive.keep
        rollout = Rollout(agents, {p.task.id: p for p in plan.tasks}, pool, settings, on_tape)
        again = set(items)
        for record in writer.run.records():
            if record.item not in again:
                rollout.note(record.item, record.failure)

        def on_record(record: EpisodeRecord) -> None:
            append(record)
            report.record(record)

        def on_heartbeat(active: int, decisions: int) -> None:
            if archive is not None:
                archive.heartbeat()
            report.heartbeat(active, decisions)

        append = writer.append if archive is None else archive.append
        try:
            rollout.run(items, on_record, on_heartbeat)
        except AgentRaisedError as error:
            log = writer.log_folder() / "agent-error.log"
            log.write_text("".join(traceback.format_exception(error.__cause__)), encoding="utf-8")
            raise LramError(f"{error}; its traceback is in {log}") from error
        except WorkerStartError as error:
            raise LramError(f"{error}; free what it lacks, then resume {writer.run.path}") from error
        finally:
            if archive is not None:
                archive.flush()
            writer.write_provenance(replace(provenance, workers=worker_versions(pool.facts)))


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


def checked(agents: Mapping[str, Agent], items: list[WorkItem], machine: Machine) -> dict[str, str]:
    """Let the agents that have something to play pass the gate; return what to note of them."""
    with threads(machine.threads):
        noted = pass_gate(_playing(agents, items))
    return {f"check of {label}": text for label, text in noted.items()}


def _playing(agents: Mapping[str, Agent], items: list[WorkItem]) -> dict[str, Agent]:
    """Return the agents that have something to play."""
    playing = {item.agent for item in items}
    return {label: agent for label, agent in agents.items() if label in playing}


def _changed(run: Run, agents: Mapping[str, Agent], machine: Machine) -> str:
    """Return how ``agents`` compute otherwise than at the run's start; empty where they do not."""
    now = of_models(agents, machine.compute(), machine.threads)
    found = changes(run.plan, started_with(run), now)
    return "; ".join(f"{what} ({', '.join(labels)})" for what, labels in found.items())


def _settings(plan: RunPlan, machine: Machine, episodes: int) -> RolloutSettings:
    # Neighbours would make each other late.
    lanes = 1 if plan.realtime_hz else min(machine.lanes, episodes)
    labels = [agent.label for agent in plan.agents] if plan.collected else []
    own = {label: seeds.collection_seed(plan.seed, label) for label in labels}
    return RolloutSettings(
        seed=plan.seed,
        lanes=lanes,
        workers=min(lanes, machine.workers or _cores()),
        attempts=machine.attempts,
        quarantine_after=machine.quarantine_after,
        deadlines=machine.deadlines,
        shuffle_seed=plan.seed if machine.shuffle else None,
        seeds=own,
        realtime_hz=plan.realtime_hz,
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def calm_threads() -> None:
    """Keep idle OpenMP threads from spinning on the cores that the simulators need.

    Spinning threads made one decision 30 times slower with one busy neighbour on a 2-core machine.
    The setting is read once, when the tensor library is loaded.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch use ``count`` threads for a while, if it is loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
