"""From Gymnasium's spaces to what agents see and do; what does not fit is refused in one sentence.

Observations:

=======================================  =====================================================
``Box`` of uint8, an image               the image as (3, 64, 64); sides of 16 or more pixels, one or three
                                         colours, first or last; no third axis: grey
other ``Box``                            its numbers in row-major order
``Discrete``, each of ``MultiDiscrete``  one-hot
``MultiBinary``                          its zeros and ones
``Dict``, ``Tuple`` of these             their numbers, one after the other: by key in sorted order, by place;
                                         an image in one is refused
=======================================  =====================================================

Actions: ``Discrete``, and ``Box`` with finite bounds, to which [-1, 1] is scaled; a Box of several axes
takes its numbers in row-major order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.envs.domains.gym.images import LARGEST_SIDE, area_mean
from lram.envs.errors import SelectionError
from lram.envs.session import Action, Observation
from lram.envs.simulator import IMAGE_SHAPE, finite_vector

SMALLEST_SIDE = 16
"""Pixels; what is smaller, such as a grid of cells, is read as numbers."""

WIDEST = 65_536
"""Numbers of an observation, or of an action, at most."""

Reader = Callable[[Any], Any]
"""Makes an array of float64 numbers of an observation; of an image, uint8 (3, 64, 64)."""


class ObservationReader:
    """Reads observations of one space.

    Attributes:
        kind: ``image`` or ``vector``.
        shape: Shape of what is read.

    Args:
        name: ``domain/task``, for errors.
        space: The environment's observation space.

    Raises:
        SelectionError: The space is of a kind that agents cannot be shown.
    """

    def __init__(self, name: str, space: Any) -> None:
        self._name = name
        self.kind = "image" if is_image(space) else "vector"
        if self.kind == "image":
            self.shape: tuple[int, ...] = IMAGE_SHAPE
            self._read = _image_reader(name, space)
            return
        width, self._read = _numbers(name, space, "")
        if not 0 < width <= WIDEST:
            raise SelectionError(
                f"{name} has observations of {width} numbers, and 1 to {WIDEST} can be read; wrap it"
            )
        self.shape = (width,)

    def __call__(self, observation: Any) -> Observation:
        """Return a copy of ``observation`` as the session contract has it; SessionError if not finite."""
        read = self._read(observation)
        if self.kind == "image":
            return read  # type: ignore[no-any-return]
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is reported
            return finite_vector(self._name, read)


class ActionMapper:
    """Turns agents' actions into those of one space.

    Attributes:
        kind: ``discrete`` or ``continuous``.
        size: Number of actions, or of their numbers.

    Args:
        name: ``domain/task``, for errors.
        space: The environment's action space.

    Raises:
        SelectionError: The space is of a kind that agents cannot act in.
    """

    def __init__(self, name: str, space: Any) -> None:
        from gymnasium import spaces

        if isinstance(space, spaces.Discrete):
            self.kind, self.size = "discrete", int(space.n)
            self._start = int(space.start)
            return
        if not isinstance(space, spaces.Box):
            raise SelectionError(
                f"{name} has actions of the space {_shown(space)}, and agents act in Discrete or Box; wrap it"
            )
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise SelectionError(
                f"{name} has actions without finite bounds ({_shown(space)}), to which [-1, 1] cannot be "
                "scaled; wrap it in gymnasium.wrappers.RescaleAction or ClipAction"
            )
        self.kind, self.size = "continuous", int(low.size)
        if not 0 < self.size <= WIDEST:
            raise SelectionError(
                f"{name} has actions of {self.size} numbers, and 1 to {WIDEST} can be given; wrap it"
            )
        self._low, self._high, self._dtype = low, high, space.dtype

    def __call__(self, action: Action) -> Any:
        """Return what the environment is given: for -1, 0 and 1 the lower bound, the middle, the upper."""
        if self.kind == "discrete":
            return np.int64(self._start + int(action))
        share = (np.asarray(action, np.float64).reshape(self._low.shape) + 1.0) / 2.0
        scaled = self._low + share * (self._high - self._low)
        if np.issubdtype(self._dtype, np.integer):
            scaled = np.rint(scaled)
        # The bounds again, as rounding to float32 may pass them.
        return np.clip(scaled, self._low, self._high).astype(self._dtype)


def is_image(space: Any) -> bool:
    """Whether a space is read as an image."""
    from gymnasium import spaces

    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) not in (2, 3):
        return False
    return min(_sides(space.shape)) >= SMALLEST_SIDE


def _sides(shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) == 2:
        return tuple(shape)
    return tuple(shape[:2]) if shape[2] in (1, 3) else tuple(shape[1:]) if shape[0] in (1, 3) else (0,)


def _image_reader(name: str, space: Any) -> Reader:
    if max(_sides(space.shape)) > LARGEST_SIDE:
        raise SelectionError(
            f"{name} has images of shape {space.shape}, and {LARGEST_SIDE} pixels a side are the most"
        )
    first = len(space.shape) == 3 and space.shape[2] not in (1, 3)

    def read(observation: Any) -> npt.NDArray[np.uint8]:
        image = np.asarray(observation, np.uint8)
        image = image[..., None] if image.ndim == 2 else image
        image = image.transpose(1, 2, 0) if first else image
        image = image.reshape(*image.shape[:2], -1)
        small = area_mean(image)
        return small if len(small) == 3 else np.repeat(small, 3, axis=0)

    return read


def _numbers(name: str, space: Any, part: str) -> tuple[int, Reader]:
    """Return how many numbers an observation of ``space`` has, and what reads them."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return _joined(name, {key: space[key] for key in sorted(space.keys())}, part)
    if isinstance(space, spaces.Tuple):
        return _joined(name, dict(enumerate(space.spaces)), part)
    if isinstance(space, spaces.Discrete):
        start, size = int(space.start), int(space.n)
        return size, lambda seen: _one_hot([int(seen) - start], [size])
    if isinstance(space, spaces.MultiDiscrete):
        sizes = [int(size) for size in space.nvec.flat]
        begin = np.asarray(space.start).ravel()
        return sum(sizes), lambda seen: _one_hot(np.asarray(seen).ravel() - begin, sizes)
    if isinstance(space, spaces.MultiBinary) or (isinstance(space, spaces.Box) and not is_image(space)):
        return int(np.prod(space.shape)), lambda seen: np.asarray(seen, np.float64).ravel()
    where = f" in {part}" if part else ""
    raise SelectionError(
        f"{name} has observations of the space {_shown(space)}{where}, which agents cannot be shown (Box, "
        "Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of these without images can be); wrap it"
    )


def _joined(name: str, members: dict[Any, Any], part: str) -> tuple[int, Reader]:
    read = {key: _numbers(name, space, f"{part}[{key!r}]") for key, space in members.items()}

    def join(observation: Any) -> npt.NDArray[np.float64]:
        return np.concatenate([reader(observation[key]) for key, (_, reader) in read.items()])

    return sum(width for width, _ in read.values()), join


def _one_hot(indices: Any, sizes: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return one-hot codes, one after the other; NaN, which is reported, where an index is out of range."""
    found = np.zeros(sum(sizes))
    begin = 0
    for index, size in zip(indices, sizes):
        found[begin + int(index) if 0 <= index < size else slice(begin, begin + size)] = (
            1.0 if 0 <= index < size else np.nan
        )
        begin += size
    return found


def _shown(space: Any) -> str:
    text = " ".join(str(space).split())
    return text if len(text) <= 80 else type(space).__name__
