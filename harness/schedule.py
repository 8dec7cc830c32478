"""Which episode is played next, and in which worker.

An evaluation has W seats, each with room for one worker, and N lanes that go wherever there is work. A
seat serves one domain at a time, because a worker's process is its domain's, and changes only when it
holds no episode. Work is taken agent by agent, so that the lanes that are ready at the same time mostly
belong to one agent and share its network pass. While what is left of the current agent waits for a
seat, the seat that is nearest to being empty takes nothing new and the others go on with the next agent.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from lram.envs.process import WorkerProcess
from lram.harness.records import WorkItem

_AGENTS_AT_ONCE = 2


@dataclass(slots=True)
class Attempt:
    """A work item on its way: how often it failed by its own fault, and what happened to it."""

    item: WorkItem
    failures: int = 0
    incidents: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Seat:
    """Room for one worker; ``busy`` counts the episodes that it holds, ``slots`` where it holds them.

    Slots are numbered by the seat, not by the lane: a worker keeps a session a slot, and lanes come and
    go between workers.
    """

    domain: str | None = None
    worker: WorkerProcess | None = None
    busy: int = 0
    slots: set[int] = field(default_factory=set)

    def free_slot(self) -> int:
        """Return the smallest slot that is not in use."""
        return next(number for number in count() if number not in self.slots)


class Queue:
    """The attempts that wait, by agent and domain."""

    def __init__(self, items: Iterable[WorkItem], cost: Mapping[str, int], shuffle_seed: int | None) -> None:
        """Queue ``items`` in their order, or in a random one.

        Args:
            items: What to play.
            cost: Expected decisions of an episode, by task.
            shuffle_seed: Shuffle with this seed (None: keep the order).
        """
        order = list(items)
        if shuffle_seed is not None:
            random.Random(shuffle_seed).shuffle(order)
        self._cost = cost
        self._waiting: dict[str, dict[str, deque[Attempt]]] = {}
        for item in order:
            domains = self._waiting.setdefault(item.agent, defaultdict(deque))
            domains[_domain(item)].append(Attempt(item))

    def give_back(self, attempt: Attempt) -> None:
        """Queue an attempt that has to be repeated, before everything else of its kind."""
        domains = self._waiting.setdefault(attempt.item.agent, defaultdict(deque))
        domains[_domain(attempt.item)].appendleft(attempt)

    def take(self, seats: Sequence[Seat]) -> tuple[Seat, Attempt] | None:
        """Return the next attempt and the seat for it, or None when a free lane should stay idle.

        May change the domain of a seat that holds no episode; its worker is then the caller's to
        exchange. The seat is not yet counted busy.
        """
        agents = self._agents_with_work()
        if not agents:
            return None
        current, *following = agents
        waiting = {name: line for name, line in self._waiting[current].items() if line}
        unserved = waiting.keys() - {seat.domain for seat in seats if seat.busy}
        empty = next((seat for seat in seats if not seat.busy), None)
        if unserved and empty is not None:
            empty.domain = max(sorted(unserved), key=lambda name: self._decisions(waiting[name]))
            return empty, waiting[empty.domain].popleft()
        serving = [seat for seat in seats if seat.busy and seat.domain in waiting]
        if serving:
            seat = min(serving, key=lambda seat: seat.busy)
            if empty is not None:
                empty.domain, seat = seat.domain, empty
            assert seat.domain is not None
            return seat, waiting[seat.domain].popleft()
        # What is left of the current agent waits for a seat: one must run empty.
        spare = sorted(seats, key=lambda seat: seat.busy)[1:]
        for agent in following:
            for seat in spare:
                if seat.domain is not None and self._waiting[agent].get(seat.domain):
                    return seat, self._waiting[agent][seat.domain].popleft()
        return None

    def _decisions(self, line: Iterable[Attempt]) -> int:
        return sum(self._cost[attempt.item.task] for attempt in line)

    def has_work_of(self, agent: str) -> bool:
        """Return whether anything waits for ``agent``."""
        return any(self._waiting.get(agent, {}).values())

    def _agents_with_work(self) -> list[str]:
        return [agent for agent, domains in self._waiting.items() if any(domains.values())][:_AGENTS_AT_ONCE]


def _domain(item: WorkItem) -> str:
    return item.task.partition("/")[0]
