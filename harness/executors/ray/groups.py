"""Which episodes make the next job, and how many of them.

A job of many episodes pays its start-up once (the node builds agent and simulators); jobs of few leave
little idle at the end. With W seconds of work left for S slots and a start-up of s, jobs of T seconds
cost each slot about (W / S) / T starts and leave T / 2 idle at the end on average: together least at
T = sqrt(2 s W / S). W shrinks as a run proceeds, and so do its jobs.

EpisodeQueue of work (an agent's episodes of one task) are begun with the most expensive first, so that the
longest do not come last, agent by agent, so that nodes load few models. Costs are tabled until they are
measured: an episode's decisions times what a decision takes in its domain and with its agent.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lram.agents.api import AgentInfo
from lram.envs.registry import load_domain
from lram.harness.rollout.schedule import Attempt
from lram.harness.storage.records import PlannedTask, WorkItem

MOST_S = 600.0
"""Longest job: what a lost node costs at most, and how long a node stays with what it has begun."""
LAUNCH_S = 0.5
"""A job's start-up without any simulator: its process, the pool, a worker."""
_AGENTS_AT_ONCE = 2
_HORIZON = 1000  # decisions of an episode, where the table does not tell
_HOST_S = 1e-4  # of a decision that is no simulator's
_WEIGHT_S = 1e-10  # of a decision, for each weight of a model on a processor
_RECKON_EVERY = 64  # jobs: there are thousands of lines to add up


@dataclass(frozen=True, slots=True)
class EpisodeGroup:
    """The episodes of a job; all of one agent and one task."""

    attempts: tuple[Attempt, ...]

    @property
    def agent(self) -> str:
        """Label of the agent."""
        return self.attempts[0].item.agent

    @property
    def task(self) -> str:
        """Id of the task."""
        return self.attempts[0].item.task

    @property
    def domain(self) -> str:
        """Name of the domain."""
        return self.task.partition("/")[0]


@dataclass(slots=True)
class _Line:
    """What waits of one agent and one task.

    Attributes:
        agent, task: Which.
        fresh: Numbers of the episodes that were never begun; numbers, because there may be a million.
        back: Attempts to repeat.
        alone: Attempts to repeat, each as a job of its own.
    """

    agent: str
    task: str
    fresh: deque[int] = field(default_factory=deque)
    back: deque[Attempt] = field(default_factory=deque)
    alone: deque[Attempt] = field(default_factory=deque)

    @property
    def domain(self) -> str:
        return self.task.partition("/")[0]

    def __len__(self) -> int:
        return len(self.fresh) + len(self.back) + len(self.alone)

    def take(self) -> Attempt:
        """Take the next attempt of those that may share a job."""
        return self.back.popleft() if self.back else Attempt(self.item(self.fresh.popleft()))

    def item(self, episode: int) -> WorkItem:
        return WorkItem(self.agent, self.task, episode)


def tabled(
    tasks: Iterable[PlannedTask], infos: Mapping[str, AgentInfo], device: str
) -> dict[tuple[str, str], float]:
    """Return rough seconds of an episode on one core, by agent label and task id.

    Args:
        tasks: What is played.
        infos: Of the agents, by label.
        device: Where models act; a graphics processor takes their work off the core.
    """
    decide = {
        label: _HOST_S
        + (_WEIGHT_S * (info.parameters or 0) if info.kind == "model" and device == "cpu" else 0)
        for label, info in infos.items()
    }
    return {
        (label, planned.task.id): (planned.task.horizon or _HORIZON)
        * (load_domain(planned.task.domain).step_s + seconds)
        for planned in tasks
        for label, seconds in decide.items()
    }


class Costs:
    """Seconds that an episode takes a job's core, tabled at first and measured as jobs end."""

    def __init__(self, tabled: Mapping[tuple[str, str], float]) -> None:
        """Begin with ``tabled`` seconds by agent label and task id."""
        self._tabled = dict(tabled)
        self._measured: dict[tuple[str, str], tuple[float, int]] = {}
        self._ratio: dict[tuple[str, str], tuple[float, float]] = {}

    def episode(self, agent: str, task: str) -> float:
        """Return the expected seconds of an episode: measured, or tabled and corrected by its domain's."""
        if (agent, task) in self._measured:
            seconds, episodes = self._measured[agent, task]
            return max(1e-6, seconds / episodes)
        real, expected = self._ratio.get((agent, task.partition("/")[0]), (1.0, 1.0))
        return max(1e-6, self._tabled[agent, task] * real / expected)

    def measure(self, agent: str, task: str, seconds: float, episodes: int) -> None:
        """Take note that so many episodes have taken ``seconds``, start-up apart."""
        if episodes < 1 or seconds <= 0:
            return
        before = self._measured.get((agent, task), (0.0, 0))
        self._measured[agent, task] = before[0] + seconds, before[1] + episodes
        domain = task.partition("/")[0]
        real, expected = self._ratio.get((agent, domain), (0.0, 0.0))
        tabled = self._tabled[agent, task] * episodes
        self._ratio[agent, domain] = real + seconds, expected + max(1e-9, tabled)


class EpisodeQueue:
    """All work that waits for a job."""

    def __init__(self, items: Iterable[WorkItem], costs: Costs, episodes: int | None = None) -> None:
        """Take ``items``, in plan order.

        Args:
            items: What is to be played.
            costs: Seconds of an episode.
            episodes: Episodes of a job (None: found by cost).
        """
        self._costs, self._episodes = costs, episodes
        self._lines: dict[str, dict[str, _Line]] = {}
        self._count = 0
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._seconds, self._cuts = 0.0, 0
        for item in items:
            line = self._line(item)
            line.fresh.append(item.episode)
            self._add(line, 1)

    def __len__(self) -> int:
        return self._count

    def pairs(self) -> set[tuple[str, str]]:
        """Return agent and domain of what waits."""
        return {pair for pair, count in self._pairs.items() if count}

    def seconds(self) -> float:
        """Return the expected seconds of all that waits."""
        return sum(
            len(line) * self._costs.episode(line.agent, line.task)
            for lines in self._lines.values()
            for line in lines.values()
        )

    def give_back(self, attempts: Iterable[Attempt], *, alone: bool = False) -> None:
        """Take back what has to be repeated; it comes first. ``alone``: each as a job of its own."""
        for attempt in reversed(list(attempts)):
            line = self._line(attempt.item)
            # One that has paid for a failure has fewer tries left than others in a job.
            (line.alone if alone or attempt.failures else line.back).appendleft(attempt)
            self._add(line, 1)

    def take_all(self, agent: str | None, task: str) -> list[Attempt]:
        """Take what waits of a task (of one agent, or of all): it is given up."""
        taken: list[Attempt] = []
        for label in list(self._lines):
            if agent in (None, label) and task in self._lines[label]:
                line = self._lines[label].pop(task)
                self._add(line, -len(line))
                taken += [*line.alone, *line.back, *(Attempt(line.item(number)) for number in line.fresh)]
                self._drop_empty(label)
        return taken

    def best(self, playable: Mapping[tuple[str, str], int]) -> tuple[str, str] | None:
        """Return agent and task of the line to take from next; None where none can be played.

        Args:
            playable: By agent and domain, on how many nodes it can be played; those that are not there
                cannot be played by the node that asks.
        """
        for agent in list(self._lines)[:_AGENTS_AT_ONCE]:
            fitting = [line for line in self._lines[agent].values() if (agent, line.domain) in playable]
            if fitting:
                # What few nodes can play goes first: the others have something else to do.
                chosen = min(
                    fitting,
                    key=lambda line: (
                        playable[line.agent, line.domain],
                        -len(line) * self._costs.episode(line.agent, line.task),
                    ),
                )
                return agent, chosen.task
        rest = [line for lines in self._lines.values() for line in lines.values()]
        for line in rest:
            if (line.agent, line.domain) in playable:
                return line.agent, line.task
        return None

    def cut(self, agent: str, task: str, start_s: float, slots: int) -> EpisodeGroup:
        """Take the next job of a line.

        Args:
            agent: Label of the agent.
            task: Id of the task.
            start_s: Start-up of such a job.
            slots: Jobs that run at the same time.
        """
        line = self._lines[agent][task]
        if line.alone:
            group = EpisodeGroup((line.alone.popleft(),))
        else:
            size = self._episodes or self._size(line, start_s, slots)
            group = EpisodeGroup(
                tuple(line.take() for _ in range(min(size, len(line.back) + len(line.fresh))))
            )
        self._add(line, -len(group.attempts))
        if not len(line):
            del self._lines[agent][task]
            self._drop_empty(agent)
        return group

    def _size(self, line: _Line, start_s: float, slots: int) -> int:
        """Return how many episodes the next job of ``line`` should have."""
        if self._cuts % _RECKON_EVERY == 0:
            self._seconds = self.seconds()
        self._cuts += 1
        left = len(line.back) + len(line.fresh)
        episode = self._costs.episode(line.agent, line.task)
        target = min(MOST_S, math.sqrt(2 * (LAUNCH_S + start_s) * self._seconds / max(1, slots)))
        size = min(left, max(1, round(target / episode)))
        self._seconds = max(0.0, self._seconds - size * episode)
        # Equal parts, rather than a small one at the end.
        return math.ceil(left / math.ceil(left / size))

    def _line(self, item: WorkItem) -> _Line:
        lines = self._lines.setdefault(item.agent, {})
        if item.task not in lines:
            lines[item.task] = _Line(item.agent, item.task)
        return lines[item.task]

    def _add(self, line: _Line, episodes: int) -> None:
        self._count += episodes
        self._pairs[line.agent, line.domain] += episodes

    def _drop_empty(self, agent: str) -> None:
        if not self._lines[agent]:
            del self._lines[agent]
