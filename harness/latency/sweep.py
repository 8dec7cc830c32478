"""A whole sweep: one process after the other on one machine, in an order that mixes what is measured."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from lram.agents.places import placed
from lram.harness.errors import LramError
from lram.harness.latency import inputs as recorded
from lram.harness.latency.child import Order
from lram.harness.latency.folder import PLAN_FILE, LatencyRun, LatencyWriter
from lram.harness.latency.plan import LatencyRequest, check_same, make_plan
from lram.harness.latency.records import (
    OK,
    OUT_OF_MEMORY,
    SCHEMA,
    SILENT,
    Effort,
    Job,
    LatencyPlan,
    end_of,
)
from lram.harness.latency.records import LatencyPoint as Point
from lram.harness.storage.provenance import collect
from lram.harness.storage.records import Provenance
from lram.harness.timing import fresh_process
from lram.harness.timing.fresh_process import FreshProcess
from lram.harness.timing.inputs import Inputs
from lram.harness.trust import NONE, Trust, check_trusted
from lram.harness.waiting import left

Say = Callable[[str], object]


class Bench(Protocol):
    """The one machine that a sweep is measured on, ready to."""

    def plan(self, request: LatencyRequest) -> tuple[LatencyPlan, Inputs]:
        """Return the plan and the inputs, recorded there; LramError for what cannot be measured."""
        ...

    def check(self, run: LatencyRun) -> None:
        """Raise LramError when a sweep cannot be gone on with there."""
        ...

    def provenance(self, settings: Mapping[str, object]) -> Provenance:
        """Return where and with what the points are made."""
        ...

    def measure(self, run: LatencyRun) -> Iterator[Point | str]:
        """Yield what the sweep still misses, and lines for people who wait."""
        ...


class Place(Protocol):
    """Where a sweep can be measured."""

    def open(self, say: Say) -> AbstractContextManager[Bench]:
        """Return the machine for as long as the context is held; ``say`` is told what is done there."""
        ...


class Here:
    """This machine."""

    @contextmanager
    def open(self, say: Say) -> Iterator[Bench]:
        """Return this machine."""
        yield _HereBench(say)


HERE = Here()


class _HereBench:
    def __init__(self, say: Say) -> None:
        self._say = say

    def plan(self, request: LatencyRequest) -> tuple[LatencyPlan, Inputs]:
        return make_plan(request, self._say)

    def check(self, run: LatencyRun) -> None:
        check_same(run.plan)
        sessions = run.provenance()
        if any("node" in session.settings for session in sessions):
            check_kind(sessions[0], collect({}, {}), run.plan.device, "this machine")

    def provenance(self, settings: Mapping[str, object]) -> Provenance:
        return collect(settings, {})

    def measure(self, run: LatencyRun) -> Iterator[Point | str]:
        return walk(run.path, run.plan.effort, run.missing(), run.points())


def sweep(
    request: LatencyRequest, output: str | Path, *, say: Say = lambda text: None, place: Place = HERE
) -> LatencyRun:
    """Measure what ``request`` asks for; return the sweep.

    Args:
        request: What.
        output: Folder; it must not hold anything yet.
        say: Told what is done, line by line.
        place: Where: this machine, or a cluster's node (:class:`lram.harness.executors.ray.sweeps.OneNode`).

    Raises:
        LramError: Bad input, and nothing was written; or the node was lost, and the sweep can be resumed.
    """
    output = placed(output)
    LatencyWriter.check_vacant(output)
    with place.open(say) as bench:
        plan, inputs = bench.plan(request)
        with LatencyWriter.create(output, plan, inputs) as writer:
            _run(bench, writer, say)
    return LatencyRun(output)


def resume(
    path: str | Path, *, say: Say = lambda text: None, place: Place = HERE, trust: Trust = NONE
) -> LatencyRun:
    """Measure what a sweep still misses; return it.

    Args:
        path: Its folder.
        say: Told what is done, line by line.
        place: As for :func:`sweep`.
        trust: What the caller vouches for, of the modules and interpreters that its plan names.

    Raises:
        LramError: It is no sweep, it is in use, its inputs are damaged, an agent is not the one it was
            started with, or ``place`` has no machine of the kind that it was started on.
    """
    run = LatencyRun(path)
    if run.missing():
        check_trusted(
            run.path / PLAN_FILE,
            [agent.spec for agent in run.plan.agents],
            run.plan.interpreters,
            trust,
            f"lram latency --resume {run.path}",
        )
        recorded.read(run.path, run.plan.inputs)  # else every process would fail, and be recorded so
        with place.open(say) as bench:
            bench.check(run)
            with LatencyWriter(run) as writer:
                _run(bench, writer, say)
    return LatencyRun(path)


def check_kind(first: Provenance, now: Provenance, device: str, name: str) -> None:
    """Raise LramError when a sweep would become one of two kinds of machines."""
    kinds = [(made.cpu, f"{made.cores} cores", made.gpu if device != "cpu" else "") for made in (first, now)]
    if kinds[0] != kinds[1]:
        was, found = (", ".join(filter(None, kind)) for kind in kinds)
        raise LramError(
            f"the sweep was begun on {was}, and {name} is {found}: times of two machines make no sweep; go "
            "on where there is such a machine, or start a new one"
        )


def _run(bench: Bench, writer: LatencyWriter, say: Say) -> None:
    run = writer.run
    settings = {"threads": run.plan.threads, "device": run.plan.device, "precision": run.plan.precision}
    writer.write_provenance(bench.provenance(settings))
    for one in bench.measure(run):
        if isinstance(one, Point):
            writer.append(one)
        else:
            say(one)


def walk(
    folder: Path,
    effort: Effort,
    missing: Sequence[tuple[Job, tuple[int, ...]]],
    known: Iterable[Point],
    home: str | None = None,
) -> Iterator[Point | str]:
    """Run one process after the other here; yield their points as they come, and a line after each.

    Args:
        folder: Of the sweep, with its plan, inputs and logs.
        effort: Of the plan.
        missing: Processes and the contexts that they are to measure, in order.
        known: Points that there are already: what failed for lack of memory is not tried again.
        home: Working directory of the processes (None: this one's).
    """
    # By setting: from which context on it is not tried again, and why.
    ends: dict[tuple[str, str, int], tuple[int, str]] = {}
    started, tried_so_far = time.monotonic(), 0
    for point in known:
        _note(ends, point, effort)
    for number, (job, contexts) in enumerate(missing, start=1):
        begun = time.monotonic()
        beyond = ends.get(job.setting, (sys.maxsize, ""))[0]
        made: list[Point] = []
        if tried := tuple(context for context in contexts if context < beyond):
            tried_so_far += 1
            for point in play(folder, job, tried, home):
                yield point
                made.append(point)
                _note(ends, point, effort)
        reason = ends[job.setting][1] if job.setting in ends else "an earlier context failed"
        for context in contexts[len(made) :]:
            yield Point(SCHEMA, job, context, f"not tried: {reason}")
        took = time.monotonic() - begun
        each = (time.monotonic() - started) / tried_so_far if tried_so_far else 0.0
        ahead = f", {left(each * (len(missing) - number))}" if number < len(missing) else ""
        yield f"{number} of {len(missing)}: {job}: {_in_short(made)} ({took:.0f} s{ahead})"


def _note(ends: dict[tuple[str, str, int], tuple[int, str]], point: Point, effort: Effort) -> None:
    reason = end_of(point, effort)
    setting = point.job.setting
    if reason and (setting not in ends or point.context < ends[setting][0]):
        ends[setting] = point.context, reason


def _in_short(points: Sequence[Point]) -> str:
    """Return the median agent steps of a process, for people who wait."""
    if not points:
        return "not tried again"
    middle = {p.context: sorted(p.agent_ns)[len(p.agent_ns) // 2] / 1e6 for p in points if p.agent_ns}
    texts = [f"{context}: {ms:.3g} ms" for context, ms in middle.items()]
    return ", ".join([*texts, *(f"{p.context}: {p.outcome}" for p in points if p.outcome != OK)])


def play(folder: Path, job: Job, contexts: tuple[int, ...], home: str | None = None) -> Iterator[Point]:
    """Run a process in ``home`` and yield its points as they come; if it dies, one more that tells of it."""
    order = Order(str(folder.resolve()), job, contexts)
    log = folder / "logs" / "processes.log"
    process = FreshProcess("lram.harness.latency.child", order, log, title=str(job), home=home)
    seen, last = 0, OK
    with closing(iter(process)) as lines:
        for line in lines:
            point = msgspec.json.decode(line, type=Point)
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
    yield Point(SCHEMA, job, contexts[seen], outcome, started=time.time())
