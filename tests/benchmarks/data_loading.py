"""Windows a second: a trajectory store against one small gzip HDF5 file an episode, opened for each window.

The latter is the layout that the public reference implementation of LRAM trains from
(``<task>/<episode>.hdf5`` with states, actions, rewards and returns_to_go, gzip 1, chunks as h5py guesses
them). Both hold the same
episodes and are read at the same places, in turns, in one process; both end in padded torch tensors::

    OMP_NUM_THREADS=1 python tests/benchmarks/data_loading.py -o data_loading.json

Everything is in the page cache, so disks play no part; what is measured is opening, decompressing, copying.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import h5py
import numpy as np
import torch

from lram.agents.api import TaskSpec
from lram.agents.training.selection import Selection
from lram.agents.training.windows import STATE_WIDTH, Sampling, Windows
from lram.agents.trajectories import StoreWriter, Trajectory, TrajectoryStore, returns_to_go

VECTORS = TaskSpec("metaworld/made-up", "metaworld", "vector", (39,), "continuous", 4, 100.0, 200.0)
IMAGES = TaskSpec("procgen/made-up", "procgen", "image", (3, 64, 64), "discrete", 15, 10.0, 1.0)
CONTEXT = 50


def made_up(task: TaskSpec, length: int, rng: np.random.Generator) -> Trajectory:
    """Smooth vectors, or coloured squares that move before a patterned ground."""
    rewards = rng.normal(size=length).astype(np.float32)
    if task.observation == "vector":
        seen: Any = np.cumsum(rng.normal(size=(length + 1, 39)) * 0.01, axis=0).astype(np.float32)
        actions: Any = rng.uniform(-1, 1, (length, task.action_size)).astype(np.float32)
    else:
        ground = rng.integers(0, 256, (3, 16, 16), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
        seen = np.repeat(ground[None], length + 1, axis=0)
        for square in range(12):
            x, y = np.abs((np.cumsum(rng.integers(-2, 3, (2, length + 1)), axis=1) + 5 * square) % 112 - 56)
            for t in range(length + 1):
                seen[t, :, y[t] : y[t] + 6, x[t] : x[t] + 6] = rng.integers(0, 256, (3, 1, 1), dtype=np.uint8)
        actions = rng.integers(0, task.action_size, length)
    return Trajectory(task, seen, actions, rewards, rewards, False, True, policy="made-up")


def write_files(folder: Path, number: int, one: Trajectory) -> None:
    """Write an episode as a file of its own."""
    with h5py.File(folder / f"{number}.hdf5", "w") as file:
        columns = {
            "states": one.observations[: one.length],
            "actions": one.actions,
            "rewards": one.rewards,
            "returns_to_go": returns_to_go(one.signals),
        }
        for name, values in columns.items():
            file.create_dataset(name, data=values, compression="gzip", compression_opts=1)


def read_files(folder: Path, windows: Windows, item: int, task: TaskSpec) -> list[torch.Tensor]:
    """Open a file for each window, read it, pad it on the left, and stack the windows."""
    places, rows = windows.places(item), []
    for number, start, stop in zip(places.numbers, places.starts, places.stops, strict=True):
        with h5py.File(folder / f"{number}.hdf5", "r") as file:
            columns = [file[name][start:stop] for name in ("states", "actions", "rewards", "returns_to_go")]
        missing = CONTEXT - len(columns[1])
        if task.observation == "vector":
            columns[0] = np.pad(columns[0], [(0, 0), (0, STATE_WIDTH - columns[0].shape[1])])
            columns[1] = np.pad(columns[1], [(0, 0), (0, 8 - columns[1].shape[1])])
        columns.append(np.ones(CONTEXT - missing, np.float32))
        rows.append([np.pad(column, [(missing, 0)] + [(0, 0)] * (column.ndim - 1)) for column in columns])
    return [torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)]


def turns(
    candidates: dict[str, Callable[[int], object]], batches: int, repeats: int
) -> dict[str, list[float]]:
    """Return seconds a batch of each candidate, which take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(-1, repeats):
        for name, build in candidates.items():
            began = perf_counter()
            for item in range(batches):
                build(item)
            if repeat >= 0:  # the first turn fills caches
                seconds[name].append((perf_counter() - began) / batches)
    return seconds


def measure(
    task: TaskSpec, episodes: int, length: int, folder: Path, how: argparse.Namespace
) -> dict[str, Any]:
    """Write both layouts and read them."""
    rng = np.random.default_rng(how.seed)
    files = folder / task.domain
    files.mkdir()
    with StoreWriter(folder / f"{task.domain}.store") as writer:
        for number in range(episodes):
            one = made_up(task, length, rng)
            writer.append(one)
            write_files(files, number, one)
    path, sampling = folder / f"{task.domain}.store", Sampling(context=CONTEXT, sequences=how.sequences)
    everything = Selection(validation_share=0.0)
    candidates: dict[str, Callable[[int], object]] = {}
    for name, cache in (("store", 256 << 20), ("store, nothing kept in memory", 0)):
        store = TrajectoryStore(path, cache_bytes=cache)
        candidates[name] = Windows([store], everything, sampling, seed=how.seed).__getitem__
    windows = Windows([TrajectoryStore(path)], everything, sampling, seed=how.seed)
    candidates["a file an episode"] = lambda item: read_files(files, windows, item, task)
    seconds = turns(candidates, how.batches, how.repeats)
    sizes = {
        "store": TrajectoryStore(path).bytes,
        "a file an episode": sum(file.stat().st_size for file in files.iterdir()),
    }
    return {
        "task": task.id,
        "episodes": episodes,
        "length": length,
        "bytes": sizes,
        "milliseconds a batch": {
            name: {"min": min(took) * 1e3, "median": statistics.median(took) * 1e3}
            for name, took in seconds.items()
        },
        "windows a second": {name: how.sequences / statistics.median(took) for name, took in seconds.items()},
    }


def main() -> None:
    """Measure, print, and write JSON where it is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sequences", type=int, default=32, help="windows of a batch")
    parser.add_argument("--batches", type=int, default=10, help="batches of a turn")
    parser.add_argument("--repeats", type=int, default=7, help="turns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    how = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = [
            measure(VECTORS, 400, 200, Path(folder), how),
            measure(IMAGES, 40, 400, Path(folder), how),
        ]
    for one in found:
        sizes = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in one["bytes"].items())
        print(f"{one['task']}: {one['episodes']} episodes of {one['length']}; {sizes}")
        for name, took in one["milliseconds a batch"].items():
            speed = one["windows a second"][name]
            print(f"  {name:32} {took['min']:8.2f} ms ({took['median']:.2f})  {speed:10,.0f} windows/s")
    if how.output:
        facts = {"processor": platform.processor(), "cores": os.cpu_count(), "h5py": h5py.__version__}
        settings = {name: value for name, value in vars(how).items() if name != "output"}
        how.output.write_text(json.dumps({**facts, **settings, "results": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
