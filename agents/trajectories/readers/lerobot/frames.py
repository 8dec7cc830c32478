"""A camera's frames, decoded one at a time and made 64 x 64: of a video, or of single images."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.agents.durable import open_regular
from lram.agents.trajectories.hdf5 import DAMAGE
from lram.agents.trajectories.readers.areas import LARGEST_SIDE, SIDE, area_mean
from lram.agents.trajectories.readers.lerobot.description import Feature
from lram.agents.trajectories.readers.lerobot.packages import av
from lram.agents.trajectories.readers.source import SourceError, short

Images = npt.NDArray[np.uint8]

_NEAR = 0.25
"""Of the time between two frames: how far a frame may be from the time that a row asks for."""

_IMAGE_FORMATS = ("PNG", "JPEG")


def video_frames(
    file: Path, feature: Feature, times: npt.NDArray[np.float64], fps: float, where: str
) -> Images:
    """Return the frames of a video at ``times``, (T, 3, 64, 64).

    Args:
        file: The video.
        feature: What the metadata say of it.
        times: Seconds from the video's start, rising.
        fps: Frames a second.
        where: Names the episode.

    Raises:
        SourceError: It cannot be decoded, lacks a frame, or has another size than its metadata tell.
    """
    found = np.empty((len(times), 3, SIDE, SIDE), np.uint8)
    done, last = 0, -np.inf
    try:
        handle = open_regular(file)
    except FileNotFoundError:
        raise SourceError(f"{where} needs {file}, which is missing; fetch it again or leave it out") from None
    except OSError as error:
        raise SourceError(f"{where} needs {file}, which cannot be read ({short(error)})") from error
    with handle:
        for last, frame in _decoded(handle, file, feature, float(times[0]), where):
            while done < len(times) and abs(last - times[done]) <= _NEAR / fps:
                found[done] = area_mean(frame)
                done += 1
            if done == len(times) or last > times[done] + _NEAR / fps:
                break
    if done < len(times):
        ends = f"it ends at {last:.3f} s" if last < times[done] else "frames on both sides of it are there"
        raise SourceError(
            f"{where} needs a frame at {times[done]:.3f} s of {file} for its row {done}, which is not in it "
            f"({ends}); fetch it again or leave it out"
        )
    return found


def _decoded(
    handle: Any, file: Path, feature: Feature, start: float, where: str
) -> Iterator[tuple[float, Images]]:
    """Yield times and frames (height, width, 3) from the last key frame before ``start`` on."""
    library = av()
    try:
        # The format is named, so that no play list among data leads elsewhere.
        with library.open(handle, format="mp4") as container:
            stream = container.streams.video[0]
            _check_size(stream.width, stream.height, feature, file, where)
            if start > 0:
                container.seek(max(0, int(start / stream.time_base) - 1), stream=stream)
            for frame in container.decode(stream):
                _check_size(frame.width, frame.height, feature, file, where)
                if frame.pts is not None:
                    yield float(frame.pts * frame.time_base), frame.to_ndarray(format="rgb24")
    except SourceError:
        raise
    except DAMAGE as error:
        raise SourceError(
            f"{where} needs {file}, which is no video that can be decoded ({short(error)}); fetch it again "
            "or leave it out"
        ) from error


def encoded_image(value: Any, feature: Feature, where: str) -> Images:
    """Return a PNG or JPEG of a row as (3, 64, 64); SourceError where it is none.

    Args:
        value: ``{"bytes": ..., "path": ...}``, as the row has it.
        feature: What the metadata say of it.
        where: Names the row.
    """
    from PIL import Image

    content = value.get("bytes") if isinstance(value, dict) else None
    if not isinstance(content, bytes):
        raise SourceError(
            f"{where} has an image {feature.key!r} that is not in its parquet file; write the data set again "
            "with images inside"
        )
    try:
        with Image.open(io.BytesIO(content), formats=_IMAGE_FORMATS) as image:
            _check_size(image.width, image.height, feature, Path("its image"), where)
            pixels = np.asarray(image.convert("RGB"))
    except SourceError:
        raise
    except DAMAGE as error:
        raise SourceError(
            f"{where} has an image {feature.key!r} that cannot be decoded ({short(error)}); leave it out"
        ) from error
    return area_mean(pixels)


def sides(feature: Feature) -> tuple[int, int]:
    """Return height and width of a camera's images, (0, 0) where its shape tells none.

    Shapes are (height, width, 3), and (3, height, width) in data sets of some converters.
    """
    shape = feature.shape
    if len(shape) != 3:
        return 0, 0
    return (shape[1], shape[2]) if shape[0] in (1, 3) and shape[2] not in (1, 3) else (shape[0], shape[1])


def _check_size(width: int, height: int, feature: Feature, file: Path, where: str) -> None:
    if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        raise SourceError(f"{where} has images of {height} x {width}; at most {LARGEST_SIDE} pixels a side")
    recorded = sides(feature)
    if recorded != (0, 0) and recorded != (height, width):
        raise SourceError(
            f"{where} needs {feature.key!r} of {recorded[0]} x {recorded[1]} by its metadata, and {file} is "
            f"{height} x {width}; fetch it again"
        )
