"""The folder of embeddings: written once, whole, and read with its checksums."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lram.agents.durable import read_regular, write_durably
from lram.harness.embedding.records import SCHEMA, EmbeddingRecord
from lram.harness.errors import LramError
from lram.harness.storage.json_files import DAMAGE, read_json, write_json

MARKER, NUMBERS = "embedding.json", "states.npz"
_MOST_BYTES = 4 << 30

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What a folder holds; of n states, in the order of tasks and episodes.

    Attributes:
        record: ``embedding.json``.
        task: Index into the record's tasks: (n,).
        episode: Number of the trajectory among those drawn: (n,).
        timestep: Of the state in its trajectory: (n,).
        hidden: Of each model (n, width).
        pca, umap: Of each model (n, 2); ``umap`` is empty where there is none.
        explained: Of each model, the share of the variance on each axis of ``pca``: (2,).
    """

    record: EmbeddingRecord
    task: Integers
    episode: Integers
    timestep: Integers
    hidden: tuple[Floats, ...]
    pca: tuple[Floats, ...]
    explained: tuple[Floats, ...]
    umap: tuple[Floats, ...] = ()

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the numbers by the names that the file has."""
        found: dict[str, npt.NDArray[np.generic]] = {
            "task": self.task,
            "episode": self.episode,
            "timestep": self.timestep,
        }
        for name in ("hidden", "pca", "explained", "umap"):
            found |= {f"{name}_{place}": one for place, one in enumerate(getattr(self, name))}
        return found


def check_vacant(folder: Path) -> None:
    """Raise LramError where there is something already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LramError(f"{folder} is not empty; give a new folder with -o")


def write(folder: Path, found: Embeddings) -> None:
    """Write a new folder; its marker comes last."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **found.arrays())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / NUMBERS, buffer.getvalue())
        write_json(folder / MARKER, replace(found.record, numbers=_sum(buffer.getvalue())))
    except OSError as error:
        raise LramError(f"{folder} cannot be written: {error.strerror or error}") from error


def read(folder: str | Path) -> Embeddings:
    """Return what a folder holds; LramError where it is none, damaged, or of another version."""
    path = Path(folder)
    if not (path / MARKER).is_file():
        raise LramError(f"{path} holds no embeddings: it has no {MARKER}; 'lram embed' makes them")
    record = read_json(path / MARKER, EmbeddingRecord)
    if record.schema != SCHEMA:
        raise LramError(
            f"{path / MARKER} has layout {record.schema}, not {SCHEMA}; use the version that made it"
        )
    try:
        content = read_regular(path / NUMBERS, _MOST_BYTES)
        if _sum(content) != record.numbers:
            raise ValueError("its checksum is not the one in embedding.json")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
                raise ValueError(f"it unpacks to more than {_MOST_BYTES} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return _fitting(record, dict(arrays))
    except DAMAGE as error:
        raise LramError(f"{path / NUMBERS} cannot be read: {error}; make the embeddings again") from error


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _fitting(record: EmbeddingRecord, arrays: Mapping[str, npt.NDArray[np.generic]]) -> Embeddings:
    """Return the arrays as they must be; ValueError or KeyError where they are not."""
    if not record.models:
        raise ValueError("embedding.json names no model")
    count, models = len(arrays["task"]), range(len(record.models))
    columns = [arrays[name].astype(np.int64, casting="safe") for name in ("task", "episode", "timestep")]
    found: dict[str, tuple[Floats, ...]] = {}
    for name in ("hidden", "pca", "explained", *(["umap"] if record.umap else [])):
        shapes = {"hidden": [(count, model.width) for model in record.models]}
        wanted = shapes.get(name, [(2,) if name == "explained" else (count, 2)] * len(record.models))
        found[name] = tuple(arrays[f"{name}_{place}"].astype(np.float32, casting="safe") for place in models)
        if [one.shape for one in found[name]] != wanted or not all(
            np.isfinite(one).all() for one in found[name]
        ):
            raise ValueError(f"its arrays {name} do not fit embedding.json")
    if any(column.shape != (count,) or (column < 0).any() for column in columns) or not count:
        raise ValueError("its columns do not fit each other")
    if columns[0].max() >= len(record.tasks):
        raise ValueError("it names a task that embedding.json does not have")
    pairs = np.unique(np.stack(columns[:2]), axis=1)
    if len(np.unique(pairs[1])) != pairs.shape[1]:
        raise ValueError("a trajectory of it is of two tasks")
    task, episode, timestep = columns
    return Embeddings(
        record,
        task,
        episode,
        timestep,
        found["hidden"],
        found["pca"],
        found["explained"],
        found.get("umap", ()),
    )
