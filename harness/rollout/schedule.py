"""Which episode is played next, in which worker and in which of its slots.

An evaluation has W worker slots, each with room for one worker, and N lanes that go wherever there is work. A
worker slot serves one domain at a time, because a worker's process is its domain's, and changes only when it
holds no episode. Work is taken agent by agent, so that the lanes that are ready at the same time mostly
belong to one agent and share its network pass. While what is left of the current agent waits for a worker
slot, the one that is nearest to being empty takes nothing new and the others continue with the next agent.

Of an agent's work the longest is begun first, so that little is left to play when lanes begin to stand empty.
What a lane stays with is an episode, or a task with all its episodes where building a session is slow; it is
as long as its decisions, each of which takes a simulator's step and a pass of the agent.

Where building a session is slow, a lane stays with a task while it has episodes left, in the slot that
holds the task's session. A task is begun when nobody plays it, the longest first, and gets a second
session only at the end, when nothing else is left to begin and the second one is worth its building.

An attempt that is repeated after a failure of its own is played alone, in a new worker: what one simulator
does in a process is at times charged to another one there, and must not cost that one its second attempt.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import NamedTuple, TypeAlias

from lram.envs.workers.process import WorkerProcess
from lram.harness.rollout.measured_times import MeasuredTimes
from lram.harness.storage.records import WorkItem

SLOW_START_S = 0.5
_AGENTS_AT_ONCE = 2
_MOST_LOSSES = 3  # of an episode to ends of workers that others were blamed for, before it is played alone
_MOST_INCIDENTS = 20  # of an episode, reported one by one
_STEP_S = 0.005  # of a simulator of which nothing is known
_PASS_S = 0.01  # of an agent, until its first pass was measured


@dataclass(slots=True)
class Attempt:
    """A work item on its way: how often it failed by its own fault, and what happened to it.

    ``losses`` counts the ends of workers that it was lost with, and others were blamed for.
    """

    item: WorkItem
    failures: int = 0
    losses: int = 0
    incidents: list[str] = field(default_factory=list)
    _more: int = 0

    @property
    def alone(self) -> bool:
        """Whether it is to be played in a new worker without any other episode."""
        return self.failures > 0 or self.losses >= _MOST_LOSSES

    def note(self, incident: str) -> None:
        """Take note of what happened; beyond the first so many, how many there were."""
        if len(self.incidents) < _MOST_INCIDENTS:
            self.incidents.append(incident)
            return
        self._more += 1
        self.incidents[_MOST_INCIDENTS - 1 :] = [f"and {self._more + 1} more, the last: {incident}"]


@dataclass(slots=True, eq=False)
class WorkerSlot:
    """Room for one worker, and what is known of the slots that it keeps sessions in.

    These are numbered here, not by the lane: a worker keeps a session a slot, and lanes come and go between
    workers.

    Attributes:
        domain: What the worker slot serves, while it does.
        worker: Its process, while it has one.
        playing: Task by slot, of the episodes in flight.
        resting: Task by free slot that holds the task's session, the longest rested first.
        closed: Its episode in flight is played alone.
    """

    domain: str | None = None
    worker: WorkerProcess | None = None
    playing: dict[int, str] = field(default_factory=dict)
    resting: dict[int, str] = field(default_factory=dict)
    closed: bool = False

    @property
    def busy(self) -> int:
        """Number of episodes in flight."""
        return len(self.playing)

    def free_slot(self) -> int:
        """Return the smallest slot that is not in use."""
        return next(number for number in count() if number not in self.playing)

    def serve(self, domain: str) -> None:
        """Take note of the domain to serve; another one's worker knows none of the sessions."""
        if domain != self.domain:
            self.domain = domain
            self.resting.clear()

    def begin(self, slot: int, task: str) -> None:
        """Take note that an episode of ``task`` begins in ``slot``."""
        self.resting.pop(slot, None)
        self.playing[slot] = task

    def end(self, slot: int, *, rests: bool) -> None:
        """Take note that the episode in ``slot`` is over; ``rests``: its session stays there."""
        task = self.playing.pop(slot)
        self.closed = False
        if rests:
            self.resting[slot] = task

    def leave(self) -> None:
        """Take note that the worker is gone, and its sessions with it."""
        self.worker = None
        self.resting.clear()


class Choice(NamedTuple):
    """What a free lane plays next, and where."""

    worker_slot: WorkerSlot
    slot: int
    attempt: Attempt


# What waits of an agent and a domain: by task where starts are slow, else all in one line (""). An item is
# made an attempt when it is taken: there may be millions.
_Lines: TypeAlias = dict[str, deque["WorkItem | Attempt"]]


class Queue:
    """What waits, by agent and domain."""

    def __init__(
        self,
        items: Iterable[WorkItem],
        cost: Mapping[str, int],
        shuffle_seed: int | None,
        pace: MeasuredTimes | None = None,
    ) -> None:
        """Queue ``items``: those that take long first and equal ones in their order, or in a random one.

        Args:
            items: What to play.
            cost: Expected decisions of an episode, by task.
            shuffle_seed: Shuffle with this seed (None: the longest first).
            pace: How long things take; where it tells nothing of a domain, its starts count as fast.
        """
        order = list(items)
        if shuffle_seed is not None:
            random.Random(shuffle_seed).shuffle(order)
        self._cost = cost
        self._pace = pace or MeasuredTimes()
        self._waiting: dict[str, dict[str, _Lines]] = {}
        self._left: Counter[str] = Counter()
        self._alone: deque[Attempt] = deque()
        for item in order:
            self._line(item).append(item)
            self._left[item.agent] += 1
        if shuffle_seed is None:
            for lines in (lines for domains in self._waiting.values() for lines in domains.values()):
                if "" in lines:
                    lines[""] = deque(sorted(lines[""], key=self._decisions, reverse=True))
        self._agents = list(self._waiting)
        self._first = 0  # no agent before this one has work

    def give_back(self, attempt: Attempt) -> None:
        """Queue an attempt that has to be repeated, before everything else of its kind."""
        agent = attempt.item.agent
        if attempt.alone:
            self._alone.append(attempt)
        else:
            self._line(attempt.item).appendleft(attempt)
        self._left[agent] += 1
        if agent not in self._agents:
            self._agents.append(agent)
        self._first = min(self._first, self._agents.index(agent))

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._agents_with_work()

    def take(self, worker_slots: Sequence[WorkerSlot]) -> Choice | None:
        """Return the next attempt with the worker slot and the slot for it; None: a free lane stays idle.

        May change the domain of a worker slot that holds no episode; its worker is then the caller's to
        exchange. The slot is not yet counted in use. With no episode in flight, whatever waits is given.
        """
        open_slots = [worker_slot for worker_slot in worker_slots if not worker_slot.closed]
        if self._alone and open_slots:
            first, *open_slots = sorted(open_slots, key=lambda worker_slot: worker_slot.busy)
            if not first.busy:
                return self._apart(first)
            # Nothing new for the one that is nearest to being empty.
        for agent in self._agents_with_work():
            choice = self._choose(agent, open_slots, worker_slots)
            if choice is not None:
                return choice
            waiting = self._waiting_of(agent)
            if waiting.keys() - {worker_slot.domain for worker_slot in worker_slots if worker_slot.busy}:
                # What is left of the agent waits for a worker slot: one must run empty, and none that still
                # has sessions of what is left.
                open_slots = sorted(
                    open_slots, key=lambda worker_slot: (worker_slot.domain in waiting, worker_slot.busy)
                )[1:]
        return None

    def has_work_of(self, agent: str) -> bool:
        """Return whether anything waits for ``agent``."""
        return self._left[agent] > 0

    def _apart(self, worker_slot: WorkerSlot) -> Choice:
        """Return an attempt to be played alone; ``worker_slot`` holds no episode."""
        attempt = self._alone.popleft()
        self._left[attempt.item.agent] -= 1
        worker_slot.serve(attempt.item.task.partition("/")[0])
        return Choice(worker_slot, worker_slot.free_slot(), attempt)

    def _choose(
        self, agent: str, open_slots: Sequence[WorkerSlot], worker_slots: Sequence[WorkerSlot]
    ) -> Choice | None:
        """Return what a lane may play of ``agent`` in one of ``open_seats``."""
        waiting = self._waiting_of(agent)
        empty = [worker_slot for worker_slot in open_slots if not worker_slot.busy]
        unserved = waiting.keys() - {worker_slot.domain for worker_slot in open_slots if worker_slot.busy}
        if unserved and empty:
            domain = max(sorted(unserved), key=lambda name: self._longest(agent, name, waiting[name]))
            return self._begin(waiting[domain], domain, empty, worker_slots)
        places: dict[str, list[WorkerSlot]] = {}
        for worker_slot in sorted(open_slots, key=lambda s: (s.busy, not _rests_for(s, waiting))):
            if worker_slot.busy and worker_slot.domain in waiting:
                places.setdefault(worker_slot.domain or "", [*empty]).append(worker_slot)
        for domain, there in places.items():
            choice = self._begin(waiting[domain], domain, there, worker_slots)
            if choice is not None:
                return choice
        for domain, there in places.items():
            choice = self._share(agent, waiting[domain], domain, there, worker_slots)
            if choice is not None:
                return choice
        return None

    def _begin(
        self, lines: _Lines, domain: str, places: Sequence[WorkerSlot], worker_slots: Sequence[WorkerSlot]
    ) -> Choice | None:
        """Return an attempt that needs no second session of its task; prefers the first of ``places``."""
        if not self._slow(domain):
            places[0].serve(domain)
            return Choice(places[0], places[0].free_slot(), self._pop(lines, ""))
        first = _first(places, domain)
        again = self._again(first, domain, lines)
        if again is not None:
            return again
        held = {
            task
            for worker_slot in worker_slots
            for task in (*worker_slot.playing.values(), *worker_slot.resting.values())
        }
        fresh = [task for task in lines if task not in held]
        if fresh:
            return self._open(first, domain, lines, max(fresh, key=lambda task: self._work(lines, task)))
        return next(filter(None, (self._again(worker_slot, domain, lines) for worker_slot in places)), None)

    def _share(
        self,
        agent: str,
        lines: _Lines,
        domain: str,
        places: Sequence[WorkerSlot],
        worker_slots: Sequence[WorkerSlot],
    ) -> Choice | None:
        """Return an attempt of a task that is played already, for a second session, where that pays."""
        worker_slot = _first(places, domain)
        step = self._pace.step.get(domain, _STEP_S)
        decision = step + self._pace.decide.get(agent, 0.0)
        # While the agent decides for one session, its worker steps others. Of a further one's steps this
        # share fits into what time is left; the rest would only delay the others.
        share = min(1.0, decision / step - worker_slot.busy)
        if share <= 0:
            return None
        lanes = Counter(task for each in worker_slots for task in each.playing.values())
        busiest_first = sorted(worker_slots, key=lambda each: -each.busy)
        load = {task: each.busy for each in busiest_first for task in each.playing.values()}
        best, ahead = "", self._pace.start[domain]
        for task, line in lines.items():
            if lanes[task]:
                # Those who play it have half an episode left on average before they come to what waits.
                episodes = len(line) / lanes[task] - 0.5
                seconds = share * episodes * self._cost[task] * max(decision, load[task] * step)
                best, ahead = (task, seconds) if seconds > ahead else (best, ahead)
        return self._open(worker_slot, domain, lines, best) if best else None

    def _open(self, worker_slot: WorkerSlot, domain: str, lines: _Lines, task: str) -> Choice:
        """Give ``task`` the slot whose session is needed least; a new slot only if all are in use."""
        worker_slot.serve(domain)
        wanted = {name for agent in self._agents_with_work() for name in self._waiting[agent].get(domain, {})}
        spare = min(
            worker_slot.resting,
            key=lambda slot: worker_slot.resting[slot] in wanted,
            default=worker_slot.free_slot(),
        )
        return Choice(worker_slot, spare, self._pop(lines, task))

    def _again(self, worker_slot: WorkerSlot, domain: str, lines: _Lines) -> Choice | None:
        """Return an attempt of a task whose session rests here, of that with the most work left."""
        useful = [
            slot
            for slot, task in worker_slot.resting.items()
            if worker_slot.domain == domain and task in lines
        ]
        if not useful:
            return None
        slot = max(useful, key=lambda slot: self._work(lines, worker_slot.resting[slot]))
        return Choice(worker_slot, slot, self._pop(lines, worker_slot.resting[slot]))

    def _work(self, lines: _Lines, task: str) -> int:
        return self._cost[task] * len(lines[task])

    def _slow(self, domain: str) -> bool:
        return self._pace.start.get(domain, 0.0) >= SLOW_START_S

    def _longest(self, agent: str, domain: str, lines: _Lines) -> float:
        """Return how many seconds a lane may stay with what is longest there."""
        decision = self._pace.step.get(domain, _STEP_S) + self._pace.decide.get(agent, _PASS_S)
        if self._slow(domain):
            return decision * max(self._work(lines, task) for task in lines)
        return decision * self._decisions(lines[""][0])

    def _decisions(self, waiting: WorkItem | Attempt) -> int:
        return self._cost[waiting.task if isinstance(waiting, WorkItem) else waiting.item.task]

    def _line(self, item: WorkItem) -> deque[WorkItem | Attempt]:
        domain = item.task.partition("/")[0]
        lines = self._waiting.setdefault(item.agent, {}).setdefault(domain, {})
        return lines.setdefault(item.task if self._slow(domain) else "", deque())

    def _pop(self, lines: _Lines, key: str) -> Attempt:
        """Take the next attempt of a line; lines are never empty."""
        waiting = lines[key].popleft()
        if not lines[key]:
            del lines[key]
        attempt = Attempt(waiting) if isinstance(waiting, WorkItem) else waiting
        self._left[attempt.item.agent] -= 1
        return attempt

    def _waiting_of(self, agent: str) -> dict[str, _Lines]:
        return {name: lines for name, lines in self._waiting[agent].items() if lines}

    def _agents_with_work(self) -> list[str]:
        while self._first < len(self._agents) and not self._left[self._agents[self._first]]:
            self._first += 1
        following = (agent for agent in islice(self._agents, self._first, None) if self._left[agent])
        return list(islice(following, _AGENTS_AT_ONCE))


def _rests_for(worker_slot: WorkerSlot, waiting: Mapping[str, _Lines]) -> bool:
    """Return whether ``worker_slot`` keeps a session of something that waits."""
    lines = waiting.get(worker_slot.domain or "", {})
    return any(task in lines for task in worker_slot.resting.values())


def _first(places: Sequence[WorkerSlot], domain: str) -> WorkerSlot:
    """Return the worker slot with the fewest episodes, of several the one that serves ``domain`` already."""
    return min(places, key=lambda worker_slot: (worker_slot.busy, worker_slot.domain != domain))
