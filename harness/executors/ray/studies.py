"""The driver of a study on a cluster: a cell is a task on a node that can play its evaluation."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from lram.envs.registry import select
from lram.harness.errors import LramError
from lram.harness.executors.contract import Backend
from lram.harness.executors.ray.backend import RayBackend
from lram.harness.executors.ray.connection import Cluster, Lost, Node
from lram.harness.executors.ray.couriers import Courier
from lram.harness.executors.ray.making import CellNews
from lram.harness.executors.ray.resources import Needs
from lram.harness.executors.ray.roster import Roster
from lram.harness.interpreters.readiness import adapter
from lram.harness.studies.folder import CellFolder, StudyFolder
from lram.harness.studies.pace import CellPace
from lram.harness.studies.running import Failed, Say, Team

_WAIT_S = 0.25
_REFRESH_S = 3.0
_ANSWER_S = 30.0
_PATIENCE_S = 60.0
_MOST_LOSSES = 3
_TRAINING_MB = 1500  # a process with torch that trains a small model


class Nodes:
    """The nodes of a cluster.

    Attributes:
        backend: The cluster.
    """

    def __init__(self, backend: RayBackend) -> None:
        """Prepare; LramError for wishes that a cell cannot have."""
        wishes = backend.wishes
        for option, told in (("cpus", wishes.cpus), ("gpus", wishes.gpus), ("memory", wishes.memory_gib)):
            if told.keys() - {""}:
                raise LramError(
                    f"--job-{option} takes a number here: a cell trains and plays all that its study names"
                )
        self._ray = backend
        self.backend: Backend = backend

    @contextmanager
    def open(self, study: StudyFolder, say: Say) -> Iterator[Team]:
        """Connect, and find out which nodes can make cells."""
        self._ray.wishes.check()
        with self._ray.connect() as cluster:
            team = _Team(cluster, self._ray, study, say)
            try:
                yield team
            finally:
                team.close()


@dataclass(slots=True, eq=False)
class _Running:
    """A cell on its node."""

    cell: CellFolder
    node: Node
    needs: Needs
    stream: object
    began: float = field(default_factory=time.monotonic)


class _Team:
    def __init__(self, cluster: Cluster, backend: RayBackend, study: StudyFolder, say: Say) -> None:
        self._cluster, self._study, self._say = cluster, study, say
        self._wishes = backend.wishes
        self._roster = Roster(cluster, say)
        self._protocols = {
            domain: name
            for domain, _, name in (one.partition("@")[0].partition(":") for one in study.plan.protocols)
        }
        domains: dict[str, list[str]] = {}
        for task in select(list(study.plan.study.evaluation.tasks)):
            domains.setdefault(task.domain, []).append(task.name)
        self._roster.examine(domains, {})
        self._courier = Courier(cluster, study, secrets.token_hex(8), say)
        self._running: dict[int, _Running] = {}
        self._waiting: list[CellFolder] = []
        self._losses: dict[str, int] = {}
        self._ended: list[tuple[CellFolder, str, str]] = []
        self._pace = CellPace("make")
        self._doubted: dict[str, tuple[object, float]] = {}
        self._refreshed = time.monotonic()
        self._stuck: float | None = None
        self._timer: str | None = None

    def run(self, what: str, cells: Sequence[CellFolder], jobs: int | None) -> list[Failed]:
        """See :class:`lram.harness.studies.running.Team`."""
        failed: list[Failed] = []
        self._waiting, finished = list(cells), 0
        self._pace = CellPace(what, self._study.cells())
        most = 1 if what == "time" else jobs or len(cells)
        if cells:
            self._courier.serve(self._able())
        try:
            while self._waiting or self._running or self._ended:
                while self._waiting and len(self._running) < most and self._start(what):
                    pass
                self._check_stuck(what)
                streams = [running.stream for running in self._running.values()]
                for stream in self._cluster.ready(streams, _WAIT_S):
                    self._hear(what, self._running[id(stream)])
                self._look_after()
                for cell, why, took in self._ended:
                    finished += 1
                    how = f"failed: {why}" if why else took
                    if why:
                        failed.append(Failed(cell, why))
                    now = time.monotonic()
                    begun = [now - running.began for running in self._running.values()]
                    ahead = self._pace.words(len(self._waiting), begun, len(begun))
                    self._say(f"{finished}/{len(cells)}  {cell.entry.title}: {how}{ahead}")
                self._ended.clear()
        finally:
            self.close()
        return failed

    def close(self) -> None:
        """End what runs; cells in work see that and save what they can."""
        for running in self._running.values():
            self._cluster.cancel(running.stream)
        self._running.clear()

    # Placing

    def _able(self) -> list[Node]:
        """Return the nodes that can play the evaluation, in order of their cores."""
        found = [
            node
            for node in self._roster.nodes.values()
            if node.id not in self._doubted
            and all(node in self._roster.able(domain, name) for domain, name in self._protocols.items())
        ]
        return sorted(found, key=lambda node: (-node.cpus, str(node)))

    def _needs(self, what: str, cell: CellFolder, node: Node) -> Needs:
        megabytes = _TRAINING_MB + max((adapter(name).worker_mb for name in self._protocols), default=0)
        wished = self._wishes.memory_gib.get("", 0.0)
        cuda = str(cell.entry.recipe.get("device", "cpu")).startswith("cuda")
        return Needs(
            node.cpus if what == "time" else self._wishes.cpus.get("", min(1.0, node.cpus)),
            self._wishes.gpus.get("", 1.0) if cuda else 0.0,
            int(wished * 2**30 or megabytes * 2**20),
        )

    def _start(self, what: str) -> bool:
        """Start the next cell on the node with most room; return whether there was room."""
        cell = self._waiting[0]
        able = self._able()
        if what == "time":
            able = self._timers(able)
        free = {node.id: self._free(node) for node in able}
        able = [node for node in able if self._needs(what, cell, node).fits(*free[node.id])]
        if not able:
            return False
        node = max(able, key=lambda node: free[node.id][0]) if what != "time" else able[0]
        needs = self._needs(what, cell, node)
        self._waiting.pop(0)
        try:
            stream = self._courier.start(what, cell, node, needs)
        except Lost as lost:
            self._doubt(node)
            self._lose(cell, node, str(lost))
            return True
        self._running[id(stream)] = _Running(cell, node, needs, stream)
        return True

    def _free(self, node: Node) -> tuple[float, float, float]:
        mine = [running.needs for running in self._running.values() if running.node.id == node.id]
        return (
            node.cpus - sum(needs.cpus for needs in mine),
            node.gpus - sum(needs.gpus for needs in mine),
            node.memory - sum(needs.memory for needs in mine),
        )

    def _timers(self, able: Sequence[Node]) -> list[Node]:
        """Return the node that times all cells: the one that has begun to, else one like it."""
        if self._timer is not None and self._timer in self._doubted:
            return []
        if self._timer in {node.id for node in able}:
            return [node for node in able if node.id == self._timer]
        made = [done.made.cpu for cell in self._study.cells() if (done := cell.done()) is not None]
        alike = [node for node in able if made and self._roster.facts[node.id].cpu == made[0]]
        if not able:
            return []
        chosen = (alike or list(able))[0]
        if made and not alike:
            self._say(
                f"times of this study were taken on {made[0]} before, and no such node is there: the "
                f"rest are of {self._roster.facts[chosen.id].cpu}, and do not compare"
            )
        self._timer = chosen.id
        return [chosen]

    def _check_stuck(self, what: str) -> None:
        """Wait for nodes to join when none is left that could do anything; LramError when none does."""
        if self._running or not self._waiting or self._doubted:
            self._stuck = None
            return
        cell = self._waiting[0]
        for node in self._able():
            needs = self._needs(what, cell, node)
            if needs.fits(node.cpus, node.gpus, node.memory):
                self._stuck = None
                return
        if able := self._able():
            needs = self._needs(what, cell, able[0])
            texts = [
                f"{node}: {node.cpus:g} cores, {node.gpus:g} GPUs, {node.memory / 2**30:.1f} GiB"
                for node in able
            ]
            raise LramError(
                f"a cell asks for {needs.cpus:g} cores, {needs.gpus:g} GPUs and {needs.memory / 2**30:.1f} "
                f"GiB, and no node has that ({'; '.join(texts)}); change it with --job-cpus, --job-gpus or "
                "--job-memory"
            )
        now = time.monotonic()
        if self._stuck is None:
            self._stuck = now
            self._say("no node is there that could make the cells that are left; waiting for one to join")
        elif now - self._stuck > _PATIENCE_S:
            raise LramError(
                "no node can make the cells that are left; what is made stands: the same command goes on "
                "when there is one"
            )

    # What nodes say

    def _hear(self, what: str, running: _Running) -> None:
        cell, node = running.cell, running.node
        try:
            content, piece = self._cluster.next(running.stream)
        except Lost as lost:
            self._end(running)
            if lost.why == "raised":
                self._ended.append((cell, f"{lost} (on the node {node})", ""))
                return
            self._doubt(node)
            self._lose(cell, node, str(lost))
            return
        news = msgspec.json.decode(content, type=CellNews)
        if news.name:
            self._courier.take(cell, news.name, news.place, piece)
        if not news.done:
            return
        self._end(running)
        self._courier.finish(what, cell, node)
        if not news.reason:
            self._pace.add(news.seconds)
        self._ended.append((cell, news.reason, f"{what} took {news.seconds:.0f} s on {node}"))

    def _end(self, running: _Running) -> None:
        self._running.pop(id(running.stream), None)

    def _lose(self, cell: CellFolder, node: Node, what: str) -> None:
        """Give a cell back whose process has gone, but for one that was lost too often."""
        name = cell.entry.folder
        self._losses[name] = self._losses.get(name, 0) + 1
        self._courier.drop(cell)
        if self._losses[name] >= _MOST_LOSSES:
            why = f"its process was lost {_MOST_LOSSES} times, the last time on the node {node}: {what}"
            self._ended.append((cell, why, ""))
            return
        self._say(
            f"{cell.entry.title} was lost with its process on the node {node} and is made again: {what}"
        )
        self._waiting.insert(0, cell)

    # Nodes that go and come

    def _doubt(self, node: Node) -> None:
        if node.id not in self._doubted and node.id in self._roster.nodes:
            self._doubted[node.id] = self._cluster.ping(node), time.monotonic()

    def _look_after(self) -> None:
        for name, (ping, since) in list(self._doubted.items()):
            answer = self._cluster.answers(ping)
            if answer is None and time.monotonic() - since < _ANSWER_S and name in self._roster.nodes:
                continue
            del self._doubted[name]
            if not answer and name in self._roster.nodes:
                self._forget(self._roster.nodes[name])
                self._roster.drop(self._roster.nodes[name])
        if time.monotonic() - self._refreshed < _REFRESH_S:
            return
        self._refreshed = time.monotonic()
        for node in self._roster.refresh():
            self._forget(node)

    def _forget(self, node: Node) -> None:
        for running in [one for one in self._running.values() if one.node.id == node.id]:
            self._end(running)
            self._cluster.cancel(running.stream)
            self._lose(running.cell, node, "the node was lost")
