"""The one loop that runs jobs on nodes: it starts them, receives updates, and finds out what was lost.

A kind of work is a :class:`JobSource` (:mod:`.rollouts`, :mod:`.cells`, :mod:`.sweeps`). It says which job
goes to which node, and what an update or a loss means; how nodes come and go, what of them is free, whose
process has died and when there is nothing to wait for any more is known here.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lram.harness.errors import LramError
from lram.harness.executors.contract import Log
from lram.harness.executors.ray.connection import Cluster, JobLost, Node
from lram.harness.executors.ray.registry import NodeRegistry
from lram.harness.executors.ray.resources import JobResources, ResourceRequest
from lram.harness.executors.ray.transfer import ArtifactTransfer

_WAIT_S = 0.25
_REFRESH_S = 3.0
_SUSPECT_S = 0.5  # likewise, while a node is in doubt
_ANSWER_S = 30.0  # for a node that is there to say so
_JOIN_S = 60.0  # for a node to join, when none is left that could do anything

JobT = TypeVar("JobT")


@dataclass(frozen=True, slots=True, eq=False)
class ClusterContext:
    """What all kinds of work share.

    Attributes:
        cluster: The connection.
        registry: Its nodes.
        transfer: Has the files that go to them.
        request: What jobs are to ask for.
        log: Told what people should know.
    """

    cluster: Cluster
    registry: NodeRegistry
    transfer: ArtifactTransfer
    request: ResourceRequest
    log: Log


class NodeCapacity:
    """What the jobs of this driver leave free of each node.

    Other users' jobs are not counted: Ray holds ours back until there is room.
    """

    def __init__(self, registry: NodeRegistry) -> None:
        """Begin with all nodes free."""
        self._registry = registry
        self._free: dict[str, list[float]] = {}
        self._suspended: set[str] = set()
        self.update()

    def update(self) -> None:
        """Take account of nodes that have joined or gone."""
        for node in self._registry.nodes.values():
            self._free.setdefault(node.id, [node.cpus, node.gpus, node.memory])
        for gone in self._free.keys() - self._registry.nodes.keys():
            del self._free[gone]

    def open_nodes(self) -> list[Node]:
        """Return the nodes that may be given jobs, those with most free cores first."""
        nodes = [node for node in self._registry.nodes.values() if node.id not in self._suspended]
        return sorted(nodes, key=lambda node: -self._free[node.id][0])

    def cpus(self, node: Node) -> float:
        """Return how many of a node's cores are free."""
        return self._free[node.id][0]

    def has_room(self, node: Node, needs: JobResources) -> bool:
        """Return whether a job that takes so much fits now."""
        return needs.fits(*self._free[node.id])

    def take(self, node: Node, needs: JobResources, sign: int = -1) -> None:
        """Take note that a job has begun on a node."""
        if node.id in self._free:
            free = self._free[node.id]
            for index, amount in enumerate((needs.cpus, needs.gpus, needs.memory)):
                free[index] += sign * amount

    def give_back(self, node: Node, needs: JobResources) -> None:
        """Take note that a job has ended."""
        self.take(node, needs, 1)

    def suspend(self, node: Node) -> None:
        """Give ``node`` nothing for now."""
        self._suspended.add(node.id)

    def resume(self, node: Node) -> None:
        """Give ``node`` jobs again."""
        self._suspended.discard(node.id)


@dataclass(slots=True, eq=False)
class RunningJob(Generic[JobT]):
    """A job on its node."""

    job: JobT
    node: Node
    needs: JobResources
    stream: Any = None


class JobSource(ABC, Generic[JobT]):
    """A kind of work, as the loop sees it.

    Attributes:
        waiting_text: Said when no node is there that could do what is left.
    """

    waiting_text: str

    @property
    @abstractmethod
    def stuck_text(self) -> str:
        """The error that no such node has come."""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many jobs wait, or episodes of such."""

    @abstractmethod
    def choose(self) -> RunningJob[JobT] | None:
        """Return the next job with a node that has room for it, taken from what waits; None: not now.

        Raises:
            LramError: There will never be one.
        """

    @abstractmethod
    def start(self, running: RunningJob[JobT]) -> Any:
        """Start the job on its node and return the stream of its updates; JobLost where that cannot be."""

    @abstractmethod
    def handle_update(self, running: RunningJob[JobT], message: Any) -> bool:
        """Take what a job says; return whether that was its last word."""

    @abstractmethod
    def handle_loss(self, running: RunningJob[JobT], loss: JobLost) -> None:
        """Repeat or give up a job that has ended without a last word; ``loss`` tells why."""

    def turn(self) -> None:
        """Take note that all was started that can be; comes several times a second."""

    def nodes_changed(self) -> None:
        """Take account of nodes that have joined or gone."""


@dataclass(frozen=True, slots=True, eq=False)
class _Suspect:
    """A job that ended without a last word, and a question to its node."""

    running: RunningJob[Any]
    loss: JobLost
    ping: Any
    since: float


class JobLoop:
    """Has jobs done on the nodes of a cluster.

    Attributes:
        capacity: What is free of each node.
        running: The jobs on nodes.
    """

    def __init__(self, context: ClusterContext, capacity: NodeCapacity) -> None:
        self._cluster, self._registry, self._log = context.cluster, context.registry, context.log
        self.capacity = capacity
        self._by_stream: dict[int, RunningJob[Any]] = {}
        self._suspects: list[_Suspect] = []
        self._stuck_since: float | None = None
        self._refreshed = time.monotonic()

    @property
    def running(self) -> list[RunningJob[Any]]:
        """The jobs on nodes."""
        return list(self._by_stream.values())

    def run(self, source: JobSource[Any]) -> Generator[None, None, None]:
        """Do all jobs of ``source``; yield several times a second. To close it is to end what runs.

        Raises:
            LramError: No node can do what is left, or the cluster does not answer.
        """
        try:
            while True:
                self._place(source)
                source.turn()
                yield
                if not self._by_stream and not self._suspects:
                    if not len(source):
                        return
                    self._wait_for_nodes(source)
                streams = [running.stream for running in self._by_stream.values()]
                for stream in self._cluster.ready(streams, _WAIT_S):
                    if (running := self._by_stream.get(id(stream))) is not None:
                        self._receive(source, running)
                if time.monotonic() - self._refreshed > (_SUSPECT_S if self._suspects else _REFRESH_S):
                    self._refresh(source)
                self._resolve_suspects(source)
        finally:
            for running in self.running:
                self.end(running)
                self._cluster.cancel(running.stream)

    def end(self, running: RunningJob[Any]) -> bool:
        """Take note that a job is over; return False where that was known."""
        if self._by_stream.pop(id(running.stream), None) is None:
            return False
        self.capacity.give_back(running.node, running.needs)
        return True

    def cancel(self, running: RunningJob[Any]) -> None:
        """End a job and its process."""
        self.end(running)
        self._cluster.cancel(running.stream)

    def _place(self, source: JobSource[Any]) -> None:
        """Start jobs until nothing more fits."""
        end = time.monotonic() + _WAIT_S  # updates of running jobs are due, too
        while len(source) and time.monotonic() < end:
            running = source.choose()
            if running is None:
                return
            try:
                running.stream = source.start(running)
            except JobLost as loss:
                self._suspect(running, loss)
                continue
            self._by_stream[id(running.stream)] = running
            self.capacity.take(running.node, running.needs)

    def _receive(self, source: JobSource[Any], running: RunningJob[Any]) -> None:
        try:
            message = self._cluster.next(running.stream)
        except JobLost as loss:
            self.cancel(running)
            if loss.why == "ended":
                self._suspect(running, loss)
            else:
                source.handle_loss(running, loss)
            return
        if source.handle_update(running, message):
            self.end(running)

    # What goes wrong

    def _suspect(self, running: RunningJob[Any], loss: JobLost) -> None:
        """Find out whether a job's process or its whole node has gone, without waiting for it.

        Ray may take a minute to notice that a node is gone; one that is there answers at once.
        """
        self.capacity.suspend(running.node)
        ping = self._cluster.ping(running.node)
        self._suspects.append(_Suspect(running, loss, ping, time.monotonic()))

    def _resolve_suspects(self, source: JobSource[Any]) -> None:
        """Decide of the suspects what can be decided."""
        for suspect in list(self._suspects):
            running, node = suspect.running, suspect.running.node
            answer = self._cluster.answers(suspect.ping)
            late = time.monotonic() - suspect.since > _ANSWER_S
            if answer is None and node.id in self._registry.nodes and not late:
                continue
            self._suspects.remove(suspect)
            if answer:
                if not any(other.running.node.id == node.id for other in self._suspects):
                    self.capacity.resume(node)
                source.handle_loss(running, JobLost("process", str(suspect.loss)))
            else:
                self._remove_node(source, node)
                source.nodes_changed()
                source.handle_loss(running, JobLost("node", str(suspect.loss)))

    def _refresh(self, source: JobSource[Any]) -> None:
        """Take account of nodes that have joined or gone."""
        self._refreshed = time.monotonic()
        gone, joined = self._registry.refresh()
        for node in joined:
            self._log(f"the node {node} has joined")
        for node in gone:
            self._remove_node(source, node)
        self.capacity.update()
        source.nodes_changed()

    def _remove_node(self, source: JobSource[Any], node: Node) -> None:
        """Repeat the jobs that ran on a node that is gone."""
        if self._registry.remove(node):
            self._log(f"the node {node} was lost; its unfinished jobs are repeated")
        self.capacity.update()
        for running in [one for one in self.running if one.node.id == node.id]:
            self.cancel(running)
            source.handle_loss(running, JobLost("node", "the node was lost"))

    def _wait_for_nodes(self, source: JobSource[Any]) -> None:
        now = time.monotonic()
        if self._stuck_since is None:
            self._stuck_since = now
            self._log(source.waiting_text)
        self._refresh(source)
        self._place(source)
        if self._by_stream or self._suspects:
            self._stuck_since = None
        elif now - self._stuck_since > _JOIN_S and not self._registry.asking:
            raise LramError(source.stuck_text)
