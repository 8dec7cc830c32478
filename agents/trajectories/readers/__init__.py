"""Readers of public data sets: each knows one layout and gives its episodes as trajectories.

============  ======================================================================
``lram``      the paper's reference implementation: a folder a task, a file an episode
``composuite``  CompoSuite's offline data (Dryad): observations, actions, ... in one file a task
``robomimic``   demonstrations of robomimic and MimicGen: data/demo_0, ...
``minari``      Minari data sets, and our own stores
``rlds``        RLDS data sets that TensorFlow Datasets prepared: features.json, a record an episode
``lerobot``     LeRobot data sets of version 3: meta/info.json, parquet files, videos
============  ======================================================================

A reader continues after what it cannot read: it yields a :class:`Problem` there, and the caller decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from lram.agents.api import AgentError
from lram.agents.places import placed
from lram.agents.trajectories.hdf5 import DAMAGE, names_in, printable
from lram.agents.trajectories.layout import is_store
from lram.agents.trajectories.readers import (
    composuite,
    lerobot,
    minari,
    minari_ids,
    reference,
    rlds,
    robomimic,
)
from lram.agents.trajectories.readers.conversion import to_trajectory
from lram.agents.trajectories.readers.source import (
    Found,
    Item,
    Note,
    Options,
    Problem,
    RawEpisode,
    Shapes,
    SourceError,
    Tasks,
    hdf5_files,
    open_hdf5,
    short,
)
from lram.agents.trajectories.trajectory import Trajectory

__all__ = [
    "BEYOND",
    "FORMATS",
    "INVALID",
    "UNWANTED",
    "Imported",
    "Note",
    "Options",
    "Problem",
    "RawEpisode",
    "Shapes",
    "SourceError",
    "Tasks",
    "detect",
    "located",
    "read",
]

FORMATS: Mapping[str, Callable[[Path, Options], Iterator[Item]]] = MappingProxyType(
    {
        "lram": reference.episodes,
        "composuite": composuite.episodes,
        "robomimic": robomimic.episodes,
        "minari": minari.episodes,
        "rlds": rlds.episodes,
        "lerobot": lerobot.episodes,
    }
)
INVALID = rlds.INVALID
UNWANTED = "episodes of tasks that were not asked for were left out"
BEYOND = "episodes beyond the limit of each task were left out"
_LOOKED_AT = 5  # files to try before a folder's format is given up


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """One episode of a source: what it became, and what the source calls its task."""

    trajectory: Trajectory
    name: str


Result: TypeAlias = Imported | Problem | Note


def read(path: Path, tasks: Tasks, options: Options, layout: str = "") -> Iterator[Result]:
    """Yield the episodes of the source ``path`` as checked trajectories, one at a time.

    Args:
        path: A file or folder.
        tasks: The tasks that may occur.
        options: How to read.
        layout: One of ``FORMATS`` (empty: found out).

    Raises:
        AgentError: There is nothing at ``path``, or in no known layout.
    """
    layout = layout or detect(path)
    _check_there(path)
    episodes = FORMATS[layout](path, options)
    taken: Counter[str] = Counter()
    known: dict[tuple[str, ...], str | None] = {}
    for item in episodes:
        if not isinstance(item, Found):
            yield Problem(printable(item.text)) if isinstance(item, Problem) else item
            continue
        if item.names not in known:
            try:
                known[item.names] = item.task_id or tasks.find(item.names)
            except AgentError as error:
                known[item.names] = None  # said once, not for each of its episodes
                yield Problem(printable(f"{item.where.rstrip(',')} cannot be placed: {error}"))
        task_id = known[item.names]
        if task_id is None:
            continue
        if not tasks.wanted(task_id):
            yield Note(UNWANTED)
            continue
        if options.limit is not None and taken[task_id] >= options.limit:
            yield Note(BEYOND)
            continue
        result = _converted(item, task_id, tasks, options)
        if isinstance(result, Problem):
            yield Problem(printable(result.text))
            continue
        taken[task_id] += 1
        trajectory, notes = result
        yield Imported(trajectory, printable(item.names[0]))
        yield from notes


def _converted(
    item: Found, task_id: str, tasks: Tasks, options: Options
) -> tuple[Trajectory, list[Note]] | Problem:
    try:
        return to_trajectory(
            item.load(),
            item.where.rstrip(","),
            item.key,
            options,
            lambda shapes: tasks.spec(task_id, shapes),
            tasks.horizon(task_id),
        )
    except AgentError as error:
        return Problem(str(error))
    except DAMAGE as error:
        return Problem(
            f"{item.where.rstrip(',')} cannot be read ({short(error)}); fetch it again or leave it out"
        )


def located(source: str) -> tuple[Path, str]:
    """Return where a source is, from the root, and its name: ``minari:ID``, or a file's or folder's.

    Raises:
        AgentError: Minari has no such data set on this machine.
    """
    path = placed(source)
    if source.startswith(minari_ids.SCHEME) and not path.exists():
        return placed(minari_ids.dataset_folder(source.removeprefix(minari_ids.SCHEME))), source
    return path, path.resolve().name


def detect(path: Path) -> str:
    """Return the layout of a file or folder; AgentError where it is none that can be read."""
    _check_there(path)
    if path.is_dir():
        if is_store(path):
            return "minari"
        if any(map(rlds.is_prepared, rlds.folders(path))):
            return "rlds"
        if lerobot.data_sets(path):
            return "lerobot"
        if next(path.rglob(reference.LENGTHS_FILE), None):
            return "lram"
    elif ".tfrecord" in path.name:
        return "rlds"
    elif path.suffix in (".json", ".parquet", ".mp4"):
        raise AgentError(f"{path} is a part of a data set at most; name the data set's folder")
    unreadable = ""
    for file in islice(hdf5_files(path), _LOOKED_AT):
        try:
            with open_hdf5(file) as group:
                found = _layout_of(set(names_in(group)))
        except SourceError as error:
            unreadable = str(error)
            continue
        except DAMAGE as error:
            unreadable = f"{file} is no whole HDF5 file ({short(error)}); fetch it again or leave it out"
            continue
        if found:
            return found
    if path.is_dir() and any(next(path.rglob(f"*{ending}"), None) for ending in (".npz", *reference.PICKLES)):
        return "lram"
    if unreadable:
        raise AgentError(unreadable)
    raise AgentError(f"{path} is in no known layout; name one with --format ({', '.join(FORMATS)})")


def _check_there(path: Path) -> None:
    if not path.exists():
        raise AgentError(f"there is nothing at {path}; name a file or folder of a data set")


def _layout_of(keys: set[str]) -> str:
    """Return the layout of an HDF5 file by what lies at its root; empty for none."""
    if "data" in keys:
        return "robomimic"
    if any(key.startswith("episode_") for key in keys):
        return "minari"
    if {"states", "actions"} <= keys:
        return "lram"
    return "composuite" if {"observations", "actions"} <= keys else ""
