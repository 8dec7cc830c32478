"""Record small data sets of LeRobot by its own package, and what the package reads of them.

Run in an interpreter that has LeRobot 0.4.4 (``requirements-lerobot.txt``), from the root of the repository::

    HF_HUB_OFFLINE=1 python tests/benchmarks/record_lerobot.py tests/data/lerobot

``pusht`` has the shapes of LeRobot's data set of that name: a video of 96 x 96, positions and actions in
pixels, rewards, success. ``arm`` has vectors and single images, two tasks and no rewards, as demonstrations
often are. ``expected.npz`` holds what ``LeRobotDataset`` gives for every frame; of the video it holds the
images that were given to LeRobot, since a video is not what was put in. Everything is made here, and its
licence is the repository's.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

PUSHT = {
    "observation.image": {"dtype": "video", "shape": (96, 96, 3), "names": ["height", "width", "channels"]},
    "observation.state": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
    "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    "next.success": {"dtype": "bool", "shape": (1,), "names": None},
}
ARM = {
    "observation.images.top": {
        "dtype": "image",
        "shape": (48, 80, 3),
        "names": ["height", "width", "channels"],
    },
    "observation.state": {"dtype": "float32", "shape": (4,), "names": ["j0", "j1", "j2", "grip"]},
    "observation.environment_state": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
    "action": {"dtype": "float32", "shape": (4,), "names": ["j0", "j1", "j2", "grip"]},
}
LENGTHS = (12, 9, 15)


def drawn(x: float, y: float, height: int, width: int) -> np.ndarray[Any, Any]:
    """Return an image with a red block whose middle is at (x, y), in shares of the image, on a grey slope."""
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.repeat((60 + 100 * columns // width)[..., None], 3, axis=2).astype(np.uint8)
    inside = (np.abs(rows - y * height) < height / 8) & (np.abs(columns - x * width) < width / 8)
    image[inside] = (220, 40, 30)
    return image


def record_pusht(folder: Path) -> dict[str, Any]:
    """Write the data set ``pusht`` and return what LeRobot reads of it."""
    rng = np.random.default_rng(1)
    data = LeRobotDataset.create("lram/pusht", fps=10, features=PUSHT, root=folder, robot_type="2d pointer")
    images = []
    for length in LENGTHS:
        place = rng.uniform(0.2, 0.8, 2)
        for step in range(length):
            target = rng.uniform(0.15, 0.85, 2)
            last = step == length - 1
            images.append(drawn(*place, 96, 96))
            data.add_frame(
                {
                    "observation.image": images[-1],
                    "observation.state": (place * 512).astype(np.float32),
                    "action": (target * 512).astype(np.float32),
                    "next.reward": np.array([(step + 1) / length], np.float32),
                    "next.done": np.array([last]),
                    "next.success": np.array([last and length > 9]),
                    "task": "Push the T-shaped block onto the T-shaped target.",
                }
            )
            place = target
        data.save_episode()
    data.finalize()
    read = _read(folder, [key for key in PUSHT if key != "observation.image"])
    return {"observation.image": np.stack(images), **read}


def record_arm(folder: Path) -> dict[str, Any]:
    """Write the data set ``arm`` and return what LeRobot reads of it."""
    rng = np.random.default_rng(2)
    data = LeRobotDataset.create("lram/arm", fps=30, features=ARM, root=folder, use_videos=False)
    for episode, length in enumerate((7, 5)):
        for _ in range(length):
            place = rng.uniform(0.2, 0.8, 2)
            data.add_frame(
                {
                    "observation.images.top": drawn(*place, 48, 80),
                    "observation.state": rng.normal(0, 1, 4).astype(np.float32),
                    "observation.environment_state": rng.normal(0, 1, 3).astype(np.float32),
                    "action": rng.uniform(-1, 1, 4).astype(np.float32),
                    "task": ("Pick up the cube.", "Open the drawer.")[episode],
                }
            )
        data.save_episode()
    data.finalize()
    read = _read(folder, list(ARM))
    camera = "observation.images.top"
    return {**read, camera: np.round(read[camera] * 255).astype(np.uint8)}  # LeRobot gives shares of 255


def _read(folder: Path, keys: list[str]) -> dict[str, Any]:
    data = LeRobotDataset(f"lram/{folder.name}", root=folder)
    rows = data.hf_dataset  # without the videos
    found: dict[str, Any] = {key: np.stack([np.asarray(row[key]) for row in rows]) for key in keys}
    found["episode"] = np.array([int(row["episode_index"]) for row in rows])
    found["task"] = np.array([data.meta.tasks.iloc[int(row["task_index"])].name for row in rows])
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    root = parser.parse_args().folder
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    made = {"pusht": record_pusht(root / "pusht"), "arm": record_arm(root / "arm")}
    for name in made:
        shutil.rmtree(root / name / "images", ignore_errors=True)  # what save_episode leaves behind
    np.savez_compressed(
        root / "expected.npz", **{f"{name}.{key}": v for name, one in made.items() for key, v in one.items()}
    )
