"""Evaluate agents on tasks: plan, play, record; and continue where an interrupted run stopped."""

from __future__ import annotations

import ast
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lram.agents.api import AgentError, MinimalAgent
from lram.agents.places import placed
from lram.envs.workers.process import Deadlines
from lram.harness import domain_files
from lram.harness.computing import changes, of_models, started_with
from lram.harness.errors import LramError
from lram.harness.executors.contract import Executor, ExecutorSession, RolloutJob
from lram.harness.executors.local import LOCAL
from lram.harness.interpreters import used
from lram.harness.machine import Machine, calm_threads
from lram.harness.plan import (
    AgentsArgument,
    PlannedAgent,
    RunRequest,
    interpreters_of,
    plan_for,
    reopen,
    sources_of,
)
from lram.harness.progress import Progress, Reporter, quiet
from lram.harness.rollout.loop import AgentRaisedError
from lram.harness.storage.provenance import collect
from lram.harness.storage.records import CHECK_OF, EpisodeRecord, WorkItem
from lram.harness.storage.run_folder import PLAN_FILE, Run, RunWriter, resume_command
from lram.harness.trust import NONE, Trust, check_trusted

if TYPE_CHECKING:
    from lram.agents.trajectories.trajectory import Trajectory
    from lram.harness.storage.trajectory_sink import TrajectorySink

__all__ = ["Machine", "evaluate", "go_on", "machine_for", "play", "resume", "started_machine"]


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
    executor: Executor = LOCAL,
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
        machine: How to spread the work over a machine.
        executor: Where to play: this machine, or :class:`lram.harness.executors.ray.RayExecutor`.
        progress: Told what happens; see :mod:`lram.harness.progress`.

    Returns:
        The run; ``run.episodes()`` is its records as a pandas frame.

    Raises:
        LramError: Bad input, or a model that fails the gate (:mod:`lram.harness.gate.equivalence`), and
            nothing was written; or an agent raised, and the run can be resumed.
    """
    check_arguments(machine, executor)
    machine = machine or Machine()
    machine.check()
    output = placed(output)
    calm_threads()
    RunWriter.check_vacant(output)
    request = RunRequest(
        agents=agents,
        tasks=tasks,
        episodes=episodes,
        seed=seed,
        protocols=protocols,
        realtime_hz=realtime_hz,
    ).on(machine)
    with executor.open(machine) as session:
        plan, built = plan_for(request, session)
        items = plan.items()
        noted = checked(session, built, items)
        with RunWriter.create(output, plan) as writer:
            play(session, writer, built, items, machine, progress, noted)
    return Run(output)


def resume(
    run: str | Path | Run,
    *,
    agents: Mapping[str, MinimalAgent] | None = None,
    retry_errors: bool = False,
    machine: Machine | None = None,
    executor: Executor = LOCAL,
    progress: Progress = quiet,
    trust: Trust = NONE,
) -> Run:
    """Play what a run still misses and return it.

    Args:
        run: The run or its folder.
        agents: Agents that the run knows as Python objects only.
        retry_errors: Play the errored episodes again, too.
        machine: How to spread the work (None: :func:`started_machine`). Device, step, rows and threads may
            differ from the run's start: that is said on standard error, kept with the session and named by
            reports.
        executor: Where to play, whatever the run was started on.
        progress: Told what happens.
        trust: What the caller vouches for, of the modules and interpreters that the run's plan names.

    Raises:
        LramError: It is no run, it names code that nobody here has vouched for, it is in use, ``machine``
            has another precision than the run, an agent is not the one it was started with, or a model
            fails step/forward equivalence.
    """
    check_arguments(machine, executor)
    opened = run if isinstance(run, Run) else Run(run)
    if opened.plan.collected:
        raise LramError(
            f"{opened.path} belongs to a collection of trajectories; continue with: {resume_command(opened)}"
        )
    machine = machine_for(opened, machine)
    with RunWriter(opened) as writer:
        items = opened.missing()
        if retry_errors:
            errored = {item for item, failure in opened.outcomes() if failure is not None}
            again = errored | set(items)
            items = [item for item in opened.plan.items() if item in again]
        if items:
            go_on(writer, items, agents, machine, progress, executor=executor, trust=trust)
    return Run(opened.path)


def check_arguments(machine: object, executor: object) -> None:
    """Raise LramError for a machine or an executor that is given as something else."""
    if machine is not None and not isinstance(machine, Machine):
        raise LramError(
            f"machine is a {type(machine).__name__}; give a lram.harness.Machine, such as Machine(workers=2)"
        )
    if not hasattr(executor, "open"):
        raise LramError(
            f"executor is {executor!r:.80}; leave it out, or give lram.harness.executors.ray.RayExecutor()"
        )


def machine_for(run: Run, machine: Machine | None) -> Machine:
    """Return the settings to continue with ``run``; LramError where its models would be other agents."""
    started = started_machine(run)
    machine = machine or started
    machine.check()
    if machine.precision != started.precision:
        raise LramError(
            f"the run was started with --precision {started.precision}, and {machine.precision} makes other "
            f"agents of its models; continue with {started.precision}, or start a new run"
        )
    return machine


def go_on(
    writer: RunWriter,
    items: list[WorkItem],
    agents: Mapping[str, MinimalAgent] | None,
    machine: Machine,
    progress: Progress,
    sink: TrajectorySink | None = None,
    executor: Executor = LOCAL,
    trust: Trust = NONE,
) -> None:
    """Play ``items`` of a run that was started before, after checking that its agents are still the same.

    Args:
        writer: Of the run.
        items: What to play.
        agents: Agents that the run knows as Python objects only.
        machine: What :func:`machine_for` gave.
        progress: Told what happens.
        sink: Where trajectories and records go instead of ``writer`` alone.
        executor: Where to play.
        trust: As for :func:`resume`; interpreters that ``machine`` names are vouched for.
    """
    calm_threads()
    opened = writer.run
    check_trusted(
        opened.path / PLAN_FILE,
        [agent.spec for agent in opened.plan.agents],
        opened.plan.interpreters,
        replace(trust, domains=[*trust.domains, *(machine.interpreters or ())]),
        resume_command(opened),
        domain_files.paths(opened.plan),
    )
    domain_files.reopen(opened.plan.domain_files)
    interpreters = interpreters_of(opened.plan, machine.interpreters)
    with executor.open(machine) as session:
        built = reopen(opened.plan, agents, interpreters, session)
        noted = checked(session, built, items)
        if changed := _changed(opened, built, items, machine):
            # To where progress goes, too; a reader that is gone must not end the run.
            with suppress(OSError):
                print(
                    f"lram: this session computes otherwise than the run's start: {changed}; "
                    "last digits may differ",
                    file=sys.stderr,
                    flush=True,
                )
            noted["changed since the run's start"] = changed
        play(session, writer, built, items, machine, progress, noted, sink)


def started_machine(run: Run) -> Machine:
    """Return settings with which models compute and episodes fail as when ``run`` was started.

    Lanes, workers and interpreters are as usual; so is what the run's first session did not note.

    Raises:
        LramError: What the first session notes is no setting.
    """
    compute, threads = started_with(run)
    return Machine(**asdict(compute), threads=threads, **_failing_as_started(run))


def _failing_as_started(run: Run) -> dict[str, Any]:
    """Return what decides which episodes fail and are given up, as the run's first session noted it."""
    sessions = run.provenance()
    noted = sessions[0].settings if sessions else {}
    found: dict[str, Any] = {}
    for name, kind in (
        ("attempts", int),
        ("quarantine_after", int),
        ("shuffle", bool),
        ("deadlines", Deadlines),
    ):
        if name not in noted:
            continue
        try:
            # Settings are noted as Python shows them.
            found[name] = msgspec.convert(ast.literal_eval(noted[name]), kind)
        except (ValueError, SyntaxError) as error:
            raise LramError(
                f"the first session of {run.path} notes {name} {noted[name]!r}, which is no setting; put its "
                "provenance back from a copy"
            ) from error
    return found


def play(
    session: ExecutorSession,
    writer: RunWriter,
    built: Mapping[str, PlannedAgent],
    items: list[WorkItem],
    machine: Machine,
    progress: Progress,
    noted: Mapping[str, str],
    sink: TrajectorySink | None = None,
) -> None:
    """Play ``items`` with agents that were checked, and write their records.

    Args:
        session: Where to play.
        writer: Of the run.
        built: Agents by label, as ``session`` made them.
        items: What to play.
        machine: How to spread the work over a machine.
        progress: Told what happens.
        noted: What :func:`checked` gave, and whatever else belongs to the provenance.
        sink: Where trajectories and records go instead of ``writer`` alone.
    """
    plan = writer.run.plan
    interpreters = interpreters_of(plan, machine.interpreters)
    facts = {**asdict(machine), "interpreters": interpreters, **noted}
    playing = _playing(built, items)
    compute = of_models(built, machine.compute(), machine.threads, here=not session.remote)
    compute = {label: found for label, found in compute.items() if label in playing}
    entries = [entry for entry in plan.agents if entry.label in playing]
    sources = {entry.label: sources_of(entry, playing[entry.label].info) for entry in entries}
    provenance = collect(facts, {}, compute=compute, sources=sources)
    writer.write_provenance(provenance)
    again = set(items)
    job = RolloutJob(
        plan,
        items,
        built,
        [(item, failure) for item, failure in writer.run.outcomes() if item not in again],
        interpreters,
        writer.log_folder(),
        trajectories=sink is not None,
    )
    raised: dict[str, str] = {}

    def finish() -> None:
        known = session.report()
        settings = {**provenance.settings, **known.notes}
        writer.write_provenance(replace(provenance, workers=known.workers, settings=settings, raised=raised))

    with (
        used(interpreters.values()),
        progress(items, len(plan.pairs()) * plan.episodes) as report,
        _ending_with(finish),
    ):
        try:
            with _flushed(sink):
                session.play(job, _RecordWriter(writer, sink, report))
        except AgentRaisedError as error:
            raised[error.label] = str(error)
            raise _with_traceback(error, job.logs / "agent-error.log") from error


def _with_traceback(error: AgentRaisedError, log: Path) -> LramError:
    """Return the error for the user, when the agent's traceback is in ``log``, or could not be written."""
    story = error.story or "".join(traceback.format_exception(error.__cause__))
    try:
        log.write_text(story[-(1 << 20) :], "utf-8", "backslashreplace")
    except OSError as refused:
        why = refused.strerror or refused
        return LramError(f"{error}; its traceback could not be written to {log} ({why})")
    return LramError(f"{error}; its traceback is in {log}")


@contextmanager
def _ending_with(end: Callable[[], None]) -> Iterator[None]:
    """Call ``end`` when the block has ended; where both fail, the block's error is raised."""
    try:
        yield
    except BaseException:
        with suppress(LramError, OSError):
            end()
        raise
    end()


@contextmanager
def _flushed(sink: TrajectorySink | None) -> Iterator[None]:
    """Write what ``sink`` holds at the end of the block, however that ends.

    Where both fail, what went wrong first is raised, but for the writing of records: a store that was moved
    says where it is now, which its run does not.
    """
    try:
        yield
    except BaseException as error:
        of_records = isinstance(error, LramError) and not isinstance(error, AgentRaisedError)
        if sink is not None:
            with suppress(*(() if of_records else (LramError, AgentError))):
                sink.flush()
        raise
    if sink is not None:
        sink.flush()


class _RecordWriter:
    """Where records arrive: the only place that writes them."""

    def __init__(self, writer: RunWriter, sink: TrajectorySink | None, report: Reporter) -> None:
        self._writer, self._sink, self._report = writer, sink, report

    def record(self, record: EpisodeRecord, trajectory: Trajectory | None = None) -> None:
        if self._sink is None:
            self._writer.append(record)
        else:
            self._sink.append(record, trajectory)
        self._report.record(record)

    def heartbeat(self, active: int, decisions: int) -> None:
        if self._sink is not None:
            self._sink.heartbeat()
        self._writer.heartbeat()
        self._report.heartbeat(active, decisions)


def checked(
    session: ExecutorSession, built: Mapping[str, PlannedAgent], items: list[WorkItem]
) -> dict[str, str]:
    """Let the agents that have something to play pass the gate; return what to note of them."""
    noted = session.check(_playing(built, items))
    return {f"{CHECK_OF}{label}": text for label, text in noted.items()}


def _playing(built: Mapping[str, PlannedAgent], items: list[WorkItem]) -> dict[str, PlannedAgent]:
    """Return the agents that have something to play."""
    playing = {item.agent for item in items}
    return {label: agent for label, agent in built.items() if label in playing}


def _changed(run: Run, built: Mapping[str, PlannedAgent], items: list[WorkItem], machine: Machine) -> str:
    """Return how what plays ``items`` computes otherwise than at the run's start; empty: it does not."""
    playing = _playing(built, items)
    now = of_models(built, machine.compute(), machine.threads)
    found = changes(run.plan, started_with(run), {label: now[label] for label in now if label in playing})
    return "; ".join(f"{what} ({', '.join(labels)})" for what, labels in found.items())
