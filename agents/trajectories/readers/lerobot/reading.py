"""One episode of a data set: its rows and frames as arrays, and what they say of rewards and its end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.agents.api import TaskSpec
from lram.agents.trajectories.readers.areas import SIDE
from lram.agents.trajectories.readers.lerobot.choice import FeatureChoice
from lram.agents.trajectories.readers.lerobot.description import Description, EpisodePlace
from lram.agents.trajectories.readers.lerobot.frames import encoded_image, video_frames
from lram.agents.trajectories.readers.lerobot.layout import (
    DONE,
    EPISODE,
    FRAME,
    REWARD,
    SIGNAL,
    SUCCESS,
    TIME,
    TRUNCATED,
)
from lram.agents.trajectories.readers.lerobot.ours import EpisodeFacts
from lram.agents.trajectories.readers.lerobot.rows import ParquetRows, numbers
from lram.agents.trajectories.readers.source import (
    ActionSpace,
    Array,
    Note,
    Options,
    RawEpisode,
    SourceError,
    flags,
)

UNREWARDED = "episodes hold no rewards and got 0 throughout (--reward-at-end gives 0, ..., 0, 1)"
SUCCEEDED = "episodes hold no rewards and got 0, ..., 0, 1, because their last step is marked as a success"
AT_END = "episodes hold no rewards and got 0, ..., 0, 1, because --reward-at-end says that all succeeded"
BY_STATS = "episodes had their actions mapped from the range in meta/stats.json to [-1, 1], as asked"
CONSTANT = "episodes have action columns that never change by meta/stats.json, which became 0"

_NUMBERS = (FRAME, EPISODE, TIME)
_OPTIONAL = (REWARD, DONE, TRUNCATED, SUCCESS, SIGNAL)


class DataFiles:
    """The parquet files with rows, one of them open at a time; a context."""

    def __init__(self, about: Description, choice: FeatureChoice, places: Sequence[EpisodePlace]) -> None:
        self._about = about
        self._open: ParquetRows | None = None
        wanted = (*(one.key for one in (*choice.observed, *choice.acted)), *_NUMBERS, *_OPTIONAL)
        self.columns = [
            key
            for key in dict.fromkeys(wanted)
            if key in about.features and about.features[key].kind != "video"
        ]
        self._begins: dict[tuple[int, int], int] = {}
        for place in places:
            self._begins[place.data] = min(place.first, self._begins.get(place.data, place.first))

    def __enter__(self) -> DataFiles:
        return self

    def __exit__(self, *error: object) -> None:
        if self._open is not None:
            self._open.close()

    def batches(self, place: EpisodePlace, where: str) -> Iterator[Any]:
        """Yield the rows of an episode, in pyarrow's batches."""
        file = self._about.data_file(place)
        if self._open is None or self._open.file != file:
            if self._open is not None:
                self._open.close()
                self._open = None
            self._open = ParquetRows(file, self.columns)
        start = place.first - self._begins[place.data]
        if start + place.length > self._open.count:
            raise SourceError(
                f"{where} has {place.length} rows from row {start} on by meta/episodes, and the file has "
                f"{self._open.count}; fetch it again"
            )
        yield from self._open.batches(start, start + place.length)


@dataclass(frozen=True, slots=True)
class FrameReader:
    """Reads the episodes of a data set as a user asked for them."""

    about: Description
    choice: FeatureChoice
    options: Options
    files: DataFiles

    def read(
        self, place: EpisodePlace, where: str, facts: EpisodeFacts | None, task: TaskSpec | None
    ) -> RawEpisode:
        """Return an episode.

        Args:
            place: Where it lies.
            where: Names it.
            facts: What we wrote of it, where the data set is an export of ours.
            task: Its task, likewise.

        Raises:
            SourceError: Its rows or frames are not as the metadata say, in one sentence.
        """
        if not place.length:
            raise SourceError(f"{where} is empty: it has no row; leave it out")
        columns = self._columns(place, where)
        self._check_rows(columns, place, where)
        raw = self._ended(columns, where)
        raw = self._with_space(raw)
        return raw if facts is None else _with_facts(raw, columns, facts, task)

    def _columns(self, place: EpisodePlace, where: str) -> dict[str, Array]:
        """Return the arrays of an episode by key; a camera's are (T, 3, 64, 64)."""
        camera = self.choice.camera
        pieces: dict[str, list[Array]] = defaultdict(list)
        images = np.empty((place.length if camera else 0, 3, SIDE, SIDE), np.uint8)
        row = 0
        for batch in self.files.batches(place, where):
            for key in self.files.columns:
                if camera is None or key != camera.key:
                    pieces[key].append(numbers(batch, self.about.features[key], where))
            if camera is not None and camera.kind == "image":
                for value in batch.column(batch.schema.get_field_index(camera.key)):
                    images[row] = encoded_image(value.as_py(), camera, f"{where}, row {row}")
                    row += 1
        found = {key: np.concatenate(arrays) for key, arrays in pieces.items()}
        if camera is not None and camera.kind == "video":
            start = place.videos[camera.key][2]
            times = start + self._times(found, place)
            file = self.about.video_file(place, camera.key)
            images = video_frames(file, camera, times, self.about.fps, where)
        return {**found, camera.key: images} if camera else found

    def _times(self, columns: dict[str, Array], place: EpisodePlace) -> npt.NDArray[np.float64]:
        if TIME in columns:
            return columns[TIME].reshape(-1).astype(np.float64)
        return np.arange(place.length) / self.about.fps

    def _check_rows(self, columns: dict[str, Array], place: EpisodePlace, where: str) -> None:
        """Raise SourceError where the rows are of another episode, out of order, or at no times."""
        there = columns.get(EPISODE)
        if there is not None and (there != place.number).any():
            other = int(there[there != place.number][0])
            raise SourceError(
                f"{where} has rows of episode {other} where meta/episodes places it; fetch the data set again"
            )
        frames = columns.get(FRAME)
        if frames is not None and (frames.reshape(-1) != np.arange(place.length)).any():
            raise SourceError(f"{where} has rows out of order (frame_index); fetch the data set again")
        times = self._times(columns, place)
        if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise SourceError(f"{where} has times that do not rise (timestamp); fetch the data set again")

    def _ended(self, columns: dict[str, Array], where: str) -> RawEpisode:
        success = flags(columns[SUCCESS], where, SUCCESS) if SUCCESS in columns else None
        rewards, success, notes = self._rewards(columns, success, where)
        done = flags(columns[DONE], where, DONE) if DONE in columns else None
        cut = flags(columns[TRUNCATED], where, TRUNCATED) if TRUNCATED in columns else None
        truncated = cut is not None and bool(cut[-1])
        if done is None:
            terminated = success is not None and bool(success[-1]) and not truncated
        else:
            early = np.flatnonzero(done[:-1])
            if len(early):
                raise SourceError(f"{where} is done at row {early[0]} and continues; leave it out")
            terminated = bool(done[-1]) and not truncated
        return RawEpisode(
            observations=_side_by_side([columns[one.key] for one in self.choice.observed]),
            actions=_side_by_side([columns[one.key] for one in self.choice.acted]),
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            kind_of_end_known=done is None or cut is not None,
            success=success,
            policy=self.options.policy,
            notes=(
                *self.choice.notes,
                *notes,
                Note(f"episodes were recorded at {self.about.fps:g} frames a second"),
            ),
        )

    def _rewards(
        self, columns: dict[str, Array], success: npt.NDArray[np.bool_] | None, where: str
    ) -> tuple[Array, npt.NDArray[np.bool_] | None, tuple[Note, ...]]:
        if REWARD in columns:
            if self.options.reward_at_end:
                raise SourceError(f"{where} holds rewards (next.reward); leave out --reward-at-end")
            return columns[REWARD], success, ()
        rewards = np.zeros(len(columns[self.choice.acted[0].key]), np.float32)
        if self.options.reward_at_end:
            rewards[-1] = 1
            return rewards, rewards > 0 if success is None else success, (Note(AT_END),)
        if success is not None and success[-1]:
            rewards[-1] = 1
            return rewards, success, (Note(SUCCEEDED),)
        return rewards, success, (Note(UNREWARDED),)

    def _with_space(self, raw: RawEpisode) -> RawEpisode:
        """Return an episode with the range of its actions by ``stats.json``, where that was asked for."""
        if self.options.action_bounds != "stats":
            return raw
        bounds = [self.about.bounds(one.key) for one in self.choice.acted]
        low, high = (np.concatenate([one[side] for one in bounds]) for side in (0, 1))
        still = low == high
        notes = (*raw.notes, Note(BY_STATS), *((Note(CONSTANT),) if still.any() else ()))
        low, high = np.where(still, low - 1, low), np.where(still, high + 1, high)
        space = ActionSpace("continuous", len(low), tuple(low.tolist()), tuple(high.tolist()))
        return replace(raw, space=space, notes=notes)


def _side_by_side(columns: Sequence[Array]) -> Array:
    """Return one column as it is, or several as one of vectors."""
    if len(columns) == 1:
        return columns[0]
    return np.concatenate([one.reshape(len(one), -1) for one in columns], axis=1)


def _with_facts(
    raw: RawEpisode, columns: dict[str, Array], facts: EpisodeFacts, task: TaskSpec | None
) -> RawEpisode:
    """Return an episode with what our export wrote of it beside the data set."""
    return replace(
        raw,
        terminated=facts.terminated,
        truncated=facts.truncated,
        kind_of_end_known=True,
        policy=facts.policy,
        seed=facts.seed,
        task=task,
        signals=columns.get(SIGNAL),
        context_starts=facts.context_starts,
        protocol=facts.protocol,
        record=facts.record,
        origin=facts.origin,
    )
