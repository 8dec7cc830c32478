"""Read an export of ours with LeRobot's own package and compare every frame with the store.

The first interpreter has this package and writes what the store holds; the second has LeRobot 0.4.4
(``requirements-lerobot.txt``) and reads the export::

    lram data export STORE -o EXPORT
    python tests/benchmarks/read_lerobot.py store STORE /tmp/store.npz
    HF_HUB_OFFLINE=1 OTHER_PYTHON tests/benchmarks/read_lerobot.py compare EXPORT /tmp/store.npz

LeRobot 0.4.4 decodes videos by torchcodec or by torchvision's VideoReader, which newer torchvisions lack.
Where neither is there, PyAV decodes here in their place, by LeRobot's own rule: the frame that is nearest to
the time that the row asks for, at most its tolerance away.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np


def write_store(store: Path, file: Path) -> None:
    """Write the arrays of all episodes of a store, and what they were played with, as one file."""
    from lram.agents.trajectories import TrajectoryStore

    opened = TrajectoryStore(store)
    found: dict[str, Any] = {}
    for episode in opened.episodes:
        t = opened.trajectory(episode.number)
        number = episode.number
        found[f"{number}.observations"] = t.observations[: t.length]
        found[f"{number}.actions"] = t.actions
        found[f"{number}.rewards"] = t.rewards
        found[f"{number}.ended"] = np.array([t.terminated or t.truncated, t.truncated])
        found[f"{number}.task"] = np.array(t.task.id)
    np.savez(file, **found)


def compare(export: Path, file: Path) -> dict[str, Any]:
    """Read the export by LeRobot, frame by frame; return what was compared and how far it is away."""
    import torch
    from lerobot.datasets import lerobot_dataset

    _decode_by_av(lerobot_dataset, torch)
    data = lerobot_dataset.LeRobotDataset(f"lram/{export.name}", root=export)
    with np.load(file) as held:
        store = dict(held)
    away: dict[str, float] = {}
    frames, pixels, row = 0, [], 0
    for number in range(data.meta.total_episodes):
        length = len(store[f"{number}.actions"])
        for step in range(length):
            item = data[row]
            row += 1
            assert (int(item["episode_index"]), int(item["frame_index"])) == (number, step)
            assert item["task"] == str(store[f"{number}.task"])
            last = step == length - 1
            ended, truncated = store[f"{number}.ended"]
            assert bool(item["next.done"]) == (last and ended)
            assert bool(item["next.truncated"]) == (last and truncated)
            seen = store[f"{number}.observations"][step]
            if "observation.image" in item:
                # LeRobot gives shares of 255.
                pixels.append(np.abs(item["observation.image"].numpy() * 255 - seen.astype(float)).mean())
            else:
                _add(away, "state", item["observation.state"].numpy(), seen)
            _add(away, "action", item["action"].numpy(), store[f"{number}.actions"][step])
            _add(away, "reward", item["next.reward"].numpy(), np.float32(store[f"{number}.rewards"][step]))
            frames += 1
    assert row == len(data) == data.meta.total_frames
    if pixels:
        away["image, mean"], away["image, worst frame's mean"] = float(np.mean(pixels)), float(np.max(pixels))
    stats = _statistics(data, store)
    return {"episodes": data.meta.total_episodes, "frames": frames, "away": away, "statistics away": stats}


def _add(away: dict[str, float], name: str, read: Any, stored: Any) -> None:
    difference = float(
        np.abs(np.asarray(read, np.float64).reshape(-1) - np.asarray(stored).reshape(-1)).max()
    )
    away[name] = max(away.get(name, 0.0), difference)


def _statistics(data: Any, store: dict[str, Any]) -> float:
    """Return how far LeRobot's own statistics of the actions are from those in ``stats.json``."""
    from lerobot.datasets.compute_stats import aggregate_stats, get_feature_stats

    made = []
    for number in range(data.meta.total_episodes):
        actions = store[f"{number}.actions"]
        made.append({"action": get_feature_stats(actions, axis=0, keepdims=actions.ndim == 1)})
    theirs = aggregate_stats(made)["action"]
    ours = data.meta.stats["action"]
    names = ("min", "max", "mean", "std")
    return max(float(np.abs(np.asarray(theirs[name]) - ours[name]).max()) for name in names)


def _decode_by_av(module: Any, torch: Any) -> None:
    """Give LeRobot a decoder where the installed torchvision has none and torchcodec is missing."""
    import importlib.util

    import torchvision

    if importlib.util.find_spec("torchcodec") or hasattr(torchvision.io, "VideoReader"):
        return
    import av

    def decode(path: Any, times: list[float], tolerance_s: float, backend: Any = None) -> Any:
        with av.open(str(path)) as container:
            frames = [(float(f.pts * f.time_base), f) for f in container.decode(video=0)]
            chosen = []
            for time in times:
                at, frame = min(frames, key=lambda one: abs(one[0] - time))
                assert abs(at - time) < tolerance_s, (path, time, at)
                chosen.append(torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1))
        return torch.stack(chosen).float() / 255

    module.decode_video_frames = decode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["store", "compare"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    if given.what == "store":
        write_store(given.folder, given.file)
    else:
        print(json.dumps(compare(given.folder, given.file), indent=2))
