"""The offline data of CompoSuite (Dryad): one HDF5 file a task, its episodes one after the other.

::

    expert-iiwa-offline-comp-data/
        IIWA_Box_None_PickPlace/data.hdf5    or IIWA_Box_None_PickPlace.hdf5
            observations (N, 93)  actions (N, 8)  rewards (N,)  terminals (N,)  timeouts (N,)

An episode ends at a terminal or a timeout. Steps after the last end are no whole episode and are left
out, as the reference implementation does; how many they are is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lram.agents.trajectories.hdf5 import DAMAGE, read
from lram.agents.trajectories.readers.source import (
    Found,
    Item,
    Note,
    Options,
    Problem,
    RawEpisode,
    SourceError,
    array_of,
    flags,
    hdf5_files,
    key_of,
    open_hdf5,
    unread,
)

KEYS = ("observations", "actions", "rewards", "terminals", "timeouts")
PARTIAL = "steps after the last whole episode of a file were left out"


def episodes(path: Path, options: Options) -> Iterator[Item]:
    """Yield the episodes of the file ``path``, or of all HDF5 files under the folder ``path``."""
    for file in hdf5_files(path):
        try:
            with open_hdf5(file) as group:
                yield from _file(path, file, group)
        except SourceError as problem:
            yield Problem(str(problem))
        except DAMAGE as error:
            yield Problem(str(unread(str(file), error)))


def _file(base: Path, file: Path, group: Any) -> Iterator[Item]:
    columns = {key: array_of(group, key, str(file)) for key in KEYS}
    lengths = {key: len(column) if column.shape else 0 for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise SourceError(f"{file} has columns of different lengths ({said}); fetch it again or leave it out")
    terminals, timeouts = (flags(read(columns[key]), str(file), key) for key in ("terminals", "timeouts"))
    stops = np.flatnonzero(terminals | timeouts) + 1
    if not len(stops):
        raise SourceError(
            f"{file} holds no whole episode ({len(terminals)} steps, no terminal or timeout); leave it out"
        )
    names = (file.resolve().parent.name, file.stem)
    for number, (start, stop) in enumerate(zip([0, *stops[:-1]], stops, strict=True)):
        rows = slice(int(start), int(stop))
        ends = bool(terminals[stop - 1]), bool(timeouts[stop - 1])
        left = int(len(terminals) - stop) if stop == stops[-1] else 0
        notes = (Note(PARTIAL, left),) if left else ()
        key = key_of(base, file, str(number))
        yield Found(names, f"{file}, episode {number},", key, _loader(columns, rows, ends, notes))


def _loader(
    columns: dict[str, Any], rows: slice, ends: tuple[bool, bool], notes: tuple[Note, ...]
) -> Callable[[], RawEpisode]:
    def load() -> RawEpisode:
        return RawEpisode(
            observations=read(columns["observations"], rows),
            actions=read(columns["actions"], rows),
            rewards=read(columns["rewards"], rows),
            terminated=ends[0],
            truncated=ends[1],
            notes=notes,
        )

    return load
