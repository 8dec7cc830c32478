"""What a data set's ``meta`` folder says: version, features, tasks, and where the episodes lie."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lram.agents.trajectories.hdf5 import DAMAGE, printable
from lram.agents.trajectories.readers.lerobot.layout import (
    EPISODES_FOLDER,
    INFO_FILE,
    STATS_FILE,
    TASKS_FILE,
)
from lram.agents.trajectories.readers.lerobot.packages import parquet
from lram.agents.trajectories.readers.source import SourceError, json_of, short

CONVERTER = "python -m lerobot.datasets.v30.convert_dataset_v21_to_v30 --repo-id=USER/NAME"
"""LeRobot's own, of its version 0.4; from 0.5 on it is ``lerobot.scripts.convert_dataset_v21_to_v30``."""

_BATCH = 4096
_MOST_EPISODES = 10_000_000
_MOST_TASKS = 100_000
_FIELD = re.compile(r"\{(chunk_index|file_index|video_key)(:0?[1-9]d)?\}")
_COLUMNS = ("episode_index", "tasks", "length", "data/chunk_index", "data/file_index", "dataset_from_index")


@dataclass(frozen=True, slots=True)
class Feature:
    """A column of the data: one value, vector or image a frame.

    Attributes:
        key: Its name.
        kind: ``video``, ``image``, ``string`` or NumPy's name of a type.
        shape: Of one frame.
    """

    key: str
    kind: str
    shape: tuple[int, ...]

    @property
    def is_image(self) -> bool:
        """Whether it is a camera's, as a video or as single images."""
        return self.kind in ("video", "image")

    @property
    def is_vector(self) -> bool:
        """Whether it is one number a frame, or a vector of them."""
        return len(self.shape) == 1 and re.fullmatch(r"u?int\d+|float\d+|bool", self.kind) is not None


@dataclass(frozen=True, slots=True)
class EpisodePlace:
    """Where an episode lies.

    Attributes:
        number: Its index.
        length: Frames.
        tasks: Texts of what was done in it.
        data: Chunk and number of the file that has its rows.
        first: Place of its first row among those of all files.
        videos: By video key: chunk, number of the file, and the time at which the episode begins in it.
    """

    number: int
    length: int
    tasks: tuple[str, ...]
    data: tuple[int, int]
    first: int
    videos: Mapping[str, tuple[int, int, float]]


@dataclass(frozen=True, slots=True)
class Description:
    """A data set's metadata.

    Attributes:
        root: Its folder.
        fps: Frames a second.
        features: By key.
        tasks: Texts by index.
        episodes: How many there are, by ``info.json``.
    """

    root: Path
    fps: float
    features: Mapping[str, Feature]
    tasks: Mapping[int, str]
    episodes: int
    data_template: str
    video_template: str

    def data_file(self, place: EpisodePlace) -> Path:
        """Return the file with an episode's rows."""
        return self.root / filled(self.data_template, *place.data)

    def video_file(self, place: EpisodePlace, key: str) -> Path:
        """Return the file with an episode's frames of a camera."""
        chunk, number, _ = place.videos[key]
        return self.root / filled(self.video_template, chunk, number, key)

    def bounds(self, key: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the smallest and largest values of a vector by ``stats.json``; SourceError without them."""
        file = self.root / STATS_FILE
        found = json_of(file)
        size = self.features[key].shape[0]
        try:
            low, high = (tuple(float(value) for value in found[key][name]) for name in ("min", "max"))
            fits = len(low) == len(high) == size and all(a <= b for a, b in zip(low, high, strict=True))
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits:
            raise SourceError(
                f"{file} does not tell min and max of {key!r} for {size} values; give --action-bounds "
                "LOW,HIGH"
            )
        return low, high


def describe(root: Path) -> Description:
    """Return what ``meta`` says of the data set in ``root``; SourceError where it cannot be read."""
    file = root / INFO_FILE
    info = json_of(file)
    if not isinstance(info, dict):
        raise SourceError(f"{file} is no JSON object; fetch it again or leave its folder out")
    _check_version(root, info.get("codebase_version"))
    fps = info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= 100_000:
        raise SourceError(f"{file} has fps {printable(str(fps))[:40]}, which should be above 0; fix it")
    count = info.get("total_episodes")
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= _MOST_EPISODES:
        raise SourceError(f"{file} does not tell its number of episodes (total_episodes); fix it")
    features = _features(file, info.get("features"))
    videos = any(feature.kind == "video" for feature in features.values())
    return Description(
        root=root,
        fps=float(fps),
        features=features,
        tasks=_tasks(root / TASKS_FILE),
        episodes=count,
        data_template=_template(file, info, "data_path"),
        video_template=_template(file, info, "video_path") if videos else "",
    )


def filled(template: str, chunk: int, number: int, key: str = "") -> str:
    """Return the path that a checked template stands for."""
    return template.format(chunk_index=chunk, file_index=number, video_key=key)


def places(about: Description) -> Iterator[EpisodePlace]:
    """Yield where each episode lies, in order; SourceError where the metadata do not tell."""
    folder = about.root / EPISODES_FOLDER
    files = sorted(folder.glob("*/*.parquet"))
    if not files:
        raise SourceError(f"{folder} has no parquet file; fetch the data set's meta folder again")
    expected = 0
    for file in files:
        for row in _rows(file, (*_COLUMNS, *_video_columns(about))):
            place = _place(file, row, about)
            if place.number != expected:
                raise SourceError(
                    f"{file} has episode {place.number} where {expected} should be; fetch it again"
                )
            expected += 1
            yield place


def _video_columns(about: Description) -> list[str]:
    videos = [feature.key for feature in about.features.values() if feature.kind == "video"]
    return [
        f"videos/{key}/{name}" for key in videos for name in ("chunk_index", "file_index", "from_timestamp")
    ]


def _place(file: Path, row: Mapping[str, Any], about: Description) -> EpisodePlace:
    try:
        tasks = row["tasks"] or ()
        videos = {
            feature.key: (
                int(row[f"videos/{feature.key}/chunk_index"]),
                int(row[f"videos/{feature.key}/file_index"]),
                float(row[f"videos/{feature.key}/from_timestamp"]),
            )
            for feature in about.features.values()
            if feature.kind == "video"
        }
        place = EpisodePlace(
            number=int(row["episode_index"]),
            length=int(row["length"]),
            tasks=tuple(sorted(str(text) for text in ([tasks] if isinstance(tasks, str) else tasks))),
            data=(int(row["data/chunk_index"]), int(row["data/file_index"])),
            first=int(row["dataset_from_index"]),
            videos=videos,
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise SourceError(
            f"{file} has an episode without its length or its place ({short(error)}); fetch it again"
        ) from error
    numbers = (place.length, place.first, *place.data, *(n for one in videos.values() for n in one[:2]))
    if min(numbers) < 0 or max(numbers) > 1 << 40:
        raise SourceError(f"{file} has an episode {place.number} at no place that there is; fetch it again")
    return place


def _check_version(root: Path, version: object) -> None:
    said = re.match(r"v?(\d+)\.(\d+)", str(version))
    if said is None:
        raise SourceError(f"{root / INFO_FILE} tells no codebase_version; fetch it again or leave it out")
    if int(said[1]) < 3:
        raise SourceError(
            f"{root} is a LeRobot data set of version {said[0]}, and version 3 is read; convert it with "
            f"LeRobot: {CONVERTER}"
        )
    if int(said[1]) > 3:
        raise SourceError(
            f"{root} is a LeRobot data set of version {said[0]}, which this version of lram does not know; "
            "write it as version 3 with LeRobot"
        )


def _features(file: Path, features: object) -> dict[str, Feature]:
    if not isinstance(features, dict) or not features:
        raise SourceError(f"{file} names no features; fetch it again or leave its folder out")
    found = {}
    for key, one in features.items():
        shape = one.get("shape") if isinstance(one, dict) else None
        kind = one.get("dtype") if isinstance(one, dict) else None
        fits = isinstance(shape, list) and all(type(size) is int and 0 < size < 1 << 24 for size in shape)
        if not fits or not shape or not isinstance(kind, str) or "/" in key:
            raise SourceError(f"{file} has a feature {printable(key)[:80]!r} without type or shape; fix it")
        found[key] = Feature(key, kind, tuple(shape))
    return found


def _template(file: Path, info: Mapping[str, Any], name: str) -> str:
    """Return a template of paths that stays in the folder, whatever numbers are filled in."""
    recorded = info.get(name)
    text = recorded if isinstance(recorded, str) else ""
    plain = _FIELD.sub("", text)
    path = PurePosixPath(text)
    if not text or "{" in plain or "}" in plain or path.is_absolute() or ".." in path.parts:
        raise SourceError(
            f"{file} has {name} {printable(str(recorded))[:80]!r}, which is no path within the data set; "
            "fix it"
        )
    return text


def _tasks(file: Path) -> dict[int, str]:
    """Return the texts of tasks by their index: pandas' index column, whatever its name is."""
    if not file.is_file():
        raise SourceError(f"{file} is missing; fetch the data set's meta folder again")
    found = {}
    for row in _rows(file, None):
        text = next((value for key, value in row.items() if key != "task_index"), None)
        number = row.get("task_index")
        if not isinstance(text, str) or not isinstance(number, int):
            raise SourceError(f"{file} has a task without a text or a number; fetch it again")
        found[number] = text
        if len(found) > _MOST_TASKS:
            raise SourceError(f"{file} has more than {_MOST_TASKS} tasks; leave its folder out")
    return found


def _rows(file: Path, columns: tuple[str, ...] | None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a parquet file of metadata; SourceError where it is none or lacks a column."""
    pq = parquet()
    try:
        with pq.ParquetFile(str(file)) as table:
            missing = [name for name in columns or () if name not in _names(table)]
            if not missing:
                for batch in table.iter_batches(_BATCH, columns=columns, use_threads=False):
                    yield from batch.to_pylist()
    except DAMAGE as error:
        raise SourceError(
            f"{file} is no whole parquet file ({short(error)}); fetch it again or leave it out"
        ) from error
    if missing:
        raise SourceError(f"{file} has no column {missing[0]!r}; fetch it again or leave its folder out")


def _names(table: Any) -> set[str]:
    return set(table.schema_arrow.names)
