"""Windows of trajectories for training and validation, as batches that depend on nothing but their number.

::

    stores, selection = [TrajectoryStore("data/metaworld")], Selection(tasks=("metaworld/*",))
    windows = Windows(stores, selection, Sampling(context=50), seed=0)
    batch = windows[1234]                                     # the same today and tomorrow
    for batch in Loader(windows, 1234, 5000, workers=4): ...  # read ahead
    valid = evaluation_windows(stores, selection, context=50, windows=512)

Micro-batch i of rank r is a pure function of seed, split, i and r: neither the number of workers nor
an interruption changes what is trained on. Ranks hold consecutive sequences of one larger
micro-batch, so four ranks of 32 sequences read what one rank of 128 reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np
from torch.utils.data import Dataset

from lram.agents.api import AgentError, TaskSpec
from lram.agents.training.batches import Batch, Places, assemble
from lram.agents.training.sampling import DomainEpisodes, Integers, chances, domain_cycle
from lram.agents.training.selection import Selected, Selection, Split, select

if TYPE_CHECKING:
    from lram.agents.trajectories.store import TrajectoryStore

STATE_WIDTH = 204
"""Of :class:`lram.agents.model.config.ModelConfig`."""

_STREAMS = {"train": 1, "valid": 2}
_SPREAD = 4


@dataclass(frozen=True, slots=True)
class Sampling:
    """How windows are drawn.

    Attributes:
        context: Timesteps of a window, at most.
        sequences: Windows of a micro-batch.
        sequences_by_domain: The same for single domains, where it differs.
        weights: Turns of each domain in a cycle; 1 where not named, 0 leaves it out.
        balance_tasks: Draw a task of the domain first, all alike, then a transition of it; otherwise all
            transitions of the domain are alike, so that tasks with more data come more often.
        fill: A window that begins where a context does is filled up from what follows the drawn end; less
            is padding, and the beginnings of contexts come more often.
    """

    context: int = 50
    sequences: int = 32
    sequences_by_domain: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)
    balance_tasks: bool = False
    fill: bool = False

    def __post_init__(self) -> None:
        counts = {"context": self.context, "sequences": self.sequences}
        counts |= {f"sequences of {domain}": count for domain, count in self.sequences_by_domain.items()}
        for name, count in counts.items():
            if count < 1:
                raise AgentError(f"{name} must be 1 or more, not {count}")

    def sequences_of(self, domain: str) -> int:
        """Return the windows of a micro-batch of ``domain``."""
        return self.sequences_by_domain.get(domain, self.sequences)


class TaskCount(NamedTuple):
    """How much of a task is in a split."""

    task: str
    episodes: int
    transitions: int


class Windows(Dataset[Batch]):
    """Micro-batches of random windows, without end.

    Args:
        stores: Where the episodes are; a task may be in several.
        selection: Which of them are used.
        sampling: How windows are drawn.
        seed: Of the draws.
        split: ``train`` or ``valid``.
        rank: Which of several processes this is, from 0.
        state_width: Vector observations are filled up with zeros to this width.

    Attributes:
        tasks: Table of tasks, sorted by id; the same in both splits.
        domains: Their names, in the order of their turns, without those of weight 0.
        cycle: The domain of micro-batch i is ``cycle[i % len(cycle)]``.
        context: Timesteps of each batch (T), padding included.

    Raises:
        AgentError: What :func:`lram.agents.training.selection.select` and
            :func:`lram.agents.training.sampling.domain_cycle` tell.
    """

    def __init__(
        self,
        stores: Sequence[TrajectoryStore],
        selection: Selection,
        sampling: Sampling,
        *,
        seed: int,
        split: Split = "train",
        rank: int = 0,
        state_width: int = STATE_WIDTH,
    ) -> None:
        if seed < 0 or rank < 0:
            raise AgentError(f"seed and rank must be 0 or more, not {seed} and {rank}")
        selected = select(stores, selection, split, state_width=state_width)
        self.tasks, self._episodes = selected
        self.cycle = _cycle(selected, sampling, split)
        self.domains = tuple(dict.fromkeys(self.cycle))
        self.context = sampling.context
        self._stores, self._sampling, self._width = tuple(stores), sampling, state_width
        self._key, self._rank = (seed, _STREAMS[split]), rank

    def domain(self, item: int) -> str:
        """Return the domain of micro-batch ``item``."""
        return self.cycle[item % len(self.cycle)]

    def sequences(self, domain: str) -> int:
        """Return the windows of a micro-batch of ``domain``."""
        return self._sampling.sequences_of(domain)

    def places(self, item: int) -> Places:
        """Return where the windows of micro-batch ``item`` are, without reading them."""
        if item < 0:
            raise IndexError(f"micro-batches are counted from 0; there is no number {item}")
        episodes = self._episodes[self.domain(item)]
        return _drawn(episodes, self._sampling, (*self._key, item), self._rank)

    def __getitem__(self, item: int) -> Batch:
        """Return micro-batch ``item``; AgentError when its episodes cannot be read."""
        places = self.places(item)
        return assemble(self._stores, self.tasks, places, length=self.context, state_width=self._width)

    def summary(self) -> list[TaskCount]:
        """Return how much of each task there is in the split."""
        return [
            TaskCount(self.tasks[task].id, int(numbers), int(transitions))
            for episodes in self._episodes.values()
            for task, numbers, transitions in episodes.counts()
        ]


class FixedBatches(Sequence[Batch]):
    """Batches that are the same whenever they are read; each access builds one anew (``list`` keeps them).

    Attributes:
        tasks: Table of tasks, sorted by id, as that of :class:`Windows`.
        domains: Names of the domains that have batches.
    """

    def __init__(
        self,
        stores: Sequence[TrajectoryStore],
        tasks: tuple[TaskSpec, ...],
        places: Sequence[Places],
        *,
        length: int,
        state_width: int,
    ) -> None:
        self.tasks, self.domains = tasks, tuple(dict.fromkeys(place.domain for place in places))
        self._stores, self._places = tuple(stores), places
        self._length, self._width = length, state_width

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, item: int) -> Batch: ...
    @overload
    def __getitem__(self, item: slice) -> list[Batch]: ...
    def __getitem__(self, item: int | slice) -> Batch | list[Batch]:
        """Return batch ``item``; AgentError when its episodes cannot be read."""
        if isinstance(item, slice):
            return [self[one] for one in range(len(self))[item]]
        places = self._places[item]
        return assemble(self._stores, self.tasks, places, length=self._length, state_width=self._width)

    def __iter__(self) -> Iterator[Batch]:
        return (self[item] for item in range(len(self)))


def evaluation_windows(
    stores: Sequence[TrajectoryStore],
    selection: Selection,
    *,
    context: int,
    windows: int,
    sequences: int = 8,
    split: Split = "valid",
    state_width: int = STATE_WIDTH,
) -> FixedBatches:
    """Return long windows, for metrics by position: how good is a prediction after so many timesteps?

    Episodes are cut into contiguous windows of ``context`` timesteps, from where the agent's context
    began; what is left at the end is a shorter one. Of these, the tasks of a domain give in turns
    their longest (equals in a random order that is always the same) until there are ``windows``. So
    where there are enough that are full, all positions are measured on the same windows.

    Position p of window b is index p of dimension 1 of the batch's tensors (``mask[b, p]`` tells whether
    it is there), and timestep ``starts[b] + p`` of the episode.

    Args:
        stores: Where the episodes are.
        selection: Which are used.
        context: Timesteps of a window.
        windows: Of each domain, where there are so many.
        sequences: Windows of a batch.
        split: ``valid`` or ``train``.
        state_width: Vector observations are filled up with zeros to this width.

    Raises:
        AgentError: There are no such episodes, or a number is below 1.
    """
    if windows < 1:
        raise AgentError(f"windows must be 1 or more, not {windows}")
    sampling = Sampling(context=context, sequences=sequences)
    selected = select(stores, selection, split, state_width=state_width)
    places = []
    for episodes in selected.domains.values():
        rows, starts, stops = episodes.blocks(context)
        lots = chances((selection.seed, _SPREAD), len(rows))
        tasks = episodes.tasks[rows]
        order = np.lexsort((lots, starts - stops, tasks))
        rank = np.empty(len(order), np.int64)  # of each window among those of its task
        first = np.flatnonzero(np.diff(tasks[order], prepend=-1))
        rank[order] = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
        chosen = np.lexsort((tasks, rank))[:windows]
        places += _parts(_placed(episodes, rows[chosen], starts[chosen], stops[chosen]), sampling.sequences)
    return FixedBatches(stores, selected.tasks, places, length=context, state_width=state_width)


def _cycle(selected: Selected, sampling: Sampling, split: Split) -> tuple[str, ...]:
    weights = dict(sampling.weights)
    if split == "valid":  # a domain may have no validation episodes
        weights = {domain: weight for domain, weight in weights.items() if domain in selected.domains}
    return domain_cycle(list(selected.domains), weights)


def _drawn(episodes: DomainEpisodes, sampling: Sampling, key: Sequence[int], rank: int = 0) -> Places:
    count = sampling.sequences_of(episodes.domain)
    drawn = chances(key, 2 * count, skip=2 * count * rank).reshape(count, 2)
    last = episodes.draw(drawn, sampling.balance_tasks)
    return _placed(episodes, *episodes.windows(last, sampling.context, fill=sampling.fill))


def _placed(episodes: DomainEpisodes, rows: Integers, starts: Integers, stops: Integers) -> Places:
    of = episodes
    return Places(of.domain, of.stores[rows], of.numbers[rows], of.tasks[rows], starts, stops)


def _parts(places: Places, size: int) -> list[Places]:
    return [places[first : first + size] for first in range(0, len(places.starts), size)]
