"""A sweep of latencies on a cluster: a job that has one node to itself."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec

from lram.envs.protocol_id import ProtocolId
from lram.envs.registry import select
from lram.harness.errors import LramError, as_lram_error
from lram.harness.executors.contract import JobUpdate
from lram.harness.executors.ray.connection import JobLost, Node
from lram.harness.executors.ray.loop import ClusterContext, JobLoop, JobSource, NodeCapacity, RunningJob
from lram.harness.executors.ray.resources import JobResources
from lram.harness.executors.ray.sweep_node import SweepOrder, SweepRequest, SweepUpdate, measure
from lram.harness.latency import inputs as recorded
from lram.harness.latency.folder import LatencyRun
from lram.harness.latency.plan import LatencyRequest
from lram.harness.latency.records import LatencyPlan, end_of
from lram.harness.latency.sweep import SweepJob, SweepReady, SweepResult
from lram.harness.plan import labelled_specs
from lram.harness.storage.records import Provenance
from lram.harness.words import command

_TELL_S = 5.0


class SweepSource(JobSource[SweepJob]):
    """Has one sweep measured on one node of a cluster."""

    waiting_text = "no node is there that could be measured; waiting for one to join"
    stuck_text = "no node is there that could be measured"

    def __init__(self, context: ClusterContext, job: SweepJob) -> None:
        """Prepare; the node is chosen in :meth:`run`, and held from the plan, or the check, on."""
        # Which other nodes come and go is nothing to a sweep.
        self._context, self._job = replace(context, log=lambda line: None), job
        self._registry, self._transfer = context.registry, context.transfer
        self._updates: list[JobUpdate] = []
        self._nodes: list[Node] = []
        self._order: SweepOrder | None = None
        self._device, self._inputs = "cpu", b""
        self._folder = ""  # once there is something to resume
        self._began, self._logged = 0.0, False

    def run(self) -> Iterator[JobUpdate | None]:
        """Measure; see :meth:`lram.harness.executors.contract.ExecutorSession.run`."""
        if self._job.request is not None:
            self._prepare_new(self._job.request)
        else:
            self._prepare_resumed(LatencyRun(self._job.path))
        loop = JobLoop(self._context, NodeCapacity(self._registry))
        with closing(loop.run(self)) as turns:
            for _ in turns:
                while self._updates:
                    yield self._updates.pop(0)
                yield None

    def _prepare_new(self, request: LatencyRequest) -> None:
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
        asked = {field.name: getattr(request, field.name) for field in fields(request)}
        agents = {label: self._transfer.agent(spec) for label, spec in specs.items()}
        self._order = SweepOrder(agents, str(Path.cwd()), SweepRequest(**{**asked, "agents": specs}))
        self._registry.examine(domains, request.interpreters or {})
        able = [self._registry.able(name, self._registry.protocol(name, None)) for name in domains]
        nodes = [node for node in able[0] if all(node in others for others in able)]
        self._device = request.device
        self._nodes = self._best(nodes, None)[:1]

    def _prepare_resumed(self, run: LatencyRun) -> None:
        plan, sessions = run.plan, run.provenance()
        first = sessions[0] if sessions else None
        self._order = SweepOrder(
            {agent.label: self._transfer.agent(agent.spec) for agent in plan.agents},
            str(Path.cwd()),
            plan=plan,
            missing=tuple(run.missing()),
            known=tuple(point for point in run.points() if end_of(point, plan.effort)),
            first=first,
        )
        with as_lram_error():
            domain, protocol = plan.task.task.domain, ProtocolId.parse(plan.task.protocol).name
        self._registry.examine({domain: [plan.task.task.name]} if plan.loop else {}, {})
        nodes = self._registry.able(domain, protocol) if plan.loop else list(self._registry.nodes.values())
        if not nodes:
            raise LramError(f"no node can play {plan.task.task.id}, whose simulator this sweep times, too")
        self._inputs = (run.path / recorded.FILE).read_bytes()
        self._folder = str(run.path)
        self._device = plan.device
        self._nodes = self._best(nodes, first)

    def _best(self, nodes: Sequence[Node], first: Provenance | None) -> list[Node]:
        """Return the nodes that could be measured, the best one first."""
        found = [node for node in nodes if self._device == "cpu" or node.gpus >= 1]
        if not found:
            raise LramError(
                f"no node that can play the task offers a GPU, and the sweep is on {self._device}"
            )
        if wanted := self._job.node:
            found = [node for node in found if _named(node, wanted)]
            if not found:
                raise LramError(
                    f"--node {wanted}: there is no such node that can be measured; there are "
                    f"{', '.join(f'{node} at {node.address}' for node in nodes)}"
                )

        def rank(node: Node) -> tuple[object, ...]:
            again = first is not None and first.settings.get("node") == str(node)
            alike = first is not None and self._registry.facts[node.id].cpu == first.cpu
            return not again, not alike, -node.cpus, str(node)

        return sorted(found, key=rank)

    # What the loop asks

    def __len__(self) -> int:
        return len(self._nodes) if self._order is not None else 0

    def turn(self) -> None:
        """Take note of how the run goes."""
        if not self._logged and self._began and time.monotonic() - self._began > _TELL_S:
            self._logged = True
            self._job.log(f"waiting for the node {self._node}, until nothing else of the cluster runs there")

    def choose(self) -> RunningJob[SweepJob] | None:
        """Return the next job for a node that has room for it."""
        if self._began:
            return None
        node = self._node = self._nodes.pop(0)
        gpus = 0.0 if self._device == "cpu" else node.gpus
        return RunningJob(self._job, node, JobResources(node.cpus, gpus, 0))

    def start(self, running: RunningJob[SweepJob]) -> Any:
        """Start a job on its node; return the stream of its updates."""
        order, node, needs = self._order, running.node, running.needs
        assert order is not None
        self._began = time.monotonic()
        return self._context.cluster.start(
            node,
            measure,
            msgspec.json.encode(order),
            self._transfer.of(*order.agents.values()),
            self._inputs,
            cpus=needs.cpus,
            gpus=needs.gpus,
            stream=True,
        )

    def handle_update(self, running: RunningJob[SweepJob], message: Any) -> bool:
        """Take what a job says; return whether that was its last word."""
        content, inputs = message
        node, log = running.node, self._job.log
        update = msgspec.json.decode(content, type=SweepUpdate)
        if update.made is not None:
            self._logged = True
            log(f"measuring on the node {node}: {update.made.cpu}, {update.made.cores} cores")
            where = {"backend": "ray", "node": str(node)}
            self._give(replace(update.made, settings={**where, **update.made.settings}))
        for text in update.text:
            self._give(text)
        if update.problem:
            if update.other and self._nodes:
                self._began = 0.0  # the next node may be of the sweep's kind
                return True
            if update.other:
                raise LramError(update.problem.replace("this node", f"the node {node}"))
            raise LramError(f"{update.problem} (on the node {node})")
        if update.plan is not None:
            self._give(_ready(update.plan, inputs))
        elif update.checked:
            self._give(SweepReady())
        if update.log:
            with suppress(OSError), (self._job.path / "logs" / "processes.log").open("a") as file:
                file.write(update.log)
        if update.point is not None:
            self._folder = str(self._job.path)
            self._give(update.point)
        if update.done:
            self._order = None  # nothing is left for another node
        return update.done

    def handle_loss(self, running: RunningJob[SweepJob], loss: JobLost) -> None:
        """Repeat or give up a job that has ended without a last word."""
        again = command("latency", "--resume", self._folder) if self._folder else ""
        on = f"; what is recorded stands: {again}" if again else ""
        how = "failed" if loss.why == "raised" else "was lost"
        raise LramError(f"the node {running.node} {how} ({loss}){on}") from loss

    def _give(self, result: SweepResult) -> None:
        self._updates.append(JobUpdate(self._job, "result", result))


def _ready(plan: LatencyPlan, inputs: bytes) -> SweepReady:
    with tempfile.TemporaryDirectory(prefix="lram-latency-") as folder:
        (Path(folder) / recorded.FILE).write_bytes(inputs)
        return SweepReady(plan, recorded.read(Path(folder), plan.inputs))


def _named(node: Node, name: str) -> bool:
    return name in (node.host, node.address) or (len(name) >= 4 and node.id.startswith(name))
