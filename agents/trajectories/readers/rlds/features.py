"""``features.json`` and ``dataset_info.json``: what a data set's records hold, and which files there are.

A tree of features, as TensorFlow Datasets (4.4 and later) writes it: dictionaries, and the sequence ``steps``
of one dictionary. Its leaves have the names of the lists in the records: ``steps/observation/state``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lram.agents.trajectories.hdf5 import printable
from lram.agents.trajectories.readers.source import SourceError, is_hidden, json_of

FEATURES_FILE = "features.json"
INFO_FILE = "dataset_info.json"
STEPS = "steps/"

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_DTYPES = (
    "bool",
    *(f"float{bits}" for bits in (16, 32, 64)),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)
_DEEPEST, _MOST_SHARDS = 20, 1_000_000


@dataclass(frozen=True, slots=True)
class Leaf:
    """One list of the records: what one step has of it.

    Attributes:
        kind: ``tensor`` of numbers, ``image``, ``label`` (an index), ``text``, or ``other``: not read.
        shape: Of one step's; 0 for a size that is not recorded.
        dtype: NumPy's name of a tensor's type; empty for others.
        encoding: Of a tensor: ``none``, or ``bytes`` and ``zlib``, in which a step's array is a byte string.
        classes: Number of a label's classes.
    """

    kind: Literal["tensor", "image", "label", "text", "other"]
    shape: tuple[int, ...] = ()
    dtype: str = ""
    encoding: str = "none"
    classes: int = 0

    @property
    def is_image(self) -> bool:
        """Whether it is a picture of 3 colours, packed or as an array."""
        plain = self.kind == "tensor" and self.dtype == "uint8" and len(self.shape) == 3
        return (self.kind == "image" or plain) and self.shape[2] == 3

    @property
    def is_vector(self) -> bool:
        """Whether it is one number, or a vector of them."""
        return self.kind == "label" or (self.kind == "tensor" and len(self.shape) < 2)


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the files: its split, and how many records it should have (None: not recorded)."""

    path: Path
    records: int | None


@dataclass(frozen=True, slots=True)
class RldsFolder:
    """What lies in the folder of a prepared data set.

    Attributes:
        path: The folder.
        names: What the data set is called, the most telling first.
        leaves: By name, of the records: ``steps/action``, ``episode_metadata/file_path``.
        shards: In the order of splits and numbers.
    """

    path: Path
    names: tuple[str, ...]
    leaves: Mapping[str, Leaf]
    shards: tuple[Shard, ...]


def folders(path: Path) -> list[Path]:
    """Return the prepared data sets in ``path``, sorted; that of a file is the folder it lies in."""
    if path.is_file():
        return [path.parent]
    found = (file.parent for file in path.rglob(FEATURES_FILE))
    return sorted(one for one in found if not any(map(is_hidden, one.relative_to(path).parts)))


def is_prepared(folder: Path) -> bool:
    """Return whether a folder with ``features.json`` is a data set, be it without its other description."""
    return (folder / INFO_FILE).is_file() or any(folder.glob("*.tfrecord*"))


def describe(path: Path) -> RldsFolder:
    """Return what the folder's two files tell; SourceError where that cannot be read."""
    file, beside = path / FEATURES_FILE, path / INFO_FILE
    description, info = json_of(file), json_of(beside)
    if not isinstance(description, dict) or not isinstance(info, dict):
        raise SourceError(
            f"{path} has a {FEATURES_FILE} or {INFO_FILE} that is no JSON object; fetch it again"
        )
    if "featuresDict" not in description and "content" in description:
        raise SourceError(
            f"{file} was written by an old version of TensorFlow Datasets; prepare the data set again with "
            "version 4.4 or later"
        )
    leaves = dict(_leaves(description, "", 0))
    if not any(name.startswith(STEPS) for name in leaves):
        raise SourceError(
            f"{file} tells of no steps, so this is no data set of episodes (RLDS); leave it out"
        )
    kind = str(info.get("fileFormat") or "tfrecord")
    if kind != "tfrecord":
        raise SourceError(
            f"{path} has its episodes in files of the format {printable(kind)[:40]}, and tfrecord is read; "
            "prepare the data set again with file_format='tfrecord'"
        )
    name = str(info.get("name") or path.parent.name)
    config = info.get("configName")
    names = (f"{name}_{config}", name) if isinstance(config, str) and config else (name,)
    return RldsFolder(path, names, leaves, tuple(_shards(path, name, info.get("splits"))))


def _leaves(description: object, path: str, depth: int) -> Iterator[tuple[str, Leaf]]:
    """Yield the leaves below a feature; a sequence within the steps' dictionary is of kind ``other``."""
    if not isinstance(description, dict) or depth > _DEEPEST:
        return
    inner = description.get("featuresDict")
    if isinstance(inner, dict) and isinstance(inner.get("features"), dict):
        for name, one in inner["features"].items():
            yield from _leaves(one, f"{path}{name}/", depth + 1)
        return
    sequence = description.get("sequence")
    if isinstance(sequence, dict) and path == STEPS:
        yield from _leaves(sequence.get("feature"), path, depth + 1)
        return
    yield path.removesuffix("/"), _leaf(description)


def _leaf(description: Mapping[str, Any]) -> Leaf:
    if isinstance(tensor := description.get("tensor"), dict):
        shape, dtype = _shape(tensor), str(tensor.get("dtype", ""))
        encoding = str(tensor.get("encoding") or "none").lower()
        if dtype in ("string", "object", "str"):
            return Leaf("text")
        known = dtype in _DTYPES and encoding in ("none", "bytes", "zlib") and 0 not in shape
        return Leaf("tensor", shape, dtype, encoding) if known else Leaf("other")
    if isinstance(image := description.get("image"), dict):
        shape = _shape(image) or (0, 0, 3)
        plain = str(image.get("dtype") or "uint8") == "uint8" and len(shape) == 3
        return Leaf("image", shape) if plain else Leaf("other")
    if isinstance(label := description.get("classLabel"), dict):
        count = _whole(label.get("numClasses"))
        return Leaf("label", (), "int64", classes=count or 0)
    return Leaf("text") if "text" in description else Leaf("other")


def _shape(description: Mapping[str, Any]) -> tuple[int, ...]:
    """Return a shape; 0 for sizes that are open."""
    shape = description.get("shape")
    sizes = shape.get("dimensions", []) if isinstance(shape, dict) else []
    return tuple(_whole(size) or 0 for size in sizes) if isinstance(sizes, list) else (0,)


def _whole(value: object) -> int | None:
    """Return a whole number from 0 on, which JSON has as a text where it has 64 bits."""
    text = str(value)
    return int(text) if re.fullmatch(r"[0-9]{1,12}", text) else None


def _shards(path: Path, dataset: str, splits: object) -> Iterator[Shard]:
    """Yield the files that ``dataset_info.json`` tells of; SourceError where it tells of none."""
    found = 0
    for split in splits if isinstance(splits, list) else ():
        if not isinstance(split, dict) or not isinstance(lengths := split.get("shardLengths", []), list):
            continue
        template = str(split.get("filepathTemplate") or _TEMPLATE)
        values = {"{DATASET}": dataset, "{SPLIT}": str(split.get("name", "")), "{FILEFORMAT}": "tfrecord"}
        for number, length in enumerate(lengths[:_MOST_SHARDS]):
            file = template
            place = f"{number:05d}-of-{len(lengths):05d}"
            for field, value in {**values, "{SHARD_X_OF_Y}": place}.items():
                file = file.replace(field, value)
            if "/" in file or "\0" in file or "{" in file:
                raise SourceError(
                    f"{path / INFO_FILE} names a file {printable(file)[:80]!r}, which is none in the folder; "
                    "fetch it again"
                )
            found += 1
            yield Shard(path / file, _whole(length))
    if not found:
        raise SourceError(f"{path / INFO_FILE} tells of no files with episodes; fetch it again")
