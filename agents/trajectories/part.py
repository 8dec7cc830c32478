"""A part of a store: HDF5 in Minari's layout, with what training needs beside it.

::

    part-00000.hdf5
        episode_0/
            observations       (T + 1, ...) float32, or uint8 (T + 1, 3, 64, 64)
            actions            (T,) int64, or (T, action_size) float32
            rewards            (T,) float64
            terminations       (T,) bool
            truncations        (T,) bool
            infos/
                signals        (T,) float32, the rewards as agents are shown them
                returns_to_go  (T,) float32, of the signals, per context
                success        (T,) bool, where the task has such a notion
            attributes: id, total_steps, seed, policy, protocol, origin, record, context_starts
        episode_1/ ...
        attributes: format, version, task (JSON), protocol, total_episodes, total_steps

Why this: offline reinforcement learning has a layout that is in use, Minari's; whoever knows it, or has
h5py alone, reads these files without us, and chunked, compressed arrays are what HDF5 is good at. Where
we differ from Minari: ``infos`` has one row an action (there is nothing to say of a reset), and a source
may lack the last observation.

Images are compressed by gzip 1 in chunks of a few frames: a window of random place reads at most one
chunk too much at either end, and deflate looks back two frames. The byte shuffle is for numbers of several
bytes and is off for images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lram.agents.api import AgentError, TaskSpec
from lram.agents.trajectories.digests import trajectory_digest
from lram.agents.trajectories.hdf5 import (
    DAMAGE,
    attribute,
    group_in,
    member,
    open_file,
    printable,
    read_array,
    text_of,
)
from lram.agents.trajectories.layout import FORMAT, VERSION, PartLine
from lram.agents.trajectories.trajectory import Trajectory, fault_of_task, returns_to_go

FRAMES = 8
"""Frames of an image chunk."""

VECTOR_CHUNK_BYTES = 1 << 18
PLAIN_BYTES = 512
"""Arrays below this are stored as they are: a compressed chunk's bookkeeping takes more than it saves."""


_RESTORE = "put the file back from a copy of the store"


def encode_part(trajectories: Sequence[Trajectory]) -> bytes:
    """Return the file with ``trajectories``, which are of one task and protocol."""
    import h5py

    first = trajectories[0]
    # In memory: the file is then hashed and written once, and nothing half-written is ever on disk.
    with h5py.File(
        "part", "w", driver="core", backing_store=False, block_size=1 << 22, libver=("v110", "v110")
    ) as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["task"] = msgspec.json.encode(first.task).decode()
        file.attrs["protocol"] = first.protocol
        file.attrs["total_episodes"] = len(trajectories)
        file.attrs["total_steps"] = sum(t.length for t in trajectories)
        for number, trajectory in enumerate(trajectories):
            _write_episode(file.create_group(f"episode_{number}"), number, trajectory)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _write_episode(group: Any, number: int, t: Trajectory) -> None:
    attributes = {
        "id": number,
        "total_steps": t.length,
        "seed": t.seed,
        "policy": t.policy,
        "protocol": t.protocol,
        "origin": t.origin,
        "record": t.record,
        "context_starts": np.array(t.context_starts, dtype=np.int64),
    }
    for name, value in attributes.items():
        if value is not None and not (isinstance(value, str) and not value):
            group.attrs[name] = value
    ends = np.zeros((2, t.length), dtype=np.bool_)
    ends[:, -1] = t.terminated, t.truncated
    _write(group, "observations", t.observations)
    _write(group, "actions", t.actions)
    _write(group, "rewards", t.rewards)
    _write(group, "terminations", ends[0])
    _write(group, "truncations", ends[1])
    infos = group.create_group("infos")
    _write(infos, "signals", t.signals)
    _write(infos, "returns_to_go", returns_to_go(t.signals, t.context_starts))
    if t.success is not None:
        _write(infos, "success", t.success)


def _write(group: Any, name: str, values: np.ndarray[Any, Any]) -> None:
    if values.nbytes < PLAIN_BYTES:
        group.create_dataset(name, data=values)
        return
    image = values.ndim == 4
    row = values[0].nbytes
    rows = FRAMES if image else max(1, VECTOR_CHUNK_BYTES // row)
    chunks = (min(rows, len(values)), *values.shape[1:])
    group.create_dataset(
        name, data=values, chunks=chunks, compression="gzip", compression_opts=1, shuffle=not image
    )


def open_part(path: Path, *, known: bool = False) -> Any:
    """Return the part as an open h5py.File, for reading; AgentError where it is none.

    Args:
        path: The file.
        known: See :func:`lram.agents.trajectories.hdf5.open_file`.
    """
    try:
        return open_file(path, known=known)
    except DAMAGE as error:
        raise AgentError(f"{path} cannot be read ({words(error)}); {_RESTORE}") from error


def read_episode(file: Any, number: int, task: TaskSpec) -> Trajectory:
    """Return episode ``number`` of an open part; AgentError where it is damaged."""
    try:
        group = group_in(file, f"episode_{number}")
        infos, seed = group_in(group, "infos"), attribute(group, "seed")
        return Trajectory(
            task=task,
            observations=read_array(group, "observations"),
            actions=read_array(group, "actions"),
            rewards=read_array(group, "rewards"),
            signals=read_array(infos, "signals"),
            terminated=bool(read_array(group, "terminations")[-1]),
            truncated=bool(read_array(group, "truncations")[-1]),
            success=None if member(infos, "success") is None else read_array(infos, "success"),
            context_starts=tuple(int(start) for start in attribute(group, "context_starts")),
            seed=None if seed is None else int(seed),
            policy=text_of(group, "policy"),
            protocol=text_of(group, "protocol"),
            record=text_of(group, "record"),
            origin=text_of(group, "origin"),
        )
    except DAMAGE as error:
        raise damaged(file.filename, number, error) from error


def read_task(file: Any) -> TaskSpec:
    """Return what the episodes of an open part play; ValueError or another of DAMAGE where it is missing."""
    task = msgspec.json.decode(text_of(file, "task"), type=TaskSpec)
    if wrong := fault_of_task(task):
        raise ValueError(f"its task {wrong}")
    return task


def line_of(name: str, sha256: str, size: int, group: Sequence[Trajectory]) -> PartLine:
    """Return the index's line of the part ``name``: of its file, which holds ``group``."""
    return PartLine(
        part=name,
        sha256=sha256,
        bytes=size,
        task=group[0].task,
        protocol=group[0].protocol,
        lengths=[t.length for t in group],
        returns=[t.episode_return for t in group],
        signal_returns=[t.signal_return for t in group],
        success_any=[None if t.success is None else bool(t.success.any()) for t in group],
        success_last=[None if t.success is None else bool(t.success[-1]) for t in group],
        terminated=[t.terminated for t in group],
        truncated=[t.truncated for t in group],
        seeds=[t.seed for t in group],
        policies=[t.policy for t in group],
        origins=[t.origin for t in group],
        contexts={i: t.context_starts for i, t in enumerate(group) if len(t.context_starts) > 1},
        digests=[trajectory_digest(t) for t in group],
    )


def damaged(path: str | Path, number: int, error: Exception) -> AgentError:
    """Return the sentence for an episode of a part that cannot be read."""
    return AgentError(f"{path}, episode {number} cannot be read ({words(error)}); {_RESTORE}")


def words(error: Exception) -> str:
    """Return an error's text as one line that can be printed."""
    return printable(" ".join(str(error).split())) or type(error).__name__
