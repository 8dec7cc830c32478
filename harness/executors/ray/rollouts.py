"""Rollouts on a cluster: which episodes become a job, what updates mean, what is repeated after a loss."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from lram.envs.registry import file_of
from lram.harness.errors import LramError
from lram.harness.executors.contract import RecordSink, RolloutJob
from lram.harness.executors.ray.connection import JobLost
from lram.harness.executors.ray.groups import Costs, EpisodeGroup, EpisodeQueue
from lram.harness.executors.ray.loop import ClusterContext, JobLoop, JobSource, RunningJob
from lram.harness.executors.ray.messages import AgentOrder, JobError, JobOrder, RolloutUpdate
from lram.harness.executors.ray.placement import Placement
from lram.harness.executors.ray.rollout_node import play
from lram.harness.executors.ray.run_state import RunState
from lram.harness.machine import Machine
from lram.harness.rollout.loop import AgentRaisedError, RolloutSettings
from lram.harness.rollout.occupancy import Occupancy
from lram.harness.rollout.schedule import Attempt
from lram.harness.storage.records import EpisodeRecord, Failure, WorkItem

_MOST_LOSSES = 10  # of nodes and processes, by one episode


@dataclass(slots=True, eq=False)
class _GroupJob:
    """A group of episodes as a job.

    Attributes:
        group: Which.
        left: Attempts without a record, by episode.
        number: Of the job in its run.
        flying: Episodes that were in flight when it spoke last.
        active: How many those were.
        decisions: That it has taken.
        scored: Its episodes that were.
    """

    group: EpisodeGroup
    left: dict[int, Attempt]
    number: int = 0
    flying: tuple[int, ...] = ()
    active: int = 0
    decisions: int = 0
    scored: int = 0


_Running = RunningJob[_GroupJob]


class RolloutSource(JobSource[_GroupJob]):
    """Plays the episodes of one run on a cluster."""

    waiting_text = "no node is there that could play what is left; waiting for one to join"

    def __init__(
        self,
        context: ClusterContext,
        placement: Placement,
        job: RolloutJob,
        sink: RecordSink,
        machine: Machine,
        costs: Costs,
        orders: Mapping[str, AgentOrder],
    ) -> None:
        """Prepare; nothing starts before :meth:`run`.

        Args:
            context: The cluster, its nodes examined.
            placement: What fits where.
            job: What is to be played.
            sink: Takes the records.
            machine: How each job is played.
            costs: Of an episode.
            orders: How nodes build the agents, by label.
        """
        self._context, self._placement, self._log = context, placement, context.log
        self._job, self._sink, self._machine = job, sink, machine
        self._costs, self._orders = costs, orders
        self._loop = JobLoop(context, placement.capacity)
        self._queue = EpisodeQueue(job.items, costs, placement.request.episodes)
        self._state = RunState(job, sink, machine.quarantine_after, placement.slots())
        self._decisions = 0
        self._losses: dict[WorkItem, int] = {}
        self.occupancy = Occupancy(placement.slots())
        self.jobs: Counter[str] = Counter()
        self._begun: set[tuple[str, str]] = set()
        self._deadly: dict[str, dict[str, str]] = {}
        self.workers: dict[str, dict[str, dict[str, str]]] = {}

    def run(self) -> None:
        """Play everything; raises as :meth:`lram.harness.executors.contract.ExecutorSession.play`."""
        with closing(self._loop.run(self)) as turns:
            for _ in turns:
                pass

    # What the loop asks

    def __len__(self) -> int:
        return len(self._queue)

    def turn(self) -> None:
        """Take note of how the run goes."""
        running = self._loop.running
        places = max(len(running), self._placement.most)
        waits = len(self._queue) > 0
        self.occupancy.note(time.monotonic(), len(running), waits=waits, places=places)
        self._sink.heartbeat(sum(one.job.active for one in running), self._decisions)

    def nodes_changed(self) -> None:
        """Take account of nodes that have joined or gone."""
        self._placement.update()

    @property
    def stuck_text(self) -> str:
        """Why no node can play what is left."""
        return (
            f"no node can play what is left ({self._placement.why_not(self._queue)}); what is recorded "
            "stands: fix that, then resume the run"
        )

    def choose(self) -> _Running | None:
        """Return the next job for a node that has room for it."""
        choice = self._placement.choose(self._queue)
        if choice is None:
            return None
        node, agent, task = choice
        domain = task.partition("/")[0]
        start_s, slots = self._placement.start_s(agent, domain), self._placement.slots(agent, domain)
        group = self._queue.cut(agent, task, start_s, slots)
        left = {attempt.item.episode: attempt for attempt in group.attempts}
        return RunningJob(_GroupJob(group, left), node, self._placement.needs(agent, domain, node))

    def start(self, running: _Running) -> Any:
        """Start a job on its node; return the stream of its updates."""
        group, node, needs = running.job.group, running.node, running.needs
        order = self._orders[group.agent]
        realtime = self._job.plan.realtime_hz
        lanes = 1 if realtime else min(self._machine.lanes, len(group.attempts))
        paid = max(attempt.failures for attempt in group.attempts)
        job = JobOrder(
            agent=order,
            task=self._state.tasks[group.task],
            python=self._context.registry.facts[node.id].domains[group.domain].python,
            episodes=tuple(attempt.item.episode for attempt in group.attempts),
            settled=self._state.settled(group.task),
            settings=RolloutSettings(
                seed=self._job.plan.seed,
                lanes=lanes,
                workers=min(lanes, max(1, int(needs.cpus))),
                attempts=max(1, self._machine.attempts - paid),
                quarantine_after=self._machine.quarantine_after,
                deadlines=self._machine.deadlines,
                seeds=self._state.own_seeds,
                realtime_hz=realtime,
            ),
            trajectories=self._job.trajectories,
            begun=(node.id, group.domain) in self._begun,
            domain_file=(str(file.path), file.digest) if (file := file_of(group.domain)) else None,
        )
        stream = self._context.cluster.start(
            node,
            play,
            msgspec.json.encode(job),
            self._context.transfer.of(order.agent),
            cpus=needs.cpus,
            gpus=needs.gpus,
            memory=needs.memory,
            stream=True,
        )
        self.jobs[str(node)] += 1
        running.job.number = self.jobs.total()
        return stream

    # What jobs say

    def handle_update(self, running: _Running, message: Any) -> bool:
        """Take what a job says; return whether that was its last word."""
        content, trajectories = message
        job = running.job
        update = msgspec.json.decode(content, type=RolloutUpdate)
        self._decisions += update.decisions - job.decisions
        job.active, job.decisions, job.flying = update.active, update.decisions, update.flying
        if update.decisions:
            self._begun.add((running.node.id, job.group.domain))
        for name, words in update.words.items():
            self._keep(f"{running.node.id[:8]}-{job.number:05d}-{name}", words)
        waiting = iter(trajectories)
        for record in update.records:
            trajectory = next(waiting, None) if record.status == "scored" and self._job.trajectories else None
            self._take(running, record, trajectory)
        if update.done:
            self._finish(running, update)
        return update.done

    def _take(self, running: _Running, record: EpisodeRecord, trajectory: Mapping[str, Any] | None) -> None:
        attempt = running.job.left.pop(record.episode, None)
        if attempt is None:
            return
        measured = replace(
            record.measured,
            incidents=(*attempt.incidents, *record.measured.incidents),
            node=running.node.host,
        )
        record = replace(record, failures=record.failures + attempt.failures, measured=measured)
        self._state.write(record, trajectory)
        running.job.scored += record.failure is None
        if record.failure is not None:
            self._mark_failed(record.item)

    def _finish(self, running: _Running, update: RolloutUpdate) -> None:
        group = running.job.group
        given_up = not self._loop.end(running)
        if update.workers:
            seen = self.workers.setdefault(group.domain, {})
            if update.workers not in seen.values():
                seen[str(running.node)] = update.workers
        if given_up:
            return
        if update.error is not None:
            self._handle_error(running, update.error)
            return
        # What was given up took no time, and would make all others seem cheap.
        self._costs.measure(group.agent, group.task, update.wall_s - update.start_s, running.job.scored)
        self._placement.measure_start(group.agent, group.domain, update.start_s)
        if running.job.left:
            raise LramError(
                f"a job of {group.agent} on {group.task} has left out episodes: a mistake of ours"
            )

    def _handle_error(self, running: _Running, error: JobError) -> None:
        if error.kind == "agent":
            raise AgentRaisedError(running.job.group.agent, error.message, error.story)
        if error.kind == "dead":
            self._exclude_domain(running, error.message)
            return
        self._exclude(running, error.message)

    def _exclude_domain(self, running: _Running, reason: str) -> None:
        """Leave a domain to other nodes, because its simulators died on this one before any episode began.

        Where they do so on every node, the tasks that were tried are given up, or the domain if that is all
        of them.
        """
        domain, task = running.job.group.domain, running.job.group.task
        self._queue.give_back(running.job.left.values())
        self._deadly.setdefault(domain, {})[running.node.id] = task
        self._placement.exclude(running.node, "", domain, reason)
        self._log(f"the node {running.node} gets no more of {domain}: {reason.partition(': ')[2]}")
        agents = [entry.label for entry in self._job.plan.agents]
        if any(self._placement.playable(agent, domain) for agent in agents):
            return
        lost = set(self._deadly[domain].values())
        for gone in lost:
            failure = Failure("quarantine", reason, by_agent=False)
            self._state.quarantine(self._queue.take_all(None, gone), failure)
        self._readmit(domain, lost)

    def _readmit(self, domain: str, tasks: set[str]) -> None:
        """Let nodes play ``domain`` again that were excluded from it by ``tasks``, which are given up now."""
        deadly = self._deadly.get(domain, {})
        for node_id in [node_id for node_id, task in deadly.items() if task in tasks]:
            del deadly[node_id]
            self._placement.readmit(node_id, domain)

    def _exclude(self, running: _Running, reason: str) -> None:
        """Give a node no more jobs of an agent and a domain that it could not do."""
        group = running.job.group
        self._log(f"the node {running.node} gets no more of {group.agent} in {group.domain}: {reason}")
        self._placement.exclude(running.node, group.agent, group.domain, reason)
        self._queue.give_back(running.job.left.values())

    def _keep(self, name: str, words: str) -> None:
        plain = "".join(sign if sign.isalnum() or sign in "-." else "-" for sign in Path(name).name)
        (self._job.logs / plain).write_text(words, encoding="utf-8")

    # What goes wrong

    def handle_loss(self, running: _Running, loss: JobLost) -> None:
        """Repeat or give up a job that has ended without a last word."""
        if loss.why == "raised":
            self._exclude(running, str(loss))
        elif loss.why == "memory":
            self._retry(running, f"repeated: {loss}", alone=True)
        elif loss.why == "process":
            self._retry_to_find_fault(running, str(loss))
        else:
            self._retry(running)

    def _retry_to_find_fault(self, running: _Running, what: str) -> None:
        """Repeat what a job whose process has gone has not finished."""
        attempts = list(running.job.left.values())
        if len(attempts) > 1:
            # Whose fault it was is found by playing each that was in flight in a job of its own. What has
            # begun since the job spoke last is not known; it pays when that happens a second time.
            for attempt in attempts:
                attempt.incidents.append(f"repeated: {what} while it played {len(attempts)} episodes")
            count = self._losses
            doubtful = [a for a in attempts if a.item.episode in running.job.flying or count.get(a.item)]
            for attempt in attempts:
                count[attempt.item] = count.get(attempt.item, 0) + 1
            self._queue.give_back([a for a in attempts if a not in doubtful])
            self._queue.give_back(doubtful, alone=True)
            return
        for attempt in attempts:
            attempt.failures += 1
            attempt.incidents.append(f"attempt {attempt.failures}: {what}")
            if attempt.failures < self._machine.attempts:
                self._queue.give_back([attempt], alone=True)
            else:
                self._state.give_up(attempt, Failure("crash", f"the job that played it was ended: {what}"))

    def _retry(self, running: _Running, incident: str = "", *, alone: bool = False) -> None:
        """Repeat what a job was to play that was ended by no fault of its own; usually its node is gone."""
        attempts = list(running.job.left.values())
        for attempt in attempts:
            attempt.incidents.append(incident or f"repeated: the node {running.node} was lost")
            self._losses[attempt.item] = self._losses.get(attempt.item, 0) + 1
        spent = [one for one in attempts if self._losses[one.item] >= _MOST_LOSSES]
        for attempt in spent:
            last = attempt.incidents[-1].removeprefix("repeated: ")
            self._state.give_up(attempt, Failure("crash", f"cut off {_MOST_LOSSES} times, at last: {last}"))
        self._queue.give_back([one for one in attempts if one not in spent], alone=alone)

    def _mark_failed(self, item: WorkItem) -> None:
        """Give up what is left of a task that has been given up, waiting or running."""
        if self._state.given_up(item) is None:
            return
        for running in [one for one in self._loop.running if one.job.group.task == item.task]:
            failure = self._state.given_up(running.job.group.attempts[0].item)
            if failure and running.job.left:
                self._loop.cancel(running)
                self._state.quarantine(list(running.job.left.values()), failure)
                running.job.left.clear()
        for entry in self._job.plan.agents:
            if failure := self._state.given_up(replace(item, agent=entry.label)):
                self._state.quarantine(self._queue.take_all(entry.label, item.task), failure)
        self._readmit(item.task.partition("/")[0], {item.task})
