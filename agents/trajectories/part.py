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
from lram.agents.trajectories.layout import FORMAT, VERSION
from lram.agents.trajectories.trajectory import Trajectory, returns_to_go

FRAMES = 8
"""Frames of an image chunk."""

VECTOR_CHUNK_BYTES = 1 << 18
PLAIN_BYTES = 512
"""Arrays below this are stored as they are: a compressed chunk's bookkeeping takes more than it saves."""


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


def open_part(path: Path) -> Any:
    """Return the part as an open h5py.File, for reading; AgentError where it is none."""
    import h5py

    try:
        # Parts never change, so nothing is locked: that fails on some network file systems.
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise AgentError(
            f"{path} cannot be read ({_words(error)}); put the file back from a copy of the store"
        ) from error


def read_episode(file: Any, number: int, task: TaskSpec) -> Trajectory:
    """Return episode ``number`` of an open part; AgentError where it is damaged."""
    try:
        group = file[f"episode_{number}"]
        infos, attributes = group["infos"], group.attrs
        seed = attributes.get("seed")
        return Trajectory(
            task=task,
            observations=group["observations"][()],
            actions=group["actions"][()],
            rewards=group["rewards"][()],
            signals=infos["signals"][()],
            terminated=bool(group["terminations"][-1]),
            truncated=bool(group["truncations"][-1]),
            success=infos["success"][()] if "success" in infos else None,
            context_starts=tuple(int(start) for start in attributes["context_starts"]),
            seed=None if seed is None else int(seed),
            policy=attributes.get("policy", ""),
            protocol=attributes.get("protocol", ""),
            record=attributes.get("record", ""),
            origin=attributes.get("origin", ""),
        )
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise damaged(file.filename, number, error) from error


def damaged(path: str | Path, number: int, error: Exception) -> AgentError:
    """Return the sentence for an episode of a part that cannot be read."""
    return AgentError(
        f"{path}, episode {number} cannot be read ({_words(error)}); put the file back from a copy of the "
        "store"
    )


def _words(error: Exception) -> str:
    return " ".join(str(error).split())
