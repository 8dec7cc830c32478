"""A store as a LeRobot data set of version 3 (:mod:`lram.agents.trajectories.readers.lerobot.layout`).

An episode's decisions become rows: what was seen, the action, and what it earned. LeRobot has no row for what
was seen after the last action. ``meta/lram.json`` holds what LeRobot has no place for, so that an import of
the data set gives the same trajectories.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from math import isclose
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from lram.agents.trajectories.exporters.contract import Exported, ExportOptions
from lram.agents.trajectories.exporters.lerobot.features import (
    columns_of,
    common_form,
    features_of,
    has_own_signals,
)
from lram.agents.trajectories.exporters.lerobot.files import ParquetFiles, VideoFiles
from lram.agents.trajectories.exporters.lerobot.statistics import (
    FeatureStatistics,
    RunningStatistics,
    listed,
    of_images,
    of_numbers,
)
from lram.agents.trajectories.readers.lerobot.layout import (
    CHUNK_FILES,
    DATA_MEGABYTES,
    DATA_TEMPLATE,
    EPISODES_TEMPLATE,
    IMAGE,
    INFO_FILE,
    OURS_FILE,
    STATS_FILE,
    TASKS_FILE,
    VERSION,
    VIDEO_MEGABYTES,
    VIDEO_TEMPLATE,
)
from lram.agents.trajectories.readers.lerobot.ours import EpisodeFacts, OurFacts
from lram.agents.trajectories.readers.lerobot.packages import pyarrow
from lram.agents.trajectories.readers.source import Array
from lram.agents.trajectories.store import TrajectoryStore
from lram.agents.trajectories.trajectory import Trajectory

LAST = "episodes have an observation after their last action, for which LeRobot has no row"
SUCCESS_LEFT_OUT = "episodes tell of success, which is left out because others do not"
LOSSY = "episodes have their images in a video, which is lossy (--images image is exact)"
_ROWS = 1000  # episodes whose metadata are written at once


def export(store: TrajectoryStore, numbers: Sequence[int], folder: Path, options: ExportOptions) -> Exported:
    """Write episodes of a store into ``folder``, which is there and empty.

    Args:
        store: Where they are.
        numbers: Theirs, in order; at least one.
        folder: The data set's.
        options: How.

    Raises:
        AgentError: Their tasks have different shapes, an episode cannot be read, or a package is missing.
    """
    chosen = [store.episodes[number] for number in numbers]
    form = common_form([store.tasks[task] for task in dict.fromkeys(one.task for one in chosen)])
    success = all(one.success_any is not None for one in chosen)
    # The index has the sums only. An episode whose signals differ although the sums do not is met on the way.
    signals = any(not isclose(one.episode_return, one.signal_return, abs_tol=1e-3) for one in chosen)
    while True:
        features = features_of(form, options.images, success=success, signals=signals)
        with _DataSetWriter(folder, features, options) as writer:
            for number in numbers:
                trajectory = store.trajectory(number)
                if not signals and has_own_signals(trajectory):
                    break
                writer.append(trajectory)
                options.seen()
            else:
                writer.finish(store.digest)
                with_success = sum(one.success_any is not None for one in chosen)
                if with_success and not success:
                    writer.exported.notes[SUCCESS_LEFT_OUT] = with_success
                return writer.exported
        signals = True
        for found in folder.iterdir():
            shutil.rmtree(found)


class _DataSetWriter:
    """Writes a data set, an episode at a time; a context, which leaves no file open."""

    def __init__(self, root: Path, features: dict[str, dict[str, Any]], options: ExportOptions) -> None:
        self._root, self._features, self._options = root, features, options
        self._pa = pyarrow()
        self._schema = _schema(self._pa, features)
        self._data = ParquetFiles(root, DATA_TEMPLATE, DATA_MEGABYTES << 20)
        self._places = ParquetFiles(root, EPISODES_TEMPLATE, DATA_MEGABYTES << 20)
        video = features.get(IMAGE, {}).get("dtype") == "video"
        template = VIDEO_TEMPLATE.replace("{video_key}", IMAGE)
        self._videos = (
            VideoFiles(root, template, VIDEO_MEGABYTES << 20, options.fps, options.quality) if video else None
        )
        self._rows: list[dict[str, Any]] = []
        self._stats = RunningStatistics()
        self._facts = OurFacts(tasks={}, episodes=[])
        self.exported = Exported()

    def __enter__(self) -> _DataSetWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def append(self, trajectory: Trajectory) -> None:
        """Write an episode."""
        tasks = self._facts.tasks
        tasks.setdefault(trajectory.task.id, trajectory.task)
        number, first = self.exported.episodes, self.exported.steps
        task = list(tasks).index(trajectory.task.id)
        columns = columns_of(trajectory, self._features, self._options.fps, number, first, task)
        stats = {
            key: of_images(column) if key == IMAGE else of_numbers(column) for key, column in columns.items()
        }
        self._stats.add(stats)
        chunk, file = self._data.place()
        row = {
            "episode_index": number,
            "tasks": [trajectory.task.id],
            "length": trajectory.length,
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": first,
            "dataset_to_index": first + trajectory.length,
        }
        if self._videos is not None:
            place = self._videos.write(columns.pop(IMAGE))
            names = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
            row |= {f"videos/{IMAGE}/{name}": value for name, value in zip(names, place, strict=True)}
        self._data.write(_table(self._pa, columns, self._schema))
        self._rows.append(row | _flat(stats))
        if len(self._rows) >= _ROWS:
            self._write_places()
        self._facts.episodes.append(_facts(trajectory))
        self._count(trajectory)

    def _count(self, trajectory: Trajectory) -> None:
        done = self.exported
        done.episodes += 1
        done.steps += trajectory.length
        done.tasks[trajectory.task.id] += 1
        if len(trajectory.observations) > trajectory.length:
            done.notes[LAST] += 1
        if self._videos is not None:
            done.notes[LOSSY] += 1

    def _write_places(self) -> None:
        chunk, file = self._places.place()
        place = {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}
        self._places.write(self._pa.Table.from_pylist([row | place for row in self._rows]))
        self._rows.clear()

    def _close(self) -> None:
        for files in (self._data, self._places, self._videos):
            if files is not None:
                files.close()

    def finish(self, store_digest: str) -> None:
        """Make all files whole and write the metadata."""
        import pandas as pd

        if self._rows:
            self._write_places()
        self._close()
        if self._videos is not None:
            height, width, _ = self._features[IMAGE]["shape"]
            self._features[IMAGE]["info"] = self._videos.info(height, width)
        meta = self._root / TASKS_FILE
        meta.parent.mkdir(parents=True, exist_ok=True)
        tasks = list(self._facts.tasks)
        pd.DataFrame({"task_index": range(len(tasks))}, index=tasks).to_parquet(meta, engine="pyarrow")
        self._write_json(STATS_FILE, self._stats.result())
        facts = msgspec.structs.replace(self._facts, store=store_digest)
        (self._root / OURS_FILE).write_bytes(msgspec.json.encode(facts) + b"\n")
        self._write_json(INFO_FILE, self._info())

    def _info(self) -> dict[str, Any]:
        done = self.exported
        return {
            "codebase_version": VERSION,
            "robot_type": None,
            "total_episodes": done.episodes,
            "total_frames": done.steps,
            "total_tasks": len(self._facts.tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": DATA_MEGABYTES,
            "video_files_size_in_mb": VIDEO_MEGABYTES,
            "fps": self._options.fps,
            "splits": {"train": f"0:{done.episodes}"},
            "data_path": DATA_TEMPLATE,
            "video_path": VIDEO_TEMPLATE if self._videos is not None else None,
            "features": self._features,
        }

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        (self._root / name).write_text(json.dumps(content, indent=4) + "\n")


def _schema(pa: Any, features: dict[str, dict[str, Any]]) -> Any:
    """Return the types of the columns in the files, with what the datasets package wants to know of them."""
    fields = []
    types: dict[str, dict[str, Any]] = {}
    for key, one in features.items():
        kind, size = one["dtype"], one["shape"][0]
        if kind == "video":
            continue
        if kind == "image":
            fields.append(pa.field(key, pa.struct({"bytes": pa.binary(), "path": pa.string()})))
            types[key] = {"_type": "Image"}
            continue
        value = {"dtype": kind, "_type": "Value"}
        arrow = pa.type_for_alias(kind)
        fields.append(pa.field(key, arrow if size == 1 else pa.list_(arrow, size)))
        types[key] = value if size == 1 else {"feature": value, "length": size, "_type": "List"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": types}})})


def _table(pa: Any, columns: dict[str, Array], schema: Any) -> Any:
    arrays = []
    for field in schema:
        values = columns[field.name]
        if field.name == IMAGE:
            rows = [{"bytes": _png(image), "path": f"frame-{n:06d}.png"} for n, image in enumerate(values)]
            arrays.append(pa.array(rows, type=field.type))
        elif values.ndim == 2:
            flat = pa.array(np.ascontiguousarray(values).reshape(-1), type=field.type.value_type)
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
        else:
            arrays.append(pa.array(values, type=field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(file, format="PNG")
    return file.getvalue()


def _flat(stats: dict[str, FeatureStatistics]) -> dict[str, Any]:
    return {f"stats/{key}/{name}": value for key, one in stats.items() for name, value in listed(one).items()}


def _facts(trajectory: Trajectory) -> EpisodeFacts:
    return EpisodeFacts(
        task=trajectory.task.id,
        length=trajectory.length,
        terminated=trajectory.terminated,
        truncated=trajectory.truncated,
        policy=trajectory.policy,
        protocol=trajectory.protocol,
        seed=trajectory.seed,
        context_starts=trajectory.context_starts,
        origin=trajectory.origin,
        record=trajectory.record,
    )
