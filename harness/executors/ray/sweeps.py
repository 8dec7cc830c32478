"""The driver of a sweep of latencies: chooses the one node that is measured, and writes what it says."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec

from lram.envs.registry import select
from lram.harness.errors import LramError, as_lram_error
from lram.harness.executors.ray.backend import RayBackend
from lram.harness.executors.ray.connection import Cluster, Lost, Node
from lram.harness.executors.ray.measuring import Asked, Heard, SweepOrder, measure
from lram.harness.executors.ray.roster import Roster
from lram.harness.executors.ray.transfer import shipped
from lram.harness.latency import inputs as recorded
from lram.harness.latency.folder import LatencyRun
from lram.harness.latency.plan import LatencyRequest
from lram.harness.latency.records import LatencyPlan, end_of
from lram.harness.latency.records import LatencyPoint as Point
from lram.harness.latency.sweep import Bench, Say
from lram.harness.plan import labelled_specs
from lram.harness.storage.provenance import collect
from lram.harness.storage.records import Provenance
from lram.harness.timing.inputs import Inputs

_WAIT_S = 1.0
_TELL_S = 5.0


class OneNode:
    """One node of a cluster."""

    def __init__(self, backend: RayBackend, node: str = "") -> None:
        """Prepare.

        Args:
            backend: The cluster.
            node: Host, address or the start of the id of the node to measure; empty: one that can play the
                task, on ``cuda`` one that has a graphics processor, and of those the one with most cores.
        """
        self._backend, self._node = backend, node

    @contextmanager
    def open(self, say: Say) -> Iterator[Bench]:
        """Connect; the node is held from the plan, or the check, on."""
        with self._backend.connect() as cluster:
            bench = _Bench(cluster, self._node, say)
            try:
                yield bench
            finally:
                bench.close()


class _Bench:
    def __init__(self, cluster: Cluster, wanted: str, say: Say) -> None:
        self._cluster, self._wanted, self._say = cluster, wanted, say
        self._roster = Roster(cluster, self._tell)
        self._node: Node | None = None
        self._stream: Any = None
        self._made: Provenance | None = None
        self._folder = ""

    def _tell(self, line: str) -> None:
        self._say(line)

    def plan(self, request: LatencyRequest) -> tuple[LatencyPlan, Inputs]:
        """See :class:`lram.harness.latency.sweep.Bench`."""
        request.check()
        specs: dict[str, str] = {}
        for label, spec in labelled_specs(request.agents).items():
            if not isinstance(spec, str):
                raise LramError(f"agent {label} is a Python object, which cannot be sent to a cluster")
            specs[label] = spec
        domains: dict[str, list[str]] = {}
        with as_lram_error():
            for task in select(request.task):
                domains.setdefault(task.domain, []).append(task.name)
        agents, files = shipped(specs, self._cluster.put)
        told = {field.name: getattr(request, field.name) for field in fields(request)}
        order = SweepOrder(agents, tuple(files), str(Path.cwd()), Asked(**{**told, "agents": specs}))
        self._roster.examine(domains, request.interpreters or {})
        able = [self._roster.able(name, self._roster.protocol(name, None)) for name in domains]
        nodes = [node for node in able[0] if all(node in others for others in able)]
        self._start(self._best(nodes, request.device, None)[0], order, b"", files)
        while (heard := self._hear())[0].plan is None:
            pass
        plan = heard[0].plan
        assert plan is not None
        with tempfile.TemporaryDirectory(prefix="lram-latency-") as folder:
            (Path(folder) / recorded.FILE).write_bytes(heard[1])
            return plan, recorded.read(Path(folder), plan.inputs)

    def check(self, run: LatencyRun) -> None:
        """See :class:`lram.harness.latency.sweep.Bench`."""
        plan, sessions = run.plan, run.provenance()
        agents, files = shipped({agent.label: agent.spec for agent in plan.agents}, self._cluster.put)
        first = sessions[0] if sessions else None
        order = SweepOrder(
            agents,
            tuple(files),
            str(Path.cwd()),
            plan=plan,
            missing=tuple(run.missing()),
            known=tuple(point for point in run.points() if end_of(point, plan.effort)),
            first=first,
        )
        domain, protocol = plan.task.task.domain, plan.task.protocol.partition(":")[2].partition("@")[0]
        self._roster.examine({domain: [plan.task.task.name]} if plan.loop else {}, {})
        nodes = self._roster.able(domain, protocol) if plan.loop else list(self._roster.nodes.values())
        if not nodes:
            raise LramError(f"no node can play {plan.task.task.id}, whose simulator this sweep times, too")
        inputs = (run.path / recorded.FILE).read_bytes()
        self._folder = str(run.path)
        refusal = ""
        for node in self._best(nodes, plan.device, first):
            self._start(node, order, inputs, files)
            while not (heard := self._hear(patient=True)[0]).checked:
                if heard.problem:
                    break
            if heard.checked:
                return
            refusal = heard.problem.replace("this node", f"the node {node}")
            self.close()
        raise LramError(refusal)

    def provenance(self, settings: Mapping[str, object]) -> Provenance:
        """See :class:`lram.harness.latency.sweep.Bench`."""
        assert self._made is not None
        told = {name: str(value) for name, value in settings.items()}
        where = {"backend": "ray", "node": str(self._node)}
        return replace(
            self._made,
            command=collect({}, {}).command,
            settings={**told, **where, **self._made.settings},
        )

    def measure(self, run: LatencyRun) -> Iterator[Point | str]:
        """See :class:`lram.harness.latency.sweep.Bench`."""
        self._folder = str(run.path)
        while True:
            heard, _ = self._hear()
            if heard.log:
                with suppress(OSError), (run.path / "logs" / "processes.log").open("a") as log:
                    log.write(heard.log)
            if heard.point is not None:
                yield heard.point
            if heard.done:
                self._stream = None
                return

    def close(self) -> None:
        """End what runs on the node."""
        if self._stream is not None:
            self._cluster.cancel(self._stream)
            self._stream = None

    def _best(self, nodes: Sequence[Node], device: str, first: Provenance | None) -> list[Node]:
        """Return the nodes that could be measured, the best one first."""
        found = [node for node in nodes if device == "cpu" or node.gpus >= 1]
        if not found:
            raise LramError(f"no node that can play the task offers a GPU, and the sweep is on {device}")
        if self._wanted:
            found = [node for node in found if _named(node, self._wanted)]
            if not found:
                raise LramError(
                    f"--node {self._wanted}: there is no such node that can be measured; there are "
                    f"{', '.join(f'{node} at {node.address}' for node in nodes)}"
                )

        def rank(node: Node) -> tuple[object, ...]:
            again = first is not None and first.settings.get("node") == str(node)
            alike = first is not None and self._roster.facts[node.id].cpu == first.cpu
            return not again, not alike, -node.cpus, str(node)

        return sorted(found, key=rank)

    def _start(self, node: Node, order: SweepOrder, inputs: bytes, files: Mapping[str, Any]) -> None:
        device = order.asked.device if order.asked is not None else order.plan.device if order.plan else "cpu"
        self._node = node
        self._stream = self._cluster.start(
            node,
            measure,
            msgspec.json.encode(order),
            inputs,
            *files.values(),
            cpus=node.cpus,
            gpus=0.0 if device == "cpu" else node.gpus,
            stream=True,
        )

    def _hear(self, *, patient: bool = False) -> tuple[Heard, bytes]:
        """Return what the node says next.

        Raises:
            LramError: It says what is wrong (``patient``: not where that is its kind), or it was lost.
        """
        began, told = time.monotonic(), self._made is not None
        while not self._cluster.ready([self._stream], _WAIT_S):
            if not told and time.monotonic() - began > _TELL_S:
                told = True
                self._say(f"waiting for the node {self._node}, until nothing else of the cluster runs there")
        try:
            content, inputs = self._cluster.next(self._stream)
        except Lost as lost:
            self._stream = None
            on = f"; what is recorded stands: lram latency --resume {self._folder}" if self._folder else ""
            how = "failed" if lost.why == "raised" else "was lost"
            raise LramError(f"the node {self._node} {how} ({lost}){on}") from lost
        heard = msgspec.json.decode(content, type=Heard)
        if heard.made is not None:
            self._made = heard.made
            self._say(f"measuring on the node {self._node}: {heard.made.cpu}, {heard.made.cores} cores")
        for text in heard.text:
            self._say(text)
        if heard.problem and not (patient and heard.other):
            raise LramError(f"{heard.problem} (on the node {self._node})")
        return heard, inputs


def _named(node: Node, name: str) -> bool:
    return name in (node.host, node.address) or (len(name) >= 4 and node.id.startswith(name))
