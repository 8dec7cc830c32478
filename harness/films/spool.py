"""What a replay showed of one episode, on disk until its record is known to agree."""

from __future__ import annotations

import tempfile
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

_FASTEST = 1


@dataclass(frozen=True, slots=True)
class Moment:
    """An episode after so many decisions, as a frame shows it.

    Attributes:
        step: Decisions so far.
        reward: Of the last one, unclipped; None before the first.
        total: Return so far.
        asked: Return-to-go that the agent reads with this scene, in unscaled reward; None where it reads
            none, or another than the task table's.
        action: The bytes of the last action; empty before the first.
        trajectory: Running checksum of the trajectory (CRC-32); 0 before the first decision.
    """

    step: int
    reward: float | None
    total: float
    asked: float | None
    action: bytes = b""
    trajectory: int = 0


@dataclass(slots=True, eq=False)
class Spool:
    """The moments of one episode and their images, in a file without a name.

    An image is held compressed: long episodes of large scenes do not fit into memory. Not every moment has
    one; an image belongs to the newest moment when it comes.
    """

    moments: list[Moment] = field(default_factory=list)
    _file: BinaryIO = field(default_factory=lambda: _nameless())
    _places: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)
    _steps: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        """Moments that there are: one more than decisions."""
        return len(self.moments)

    def add(self, image: Image) -> None:
        """Keep the image of the newest moment."""
        content = zlib.compress(np.ascontiguousarray(image).tobytes(), _FASTEST)
        place = self._places[-1][0] + self._places[-1][1] if self._places else 0
        self._file.seek(place)
        self._file.write(content)
        self._places.append((place, len(content), image.shape))
        self._steps.append(len(self.moments) - 1)

    def seen(self, step: int) -> int:
        """Return the newest step up to ``step`` of which there is an image."""
        return self._steps[bisect_right(self._steps, step) - 1]

    def image(self, step: int) -> Image:
        """Return the image of a step that :meth:`seen` gave, uint8 (height, width, 3)."""
        place, size, shape = self._places[bisect_right(self._steps, step) - 1]
        self._file.seek(place)
        return np.frombuffer(zlib.decompress(self._file.read(size)), np.uint8).reshape(shape)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the first image, which a film keeps."""
        _, _, shape = self._places[0]
        return shape[0], shape[1]

    def clear(self) -> None:
        """Begin anew: the episode is played again."""
        self.moments.clear()
        self._places.clear()
        self._steps.clear()

    def close(self) -> None:
        """Free the disk."""
        self._file.close()


def _nameless() -> BinaryIO:
    return cast(BinaryIO, tempfile.TemporaryFile())


def first_divergence(one: Sequence[Moment], other: Sequence[Moment]) -> int | None:
    """Return the first step at which two episodes of the same start differ in action, reward or observation.

    The running checksum of a step covers all that came before, so it is the first at which they differ. Where
    one ends first and all until then is equal, it is the step after its last. None: they are the same.
    """
    for step in range(1, min(len(one), len(other))):
        if (one[step].trajectory, one[step].action) != (other[step].trajectory, other[step].action):
            return step
    return None if len(one) == len(other) else min(len(one), len(other))
