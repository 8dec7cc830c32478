"""Files of a data set that grow to a size and are followed by others: parquet files, and videos."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.agents.trajectories.readers.lerobot.layout import CHUNK_FILES
from lram.agents.trajectories.readers.lerobot.packages import av, parquet

_CODEC, _PIXELS = "libx264", "yuv420p"


class ParquetFiles:
    """Tables written one after the other into files of about ``limit`` bytes; a row group each."""

    def __init__(self, root: Path, template: str, limit: int) -> None:
        self._root, self._template, self._limit = root, template, limit
        self._number = -1
        self._writer: Any = None
        self._file: Path | None = None

    def place(self) -> tuple[int, int]:
        """Return chunk and number of the file that the next table goes into, which is begun if it must be."""
        if self._file is None or (self._writer and self._file.stat().st_size >= self._limit):
            self.close()
            self._number += 1
            chunk, number = divmod(self._number, CHUNK_FILES)
            self._file = self._root / self._template.format(chunk_index=chunk, file_index=number)
            self._file.parent.mkdir(parents=True, exist_ok=True)
        return divmod(self._number, CHUNK_FILES)

    def write(self, table: Any) -> None:
        """Append a table to the file of :meth:`place`."""
        self.place()
        if self._writer is None:
            self._writer = parquet().ParquetWriter(str(self._file), table.schema, compression="snappy")
        self._writer.write_table(table)

    def close(self) -> None:
        """Make the last file whole."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class VideoFiles:
    """Frames of episodes, one after the other, in videos of about ``limit`` bytes.

    Every second frame can be decoded alone, as in LeRobot's own videos, so that a random frame is near. They
    are stored in the order in which they are shown, so that the first has the time 0.

    Args:
        root: The data set's folder.
        template: Of paths, with the camera's name in it.
        limit: Bytes after which the next episode begins a new file.
        fps: Frames a second.
        quality: x264's constant rate factor.
    """

    def __init__(self, root: Path, template: str, limit: int, fps: int, quality: int) -> None:
        self._root, self._template, self._limit, self._fps = root, template, limit, fps
        self._options = {"crf": str(quality), "g": "2", "bf": "0", "preset": "medium"}
        self._number = -1
        self._frames = 0
        self._container: Any = None
        self._stream: Any = None
        self._file: Path | None = None

    def write(self, images: npt.NDArray[np.uint8]) -> tuple[int, int, float, float]:
        """Append an episode (T, 3, H, W) and return chunk, file, and the times of its beginning and end."""
        if self._file is None or self._file.stat().st_size >= self._limit:
            self._begin(images.shape[3], images.shape[2])
        library = av()
        begins = self._frames
        for image in images:
            frame = library.VideoFrame.from_ndarray(
                np.ascontiguousarray(image.transpose(1, 2, 0)), format="rgb24"
            )
            frame.pts = self._frames
            frame.time_base = Fraction(1, self._fps)
            self._container.mux(self._stream.encode(frame))
            self._frames += 1
        chunk, number = divmod(self._number, CHUNK_FILES)
        return chunk, number, begins / self._fps, self._frames / self._fps

    def info(self, height: int, width: int) -> dict[str, Any]:
        """Return what LeRobot notes of its videos."""
        return {
            "video.height": height,
            "video.width": width,
            "video.codec": "h264",
            "video.pix_fmt": _PIXELS,
            "video.is_depth_map": False,
            "video.fps": self._fps,
            "video.channels": 3,
            "has_audio": False,
        }

    def _begin(self, width: int, height: int) -> None:
        self.close()
        self._number += 1
        self._frames = 0
        chunk, number = divmod(self._number, CHUNK_FILES)
        self._file = self._root / self._template.format(chunk_index=chunk, file_index=number)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._container = av().open(str(self._file), "w", format="mp4")
        self._stream = self._container.add_stream(_CODEC, rate=self._fps, options=self._options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, _PIXELS

    def close(self) -> None:
        """Make the last file whole."""
        if self._container is not None:
            self._container.mux(self._stream.encode())
            self._container.close()
            self._container = None
