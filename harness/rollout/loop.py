"""The loop: lanes over workers, and one ``act`` for the lanes that share a pass and are ready.

There is no barrier anywhere: while the agent decides for a group of lanes, the workers step the others, and
the next decision takes what has become ready meanwhile. An agent that computes on a device of its own is not
waited for: other lanes begin, step and are asked for meanwhile (:mod:`lram.harness.rollout.launched`). An
episode ends in one record, whatever happened to its simulator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lram.agents.api import Action, Agent
from lram.envs.protocol_id import ProtocolId
from lram.envs.registry import load_domain
from lram.envs.text import printable
from lram.envs.workers.pool import Pool
from lram.envs.workers.process import (
    Begun,
    Deadlines,
    Died,
    Event,
    Failed,
    Rendered,
    Stepped,
    WorkerProcess,
)
from lram.harness.errors import LramError
from lram.harness.rollout.agent_calls import AgentCalls, AgentRaisedError
from lram.harness.rollout.batching import LONGEST_S, BatchingTimeout
from lram.harness.rollout.failures import Tally
from lram.harness.rollout.groups import Groups
from lram.harness.rollout.lane import LONGEST, Lane
from lram.harness.rollout.launched import Arrivals, Overlap
from lram.harness.rollout.measured_times import MeasuredTimes
from lram.harness.rollout.observer import RolloutObserver
from lram.harness.rollout.occupancy import Occupancy
from lram.harness.rollout.recorder import TrajectoryRecorder
from lram.harness.rollout.schedule import Choice, Queue, WorkerSlot
from lram.harness.rollout.settling import Settling
from lram.harness.rollout.translation import checked_action, contradiction, task_spec
from lram.harness.storage import seeds
from lram.harness.storage.records import EpisodeRecord, Failure, PlannedTask, WorkItem

__all__ = ["AgentRaisedError", "Rollout", "RolloutSettings"]

# Decisions after which an episode is taken for one without an end: so many horizons, but so many at least.
_LONGEST_HORIZONS, _SHORTEST_LONGEST = 10, 1000


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """How episodes are spread and how much trouble is borne.

    Attributes:
        seed: The run's seed.
        lanes: Episodes in flight.
        workers: Worker processes that play at the same time.
        attempts: How often an episode is tried before it is recorded as errored.
        quarantine_after: A task whose first so many episodes all errored is given up.
        deadlines: How long a worker may take.
        shuffle_seed: Play the items in a random order with this seed (None: in plan order).
        seeds: By agent label, another seed than the run's: that agent meets initial states of its own.
        start_s: Seconds to build a session, by domain (None: what the domains tell of themselves).
        realtime_hz: Steps that the world takes in a second of the agent's thinking, with the action
            before; 0: it waits. An agent's time is that of the pass, so that it is honest with one lane.
    """

    seed: int
    lanes: int
    workers: int
    attempts: int = 2
    quarantine_after: int = 3
    deadlines: Deadlines = field(default_factory=Deadlines)
    shuffle_seed: int | None = None
    seeds: Mapping[str, int] = field(default_factory=dict)
    start_s: Mapping[str, float] | None = None
    realtime_hz: float = 0.0

    def seed_of(self, label: str) -> int:
        """Return the seed of the episodes of agent ``label``."""
        return self.seeds.get(label, self.seed)


class Rollout:
    """Plays work items with agents in a pool of workers and hands out a record for each.

    Attributes:
        occupancy: How many lanes held an episode so far.
        overlap: What was done while agents computed on devices of their own.
    """

    def __init__(
        self,
        agents: Mapping[str, Agent],
        tasks: Mapping[str, PlannedTask],
        pool: Pool,
        settings: RolloutSettings,
        on_trajectory: Callable[[TrajectoryRecorder, EpisodeRecord], None] | None = None,
        observer: RolloutObserver | None = None,
    ) -> None:
        """Prepare; nothing starts before :meth:`run`.

        Args:
            agents: By label.
            tasks: By task id.
            pool: Where the simulators live; the caller closes it.
            settings: How to play.
            on_trajectory: Given each scored episode step by step with its record, in place of ``on_record``:
                both at once, so that nothing comes between them.
            observer: Sees each step, and the images that it wants.
        """
        self._observer = observer
        self._on_trajectory = on_trajectory
        self._tasks = tasks
        self._pool = pool
        self._settings = settings
        self._worker_slots = [WorkerSlot() for _ in range(min(settings.lanes, settings.workers))]
        rows = {label: _rows(label, agent) or settings.lanes for label, agent in agents.items()}
        self._groups = Groups(settings.lanes, rows)
        self._flying: dict[tuple[WorkerProcess, int], Lane] = {}
        self._times = MeasuredTimes()
        self._calls = AgentCalls(
            agents,
            settings.lanes,
            {label: settings.seed_of(label) for label in agents},
            self._times,
            warm_up=bool(settings.realtime_hz),
        )
        self._arrivals: Arrivals | None = None
        self._timeout: BatchingTimeout | None = None
        self._decisions = 0
        self._stood_still_s = pool.stood_still_s
        self._tally = Tally(settings.quarantine_after, len(self._worker_slots))
        self.occupancy = Occupancy(settings.lanes)
        self.overlap = Overlap()

    def run(
        self,
        items: Iterable[WorkItem],
        on_record: Callable[[EpisodeRecord], None],
        on_heartbeat: Callable[[int, int], None] = lambda active, decisions: None,
    ) -> None:
        """Play ``items`` and hand out a record of each, in the order in which they end.

        Args:
            items: What to play.
            on_record: Called with each record as soon as it exists.
            on_heartbeat: Called several times a second with the number of episodes in flight, and of
                decisions taken so far.

        Raises:
            AgentRaisedError: An agent raised; records handed out so far stand.
        """
        self.start(items, on_record, on_heartbeat)
        try:
            while self.turn():
                pass
        finally:
            self._end_arrivals()

    def start(
        self,
        items: Iterable[WorkItem],
        on_record: Callable[[EpisodeRecord], None],
        on_heartbeat: Callable[[int, int], None] = lambda active, decisions: None,
    ) -> None:
        """Take ``items``, as :meth:`run` does; what is played is played by :meth:`turn`."""
        cost = {name: planned.task.horizon or 1000 for name, planned in self._tasks.items()}
        domains = [load_domain(name) for name in {planned.task.domain for planned in self._tasks.values()}]
        start_s = self._settings.start_s
        if start_s is None:
            start_s = {domain.name: domain.start_s for domain in domains}
        self._times.start.update(start_s)
        self._times.step.update({domain.name: domain.step_s for domain in domains})
        self._queue = Queue(items, cost, self._settings.shuffle_seed, self._times)
        self._settling = Settling(
            self._tasks, self._settings.attempts, self._queue, self._tally, on_record, self._on_trajectory
        )
        self._on_heartbeat = on_heartbeat

    def turn(self) -> bool:
        """Wait for what comes next and act on it; return False when every item has its record."""
        self._fill()
        if not self._flying:
            self._end_arrivals()
            return False
        self._gather()
        self._on_heartbeat(len(self._flying), self._decisions)
        # What has just ended makes room: the next episodes begin while the agent decides.
        self._fill()
        self._decide()
        return True

    # Lanes and workers

    def _fill(self) -> None:
        """Give every free lane its next episode, where there is one for it."""
        if not self._groups.room:
            return
        while self._groups.room and (choice := self._queue.take(self._worker_slots)) is not None:
            self._begin(choice)
        for worker_slot in self._worker_slots:
            if not worker_slot.busy and worker_slot.worker is not None:
                self._pool.release(worker_slot.worker)
                worker_slot.leave()
                worker_slot.domain = None
        self._count_lanes()

    def _count_lanes(self) -> None:
        self.occupancy.note(time.perf_counter(), len(self._flying), waits=not self._queue.empty)

    def _begin(self, choice: Choice) -> None:
        worker_slot, slot, attempt = choice
        item = attempt.item
        given_up = self._tally.given_up(item)
        planned = self._tasks[item.task]
        lane = Lane(
            number=self._groups.number(item.agent, planned.task.domain),
            worker_slot=worker_slot,
            attempt=attempt,
            spec=task_spec(planned),
            seed=seeds.simulator_seed(self._settings.seed_of(item.agent), item.task, item.episode),
            started=time.time(),
            began=time.perf_counter(),
            longest=_longest(planned),
        )
        if given_up:
            self._record(lane, failure=given_up)
            return
        if worker_slot.worker is not None and (
            attempt.alone or worker_slot.worker.domain != planned.task.domain
        ):
            self._pool.release(worker_slot.worker)
            worker_slot.leave()
        if worker_slot.worker is None:
            worker_slot.worker = self._pool.acquire(planned.task.domain, new=attempt.alone)
        worker_slot.closed = attempt.alone
        self._groups.enter(lane)
        lane.slot = slot
        worker_slot.begin(slot, item.task)
        self._flying[worker_slot.worker, slot] = lane
        protocol = ProtocolId.parse(planned.protocol).name
        worker_slot.worker.begin(slot, planned.task.name, protocol, lane.seed, self._settings.deadlines)

    def _land(self, lane: Lane, *, rests: bool = True) -> None:
        """Free the lane of an episode that is over, one way or the other; ``rests``: its session is left."""
        worker_slot = lane.worker_slot
        if worker_slot.worker is not None:
            self._flying.pop((worker_slot.worker, lane.slot), None)
        worker_slot.end(lane.slot, rests=rests)
        self._count_lanes()
        self._groups.leave(lane)

    # Events

    def _gather(self) -> None:
        """Wait for events; once a lane is ready, wait a little longer for the others of its group."""
        timeout, self._timeout = self._timeout or BatchingTimeout(time.perf_counter()), None
        for event in self._wait(0.0 if self._groups or self._arrivals else LONGEST_S):
            self._take(event)
        while self._groups and not self._groups.complete(self._comes):
            busy = all(
                worker_slot.worker.culprit is not None
                for worker_slot in self._worker_slots
                if worker_slot.busy and worker_slot.worker
            )
            pass_s = self._calls.longest_pass_s(self._groups.agents)
            left = timeout.left(time.perf_counter(), pass_s, all_busy=busy)
            events = self._wait(max(0.0, left))
            for event in events:
                self._take(event)
            if self._arrivals:
                self._timeout = timeout
                return
            if left <= 0 and not events:
                return

    def _wait(self, timeout: float) -> list[Event]:
        """Wait for events; no episode is charged with time for which nothing ran."""
        events = self._pool.wait(timeout)
        if gap := self._pool.stood_still_s - self._stood_still_s:
            self._stood_still_s += gap
            for lane in self._flying.values():
                lane.still_s += gap
        return events

    def _comes(self, lane: Lane) -> bool:
        """Return whether a lane's step is under way, and no session is built or reset before it is made."""
        worker = lane.worker_slot.worker
        if worker is None or worker.culprit is None:
            return True
        first = self._flying.get((worker, worker.culprit))
        return lane.observation is not None and first is not None and first.observation is not None

    def _take(self, event: Event) -> None:
        if isinstance(event, Died):
            self._bury(event)
            return
        lane = self._flying.get((event.worker, event.slot))
        if lane is None:
            return
        if isinstance(event, Begun):
            self._begun(lane, event)
        elif isinstance(event, Stepped):
            self._stepped(lane, event)
        elif isinstance(event, Rendered):
            self._rendered(lane, event)
        else:
            self._failed(lane, event)

    def _begun(self, lane: Lane, event: Begun) -> None:
        lane.simulator_s += event.seconds
        self._tally.begun(lane.spec.domain)
        wrong = contradiction(lane.spec, event.spec)
        if wrong:
            self._land(lane)
            self._fail(lane, Failure("session", wrong))
            return
        lane.observation = event.observation
        if self._on_trajectory is not None:
            lane.recorder = TrajectoryRecorder(lane.spec, [event.observation.copy()])
        if self._observer is not None and self._observer.begun(lane.item):
            event.worker.render(lane.slot, self._settings.deadlines)
        self._groups.wait(lane)

    def _stepped(self, lane: Lane, event: Stepped) -> None:
        lane.stepped(event.step, event.seconds)
        self._decisions += 1
        if self._arrivals is not None and self._arrivals.computing:
            self.overlap.steps += 1
        self._times.stepped(lane.spec.domain, event.seconds)
        wanted = self._observer is not None and self._observer.stepped(lane.item, lane.last, event)
        if wanted:
            event.worker.render(lane.slot, self._settings.deadlines)
        if event.step.terminated or event.step.truncated:
            if wanted:
                lane.ending = event
            else:
                self._end(lane, event)
        elif lane.length >= lane.longest:
            self._land(lane)
            text = f"the simulator has not ended the episode after {lane.length} decisions"
            self._fail(lane, Failure("session", text))
        elif lane.ready:
            self._groups.wait(lane)
        else:
            self._send(lane, lane.next_action())

    def _rendered(self, lane: Lane, event: Rendered) -> None:
        if lane.observation is None:  # of the slot's episode before, which ended while it was made
            return
        assert self._observer is not None
        self._observer.rendered(lane.item, event.image)
        if lane.ending is not None:
            self._end(lane, lane.ending)

    def _end(self, lane: Lane, event: Stepped) -> None:
        self._land(lane)
        if overflow := lane.overflow:
            self._fail(lane, Failure("session", overflow))
        else:
            self._record(lane, event=event)

    def _failed(self, lane: Lane, event: Failed) -> None:
        self._land(lane, rests=False)
        self._fail(lane, Failure("session", event.message))

    def _bury(self, event: Died) -> None:
        """Repeat the episodes of a dead worker; only the one it was busy with pays for it."""
        lost = {slot: lane for (worker, slot), lane in self._flying.items() if worker is event.worker}
        if lost:
            self._tally.died(event.worker.domain)
        # Given back in reverse, because each goes to the front of the queue.
        for slot, lane in reversed(lost.items()):
            self._land(lane, rests=False)
            # A worker that dies while it owes nothing has no culprit: then everybody pays, so that
            # a cause that comes back cannot repeat the episodes for ever. Where the culprit's episode is
            # over, nobody pays: each repetition has had an episode end before it.
            if not event.over and event.culprit in (None, slot):
                self._fail(lane, Failure(event.reason, event.message))
            else:
                process = f"process {event.worker.pid}"
                self._settling.repeat(lane, f"{event.message}, busy with another episode ({process})")
        for worker_slot in self._worker_slots:
            if worker_slot.worker is event.worker:
                worker_slot.leave()

    # Decisions

    def _decide(self) -> None:
        """Send off what agents have decided, and ask one for the lanes of a group that are ready."""
        arrived = self._arrivals.take() if self._arrivals else ()
        for launched in arrived:
            self._groups.arrived(launched.lanes)
            decided = zip(launched.lanes, self._calls.collect(launched), strict=True)
            # Not of lanes whose worker died while the pass was computed.
            self._act(launched.label, [pair for pair in decided if self._is_flying(pair[0])])
        if not self._groups or (arrived and not self._groups.complete(self._comes)):
            return  # lanes that wait for others of their group still may
        self._timeout = None
        lanes = self._groups.take()
        label = lanes[0].item.agent
        if self._calls.launches(label):
            self._launch(label, lanes)
        else:
            self._act(label, zip(lanes, self._calls.ask(label, lanes), strict=True))

    def _is_flying(self, lane: Lane) -> bool:
        worker = lane.worker_slot.worker
        return worker is not None and self._flying.get((worker, lane.slot)) is lane

    def _launch(self, label: str, lanes: Sequence[Lane]) -> None:
        """Ask an agent that computes on a device of its own, and do not wait for it."""
        if self._arrivals is None:
            self._arrivals = Arrivals()
            self._pool.watch(self._arrivals.descriptor)
        self._groups.launched(lanes)
        self.overlap.passes += 1
        self.overlap.beside += self._arrivals.computing > 0
        self._arrivals.wait_for(self._calls.launch(label, lanes))

    def _end_arrivals(self) -> None:
        if self._arrivals is not None:
            self._pool.unwatch(self._arrivals.descriptor)
            self._arrivals.close()
            self._arrivals = None

    def _act(self, label: str, decided: Iterable[tuple[Lane, Action]]) -> None:
        """Send off the actions of an agent."""
        workers: dict[WorkerProcess, None] = {}
        for lane, action in decided:
            checked, wrong = checked_action(lane.spec, action)
            if wrong:
                self._land(lane)
                # The worker's session is in the middle of an episode; the next begin resets it.
                self._fail(lane, Failure("agent", f"agent {label} {wrong}"))
                continue
            delay = int(self._settings.realtime_hz * self._calls.pass_s[label])
            workers[self._send(lane, lane.decided(checked, delay), flush=False)] = None
        # All at once: each time that a worker is woken costs more than a request.
        for worker in workers:
            worker.flush()

    def _send(self, lane: Lane, action: Action, *, flush: bool = True) -> WorkerProcess:
        worker = lane.worker_slot.worker
        assert worker is not None
        lane.sent(action)
        worker.step(lane.slot, action, self._settings.deadlines, flush=flush)
        return worker

    # Records

    def _record(self, lane: Lane, *, event: Stepped | None = None, failure: Failure | None = None) -> None:
        self._settling.record(lane, event=event, failure=failure)
        self._forget_idle(lane.item.agent)

    def _fail(self, lane: Lane, failure: Failure) -> None:
        if self._settling.fail(lane, failure):
            self._forget_idle(lane.item.agent)

    def _forget_idle(self, label: str) -> None:
        if not self._queue.has_work_of(label) and not any(
            other.item.agent == label for other in self._flying.values()
        ):
            self._calls.forget(label)

    @property
    def playing(self) -> list[WorkItem]:
        """The items in flight."""
        return [lane.item for lane in self._flying.values()]

    def begun(self, domain: str) -> None:
        """Take note that workers of ``domain`` can live, though none has begun an episode here."""
        self._tally.begun(domain)

    def dead(self, domain: str) -> str | None:
        """Return why ``domain`` was given up: its workers died before any began; None: it was not."""
        return self._tally.dead(domain)

    def note(self, item: WorkItem, failure: Failure | None) -> None:
        """Take account of how an item was settled before, so that a resumed run gives up what a whole one
        would.
        """
        self._tally.count(item, failure)


def _rows(label: str, agent: Agent) -> int | None:
    """Return how many lanes an agent reads in one pass, where it says so."""
    rows: object = agent.rows
    if rows is not None and (type(rows) is not int or rows < 0):
        raise LramError(
            f"agent {label} has rows {printable(str(rows), 60)}, not a whole number of lanes; fix it"
        )
    return agent.rows


def _longest(planned: PlannedTask) -> int:
    """Return the decisions after which an episode is taken for one without an end."""
    horizon = planned.task.horizon
    return LONGEST if horizon is None else max(_LONGEST_HORIZONS * horizon, _SHORTEST_LONGEST)
