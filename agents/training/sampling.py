"""How windows are drawn from episodes: numbers only, no data is read.

The transitions of a domain's episodes lie on one line, one episode after the other, so that to draw a
transition uniformly is to draw an episode with probability proportional to its length and the end of a
window uniformly in it. A window ends with the transition that was drawn, and begins ``context``
timesteps before that or where the agent's context began (the episode's start, or a life lost in Atari),
whichever is later.

Nothing depends on the order in which anything is asked for: each number comes from a counter-based
generator (Philox) that is keyed by what it is for.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lram.agents.api import AgentError

Integers: TypeAlias = npt.NDArray[np.int64]

DOMAINS = ("metaworld", "dmcontrol", "procgen", "atari", "composuite", "mimicgen")
"""The order in which domains take turns, as in the reference's configuration; others follow by name."""


@dataclass(frozen=True, slots=True, eq=False)
class DomainEpisodes:
    """The episodes of one domain; N of them, with M transitions on one line.

    Attributes:
        domain: Its name.
        stores: Which store each is in: (N,).
        numbers: Its number there: (N,).
        tasks: Index of its task in the table of all tasks: (N,), ascending.
        ends: Where its transitions end on the line: (N,), so that the last is M.
        contexts: Where contexts begin on the line, at least one an episode, ascending.
        task_ends: Where the transitions of each task that is there end on the line.
    """

    domain: str
    stores: Integers
    numbers: Integers
    tasks: Integers
    ends: Integers
    contexts: Integers
    task_ends: Integers

    @property
    def transitions(self) -> int:
        """M."""
        return int(self.ends[-1])

    def draw(self, chances: npt.NDArray[np.float64], balance_tasks: bool) -> Integers:
        """Return transitions on the line, for chances (n, 2) in [0, 1): (n,)."""
        if not balance_tasks:
            return _scaled(chances[:, 1], np.int64(self.transitions))
        task = _scaled(chances[:, 0], np.int64(len(self.task_ends)))
        first = np.concatenate([[0], self.task_ends])[task]
        transitions: Integers = first + _scaled(chances[:, 1], self.task_ends[task] - first)
        return transitions

    def windows(
        self, last: Integers, context: int, *, fill: bool = False
    ) -> tuple[Integers, Integers, Integers]:
        """Return the windows of at most ``context`` timesteps that end with these transitions.

        With ``fill``, a window that begins where the agent's context began continues until it is full, or
        the context ends.

        Returns:
            Episodes (indices into the columns), first timesteps, and ends (exclusive): each (n,).
        """
        place = np.searchsorted(self.contexts, last, side="right")
        began = self.contexts[place - 1]
        episodes = np.searchsorted(self.ends, last, side="right")
        origin = np.concatenate([[0], self.ends])[episodes]
        starts = np.maximum(began, last + 1 - context)
        if fill:
            last = np.minimum(starts + context, np.append(self.contexts, self.transitions)[place]) - 1
        return episodes.astype(np.int64), starts - origin, last + 1 - origin

    def blocks(self, context: int) -> tuple[Integers, Integers, Integers]:
        """Return all windows that cut every context, from its start, into lengths of ``context``.

        The last of a context may be shorter. They are returned as by ``windows``.
        """
        lengths = np.diff(np.append(self.contexts, self.transitions))
        counts = -(-lengths // context)
        place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        starts = np.repeat(self.contexts, counts) + place * context
        stops = np.minimum(starts + context, np.repeat(self.contexts + lengths, counts))
        episodes, first, last = self.windows(stops - 1, 1)
        return episodes, first - (stops - starts - 1), last

    def counts(self) -> Iterator[tuple[int, int, int]]:
        """Yield each task's index, its episodes and its transitions."""
        tasks, episodes = np.unique(self.tasks, return_counts=True)
        transitions = np.diff(self.task_ends, prepend=0)
        yield from zip(tasks.tolist(), episodes.tolist(), transitions.tolist(), strict=True)


def _scaled(chances: npt.NDArray[np.float64], count: Integers | np.int64) -> Integers:
    # Rounding may give the count itself for the last chance below 1.
    numbers: Integers = np.minimum((chances * count).astype(np.int64), count - 1)
    return numbers


def chances(key: Sequence[int], count: int, skip: int = 0) -> npt.NDArray[np.float64]:
    """Return numbers ``skip`` to ``skip + count`` (exclusive) of the stream of ``key``, in [0, 1).

    Raw words are used because numpy promises that they stay the same in later versions.
    """
    words = np.random.Philox(np.random.SeedSequence(list(key))).random_raw(skip + count)[skip:]
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def in_order(domains: Iterable[str]) -> list[str]:
    """Return ``domains`` in the order in which they take turns."""
    there = set(domains)
    return [name for name in DOMAINS if name in there] + sorted(there - set(DOMAINS))


def weightless(weights: Mapping[str, int]) -> frozenset[str]:
    """Return the domains of weight 0: nothing of them is used, neither to train nor to validate on."""
    return frozenset(name for name, weight in weights.items() if weight == 0)


def in_use(domains: Iterable[str], without: Container[str]) -> list[str]:
    """Return ``domains`` but for those in ``without``, in the order in which they take turns.

    Args:
        domains: Those that are there.
        without: Those of weight 0 (:func:`weightless`).

    Raises:
        AgentError: None is left.
    """
    kept = [name for name in in_order(domains) if name not in without]
    if not kept:
        raise AgentError("every domain has the weight 0, so there is nothing to train on; raise one")
    return kept


def domain_cycle(domains: Sequence[str], weights: Mapping[str, int] | None = None) -> tuple[str, ...]:
    """Return the domains whose turn it is, micro-batch after micro-batch; then it begins anew.

    Args:
        domains: Those that are there.
        weights: Turns of each in a cycle, 1 where it is not named; 0 leaves it out. The turns of a
            domain are spread evenly over the cycle.

    Raises:
        AgentError: A weight is negative, for a domain that is not there, or none is above 0.
    """
    weights = dict(weights or {})
    for name, weight in weights.items():
        if weight < 0:
            raise AgentError(f"the weight of {name} must be 0 or more, not {weight}")
        if weight and name not in domains:
            there = ", ".join(domains)
            raise AgentError(
                f"{name} has the weight {weight} but no episodes are selected in it; there are: {there}"
            )
    turns = {name: weights.get(name, 1) for name in in_use(domains, weightless(weights))}
    divisor = reduce(math.gcd, turns.values())
    turns = {name: weight // divisor for name, weight in turns.items()}
    total, credit = sum(turns.values()), dict.fromkeys(turns, 0)
    cycle = []
    for _ in range(total):
        for name, weight in turns.items():
            credit[name] += weight
        chosen = max(credit, key=lambda name: credit[name])  # the first of several
        credit[chosen] -= total
        cycle.append(chosen)
    return tuple(cycle)
