"""Frames into a file, whole or not at all, by PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lram.agents.durable import scratch_of, sync_folder
from lram.harness.errors import LramError
from lram.harness.films.spool import Image

FORMATS = {".mp4": "mp4", ".webm": "webm"}
"""Format by the suffix of a film's name."""

_CODECS = {"mp4": "libx264", "webm": "libvpx-vp9"}
_OPTIONS = {
    # Of good quality for drawn text; index in front, so that a browser starts before it has all.
    "libx264": {"crf": "20", "preset": "veryfast"},
    "libvpx-vp9": {"crf": "30", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"},
}
INSTALL = "pip install 'lram-bench[film]'"


def check_encoder(suffix: str) -> None:
    """Raise LramError where films with that suffix cannot be written here."""
    if suffix not in FORMATS:
        raise LramError(f"a film's name ends with {' or '.join(FORMATS)}, not with {suffix!r}")
    av = _av()
    name = _CODECS[FORMATS[suffix]]
    try:
        av.codec.Codec(name, "w")
    except ValueError as error:
        other = next(one for one in FORMATS if one != suffix)
        raise LramError(
            f"PyAV {av.__version__} has no encoder {name}, which {suffix} films need; take its wheel from "
            f"PyPI ({INSTALL}), or make {other} films"
        ) from error


def encode(frames: Iterable[Image], file: Path, fps: int) -> tuple[int, int, int]:
    """Write ``frames`` to ``file`` and return how many there were, and their height and width.

    Args:
        frames: uint8 (height, width, 3), all of one size, which is even.
        file: Its suffix tells the format.
        fps: Frames a second.

    Raises:
        LramError: It cannot be written; nothing of it is left.
    """
    av = _av()
    kind = FORMATS[file.suffix]
    scratch = scratch_of(file)
    try:
        made = _write(av, frames, scratch, kind, fps)
        with scratch.open("rb") as handle:
            os.fsync(handle.fileno())
        scratch.replace(file)
        sync_folder(file.parent)
    except OSError as error:  # PyAV's errors of the system are among them
        raise LramError(
            f"{file} cannot be written ({error.strerror or error}), and nothing of it is left; make room "
            "there or give another place with -o, and repeat the command"
        ) from error
    finally:
        with suppress(OSError):
            scratch.unlink()
    return made


def _write(av: Any, frames: Iterable[Image], scratch: Path, kind: str, fps: int) -> tuple[int, int, int]:
    codec = _CODECS[kind]
    options = {"movflags": "faststart"} if kind == "mp4" else {}
    count, height, width = 0, 0, 0
    with av.open(str(scratch), "w", format=kind, options=options) as container:
        stream = container.add_stream(codec, rate=fps, options=_OPTIONS[codec])
        for frame in frames:
            if not count:
                height, width, _ = frame.shape
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            count += 1
        container.mux(stream.encode())
    return count, height, width


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise LramError(f"films are encoded by PyAV, which is not installed; {INSTALL}") from error
    return av
