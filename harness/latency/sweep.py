"""A whole sweep: one process after the other on one machine, in an order that mixes what is measured."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import msgspec

from lram.agents.places import placed
from lram.harness.errors import LramError
from lram.harness.executors.contract import Executor, JobUpdate, Log
from lram.harness.executors.local import LOCAL
from lram.harness.latency import inputs as recorded
from lram.harness.latency.child import Order
from lram.harness.latency.folder import PLAN_FILE, LatencyRun, LatencyWriter
from lram.harness.latency.plan import LatencyRequest, check_same, make_plan
from lram.harness.latency.records import (
    NOT_TRIED,
    OK,
    OUT_OF_MEMORY,
    SCHEMA,
    SILENT,
    Effort,
    Job,
    LatencyPlan,
    LatencyPoint,
    end_of,
    machine_of,
)
from lram.harness.storage.provenance import collect
from lram.harness.storage.records import Provenance
from lram.harness.timing import fresh_process
from lram.harness.timing.fresh_process import FreshProcess
from lram.harness.timing.inputs import Inputs
from lram.harness.trust import NONE, Trust, check_trusted
from lram.harness.waiting import left
from lram.harness.words import command

SILENCE_S = 1800.0
"""A process that says nothing for so long is ended; that is a data point, too."""


@dataclass(frozen=True, slots=True)
class SweepReady:
    """A result of a sweep's job: it can be measured; points come when this was taken.

    Attributes:
        plan, inputs: Of a new sweep, recorded where it is measured.
    """

    plan: LatencyPlan | None = None
    inputs: Inputs | None = None


SweepResult = SweepReady | Provenance | LatencyPoint | str
"""What the job of a sweep gives: that it is ready, where points are made, points, and lines for people."""


@dataclass(frozen=True, slots=True)
class SweepJob:
    """A sweep that is to be measured on one machine.

    Attributes:
        path: Its folder; of a new one, it is made before anything but the plan is asked for.
        log: Told what is done.
        request: What a new sweep is to measure (None: what one that exists still misses).
        node: On a cluster: host, address or the start of the id of the node to measure; empty: one that can
            play the task, on ``cuda`` one with a graphics processor, and of those the one with most cores.
    """

    path: Path
    log: Log
    request: LatencyRequest | None = None
    node: str = ""

    @property
    def title(self) -> str:
        """What people call it."""
        return str(self.path)

    def work(self) -> Iterator[SweepResult | None]:
        """Measure on this machine; see :class:`lram.harness.executors.contract.ExecutorJob`."""
        if self.request is not None:
            yield SweepReady(*make_plan(self.request, self.log))
        else:
            old = LatencyRun(self.path)
            check_same(old.plan)
            sessions = old.provenance()
            if sessions:
                check_kind(sessions[0], collect({}, {}), old.plan.device, "this machine")
            yield SweepReady()
        yield collect({}, {})
        run = LatencyRun(self.path)
        yield from walk(run.path, run.plan, run.missing(), run.points())

    def cancel(self) -> None:
        """Do nothing: closing the iterator ends the process that is measured."""


def sweep(
    request: LatencyRequest,
    output: str | Path,
    *,
    say: Log = lambda text: None,
    executor: Executor = LOCAL,
    node: str = "",
) -> LatencyRun:
    """Measure what ``request`` asks for; return the sweep.

    Args:
        request: What.
        output: Folder; it must not hold anything yet.
        say: Told what is done, line by line.
        executor: Where: this machine, or a node of a cluster.
        node: On a cluster, which; see :class:`SweepJob`.

    Raises:
        LramError: Bad input, and nothing was written; or the node was lost, and the sweep can be resumed.
    """
    output = placed(output)
    LatencyWriter.check_vacant(output)
    _run(SweepJob(output, say, request, node), executor)
    return LatencyRun(output)


def resume(
    path: str | Path,
    *,
    say: Log = lambda text: None,
    executor: Executor = LOCAL,
    node: str = "",
    trust: Trust = NONE,
) -> LatencyRun:
    """Measure what a sweep still misses; return it.

    Args:
        path: Its folder.
        say: Told what is done, line by line.
        executor: As for :func:`sweep`.
        node: Likewise.
        trust: What the caller vouches for, of the modules and interpreters that its plan names.

    Raises:
        LramError: It is no sweep, it is in use, its inputs are damaged, an agent is not the one it was
            started with, or this machine (or every node of ``executor``) is not of the kind that it was
            started on.
    """
    run = LatencyRun(path)
    if run.missing():
        check_trusted(
            run.path / PLAN_FILE,
            [agent.spec for agent in run.plan.agents],
            run.plan.interpreters,
            trust,
            command("latency", "--resume", run.path),
        )
        recorded.read(run.path, run.plan.inputs)  # else every process would fail, and be recorded so
        _run(SweepJob(run.path, say, node=node), executor)
    return LatencyRun(path)


def check_kind(first: Provenance, now: Provenance, device: str, name: str) -> None:
    """Raise LramError when a sweep would become one of two kinds of machines."""
    was, found = (machine_of(made, device) for made in (first, now))
    if was != found:
        raise LramError(
            f"the sweep was begun on {was}, and {name} is {found}: times of two machines make no sweep; "
            "continue on a machine of the first kind, or start a new sweep with -o"
        )


def _run(job: SweepJob, executor: Executor) -> None:
    """Do the job and write what it gives: the only place that writes a sweep."""
    with (
        ExitStack() as stack,
        executor.open(log=job.log) as session,
        closing(cast(Generator[JobUpdate | None, None, None], session.run([job], 1))) as updates,
    ):
        writer: LatencyWriter | None = None
        made: Provenance | None = None
        noted = False
        for update in updates:
            result: SweepResult | None = update.result if update is not None else None
            if isinstance(result, SweepReady):
                if result.plan is not None and result.inputs is not None:
                    writer = LatencyWriter.create(job.path, result.plan, result.inputs)
                else:
                    writer = LatencyWriter(LatencyRun(job.path))
                stack.enter_context(writer)
            elif isinstance(result, Provenance):
                made = result
            elif isinstance(result, LatencyPoint):
                assert writer is not None, "a sweep is ready before it has points"
                writer.append(result)
            elif result is not None:
                job.log(result)
            if writer is not None and made is not None and not noted:
                writer.write_provenance(_signed(made, writer.run.plan))
                noted = True


def _signed(made: Provenance, plan: LatencyPlan) -> Provenance:
    """Return where points are made, with this process's command and the settings of ``plan``."""
    settings = {"threads": plan.threads, "device": plan.device, "precision": plan.precision}
    here = collect(settings, {})
    return replace(made, command=here.command, settings={**here.settings, **made.settings})


def walk(
    folder: Path,
    plan: LatencyPlan,
    missing: Sequence[tuple[Job, tuple[int, ...]]],
    known: Iterable[LatencyPoint],
    home: str | None = None,
) -> Iterator[LatencyPoint | str]:
    """Run one process after the other here; yield their points as they come, and a line after each.

    Args:
        folder: Of the sweep, with its plan, inputs and logs.
        plan: Of the sweep.
        missing: Processes and the contexts that they are to measure, in order.
        known: Points that there are already: what failed for lack of memory is not tried again.
        home: Working directory of the processes (None: this one's).
    """
    # By setting: from which context on it is not tried again, and why.
    ends: dict[tuple[str, str, int], tuple[int, str]] = {}
    started, tried_so_far = time.monotonic(), 0
    for point in known:
        _note(ends, point, plan.effort)
    for number, (job, contexts) in enumerate(missing, start=1):
        begun = time.monotonic()
        beyond = ends.get(job.setting, (sys.maxsize, ""))[0]
        made: list[LatencyPoint] = []
        if tried := tuple(context for context in contexts if context < beyond):
            tried_so_far += 1
            for point in play(folder, job, tried, plan.threads, home):
                yield point
                made.append(point)
                _note(ends, point, plan.effort)
        end, why = ends.get(job.setting, (sys.maxsize, ""))
        for context in contexts[len(made) :]:
            # What ended this process may be something else, at a shorter context than the setting's end.
            reason = why if context >= end else "an earlier context failed"
            yield LatencyPoint(SCHEMA, job, context, f"{NOT_TRIED}{reason}")
        took = time.monotonic() - begun
        each = (time.monotonic() - started) / tried_so_far if tried_so_far else 0.0
        ahead = f", {left(each * (len(missing) - number))}" if number < len(missing) else ""
        yield f"{number} of {len(missing)}: {job}: {_in_short(made)} ({took:.0f} s{ahead})"


def _note(ends: dict[tuple[str, str, int], tuple[int, str]], point: LatencyPoint, effort: Effort) -> None:
    reason = end_of(point, effort)
    setting = point.job.setting
    if reason and (setting not in ends or point.context < ends[setting][0]):
        ends[setting] = point.context, reason


def _in_short(points: Sequence[LatencyPoint]) -> str:
    """Return the median agent steps of a process, for people who wait."""
    if not points:
        return "not tried again"
    middle = {p.context: sorted(p.agent_ns)[len(p.agent_ns) // 2] / 1e6 for p in points if p.agent_ns}
    texts = [f"{context}: {ms:.3g} ms" for context, ms in middle.items()]
    return ", ".join([*texts, *(f"{p.context}: {p.outcome}" for p in points if p.outcome != OK)])


def play(
    folder: Path, job: Job, contexts: tuple[int, ...], threads: int, home: str | None = None
) -> Iterator[LatencyPoint]:
    """Run a process in ``home`` and yield its points as they come; if it dies, one more that tells of it.

    Args:
        folder: Of the sweep.
        job: The process.
        contexts: What it is to measure, ascending.
        threads: Of its libraries.
        home: Its working directory (None: this one's).
    """
    order = Order(str(folder.resolve()), job, contexts)
    log = folder / "logs" / "processes.log"
    process = FreshProcess(
        "lram.harness.latency.child", order, log, title=str(job), threads=threads, home=home
    )
    seen, last = 0, OK
    with closing(iter(process)) as lines:
        for line in lines:
            point = msgspec.json.decode(line, type=LatencyPoint)
            seen, last = seen + 1, point.outcome
            yield point
    end = process.end
    assert end is not None, "all lines were read"
    if seen == len(contexts) or not (end.silent or (end.code and last == OK)):
        return
    if end.silent:
        outcome = f"{SILENT} for {fresh_process.SILENCE_S:.0f} s"
    else:
        outcome = OUT_OF_MEMORY if end.lack else f"failed: {end.cause}"
    yield LatencyPoint(SCHEMA, job, contexts[seen], outcome, started=time.time())
