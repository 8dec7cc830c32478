"""The executor that ``--backend ray`` names: a session on a cluster, and the agents that its nodes build."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import msgspec

from lram.agents.api import Agent, AgentInfo, TaskSpec
from lram.envs.task import Task
from lram.harness.data_folder import data_folder
from lram.harness.errors import LramError
from lram.harness.executors.contract import (
    ExecutionReport,
    ExecutorJob,
    ExecutorSession,
    JobUpdate,
    Log,
    RecordSink,
    RolloutJob,
    spread_text,
)
from lram.harness.executors.ray import rollout_node
from lram.harness.executors.ray.cell_files import CellFiles
from lram.harness.executors.ray.cells import CellSource, examine_for_cells
from lram.harness.executors.ray.connection import Cluster, JobLost, Node, connected
from lram.harness.executors.ray.groups import Costs, tabled
from lram.harness.executors.ray.loop import ClusterContext
from lram.harness.executors.ray.messages import AgentOrder, Described
from lram.harness.executors.ray.placement import Placement
from lram.harness.executors.ray.registry import NodeRegistry
from lram.harness.executors.ray.resources import ResourceRequest
from lram.harness.executors.ray.rollouts import RolloutSource
from lram.harness.executors.ray.sweeps import SweepSource
from lram.harness.executors.ray.transfer import ArtifactTransfer
from lram.harness.interpreters.readiness import adapter
from lram.harness.latency.sweep import SweepJob
from lram.harness.machine import Machine
from lram.harness.plan import PlannedAgent
from lram.harness.storage.records import PlannedTask
from lram.harness.studies.cell_job import CellJob

_DESCRIBE_S = 900.0  # to load, compile and check a large model


@dataclass(frozen=True, slots=True)
class RemoteAgent:
    """An agent that nodes build."""

    info: AgentInfo
    refusals: Mapping[str, str]
    note: str
    start_s: float
    order: AgentOrder

    def refuses(self, task: TaskSpec) -> str | None:
        """Return why it cannot play ``task``, as the node said; None where it can."""
        return self.refusals.get(task.id)


class RayExecutor:
    """A Ray cluster."""

    name = "ray"

    def __init__(
        self,
        address: str | None = None,
        request: ResourceRequest | None = None,
        log: Log | None = None,
    ) -> None:
        """Prepare; nothing is connected before :meth:`open`.

        Args:
            address: Such as ``10.0.0.1:6379``; None: ``RAY_ADDRESS``, else the cluster that runs on this
                machine, else one that is started for as long as it is needed.
            request: What jobs are to ask for.
            log: Told what people should know, line by line (None: standard error).
        """
        self._address, self._request, self._log = address, request or ResourceRequest(), log or _print_line

    def check_for_cells(self) -> None:
        """Raise LramError where its request makes no sense for cells of studies."""
        self._request.check()
        self._request.check_for_cells()

    @contextmanager
    def open(self, machine: Machine | None = None, log: Log | None = None) -> Iterator[ExecutorSession]:
        """Connect, and return a session; ``machine`` tells how each job plays episodes.

        Raises:
            LramError: Ray is not installed, nobody answers, or a wish makes no sense.
        """
        machine = machine or Machine()
        self._request.check()
        if machine.shuffle:
            raise LramError("--shuffle is for one machine; leave it out with --backend ray")
        if machine.compute().devices[1:]:
            raise LramError(
                f"--device {machine.device} names devices of one machine; with --backend ray give --device "
                "cuda, and what a job takes of a GPU with --job-gpus"
            )
        with connected(self._address, self._log) as cluster:
            yield _RaySession(cluster, machine, self._request, log or self._log)


class _RaySession:
    remote = True

    def __init__(self, cluster: Cluster, machine: Machine, request: ResourceRequest, log: Log) -> None:
        self._cluster, self._machine, self._request, self._log = cluster, machine, request, log
        self._registry, self._transfer = NodeRegistry(cluster, log), ArtifactTransfer(cluster)
        self._context = ClusterContext(cluster, self._registry, self._transfer, request, log)
        self._protocols: dict[str, str] = {}
        self._placement: Placement | None = None
        self._report = ExecutionReport()
        self._cells: CellFiles | None = None

    def run(self, jobs: Sequence[ExecutorJob[Any]], at_once: int | None = None) -> Iterator[JobUpdate | None]:
        """Do cells of one study, or one sweep."""
        cells = [job for job in jobs if isinstance(job, CellJob)]
        sweeps = [job for job in jobs if isinstance(job, SweepJob)]
        if cells:
            if self._cells is None:  # the same nodes make the cells and time them
                examine_for_cells(self._registry, cells[0].study)
                self._cells = CellFiles(self._context, cells[0].study)
            yield from CellSource(self._context, self._cells, cells, at_once).run()
        elif sweeps:
            [job] = sweeps
            yield from SweepSource(self._context, job).run()

    def protocols(
        self, tasks: Sequence[Task], chosen: Mapping[str, str], interpreters: Mapping[str, str]
    ) -> dict[str, str]:
        """Return what the nodes can play; this machine need not have any simulator."""
        names: dict[str, list[str]] = {}
        for task in tasks:
            names.setdefault(task.domain, []).append(task.name)
        # Those that this machine has installed say nothing of the nodes, which look for their own.
        recorded = {name: python for name, python in interpreters.items() if not _installed_here(python)}
        self._registry.examine(names, {**recorded, **(self._machine.interpreters or {})})
        found = {}
        for name in names:
            protocol = self._registry.protocol(name, chosen.get(name))
            found[name] = adapter(name).protocol(protocol).id(name)
            self._protocols[name] = protocol
        if len(kinds := self._registry.processors()) > 1:
            texts = [f"{kind}: {len(nodes)} nodes" for kind, nodes in kinds.items()]
            self._log(
                f"the nodes' processors differ ({'; '.join(texts)}): last digits of models may, too, and "
                "with them the course of episodes"
            )
            self._report.notes["processors differ"] = "; ".join(texts)
        return found

    def agents(
        self, specs: Mapping[str, str | Agent], tasks: Sequence[PlannedTask], seed: int
    ) -> Mapping[str, PlannedAgent]:
        """Let nodes build the agents, several at a time, and return what they tell of them."""
        orders = {label: self._order(label, spec, seed) for label, spec in specs.items()}
        wanted = msgspec.json.encode(tuple(tasks))
        gpus = 0.0 if self._machine.device == "cpu" else self._request.gpus.get("", 1.0)
        nodes = [node for node in self._registry.nodes.values() if node.gpus >= gpus and node.cpus > 0]
        if not nodes:
            raise LramError(f"no node of the cluster offers {gpus:g} GPUs; give --device cpu or --job-gpus")
        # The second of a label's two nodes is for the case that the first is lost.
        places = {
            label: (nodes[number % len(nodes)], nodes[(number + 1) % len(nodes)])
            for number, label in enumerate(orders)
        }
        asked = {
            label: self._describe(places[label][0], order, wanted, gpus) for label, order in orders.items()
        }
        found = {}
        for label, order in orders.items():
            first, second = places[label]
            try:
                answer = self._cluster.result(asked[label], _DESCRIBE_S)
            except JobLost:
                again = self._describe(second, order, wanted, gpus)
                found[label] = self._remote_agent(order, second, again)
            else:
                found[label] = _checked_agent(order, first, answer)
        return found

    def _describe(self, node: Node, order: AgentOrder, tasks: bytes, gpus: float) -> Any:
        return self._cluster.start(
            node,
            rollout_node.describe,
            msgspec.json.encode(order),
            self._transfer.of(order.agent),
            tasks,
            cpus=min(1.0, node.cpus),
            gpus=gpus,
        )

    def _remote_agent(self, order: AgentOrder, node: Node, reference: Any) -> RemoteAgent:
        try:
            answer = self._cluster.result(reference, _DESCRIBE_S)
        except JobLost as lost:
            raise LramError(
                f"agent {order.label} could not be built, last on the node {node}: {lost}; see what "
                "'lram doctor --backend ray' says of it, then start the command again"
            ) from lost
        return _checked_agent(order, node, answer)

    def _order(self, label: str, spec: str | Agent, seed: int) -> AgentOrder:
        if not isinstance(spec, str):
            raise LramError(
                f"agent {label} was given as a Python object, which cannot be sent to a cluster; give "
                "module:factory, with the module where every node finds it"
            )
        return AgentOrder(
            label=label,
            agent=self._transfer.agent(spec),
            seed=seed,
            compute=self._machine.compute(),
            threads=self._machine.threads,
            place=str(Path.cwd()),
        )

    def check(self, agents: Mapping[str, PlannedAgent]) -> dict[str, str]:
        """Return what the gate noted where the agents were built; every node checks its own copy, too.

        Raises:
            LramError: A job of one of them asks for more than any node has.
        """
        known = cast(Mapping[str, RemoteAgent], agents)
        self._placement = Placement(
            self._context,
            {label: agent.info for label, agent in known.items()},
            self._protocols,
            self._machine,
            {label: agent.start_s for label, agent in known.items()},
        )
        return {label: agent.note for label, agent in known.items() if agent.note}

    def play(self, job: RolloutJob, sink: RecordSink) -> None:
        if job.observer is not None:
            raise LramError("images of episodes stay on the machine that plays them; make films on this one")
        agents = cast(Mapping[str, RemoteAgent], job.agents)
        assert self._placement is not None, "check comes before play"
        self._placement.alone = job.plan.realtime_hz > 0
        self._placement.update()
        infos = {label: agent.info for label, agent in agents.items()}
        source = RolloutSource(
            self._context,
            self._placement,
            job,
            sink,
            self._machine,
            Costs(tabled(job.plan.tasks, infos, self._machine.device)),
            {label: agent.order for label, agent in agents.items()},
        )
        self._note_nodes()
        try:
            source.run()
        finally:
            self._note_nodes()
            self._report.notes["jobs"] = str(source.jobs.total())
            self._report.notes["jobs by node"] = ", ".join(f"{node}: {n}" for node, n in source.jobs.items())
            self._report.notes["spread"] = spread_text(source.occupancy.result(), "job slots")
            self._take_versions(source.workers)

    def _note_nodes(self) -> None:
        self._report.notes["backend"] = "ray"
        for node in self._registry.nodes.values():
            facts = self._registry.facts[node.id]
            packages = ", ".join(f"{name} {version}" for name, version in facts.packages.items())
            self._report.notes[f"node {node}"] = (
                f"{facts.cpu}, {node.cpus:g} cores offered, {node.memory / 2**30:.0f} GiB, "
                f"{facts.gpu or 'no GPU'}, Python {facts.python}, {packages}"
            )

    def _take_versions(self, seen: Mapping[str, Mapping[str, dict[str, str]]]) -> None:
        for domain, by_node in seen.items():
            self._report.workers[domain] = next(iter(by_node.values()))
            if len(by_node) > 1:
                texts = [f"{node}: {_listed(versions)}" for node, versions in by_node.items()]
                self._report.notes[f"versions of {domain} differ"] = "; ".join(texts)
                self._log(f"nodes have different versions for {domain} ({'; '.join(texts)})")

    def report(self) -> ExecutionReport:
        return self._report


def _checked_agent(order: AgentOrder, node: Node, answer: bytes) -> RemoteAgent:
    found = msgspec.json.decode(answer, type=Described)
    if found.info is None:
        raise LramError(f"{found.problem} (on the node {node})")
    known = replace(order, digest=found.info.digest, details=found.info.details)
    return RemoteAgent(found.info, found.refusals, found.note, found.start_s, known)


def _installed_here(python: str) -> bool:
    return Path(python).is_relative_to(data_folder())


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _print_line(line: str) -> None:
    with suppress(OSError):  # a reader that is gone must not end the run
        print(f"lram: {line}", file=sys.stderr, flush=True)
