"""What readers give and need: episodes as found, what is wrong with a source, what it calls its tasks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from lram.agents.api import AgentError, TaskSpec
from lram.agents.durable import read_regular
from lram.agents.trajectories.hdf5 import DAMAGE, check_array, member, names_in, open_file, printable, shown

Array: TypeAlias = npt.NDArray[Any]


class SourceError(AgentError):
    """A file or episode that cannot be read; the message is one sentence that names it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A part of a source that gives no trajectory, and why, in one sentence; reading continues after it."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was changed or left out on the way, and how often; notes of a text are added up."""

    text: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class ActionSpace:
    """The actions that a source's metadata tell.

    Attributes:
        kind: An index, or a vector.
        size: Number of discrete actions, or width of the vector.
        low, high: Bounds of the vector, (size,) each; empty where there are none, or no finite ones.
    """

    kind: Literal["discrete", "continuous"]
    size: int
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class RawEpisode:
    """One episode as its file has it; :mod:`.conversion` makes a trajectory of it.

    Attributes:
        observations: (T, ...) or (T + 1, ...), any numeric type.
        actions: (T,) or (T, size).
        rewards: (T,) or (T, 1).
        terminated: The task ended it.
        truncated: A limit ended it.
        kind_of_end_known: False where the source only says that it ended (``terminated``): one that is
            as long as the task's horizon then counts as truncated.
        success: (T,), or (T + 1,) with the reset's first; None where the source does not say.
        returns: The returns that the source notes beside the rewards; they should be the rewards' sum.
        space: Of the actions, where the source tells it.
        policy, seed: As the source says.
        notes: What the reader itself changed, and what the source says that nothing here was held to.
        longest: Decisions after which an episode is cut off, where the source tells it.
        environment: Id of the task that is the source's own environment, ``gym/ID``, where it tells one.
        own_notes: Instead of ``notes``, where the episode is filed under that task.
        task: What was played, where the source tells all of it (our own stores).
        signals, context_starts, protocol, record, origin: As :class:`Trajectory` has them, likewise.
    """

    observations: Array
    actions: Array
    rewards: Array
    terminated: bool
    truncated: bool
    kind_of_end_known: bool = True
    success: Array | None = None
    returns: tuple[float, ...] = ()
    space: ActionSpace | None = None
    policy: str = ""
    seed: int | None = None
    notes: tuple[Note, ...] = ()
    longest: int | None = None
    environment: str = ""
    own_notes: tuple[Note, ...] = ()
    task: TaskSpec | None = None
    signals: Array | None = None
    context_starts: tuple[int, ...] = (0,)
    protocol: str = ""
    record: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """An episode that a source holds, not read yet.

    Attributes:
        names: What the source calls the task, the most telling first.
        where: Names the episode in a sentence: its file, and its place in there.
        key: Names it within the source, without the way there on this machine.
        load: Reads it; to be called before the next one is asked for. May raise SourceError or one of
            :data:`lram.agents.trajectories.hdf5.DAMAGE`.
        task_id: The task's id, where the source tells it.
    """

    names: tuple[str, ...]
    where: str
    key: str
    load: Callable[[], RawEpisode]
    task_id: str | None = None


Item: TypeAlias = Found | Problem | Note


@dataclass(frozen=True, slots=True)
class Shapes:
    """What can be seen of a task in one of its episodes; ``action_size`` None where it cannot.

    Attributes:
        doubt: Why its actions may be of the other kind, in a few words; empty where that is plain, or where
            the source or the user says it.
    """

    observation: Literal["image", "vector"]
    observation_shape: tuple[int, ...]
    action: Literal["discrete", "continuous"]
    action_size: int | None
    doubt: str = ""


class Tasks(Protocol):
    """The tasks that a source may hold, as the caller knows them."""

    def find(self, names: tuple[str, ...]) -> str:
        """Return the id of the task that a source calls so; AgentError where there is none."""
        ...

    def wanted(self, task_id: str) -> bool:
        """Return whether the task was asked for."""
        ...

    def spec(self, task_id: str, shapes: Shapes) -> TaskSpec:
        """Return the task, its open sizes taken from ``shapes``; AgentError where they do not fit."""
        ...

    def horizon(self, task_id: str) -> int | None:
        """Return the number of decisions after which the task is cut off, where it is known."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """How a source is read.

    Attributes:
        limit: At most so many episodes of each task (None: all).
        policy: Who acted; empty for what the source says.
        clip_actions: Cut actions to [-1, 1] instead of refusing those beyond.
        action_bounds: Map the source's actions from this range to [-1, 1]; ``stats``: from the smallest and
            largest that the source's metadata tell (lerobot).
        keep_rewards: Leave demonstrations' rewards as they are (robomimic).
        discrete_actions: Number of discrete actions, where neither task nor source tells it.
        observation: What is observed, where the source has more than a task takes: keys, in order (rlds,
            lerobot).
        action: What acts, likewise (rlds, lerobot).
        reward_at_end: Episodes without rewards get 0, ..., 0, 1 (lerobot).
        continuous_actions: Actions are numbers, where neither task nor source tells it: also whole ones.
    """

    limit: int | None = None
    policy: str = ""
    clip_actions: bool = False
    action_bounds: tuple[float, float] | Literal["stats"] | None = None
    keep_rewards: bool = False
    discrete_actions: int | None = None
    observation: tuple[str, ...] = ()
    action: tuple[str, ...] = ()
    reward_at_end: bool = False
    continuous_actions: bool = False


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open an HDF5 file for reading; SourceError where it is none or is cut short."""
    try:
        file = open_file(path)
    except DAMAGE as error:
        raise SourceError(
            f"{path} is no whole HDF5 file ({short(error)}); fetch it again or leave it out"
        ) from error
    with file:
        yield file


def array_of(group: Any, key: str, where: str, advice: str = "") -> Any:
    """Return the data set ``key`` of an HDF5 group, unread; SourceError where there is none to be read."""
    import h5py

    try:
        value = member(group, key)
        if isinstance(value, h5py.Dataset):
            check_array(value, shown(key))
            return value
    except DAMAGE as error:
        raise unread(where, error) from error
    what = f"has no data set {key!r}" if value is None else f"has a group {key!r} instead of a data set"
    held = ", ".join(map(shown, names_in(group)[:8])) or "nothing"
    raise SourceError(f"{where} {what} (it holds {held}); {advice or 'fix it or leave it out'}")


def unread(where: str, error: BaseException) -> SourceError:
    """Return the sentence for what is not read of a file, because of what an error says."""
    return SourceError(f"{where.rstrip(',')} cannot be read ({short(error)}); fix it or leave it out")


def json_of(path: Path) -> Any:
    """Return what a JSON file holds; SourceError where it is none."""
    try:
        return json.loads(read_regular(path))
    except FileNotFoundError:
        raise SourceError(f"{path} is missing; write it or leave its folder out") from None
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} is no JSON ({short(error)}); fix it or leave its folder out") from error


def short(error: BaseException) -> str:
    """Return an error's text as one line of at most 200 characters that can be printed."""
    text = printable(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def by_number(name: str) -> tuple[Any, ...]:
    """Sort key by which ``demo_10`` comes after ``demo_9``."""
    # Numbers by their length and digits: int() refuses very long ones.
    parts = enumerate(re.split(r"([0-9]+)", name))
    return tuple((len(part.lstrip("0")), part.lstrip("0")) if odd % 2 else (-1, part) for odd, part in parts)


def hdf5_files(path: Path) -> list[Path]:
    """Return the file, or all HDF5 files under the folder, sorted by number; without hidden ones."""
    if path.is_file():
        return [path]
    files = (file for ending in ("*.hdf5", "*.h5") for file in path.rglob(ending))
    shown = (file for file in files if not any(map(is_hidden, file.relative_to(path).parts)))
    return sorted(shown, key=lambda file: by_number(str(file)))


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of that name is no part of a data set, such as macOS's ``._0.hdf5``."""
    return name.startswith(".")


def key_of(path: Path, file: Path, episode: str = "") -> str:
    """Return how an episode is named within the source ``path``, such as ``core/stack_d0.hdf5#demo_3``."""
    relative = "" if path == file else "/" + file.relative_to(path).as_posix()
    return f"{path.resolve().name}{relative}" + (f"#{episode}" if episode else "")


def flags(values: Array, where: str, name: str) -> npt.NDArray[np.bool_]:
    """Return 0 and 1, or booleans, as (T,) booleans; SourceError for what is neither yes nor no."""
    found = np.asarray(values).reshape(-1)
    if found.dtype.kind not in "biuf" or not np.isfinite(found).all():
        raise SourceError(
            f"{where} has {name} that are neither yes nor no, such as NaN; fix them or leave it out"
        )
    return found.astype(bool)
