"""A trajectory store, for reading: episodes by their facts, random windows, whole trajectories.

::

    store = TrajectoryStore("data/reach")
    best = max(store.episodes, key=lambda episode: episode.episode_return)
    window = store.window(best.number, 10, 60)       # 50 decisions
    trajectory = store.trajectory(best.number)

Opening reads the card and the index only. Parts are opened when they are needed, by each process for
itself, so a store may be pickled, used after a fork, and read by several processes, also while another
one writes to it (it then shows what was committed when it was opened). The first time that a process reads
a number of a part, the part's checksum is compared.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lram.agents.api import AgentError, TaskSpec
from lram.agents.places import placed
from lram.agents.trajectories.card import read_signed_card
from lram.agents.trajectories.checked_parts import CheckedParts, fault_of_part
from lram.agents.trajectories.digests import trajectory_digest
from lram.agents.trajectories.hdf5 import DAMAGE, array_in, group_in, read, text_of
from lram.agents.trajectories.index import check_parts, read_index
from lram.agents.trajectories.layout import PartLine
from lram.agents.trajectories.part import damaged, read_episode
from lram.agents.trajectories.trajectory import Actions, Observations, Trajectory, check_trajectory

CACHE_BYTES = 256 << 20
"""Bytes of episodes that a process keeps in memory: vector episodes whole, of images all but the images."""


class EpisodeSummary(NamedTuple):  # made in a quarter of a frozen dataclass's time, which is most of opening
    """The facts of one episode of a store.

    Attributes:
        number: Its number in the store.
        task: ``domain/name``.
        policy: Who acted.
        protocol: Under which protocol; empty where unknown.
        length: Decisions.
        episode_return, signal_return: Sums of rewards, and of the rewards as agents are shown them.
        success_any, success_last: Solved at any step, and at the last; None without such a notion.
        terminated, truncated: How it ended; neither where the source cut it off.
        seed: Of the simulator, where known.
        context_starts: Decisions at which a context begins; 0 is first.
        part: Path of its part in the store.
        place: Its number in the part.
        origin: Names it within its source; empty where that is not recorded.
    """

    number: int
    task: str
    policy: str
    protocol: str
    length: int
    episode_return: float
    signal_return: float
    success_any: bool | None
    success_last: bool | None
    terminated: bool
    truncated: bool
    seed: int | None
    context_starts: tuple[int, ...]
    part: str
    place: int
    origin: str


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Decisions start .. stop - 1 of an episode, in the task's own widths; read-only, copy to change.

    Attributes:
        observations: (n, ...) float32 or uint8.
        actions: (n,) int64, or (n, action_size) float32.
        rewards: (n,) float32, the task's own.
        signals: (n,) float32, the rewards as agents are shown them: row i is what action i earned.
        returns_to_go: (n,) float32, unscaled sum of the signals from row i to the end of its context.
    """

    observations: Observations
    actions: Actions
    rewards: npt.NDArray[np.float32]
    signals: npt.NDArray[np.float32]
    returns_to_go: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """What is kept of an episode in memory; ``observations`` is None for images."""

    observations: Observations | None
    actions: Actions
    rewards: npt.NDArray[np.float32]
    signals: npt.NDArray[np.float32]
    returns_to_go: npt.NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        arrays = (self.observations, self.actions, self.rewards, self.signals, self.returns_to_go)
        return sum(array.nbytes for array in arrays if array is not None)


class TrajectoryStore:
    """A store that exists on disk, for reading; :class:`lram.agents.trajectories.StoreWriter` adds to it.

    Args:
        path: Folder of the store.
        cache_bytes: What each process may keep of episodes in memory.

    Attributes:
        path: Folder of the store.
        card: Who added what, and with which versions.
        tasks: Specification by task id, as the last part of the task has it.
        episodes: The facts of every episode; item i is episode number i.
        unsigned: What carries no checksum, because an earlier version wrote it: ``card.json``, and how many
            lines of the index; empty where everything does.

    Raises:
        AgentError: It is no store, or damaged as far as that shows without reading its parts.
    """

    def __init__(self, path: str | Path, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.path = placed(path)
        self.card, signed = read_signed_card(self.path)
        index = read_index(self.path)
        check_parts(self.path, index.lines, index.listing.parts)
        self._parts = index.lines
        unsigned = (f"{index.unsigned} of {len(self._parts)} lines of the index",) if index.unsigned else ()
        self.unsigned: tuple[str, ...] = (*(() if signed else ("card.json",)), *unsigned)
        self._cache_bytes = cache_bytes
        self.tasks: dict[str, TaskSpec] = {line.task.id: line.task for line in self._parts}
        self.episodes: list[EpisodeSummary] = []
        self._lines: dict[str, PartLine] = {}
        for line in self._parts:
            self._lines[line.part] = line
            self.episodes += _summaries(line, len(self.episodes))
        self._digests: dict[int, str] = {}
        self._cache: OrderedDict[int, _Columns] = OrderedDict()
        self._cached = 0
        self._files = CheckedParts(self.path, self._parts, index.listing.parts)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "cache_bytes": self._cache_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def steps(self) -> int:
        """Decisions of all episodes."""
        return sum(episode.length for episode in self.episodes)

    @property
    def bytes(self) -> int:
        """Bytes of all parts."""
        return sum(line.bytes for line in self._parts)

    @property
    def parts(self) -> tuple[PartLine, ...]:
        """The committed parts, oldest first."""
        return tuple(self._parts)

    @property
    def without_digests(self) -> int:
        """Episodes of which the index tells no digest, so that their parts must be read for it."""
        return sum(len(line.lengths) for line in self._parts if not line.digests)

    @property
    def digest(self) -> str:
        """SHA-256 over the checksums of the parts: it names the data that something was trained on."""
        return hashlib.sha256("\n".join(line.sha256 for line in self._parts).encode()).hexdigest()

    def verify(self) -> None:
        """Read every part and compare its checksum; AgentError for the first that differs."""
        for line in self._parts:
            if wrong := fault_of_part(self.path, line):
                raise AgentError(wrong)

    def trajectory(self, number: int) -> Trajectory:
        """Return episode ``number`` whole, read from disk; AgentError where it cannot be read."""
        summary = self._summary(number)
        task = self._lines[summary.part].task
        trajectory = read_episode(self._files.open(summary.part), summary.place, task)
        where = f"{self.path / summary.part}, episode {summary.place}"
        check_trajectory(trajectory, where)
        if trajectory.length != summary.length:
            raise AgentError(
                f"{where} has {trajectory.length} decisions, and the index says {summary.length}; put the "
                "store back from a copy"
            )
        return trajectory

    def actions(self, number: int) -> Actions:
        """Return the actions of episode ``number``, read from disk; AgentError where they cannot be read."""
        summary = self._summary(number)
        file = self._files.open(summary.part)
        try:
            group = group_in(file, f"episode_{summary.place}")
            actions: Actions = self._array(group, summary, "actions")
        except DAMAGE as error:
            raise damaged(self.path / summary.part, summary.place, error) from error
        return actions

    def record(self, number: int) -> str:
        """Return the JSON of episode ``number``'s record without its arrays; empty where it has none."""
        summary = self._summary(number)
        file = self._files.open(summary.part)
        try:
            return text_of(group_in(file, f"episode_{summary.place}"), "record")
        except DAMAGE as error:
            raise damaged(self.path / summary.part, summary.place, error) from error

    def trajectory_digests(self, numbers: Iterable[int]) -> list[str]:
        """Return what names the trajectories of episodes by their content, as the index or their parts tell.

        Raises:
            AgentError: There is no such episode, or the index does not tell and it cannot be read.
        """
        found = []
        for number in numbers:
            summary = self._summary(number)
            indexed = self._lines[summary.part].digests
            if not indexed and number not in self._digests:
                self._digests[number] = trajectory_digest(self.trajectory(number))
            found.append(indexed[summary.place] if indexed else self._digests[number])
        return found

    def window(self, number: int, start: int, stop: int) -> Window:
        """Return decisions ``start`` .. ``stop - 1`` of episode ``number``.

        Raises:
            AgentError: There is no such episode, the window does not lie in it, or it cannot be read.
        """
        columns = self._cache.get(number)
        if columns is None:
            columns = self._load(self._summary(number))
        else:
            self._cache.move_to_end(number)
        if not 0 <= start < stop <= len(columns.actions):
            raise AgentError(
                f"{self.path}, episode {number} has {len(columns.actions)} decisions; there is no window "
                f"{start} to {stop}"
            )
        rows = slice(start, stop)
        seen = columns.observations
        return Window(
            observations=seen[rows] if seen is not None else self._images(self.episodes[number], rows),
            actions=columns.actions[rows],
            rewards=columns.rewards[rows],
            signals=columns.signals[rows],
            returns_to_go=columns.returns_to_go[rows],
        )

    def _summary(self, number: int) -> EpisodeSummary:
        if not 0 <= number < len(self.episodes):
            raise AgentError(f"{self.path} has {len(self.episodes)} episodes; there is no number {number}")
        return self.episodes[number]

    def _load(self, summary: EpisodeSummary) -> _Columns:
        file = self._files.open(summary.part)
        images = self._lines[summary.part].task.observation == "image"
        try:
            group = group_in(file, f"episode_{summary.place}")
            infos = group_in(group, "infos")
            columns = _Columns(
                observations=None if images else self._array(group, summary, "observations"),
                actions=self._array(group, summary, "actions"),
                rewards=self._array(group, summary, "rewards").astype(np.float32, copy=False),
                signals=self._array(infos, summary, "signals"),
                returns_to_go=self._array(infos, summary, "returns_to_go"),
            )
        except DAMAGE as error:
            raise damaged(self.path / summary.part, summary.place, error) from error
        for array in (columns.observations, columns.actions, columns.rewards, columns.signals):
            if array is not None:
                array.flags.writeable = False
        columns.returns_to_go.flags.writeable = False
        self._cache[summary.number] = columns
        self._cached += columns.nbytes
        while self._cached > self._cache_bytes and len(self._cache) > 1:
            self._cached -= self._cache.popitem(last=False)[1].nbytes
        return columns

    def _images(self, summary: EpisodeSummary, rows: slice) -> Observations:
        file = self._files.open(summary.part)
        try:
            group = group_in(file, f"episode_{summary.place}")
            images: Observations = read(self._stored_array(group, summary, "observations"), rows)
        except DAMAGE as error:
            raise damaged(self.path / summary.part, summary.place, error) from error
        return images

    def _array(self, group: Any, summary: EpisodeSummary, name: str) -> npt.NDArray[Any]:
        """Return the array ``name`` of an episode without an observation after the last action."""
        array = self._stored_array(group, summary, name)
        return read(array, slice(summary.length) if name == "observations" else None)

    def _stored_array(self, group: Any, summary: EpisodeSummary, name: str) -> Any:
        """Return the array ``name`` of an episode, unread; ValueError where it is none of its task's."""
        array = array_in(group, name)
        task, length = self._lines[summary.part].task, summary.length
        lengths: tuple[int, ...] = (length,)
        row: tuple[int, ...] = ()
        kinds: tuple[str, ...] = ("float32",)
        if name == "observations":
            lengths, row = (length, length + 1), tuple(task.observation_shape)
            kinds = ("uint8",) if task.observation == "image" else kinds
        elif name == "actions":
            row, kinds = ((), ("int64",)) if task.action == "discrete" else ((task.action_size,), kinds)
        elif name == "rewards":
            kinds = ("float32", "float64")
        if len(array.shape) != 1 + len(row) or array.shape[0] not in lengths or array.shape[1:] != row:
            raise ValueError(
                f"{name} has the shape {array.shape}, and {(length, *row)} is what the index says"
            )
        if array.dtype.name not in kinds:
            raise ValueError(f"{name} has the type {array.dtype}, which should be {' or '.join(kinds)}")
        return array

    def __len__(self) -> int:
        return len(self.episodes)

    def __repr__(self) -> str:
        return f"TrajectoryStore({str(self.path)!r})"


def _summaries(line: PartLine, first: int) -> Iterable[EpisodeSummary]:
    count = len(line.lengths)
    columns = zip(
        range(first, first + count),
        repeat(line.task.id),
        line.policies,
        repeat(line.protocol),
        line.lengths,
        line.returns,
        line.signal_returns,
        line.success_any,
        line.success_last,
        line.terminated,
        line.truncated,
        line.seeds,
        (line.contexts.get(place, (0,)) for place in range(count)),
        repeat(line.part),
        range(count),
        line.origins,
        strict=False,  # repeat() has no end; the columns' lengths were compared when they were read
    )
    return map(EpisodeSummary._make, columns)
