"""What a store holds, in numbers: returns, lengths, successes, and how well copying would do.

An agent that sees its own last action can learn to repeat it: where consecutive actions are nearly
equal, that alone predicts well, and the model learns little else (the copycat problem). It is why the
paper leaves actions out of the context. :func:`copying` measures how far a store invites it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lram.agents.trajectories.store import EpisodeSummary, TrajectoryStore
from lram.agents.trajectories.trajectory import Actions


@dataclass(frozen=True, slots=True)
class Facts:
    """Numbers about some episodes, at least one.

    Attributes:
        episodes, steps: How many episodes, and decisions in all.
        return_mean, return_min, return_max: Of the episodes' returns (the task's own, unclipped reward
            where the source has it).
        length_mean: Decisions of an episode.
        success_any, success_last: Share of episodes solved at any step, and at the last, among those
            whose task has such a notion; None where none has.
    """

    episodes: int
    steps: int
    return_mean: float
    return_min: float
    return_max: float
    length_mean: float
    success_any: float | None
    success_last: float | None


@dataclass(frozen=True, slots=True)
class Copying:
    """How alike consecutive actions are, over ``pairs`` pairs of them.

    Attributes:
        pairs: Number of pairs of consecutive actions within episodes.
        repeated: Share of pairs with exactly the same action twice; None without pairs.
        difference: Mean over pairs and action dimensions of the squared difference; None where there
            are no continuous actions. Independent uniform actions in [-1, 1] have 2/3.
    """

    pairs: int
    repeated: float | None
    difference: float | None


def facts(episodes: Sequence[EpisodeSummary]) -> Facts:
    """Return the numbers of ``episodes``, from the index alone."""
    returns = [episode.episode_return for episode in episodes]
    steps = sum(episode.length for episode in episodes)
    return Facts(
        episodes=len(episodes),
        steps=steps,
        return_mean=float(np.mean(returns)),
        return_min=min(returns),
        return_max=max(returns),
        length_mean=steps / len(episodes),
        success_any=_share(episode.success_any for episode in episodes),
        success_last=_share(episode.success_last for episode in episodes),
    )


def _share(values: Iterable[bool | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def part_bytes(store: TrajectoryStore) -> dict[str, int]:
    """Return the bytes on disk by task id."""
    found: dict[str, int] = {}
    for line in store.parts:
        found[line.task.id] = found.get(line.task.id, 0) + line.bytes
    return found


@dataclass(slots=True)
class _Sums:
    pairs: int = 0
    repeated: int = 0
    continuous: int = 0
    difference: float = 0.0

    def add(self, actions: Actions) -> None:
        pairs = len(actions) - 1
        if pairs < 1:
            return
        self.pairs += pairs
        if actions.ndim == 1:
            self.repeated += int((actions[1:] == actions[:-1]).sum())
            return
        steps: npt.NDArray[np.float64] = np.diff(actions.astype(np.float64), axis=0)
        self.repeated += int((steps == 0).all(axis=1).sum())
        self.continuous += pairs
        self.difference += float((steps**2).mean(axis=1).sum())

    def merged(self, other: _Sums) -> _Sums:
        return _Sums(
            self.pairs + other.pairs,
            self.repeated + other.repeated,
            self.continuous + other.continuous,
            self.difference + other.difference,
        )

    @property
    def copying(self) -> Copying:
        return Copying(
            self.pairs,
            self.repeated / self.pairs if self.pairs else None,
            self.difference / self.continuous if self.continuous else None,
        )


def copying(store: TrajectoryStore) -> tuple[dict[str, Copying], dict[str, Copying]]:
    """Return how alike consecutive actions are, by task id and by domain.

    Reads the actions of every episode, one at a time; AgentError where they cannot be read. All pairs of
    a domain count alike.
    """
    tasks: dict[str, _Sums] = {}
    for task, actions in _actions(store):
        tasks.setdefault(task, _Sums()).add(actions)
    domains: dict[str, _Sums] = {}
    for task, sums in tasks.items():
        domain = store.tasks[task].domain
        domains[domain] = domains.get(domain, _Sums()).merged(sums)
    return (
        {task: sums.copying for task, sums in tasks.items()},
        {domain: sums.copying for domain, sums in domains.items()},
    )


def _actions(store: TrajectoryStore) -> Iterator[tuple[str, Actions]]:
    for episode in store.episodes:
        yield episode.task, store.actions(episode.number)
