"""The driver of a run on a cluster: places jobs, hears of records, and repeats what is lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from lram.harness.errors import LramError
from lram.harness.executors.contract import Sink, Work
from lram.harness.executors.ray.connection import Cluster, Lost, Node
from lram.harness.executors.ray.groups import Costs, Group, Lines
from lram.harness.executors.ray.jobs import play
from lram.harness.executors.ray.ledger import Ledger
from lram.harness.executors.ray.messages import AgentOrder, JobOrder, News, Trouble
from lram.harness.executors.ray.placing import Placing
from lram.harness.executors.ray.roster import Roster
from lram.harness.machine import Machine
from lram.harness.rollout.loop import AgentRaisedError
from lram.harness.rollout.occupancy import Occupancy
from lram.harness.rollout.schedule import Attempt
from lram.harness.storage.records import EpisodeRecord, Failure, WorkItem

_WAIT_S = 0.25
_REFRESH_S = 3.0
_SUSPECT_S = 0.5  # likewise, while a node is in doubt
_ANSWER_S = 30.0  # for a node that is there to say so
_PATIENCE_S = 60.0  # for a node to join, when none is left that could play
_MOST_LOSSES = 10  # of nodes and processes, by one episode


@dataclass(slots=True, eq=False)
class _Running:
    """A job on its node."""

    stream: Any
    node: Node
    group: Group
    left: dict[int, Attempt]
    number: int
    flying: tuple[int, ...] = ()
    active: int = 0
    decisions: int = 0
    scored: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Suspect:
    """A job that ended without a last word, and a question to its node."""

    running: _Running
    what: str
    ping: Any
    since: float


class Driver:
    """Plays the work of one run on a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        roster: Roster,
        placing: Placing,
        work: Work,
        sink: Sink,
        machine: Machine,
        costs: Costs,
        orders: Mapping[str, AgentOrder],
        files: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        """Prepare; nothing starts before :meth:`run`.

        Args:
            cluster: The connection.
            roster: Its nodes, examined.
            placing: What fits where.
            work: What is to be played.
            sink: Takes the records.
            machine: How each job is played.
            costs: Of an episode.
            orders: How nodes build the agents, by label.
            files: Shipped checkpoints, by the digest of their files.
            say: Told what people should know.
        """
        self._cluster, self._roster, self._placing = cluster, roster, placing
        self._work, self._sink, self._machine, self._costs = work, sink, machine, costs
        self._orders, self._files, self._say = orders, files, say
        self._lines = Lines(work.items, costs, placing.wishes.episodes)
        self._running: dict[int, _Running] = {}
        self._ledger = Ledger(work, sink, machine.quarantine_after, placing.slots())
        self._decisions = 0
        self._suspects: list[_Suspect] = []
        self._losses: dict[WorkItem, int] = {}
        self._stuck_since: float | None = None
        self._refreshed = time.monotonic()
        self.occupancy = Occupancy(placing.slots())
        self.jobs: Counter[str] = Counter()
        self._begun: set[tuple[str, str]] = set()
        self._deadly: dict[str, dict[str, str]] = {}
        self.workers: dict[str, dict[str, dict[str, str]]] = {}

    def run(self) -> None:
        """Play everything; raises as :meth:`lram.harness.executors.contract.Stage.play`."""
        try:
            while True:
                self._place()
                busy, waits = len(self._running), len(self._lines) > 0
                places = max(busy, self._placing.most)
                self.occupancy.note(time.monotonic(), busy, waits=waits, places=places)
                if not busy and not waits and not self._suspects:
                    return
                if not busy and not self._suspects:
                    self._wait_for_nodes()
                streams = [running.stream for running in self._running.values()]
                for stream in self._cluster.ready(streams, _WAIT_S):
                    if id(stream) in self._running:
                        self._hear(self._running[id(stream)])
                self._sink.heartbeat(
                    sum(running.active for running in self._running.values()),
                    self._decisions + sum(running.decisions for running in self._running.values()),
                )
                if time.monotonic() - self._refreshed > (_SUSPECT_S if self._suspects else _REFRESH_S):
                    self._refresh()
                self._clear_up()
        finally:
            for running in self._running.values():
                self._cluster.cancel(running.stream)

    # Placing

    def _place(self) -> None:
        """Start jobs until nothing more fits."""
        end = time.monotonic() + _WAIT_S  # jobs that run want to be heard, too
        while len(self._lines) and time.monotonic() < end:
            choice = self._placing.choose(self._lines)
            if choice is None:
                return
            node, agent, task = choice
            start_s = self._placing.start_s(agent, task.partition("/")[0])
            slots = self._placing.slots(agent, task.partition("/")[0])
            self._start(node, self._lines.cut(agent, task, start_s, slots))

    def _start(self, node: Node, group: Group) -> None:
        order = self._orders[group.agent]
        realtime = self._work.plan.realtime_hz
        needs = self._placing.needs(group.agent, group.domain, node)
        lanes = 1 if realtime else min(self._machine.lanes, len(group.attempts))
        paid = max(attempt.failures for attempt in group.attempts)
        job = JobOrder(
            agent=order,
            task=self._ledger.tasks[group.task],
            python=self._roster.facts[node.id].domains[group.domain].python,
            episodes=tuple(attempt.item.episode for attempt in group.attempts),
            settled=self._ledger.settled(group.task),
            seed=self._work.plan.seed,
            own_seed=self._ledger.own_seeds.get(group.agent),
            lanes=lanes,
            workers=min(lanes, max(1, int(needs.cpus))),
            attempts=max(1, self._machine.attempts - paid),
            quarantine_after=self._machine.quarantine_after,
            deadlines=self._machine.deadlines,
            realtime_hz=realtime,
            tapes=self._work.tapes,
            begun=(node.id, group.domain) in self._begun,
        )
        stream = self._cluster.start(
            node,
            play,
            msgspec.json.encode(job),
            [self._files[order.files]] if order.files else None,
            cpus=needs.cpus,
            gpus=needs.gpus,
            memory=needs.memory,
            stream=True,
        )
        left = {attempt.item.episode: attempt for attempt in group.attempts}
        self.jobs[str(node)] += 1
        self._running[id(stream)] = _Running(stream, node, group, left, self.jobs.total())
        self._placing.begin(node, needs)

    def _wait_for_nodes(self) -> None:
        now = time.monotonic()
        if self._stuck_since is None:
            self._stuck_since = now
            self._say("no node is there that could play what is left; waiting for one to join")
        self._refresh()
        if self._placing.choose(self._lines) is not None:
            self._stuck_since = None
        elif now - self._stuck_since > _PATIENCE_S and not self._roster.asking:
            raise LramError(
                f"no node can play what is left ({self._placing.why_not(self._lines)}); what is recorded "
                "stands: mend that, then resume the run"
            )

    def _refresh(self) -> None:
        self._refreshed = time.monotonic()
        for node in self._roster.refresh():
            for running in [one for one in self._running.values() if one.node.id == node.id]:
                self._end(running)
                self._cluster.cancel(running.stream)
                self._repeat(running)
        self._placing.update()

    # What jobs say

    def _hear(self, running: _Running) -> None:
        try:
            content, tapes = self._cluster.next(running.stream)
        except Lost as lost:
            self._end(running)
            self._cluster.cancel(running.stream)
            if lost.why == "raised":
                self._bar(running, str(lost))
            elif lost.why == "memory":
                self._repeat(running, f"repeated: {lost}", alone=True)
            else:
                self._suspect(running, str(lost))
            return
        news = msgspec.json.decode(content, type=News)
        running.active, running.decisions, running.flying = news.active, news.decisions, news.flying
        if news.decisions:
            self._begun.add((running.node.id, running.group.domain))
        for name, words in news.words.items():
            self._keep(f"{running.node.id[:8]}-{running.number:05d}-{name}", words)
        waiting = iter(tapes)
        for record in news.records:
            tape = next(waiting, None) if record.status == "scored" and self._work.tapes else None
            self._take(running, record, tape)
        if news.done:
            self._finish(running, news)

    def _take(self, running: _Running, record: EpisodeRecord, tape: Mapping[str, Any] | None) -> None:
        attempt = running.left.pop(record.episode, None)
        if attempt is None:
            return
        measured = replace(
            record.measured,
            incidents=(*attempt.incidents, *record.measured.incidents),
            node=running.node.host,
        )
        record = replace(record, failures=record.failures + attempt.failures, measured=measured)
        self._ledger.write(record, tape)
        running.scored += record.failure is None
        if record.failure is not None:
            self._condemn(record.item)

    def _finish(self, running: _Running, news: News) -> None:
        group = running.group
        ended = self._end(running)
        if news.workers:
            seen = self.workers.setdefault(group.domain, {})
            if news.workers not in seen.values():
                seen[str(running.node)] = news.workers
        if not ended:
            return
        if news.trouble is None:
            # What was given up took no time, and would make all others seem cheap.
            self._costs.measure(group.agent, group.task, news.wall_s - news.start_s, running.scored)
            self._placing.measure_start(group.agent, group.domain, news.start_s)
        else:
            self._stumble(running, news.trouble)
        if running.left and news.trouble is None:
            raise LramError(
                f"a job of {group.agent} on {group.task} has left out episodes: a mistake of ours"
            )

    def _stumble(self, running: _Running, trouble: Trouble) -> None:
        if trouble.kind == "agent":
            raise AgentRaisedError(running.group.agent, trouble.message, trouble.story)
        if trouble.kind == "dead":
            self._bury(running, trouble.message)
            return
        self._bar(running, trouble.message)

    def _bury(self, running: _Running, reason: str) -> None:
        """Leave a domain to other nodes, because its simulators died on this one before any episode began.

        Where they do so on every node, the tasks that were tried are given up, or the domain if that is all
        of them.
        """
        domain, task = running.group.domain, running.group.task
        self._lines.give_back(running.left.values())
        self._deadly.setdefault(domain, {})[running.node.id] = task
        self._placing.bar(running.node, "", domain, reason)
        self._say(f"the node {running.node} gets no more of {domain}: {reason.partition(': ')[2]}")
        agents = [entry.label for entry in self._work.plan.agents]
        if any(self._placing.playable(agent, domain) for agent in agents):
            return
        lost = set(self._deadly[domain].values())
        for gone in lost:
            self._ledger.quarantine(self._lines.take_all(None, gone), reason)
        self._revive(domain, lost)

    def _revive(self, domain: str, tasks: set[str]) -> None:
        """Let nodes play ``domain`` again that were barred from it by ``tasks``, which are given up now."""
        deadly = self._deadly.get(domain, {})
        for node_id in [node_id for node_id, task in deadly.items() if task in tasks]:
            del deadly[node_id]
            self._placing.lift(node_id, domain)

    def _bar(self, running: _Running, reason: str) -> None:
        """Give a node no more jobs of an agent and a domain that it could not do."""
        group = running.group
        self._say(f"the node {running.node} gets no more of {group.agent} in {group.domain}: {reason}")
        self._placing.bar(running.node, group.agent, group.domain, reason)
        self._lines.give_back(running.left.values())

    def _keep(self, name: str, words: str) -> None:
        plain = "".join(sign if sign.isalnum() or sign in "-." else "-" for sign in Path(name).name)
        (self._work.logs / plain).write_text(words, encoding="utf-8")

    # What goes wrong

    def _end(self, running: _Running) -> bool:
        """Take note that a job is over; return False where that was known."""
        if self._running.pop(id(running.stream), None) is None:
            return False
        self._decisions += running.decisions
        self._placing.end(running.node, self._placing.needs_of(running.group, running.node))
        return True

    def _suspect(self, running: _Running, what: str) -> None:
        """Find out whether a job's process or its whole node has gone, without waiting for it.

        Ray may take a minute to notice that a node is gone; one that is there answers at once.
        """
        self._placing.suspend(running.node)
        self._suspects.append(_Suspect(running, what, self._cluster.ping(running.node), time.monotonic()))

    def _clear_up(self) -> None:
        """Decide of the suspects what can be decided."""
        for suspect in list(self._suspects):
            running, node = suspect.running, suspect.running.node
            answer = self._cluster.answers(suspect.ping)
            late = time.monotonic() - suspect.since > _ANSWER_S
            if answer is None and node.id in self._roster.nodes and not late:
                continue
            self._suspects.remove(suspect)
            if answer:
                if not any(other.running.node.id == node.id for other in self._suspects):
                    self._placing.resume(node)
                self._repeat_alone(running, suspect.what)
            else:
                self._roster.drop(node)
                self._placing.update()
                self._repeat(running)

    def _repeat_alone(self, running: _Running, what: str) -> None:
        """Repeat what a job whose process has gone has not finished."""
        attempts = list(running.left.values())
        if len(attempts) > 1:
            # Whose fault it was is found by playing each that was in flight in a job of its own. What has
            # begun since the job spoke last is not known; it pays when that happens a second time.
            for attempt in attempts:
                attempt.incidents.append(f"repeated: {what} while it played {len(attempts)} episodes")
            count = self._losses
            doubtful = [a for a in attempts if a.item.episode in running.flying or count.get(a.item)]
            for attempt in attempts:
                count[attempt.item] = count.get(attempt.item, 0) + 1
            self._lines.give_back([a for a in attempts if a not in doubtful])
            self._lines.give_back(doubtful, alone=True)
            return
        for attempt in attempts:
            attempt.failures += 1
            attempt.incidents.append(f"attempt {attempt.failures}: {what}")
            if attempt.failures < self._machine.attempts:
                self._lines.give_back([attempt], alone=True)
            else:
                self._ledger.give_up(attempt, Failure("crash", f"the job that played it was ended: {what}"))

    def _repeat(self, running: _Running, incident: str = "", *, alone: bool = False) -> None:
        """Repeat what a job was to play that was ended by no fault of its own; usually its node is gone."""
        attempts = list(running.left.values())
        for attempt in attempts:
            attempt.incidents.append(incident or f"repeated: the node {running.node} was lost")
            self._losses[attempt.item] = self._losses.get(attempt.item, 0) + 1
        spent = [one for one in attempts if self._losses[one.item] >= _MOST_LOSSES]
        for attempt in spent:
            last = attempt.incidents[-1].removeprefix("repeated: ")
            self._ledger.give_up(attempt, Failure("crash", f"cut off {_MOST_LOSSES} times, at last: {last}"))
        self._lines.give_back([one for one in attempts if one not in spent], alone=alone)

    def _condemn(self, item: WorkItem) -> None:
        """Give up what is left of a task that the tally has given up, waiting or running."""
        if self._ledger.given_up(item) is None:
            return
        for running in [one for one in self._running.values() if one.group.task == item.task]:
            reason = self._ledger.given_up(running.group.attempts[0].item)
            if reason and running.left:
                self._cluster.cancel(running.stream)
                self._end(running)
                self._ledger.quarantine(list(running.left.values()), reason)
                running.left.clear()
        for entry in self._work.plan.agents:
            reason = self._ledger.given_up(replace(item, agent=entry.label))
            if reason:
                self._ledger.quarantine(self._lines.take_all(entry.label, item.task), reason)
        self._revive(item.task.partition("/")[0], {item.task})
