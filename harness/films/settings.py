"""How films look."""

from __future__ import annotations

from dataclasses import dataclass

from lram.harness.errors import LramError
from lram.harness.films.encoding import check_encoder

_LARGEST = 2160


@dataclass(frozen=True, slots=True)
class FilmSettings:
    """How films look.

    Attributes:
        fps: Frames a second.
        every: Steps from one frame to the next; the start and the end are always shown. Simulators render
            only what is shown.
        size: Height of a scene in pixels (None: its own, small ones enlarged; 240 beside others).
        suffix: Of films in a folder: ``.mp4`` (H.264) or ``.webm`` (VP9).
    """

    fps: int = 30
    every: int = 1
    size: int | None = None
    suffix: str = ".mp4"

    def check(self) -> None:
        """Raise LramError for what cannot be encoded."""
        if not 1 <= self.fps <= 240:
            raise LramError(f"a film of {self.fps} frames a second is none; give --fps from 1 to 240")
        if self.every < 1:
            raise LramError(f"--every is {self.every}; it must be 1 or more")
        if self.size is not None and (not 16 <= self.size <= _LARGEST or self.size % 2):
            raise LramError(f"--size {self.size} is no height; give an even number from 16 to {_LARGEST}")
        check_encoder(self.suffix)
