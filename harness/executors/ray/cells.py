"""Cells of a study on a cluster: each is a job on a node that can play its evaluation; one node times all."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import msgspec

from lram.envs.protocol_id import ProtocolId
from lram.envs.registry import select
from lram.harness.errors import LramError, as_lram_error
from lram.harness.executors.contract import JobUpdate
from lram.harness.executors.ray.cell_files import CellFiles
from lram.harness.executors.ray.cell_node import CellUpdate, work
from lram.harness.executors.ray.connection import JobLost, Node
from lram.harness.executors.ray.loop import ClusterContext, JobLoop, JobSource, NodeCapacity, RunningJob
from lram.harness.executors.ray.registry import NodeRegistry
from lram.harness.executors.ray.resources import JobResources
from lram.harness.interpreters.readiness import adapter
from lram.harness.studies.cell_job import CellJob
from lram.harness.studies.folder import StudyFolder

_MOST_LOSSES = 3
_TRAINING_MB = 1500  # a process with torch that trains a small model

_Running = RunningJob[CellJob]


def examine_for_cells(registry: NodeRegistry, study: StudyFolder) -> None:
    """Ask every node whether it can play a study's evaluation."""
    domains: dict[str, list[str]] = {}
    for task in select(list(study.plan.study.evaluation.tasks)):
        domains.setdefault(task.domain, []).append(task.name)
    registry.examine(domains, {})


@as_lram_error()
def protocols_of(study: StudyFolder) -> dict[str, str]:
    """Return the names of the evaluation's protocols by domain."""
    return {one.domain: one.name for one in map(ProtocolId.parse, study.plan.protocols)}


class CellSource(JobSource[CellJob]):
    """Has cells of one study made, or timed, on a cluster."""

    waiting_text = "no node is there that could make the cells that are left; waiting for one to join"

    stuck_text = (
        "no node can make the cells that are left; what is made stands: the same command continues "
        "when there is one"
    )

    def __init__(
        self, context: ClusterContext, files: CellFiles, jobs: Sequence[CellJob], at_once: int | None
    ) -> None:
        """Prepare; nothing starts before :meth:`run`.

        Args:
            context: The cluster, its nodes examined.
            files: What nodes have of the study.
            jobs: The cells.
            at_once: Cells at a time (None: as many as fit).
        """
        self._context, self._registry, self._files = context, context.registry, files
        self._protocols = protocols_of(files.study)
        self._waiting, self._most = deque(jobs), at_once or len(jobs)
        self._capacity = NodeCapacity(context.registry)
        self._loop = JobLoop(context, self._capacity)
        self._losses: dict[str, int] = {}
        self._updates: list[JobUpdate] = []
        self._timer: str | None = None

    def run(self) -> Iterator[JobUpdate | None]:
        """Work on all cells; see :meth:`lram.harness.executors.contract.ExecutorSession.run`."""
        self._files.serve(self._able())
        with closing(self._loop.run(self)) as turns:
            for _ in turns:
                yield from self._updates
                self._updates.clear()
                yield None

    # What the loop asks

    def __len__(self) -> int:
        return len(self._waiting)

    def choose(self) -> _Running | None:
        """Take the next cell for the node with most room."""
        running = self._loop.running
        if len(running) >= self._most:
            return None
        job, able = self._waiting[0], self._able()
        if job.what == "time":
            able = self._timers(able)
        fitting = [node for node in able if self._capacity.has_room(node, self._needs(job, node))]
        if not fitting:
            if able and not running:
                self._check_possible(job, able)
            return None
        node = fitting[0] if job.what == "time" else max(fitting, key=self._capacity.cpus)
        self._waiting.popleft()
        return RunningJob(job, node, self._needs(job, node))

    def start(self, running: _Running) -> Any:
        """Start a job on its node; return the stream of its updates."""
        job, node, needs = running.job, running.node, running.needs
        order, artifacts = self._files.order(job, node)
        stream = self._context.cluster.start(
            node,
            work,
            msgspec.json.encode(order),
            artifacts,
            cpus=needs.cpus,
            gpus=needs.gpus,
            memory=needs.memory,
            stream=True,
        )
        self._updates.append(JobUpdate(job, "started", node=str(node)))
        return stream

    def handle_update(self, running: _Running, message: Any) -> bool:
        """Take what a job says; return whether that was its last word."""
        content, piece = message
        job, node = running.job, running.node
        update = msgspec.json.decode(content, type=CellUpdate)
        if update.problem:
            raise LramError(f"{update.problem} (on the node {node})")
        if update.name:
            self._files.take(job.cell, update.name, update.place, piece)
        if update.done:
            self._files.finish(job, node)
            state: Any = "failed" if update.reason else "done"
            self._updates.append(
                JobUpdate(job, state, reason=update.reason, seconds=update.seconds, node=str(node))
            )
        return update.done

    def handle_loss(self, running: _Running, loss: JobLost) -> None:
        """Repeat or give up a job that has ended without a last word."""
        job, node = running.job, running.node
        if loss.why == "raised":
            self._updates.append(JobUpdate(job, "failed", reason=f"{loss} (on the node {node})"))
            return
        name = job.cell.entry.folder
        self._losses[name] = self._losses.get(name, 0) + 1
        self._files.drop(job.cell)
        if self._losses[name] >= _MOST_LOSSES:
            reason = f"its process was lost {_MOST_LOSSES} times, the last time on the node {node}: {loss}"
            self._updates.append(JobUpdate(job, "failed", reason=reason))
            return
        self._updates.append(JobUpdate(job, "lost", reason=str(loss), node=str(node)))
        self._waiting.appendleft(job)

    # Nodes

    def _able(self) -> list[Node]:
        """Return the nodes that can play the evaluation, in order of their cores."""
        found = [
            node
            for node in self._capacity.open_nodes()
            if all(node in self._registry.able(domain, name) for domain, name in self._protocols.items())
        ]
        return sorted(found, key=lambda node: (-node.cpus, str(node)))

    def _needs(self, job: CellJob, node: Node) -> JobResources:
        megabytes = _TRAINING_MB + max((adapter(name).worker_mb for name in self._protocols), default=0)
        asked = self._context.request.memory_gib.get("", 0.0)
        cuda = str(job.cell.entry.recipe.get("device", "cpu")).startswith("cuda")
        return JobResources(
            node.cpus if job.what == "time" else self._context.request.cpus.get("", min(1.0, node.cpus)),
            self._context.request.gpus.get("", 1.0) if cuda else 0.0,
            int(asked * 2**30 or megabytes * 2**20),
        )

    def _timers(self, able: Sequence[Node]) -> list[Node]:
        """Return the node that times all cells: the one that has begun to, else one like it."""
        if self._timer in self._registry.nodes:
            return [node for node in able if node.id == self._timer]
        if not able:
            return []
        made = [done.made.cpu for cell in self._files.study.cells() if (done := cell.done()) is not None]
        alike = [node for node in able if made and self._registry.facts[node.id].cpu == made[0]]
        chosen = (alike or list(able))[0]
        if made and not alike:
            self._context.log(
                f"times of this study were taken on {made[0]} before, and no such node is there: the "
                f"rest are of {self._registry.facts[chosen.id].cpu}, and do not compare"
            )
        self._timer = chosen.id
        return [chosen]

    def _check_possible(self, job: CellJob, able: Sequence[Node]) -> None:
        """Raise LramError where no node has what a cell asks for, though nothing runs."""
        needs = self._needs(job, able[0])
        texts = [
            f"{node}: {node.cpus:g} cores, {node.gpus:g} GPUs, {node.memory / 2**30:.1f} GiB" for node in able
        ]
        raise LramError(
            f"a cell asks for {needs.cpus:g} cores, {needs.gpus:g} GPUs and {needs.memory / 2**30:.1f} "
            f"GiB, and no node has that ({'; '.join(texts)}); change it with --job-cpus, --job-gpus or "
            "--job-memory"
        )
