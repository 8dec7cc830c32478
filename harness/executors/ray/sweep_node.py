"""A sweep of latencies on the node that has it to itself: planned there, and measured by processes there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from lram.agents.api import AgentError
from lram.agents.own_modules import search_first
from lram.harness.errors import LramError
from lram.harness.executors.ray.node import die_with_raylet, own_folder, usual_priority
from lram.harness.executors.ray.transfer import Artifacts, ShippedAgent
from lram.harness.interpreters import resolve
from lram.harness.latency import inputs as recorded
from lram.harness.latency.folder import PLAN_FILE
from lram.harness.latency.plan import LatencyRequest, check_same, make_plan
from lram.harness.latency.records import Job, LatencyPlan, LatencyPoint
from lram.harness.latency.sweep import check_kind, walk
from lram.harness.machine import calm_threads
from lram.harness.storage.json_files import write_json
from lram.harness.storage.provenance import collect
from lram.harness.storage.records import AgentEntry, Provenance

_MOST_LOG = 1 << 16  # bytes of a process's words


@dataclass(frozen=True, slots=True)
class SweepRequest(LatencyRequest):
    """A request whose agents are by label, as nodes know them."""

    agents: dict[str, str]


@dataclass(frozen=True, slots=True)
class SweepOrder:
    """The driver's request to a node.

    Attributes:
        agents: By label.
        place: The driver's working directory, where a node that shares it finds ``module:factory``.
        asked: A new sweep; None: one that is continued, by the next four.
        plan: Of the sweep, with the driver's specifications.
        missing: What is to be measured.
        known: Points that end a setting.
        first: Where the sweep was begun.
    """

    agents: dict[str, ShippedAgent]
    place: str
    asked: SweepRequest | None = None
    plan: LatencyPlan | None = None
    missing: tuple[tuple[Job, tuple[int, ...]], ...] = ()
    known: tuple[LatencyPoint, ...] = ()
    first: Provenance | None = None


@dataclass(frozen=True, slots=True)
class SweepUpdate:
    """What a node says; the recorded inputs come beside a plan.

    Attributes:
        made: What the node is: comes first, when the node is the sweep's.
        plan: Of a new sweep, with the driver's specifications.
        checked: A sweep that is continued can be.
        point: That was measured.
        text: For people who wait.
        log: What processes have printed.
        problem: Why nothing more comes.
        other: The problem is that this is another kind of machine.
        done: It is over.
    """

    made: Provenance | None = None
    plan: LatencyPlan | None = None
    checked: bool = False
    point: LatencyPoint | None = None
    text: tuple[str, ...] = field(default_factory=tuple)
    log: str = ""
    problem: str = ""
    other: bool = False
    done: bool = False


Message = tuple[bytes, bytes]


def measure(order: bytes, artifacts: Artifacts, inputs: bytes) -> Iterator[Message]:
    """Do what ``order`` says; yield a :class:`SweepUpdate` as JSON each, and inputs where they are new."""
    die_with_raylet()
    calm_threads()
    asked = msgspec.json.decode(order, type=SweepOrder)
    try:
        with usual_priority() as niceness, own_folder("sweeps") as folder:
            sweep = _Sweep(asked, artifacts, folder)
            yield from sweep.run(inputs, niceness)
    except (LramError, AgentError) as error:
        yield _message(SweepUpdate(problem=str(error)))


def _message(update: SweepUpdate, inputs: bytes = b"") -> Message:
    return msgspec.json.encode(update), inputs


class _Sweep:
    def __init__(self, order: SweepOrder, artifacts: Artifacts, folder: Path) -> None:
        self._order, self._folder = order, folder
        self._specs = {label: agent.there(artifacts) for label, agent in order.agents.items()}
        self._home = order.place if Path(order.place).is_dir() else None
        if self._home:
            search_first(self._home)
        (folder / "logs").mkdir()
        self._read = 0

    def run(self, inputs: bytes, niceness: int) -> Iterator[Message]:
        """Say what this is, plan or check, and measure."""
        import torch  # noqa: F401  # provenance names the graphics processors that it finds

        made = collect({"niceness": niceness}, {})
        order = self._order
        if order.first is not None:
            assert order.plan is not None
            try:
                check_kind(order.first, made, order.plan.device, "this node")
            except LramError as error:
                yield _message(SweepUpdate(problem=str(error), other=True))
                return
        yield _message(SweepUpdate(made=made))
        if order.asked is not None:
            yield from self._new(order.asked)
        else:
            yield from self._again(inputs)
        yield _message(SweepUpdate(done=True))

    def _new(self, asked: SweepRequest) -> Iterator[Message]:
        texts: list[str] = []
        plan, inputs = make_plan(replace(asked, agents=self._specs), texts.append)
        recorded.write(self._folder, inputs)
        write_json(self._folder / PLAN_FILE, plan)
        named = {label: agent.spec for label, agent in self._order.agents.items()}
        reported = replace(plan, agents=_renamed(plan, named))
        yield _message(
            SweepUpdate(plan=reported, text=tuple(texts)), (self._folder / recorded.FILE).read_bytes()
        )
        missing = [(job, plan.contexts) for job in plan.jobs()]
        yield from self._walk(plan, missing, ())

    def _again(self, inputs: bytes) -> Iterator[Message]:
        planned = self._order.plan
        assert planned is not None
        interpreters = {
            domain: python if Path(python).exists() else resolve([domain]).get(domain, python)
            for domain, python in planned.interpreters.items()
        }
        plan = replace(planned, agents=_renamed(planned, self._specs), interpreters=interpreters)
        check_same(plan)
        (self._folder / recorded.FILE).write_bytes(inputs)
        recorded.read(self._folder, plan.inputs)
        write_json(self._folder / PLAN_FILE, plan)
        yield _message(SweepUpdate(checked=True))
        yield from self._walk(plan, self._order.missing, self._order.known)

    def _walk(
        self,
        plan: LatencyPlan,
        missing: tuple[tuple[Job, tuple[int, ...]], ...] | list[tuple[Job, tuple[int, ...]]],
        known: tuple[LatencyPoint, ...],
    ) -> Iterator[Message]:
        for one in walk(self._folder, plan, missing, known, self._home):
            if isinstance(one, LatencyPoint):
                yield _message(SweepUpdate(point=one))
            else:
                yield _message(SweepUpdate(text=(one,), log=self._words()))

    def _words(self) -> str:
        """Return what the processes have printed since the last time."""
        with (self._folder / "logs" / "processes.log").open("rb") as log:
            log.seek(self._read)
            words = log.read()
        self._read += len(words)
        return words[-_MOST_LOG:].decode(errors="replace")


def _renamed(plan: LatencyPlan, specs: Mapping[str, str]) -> tuple[AgentEntry, ...]:
    return tuple(replace(agent, spec=specs[agent.label]) for agent in plan.agents)
