"""Which episode is played next, and in which worker.

An evaluation has W seats, each with room for one worker and its share of the lanes. A seat serves one
domain at a time and changes only when all its lanes are free, because a worker's process is its
domain's. Work is taken agent by agent, so that the lanes that are ready at the same time mostly
belong to one agent and share its network pass; a seat that has no more work of the current agent in
its domain goes on to the next agent's rather than idle.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lram.envs.pool import WorkerProcess
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
    """Room for one worker; ``free`` are its unoccupied lanes, each with its slot in the worker."""

    lanes: tuple[int, ...]
    free: list[int]
    domain: str | None = None
    worker: WorkerProcess | None = None

    def slot(self, lane: int) -> int:
        """Return the worker's slot that ``lane`` uses."""
        return self.lanes.index(lane)


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

    def __len__(self) -> int:
        return sum(len(waiting) for domains in self._waiting.values() for waiting in domains.values())

    def give_back(self, attempt: Attempt) -> None:
        """Queue an attempt that has to be repeated, before everything else of its kind."""
        domains = self._waiting.setdefault(attempt.item.agent, defaultdict(deque))
        domains[_domain(attempt.item)].appendleft(attempt)

    def take(self, seat: Seat, others: Sequence[Seat]) -> Attempt | None:
        """Return the next attempt for a free lane of ``seat``, or None when it should stay idle.

        May change the seat's domain when all its lanes are free; its worker is then the caller's to
        exchange.
        """
        current = self._agents_with_work()
        if seat.domain is not None:
            for agent in current:
                waiting = self._waiting[agent].get(seat.domain)
                if waiting:
                    return waiting.popleft()
        if not current or len(seat.free) < len(seat.lanes):
            return None
        domains = self._waiting[current[0]]
        served = [
            other.domain for other in others if other is not seat and len(other.free) < len(other.lanes)
        ]

        def need(domain: str) -> float:
            decisions = sum(self._cost[attempt.item.task] for attempt in domains[domain])
            return decisions / (1 + served.count(domain))

        seat.domain = max((name for name, waiting in domains.items() if waiting), key=need)
        return domains[seat.domain].popleft()

    def drain(self, agent: str | None, task: str) -> list[Attempt]:
        """Remove and return what waits of ``task`` (of one agent, or of all: None)."""
        removed = []
        for name, domains in self._waiting.items():
            if agent in (None, name):
                waiting = domains[task.partition("/")[0]]
                removed += [attempt for attempt in waiting if attempt.item.task == task]
                kept = [attempt for attempt in waiting if attempt.item.task != task]
                waiting.clear()
                waiting.extend(kept)
        return removed

    def has_work_of(self, agent: str) -> bool:
        """Return whether anything waits for ``agent``."""
        return any(self._waiting.get(agent, {}).values())

    def _agents_with_work(self) -> list[str]:
        return [agent for agent, domains in self._waiting.items() if any(domains.values())][:_AGENTS_AT_ONCE]


def make_seats(lanes: int, workers: int) -> list[Seat]:
    """Return ``workers`` seats (fewer when there are fewer lanes) that share the lanes evenly."""
    count = min(lanes, workers)
    shares = [tuple(range(first, lanes, count)) for first in range(count)]
    return [Seat(share, list(share)) for share in shares]


def _domain(item: WorkItem) -> str:
    return item.task.partition("/")[0]
