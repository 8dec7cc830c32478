"""Which lanes share a pass of their agent's network, and which of them wait for a decision.

A network that reads its lanes in passes of so many rows (``rows``, see :mod:`lram.agents.acting.model_agent`)
pays
for a pass whichever of the rows wait. So lanes are asked for group by group, a group for each pass: while
the network reads one, the simulators step the lanes of the others. Lanes of one agent and one domain are put
together, because they take turns at the same speed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lram.harness.rollout.lane import Lane

Group = tuple[str, int]
"""Label of the agent, and number of the group among the agent's."""


class Groups:
    """The lanes of a rollout, by group."""

    def __init__(self, lanes: int, rows: dict[str, int]) -> None:
        """Place ``lanes``, of which so many ``rows`` share a pass, by agent label (else all of them)."""
        self._free = set(range(lanes))
        self._lanes = lanes
        self._rows = rows
        self._members: dict[Group, list[Lane]] = {}
        self._waiting: dict[Group, list[Lane]] = {}
        self._late: dict[Group, list[Lane]] = {}

    def __bool__(self) -> bool:
        """Whether any lane waits for a decision."""
        return bool(self._waiting)

    @property
    def room(self) -> bool:
        """Whether a lane is free."""
        return bool(self._free)

    def number(self, label: str, domain: str) -> int:
        """Return the free lane that is in the best company for an episode of ``label`` on ``domain``."""

        def company(number: int) -> tuple[int, int, int]:
            beside = [lane.spec.domain for lane in self._members.get(self._group(label, number), [])]
            return -beside.count(domain), len(beside), number

        return min(self._free, key=company)

    def enter(self, lane: Lane) -> None:
        """Take note that ``lane`` holds an episode now."""
        self._free.remove(lane.number)
        self._members.setdefault(self._of(lane), []).append(lane)

    def leave(self, lane: Lane) -> None:
        """Take note that the episode of ``lane`` is over."""
        group = self._of(lane)
        self._members[group].remove(lane)
        if not self._members[group]:
            del self._members[group]
        self._free.add(lane.number)
        waiting = self._waiting.get(group, [])
        if lane in waiting:
            waiting.remove(lane)
            if not waiting:
                del self._waiting[group]
        elif lane in (late := self._late.get(group, [])):
            late.remove(lane)

    def wait(self, lane: Lane) -> None:
        """Take note that ``lane`` waits for a decision, and first for the end of a pass of its group."""
        group = self._of(lane)
        if group in self._late:
            self._late[group].append(lane)
        else:
            self._waiting.setdefault(group, []).append(lane)

    def launched(self, lanes: Sequence[Lane]) -> None:
        """Take note that a pass for ``lanes`` is computed: what else becomes ready of their group is late."""
        self._late[self._of(lanes[0])] = []

    def arrived(self, lanes: Sequence[Lane]) -> None:
        """Take note that the result of that pass is there, and those that were late can be asked for."""
        group = self._of(lanes[0])
        if late := self._late.pop(group):
            self._waiting[group] = late

    @property
    def agents(self) -> set[str]:
        """Labels of the agents that lanes wait for."""
        return {label for label, _ in self._waiting}

    def complete(self, comes: Callable[[Lane], bool]) -> bool:
        """Return whether in some group of those that wait no further lane ``comes`` soon."""
        return any(
            not any(lane not in waiting and comes(lane) for lane in self._members[group])
            for group, waiting in self._waiting.items()
        )

    def take(self) -> list[Lane]:
        """Return the lanes of the fullest group, which wait no more; of several, the one that began first."""
        return self._waiting.pop(max(self._waiting, key=lambda group: len(self._waiting[group])))

    def _of(self, lane: Lane) -> Group:
        return self._group(lane.item.agent, lane.number)

    def _group(self, label: str, number: int) -> Group:
        return label, number // self._rows.get(label, self._lanes)
