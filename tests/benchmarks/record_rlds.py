"""Record small RLDS data sets as TensorFlow Datasets prepares them, and what that package reads of them.

Run in an environment that has tensorflow-datasets and tensorflow-cpu, from the root of the repository::

    python tests/benchmarks/record_rlds.py tests/data/rlds

Each folder ``NAME/VERSION`` is what ``download_and_prepare`` wrote; ``expected.npz`` holds the arrays of each
episode under ``NAME/SPLIT/EPISODE/KEY``, in the order of the files. JPEGs are decoded by TensorFlow with
``dct_method="INTEGER_ACCURATE"``; its default trades accuracy for speed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import gcs_utils

f = tfds.features
FLAGS = {"is_first": np.bool_, "is_last": np.bool_, "is_terminal": np.bool_}


def steps(observation: Any, action: Any, **more: Any) -> Any:
    return f.Dataset(
        {
            "observation": observation,
            "action": action,
            "reward": np.float32,
            "discount": np.float32,
            **FLAGS,
            **more,
        }
    )


def flags(step: int, length: int, *, terminal: bool) -> dict[str, Any]:
    last = step == length - 1
    return {
        "is_first": step == 0,
        "is_last": last,
        "is_terminal": last and terminal,
        "discount": np.float32(0 if last and terminal else 1),
    }


def picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray[Any, Any]:
    """A smooth picture with a square in it, which packs small."""
    y, x = np.mgrid[:height, :width]
    colours = [(x * 2 + 30), (y * 2 + 20), (x + y)]
    found = np.stack(colours, axis=-1).clip(0, 255).astype(np.uint8)
    top, left = int(rng.integers(height - 12)), int(rng.integers(width - 12))
    found[top : top + 12, left : left + 12] = rng.integers(0, 256, 3)
    return found


class RldsExample(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """A data set whose examples are made here."""

    VERSION = tfds.core.Version("1.0.0")
    FEATURES: Any = None
    SPLITS: ClassVar[dict[str, list[int]]] = {"train": [4, 6, 3]}

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(builder=self, features=self.FEATURES, description="Made up.")

    def _split_generators(self, dl_manager: Any) -> Any:
        return {name: self._generate_examples(name, sizes) for name, sizes in self.SPLITS.items()}

    def _generate_examples(self, split: str, sizes: list[int]) -> Iterator[tuple[str, Any]]:
        for number, length in enumerate(sizes):
            rng = np.random.default_rng([len(split), number])
            yield f"{split}{number}", self.example(rng, number, length)

    def example(self, rng: np.random.Generator, number: int, length: int) -> dict[str, Any]:
        raise NotImplementedError


class RldsWalker(RldsExample):
    """As environments are logged: the last step has an observation, and zeros elsewhere."""

    SPLITS: ClassVar = {"train": [5, 7, 4, 6], "test": [3, 3]}
    FEATURES = f.FeaturesDict(
        {
            "steps": steps(f.Tensor(shape=(5,), dtype=np.float32), f.Tensor(shape=(2,), dtype=np.float32)),
            "agent_id": f.Text(),
            "invalid": np.bool_,
        }
    )

    def example(self, rng: np.random.Generator, number: int, length: int) -> dict[str, Any]:
        played = []
        for step in range(length):
            last = step == length - 1
            played.append(
                {
                    "observation": rng.normal(size=5).astype(np.float32),
                    "action": np.zeros(2, np.float32) if last else rng.uniform(-1, 1, 2).astype(np.float32),
                    "reward": np.float32(0 if last else rng.normal()),
                    **flags(step, length, terminal=number % 2 == 0),
                }
            )
        return {"steps": played, "agent_id": "walker-sac", "invalid": number == 2}


class RldsArm(RldsExample):
    """As demonstrations of robots are published: cameras, a state, words, and a reward in the last step."""

    SPLITS: ClassVar = {"train": [3, 4]}
    FEATURES = f.FeaturesDict(
        {
            "steps": steps(
                f.FeaturesDict(
                    {
                        "image": f.Image(shape=(80, 96, 3), dtype=np.uint8, encoding_format="jpeg"),
                        "wrist": f.FeaturesDict(
                            {"image": f.Image(shape=(64, 64, 3), dtype=np.uint8, encoding_format="png")}
                        ),
                        "state": f.Tensor(shape=(3,), dtype=np.float64),
                        "gripper": f.Scalar(dtype=np.int32),
                    }
                ),
                f.FeaturesDict(
                    {
                        "move": f.Tensor(shape=(3,), dtype=np.float32),
                        "grip": f.Scalar(dtype=np.float32),
                    }
                ),
                language_instruction=f.Text(),
                language_embedding=f.Tensor(shape=(4,), dtype=np.float32),
                boxes=f.Sequence(f.Tensor(shape=(4,), dtype=np.float32)),
            ),
            "episode_metadata": f.FeaturesDict({"file_path": f.Text()}),
        }
    )

    def example(self, rng: np.random.Generator, number: int, length: int) -> dict[str, Any]:
        played = [
            {
                "observation": {
                    "image": picture(rng, 80, 96),
                    "wrist": {"image": picture(rng, 64, 64)},
                    "state": rng.normal(size=3),
                    "gripper": np.int32(step % 2),
                },
                "action": {
                    "move": rng.uniform(-0.5, 0.5, 3).astype(np.float32),
                    "grip": np.float32(step % 2),
                },
                "reward": np.float32(step == length - 1),
                **flags(step, length, terminal=True),
                "language_instruction": "put the cube into the box",
                "language_embedding": rng.normal(size=4).astype(np.float32),
                "boxes": rng.normal(size=(step % 3, 4)).astype(np.float32),
            }
            for step in range(length)
        ]
        return {"steps": played, "episode_metadata": {"file_path": f"/made/up/{number}.hdf5"}}


class RldsGame(RldsExample):
    """Discrete actions, pictures as plain arrays, packed."""

    SPLITS: ClassVar = {"train": [4]}
    FEATURES = f.FeaturesDict(
        {
            "steps": steps(
                f.Tensor(shape=(64, 64, 3), dtype=np.uint8, encoding="zlib"), f.ClassLabel(num_classes=4)
            )
        }
    )

    def example(self, rng: np.random.Generator, number: int, length: int) -> dict[str, Any]:
        played = [
            {
                "observation": picture(rng, 64, 64),
                "action": 0 if step == length - 1 else int(rng.integers(4)),
                "reward": np.float32(0 if step == length - 1 else rng.normal()),
                **flags(step, length, terminal=False),
            }
            for step in range(length)
        ]
        return {"steps": played}


class RldsPlain(RldsExample):
    """Arrays of other kinds, which only their reading is about."""

    SPLITS: ClassVar = {"train": [5]}
    FEATURES = f.FeaturesDict(
        {
            "steps": f.Dataset(
                {
                    "observation": {
                        "small": f.Tensor(shape=(2, 3), dtype=np.uint8),
                        "far": f.Tensor(shape=(2,), dtype=np.int64),
                        "raw": f.Tensor(shape=(3,), dtype=np.float64, encoding="bytes"),
                        "yes": f.Tensor(shape=(2,), dtype=np.bool_),
                    },
                    "action": f.Tensor(shape=(), dtype=np.int64),
                    "reward": f.Tensor(shape=(1,), dtype=np.float64),
                    "is_last": np.bool_,
                }
            )
        }
    )

    def example(self, rng: np.random.Generator, number: int, length: int) -> dict[str, Any]:
        played = [
            {
                "observation": {
                    "small": rng.integers(0, 256, (2, 3)).astype(np.uint8),
                    "far": rng.integers(-(2**62), 2**62, 2),
                    "raw": rng.normal(size=3),
                    "yes": rng.integers(0, 2, 2).astype(np.bool_),
                },
                "action": np.int64(rng.integers(3)),
                "reward": rng.normal(size=1),
                "is_last": step == length - 1,
            }
            for step in range(length)
        ]
        return {"steps": played}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}/{name}" if path else name)
    else:
        yield path, value


def accurate(value: Any) -> Any:
    """Return the picture that a JPEG holds; other values as they are."""
    jpeg = isinstance(value, bytes) and value.startswith(b"\xff\xd8")
    return tf.io.decode_jpeg(value, dct_method="INTEGER_ACCURATE").numpy() if jpeg else value


def record(folder: Path) -> None:
    """Write data sets and what is read of them into ``folder``."""
    gcs_utils._is_gcs_disabled = True  # nothing is asked of the net
    expected: dict[str, Any] = {}
    for kind in (RldsWalker, RldsArm, RldsGame, RldsPlain):
        with tempfile.TemporaryDirectory() as scratch:
            builder = kind(data_dir=scratch)
            shards = 2 if kind is RldsWalker else 1
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(num_shards=shards, try_download_gcs=False)
            )
            for split in kind.SPLITS:
                packed = {"steps": {"observation": {"image": tfds.decode.SkipDecoding()}}}
                read = builder.as_dataset(
                    split=split,
                    shuffle_files=False,
                    decoders=packed if kind is RldsArm else None,
                    read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
                )
                for number, example in enumerate(read):
                    rows = [dict(leaves(step)) for step in example["steps"]]
                    for key in rows[0]:
                        values = [accurate(row[key].numpy()) for row in rows]
                        if not isinstance(values[0], bytes) and len({one.shape for one in values}) == 1:
                            expected[f"{builder.name}/{split}/{number}/{key}"] = np.stack(values)
            target = folder / builder.name / str(builder.version)
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(builder.data_path, target)
    np.savez_compressed(folder / "expected.npz", **expected)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    record(parser.parse_args().folder)
