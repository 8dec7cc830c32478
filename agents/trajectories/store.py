"""A trajectory store, for reading: episodes by their facts, random windows, whole trajectories.

::

    store = TrajectoryStore("data/reach")
    best = max(store.episodes, key=lambda episode: episode.episode_return)
    window = store.window(best.number, 10, 60)       # 50 decisions
    trajectory = store.trajectory(best.number)

Opening reads the card and the index only. Parts are opened when they are needed, by each process for
itself, so a store may be pickled, used after a fork, and read by several processes, also while another
one writes to it (it then shows what was committed when it was opened).
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lram.agents.api import AgentError, TaskSpec
from lram.agents.trajectories.layout import PartLine, read_card, read_index
from lram.agents.trajectories.part import damaged, open_part, read_episode
from lram.agents.trajectories.trajectory import Actions, Observations, Trajectory

CACHE_BYTES = 256 << 20
"""Bytes of episodes that a process keeps in memory: vector episodes whole, of images all but the images."""

OPEN_PARTS = 64


class Summary(NamedTuple):  # made in a quarter of a frozen dataclass's time, which is most of opening
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
        origin: Names it within its source; empty where nothing is told.
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

    Raises:
        AgentError: It is no store, or damaged as far as that shows without reading its parts.
    """

    def __init__(self, path: str | Path, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.path = Path(path)
        self.card = read_card(self.path)
        self._parts, _ = read_index(self.path)
        self._cache_bytes = cache_bytes
        self.tasks: dict[str, TaskSpec] = {line.task.id: line.task for line in self._parts}
        self.episodes: list[Summary] = []
        self._lines: dict[str, PartLine] = {}
        for line in self._parts:
            _check_there(self.path, line)
            self._lines[line.part] = line
            self.episodes += _summaries(line, len(self.episodes))
        self._cache: OrderedDict[int, _Columns] = OrderedDict()
        self._cached = 0
        self._forget_files()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "cache_bytes": self._cache_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], cache_bytes=state["cache_bytes"])  # type: ignore[misc]

    def _forget_files(self) -> None:
        """Begin with no part open: HDF5 files that were opened before a fork must not be used after it."""
        self._process = os.getpid()
        self._files: OrderedDict[str, Any] = OrderedDict()

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
    def digest(self) -> str:
        """SHA-256 over the checksums of the parts: it names the data that something was trained on."""
        return hashlib.sha256("\n".join(line.sha256 for line in self._parts).encode()).hexdigest()

    def verify(self) -> None:
        """Read every part and compare its checksum; AgentError for the first that differs."""
        for line in self._parts:
            _check_there(self.path, line)
            with (self.path / line.part).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != line.sha256:
                raise AgentError(
                    f"{self.path / line.part} is damaged: its checksum is {found[:12]}, the index has "
                    f"{line.sha256[:12]}; put the file back from a copy of the store"
                )

    def trajectory(self, number: int) -> Trajectory:
        """Return episode ``number`` whole, read from disk; AgentError where it cannot be read."""
        summary = self._summary(number)
        task = self._lines[summary.part].task
        return read_episode(self._file(summary.part), summary.place, task)

    def record(self, number: int) -> str:
        """Return the JSON of episode ``number``'s record without its arrays; empty where it has none."""
        summary = self._summary(number)
        file = self._file(summary.part)
        try:
            return str(file[f"episode_{summary.place}"].attrs.get("record", ""))
        except (OSError, KeyError, RuntimeError) as error:
            raise damaged(self.path / summary.part, summary.place, error) from error

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

    def _summary(self, number: int) -> Summary:
        if not 0 <= number < len(self.episodes):
            raise AgentError(f"{self.path} has {len(self.episodes)} episodes; there is no number {number}")
        return self.episodes[number]

    def _load(self, summary: Summary) -> _Columns:
        file = self._file(summary.part)
        images = self._lines[summary.part].task.observation == "image"
        try:
            group = file[f"episode_{summary.place}"]
            infos = group["infos"]
            columns = _Columns(
                observations=None if images else group["observations"][: summary.length],
                actions=group["actions"][()],
                rewards=group["rewards"][()].astype(np.float32, copy=False),
                signals=infos["signals"][()],
                returns_to_go=infos["returns_to_go"][()],
            )
        except (OSError, KeyError, RuntimeError, ValueError) as error:
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

    def _images(self, summary: Summary, rows: slice) -> Observations:
        file = self._file(summary.part)
        try:
            images: npt.NDArray[np.uint8] = file[f"episode_{summary.place}/observations"][rows]
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise damaged(self.path / summary.part, summary.place, error) from error
        return images

    def _file(self, part: str) -> Any:
        if self._process != os.getpid():
            self._forget_files()
        file = self._files.get(part)
        if file is not None:
            self._files.move_to_end(part)
            return file
        file = self._files[part] = open_part(self.path / part)
        if len(self._files) > OPEN_PARTS:
            self._files.popitem(last=False)[1].close()
        return file

    def __len__(self) -> int:
        return len(self.episodes)

    def __repr__(self) -> str:
        return f"TrajectoryStore({str(self.path)!r})"


def _check_there(path: Path, line: PartLine) -> None:
    try:
        size = (path / line.part).stat().st_size
    except OSError as error:
        raise AgentError(
            f"{path} misses its part {line.part} ({error.strerror}); put the file back from a copy of the "
            "store"
        ) from error
    if size != line.bytes:
        raise AgentError(
            f"{path / line.part} is damaged: it has {size} bytes, the index has {line.bytes}; put the file "
            "back from a copy of the store"
        )


def _summaries(line: PartLine, first: int) -> Iterable[Summary]:
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
    return map(Summary._make, columns)
