"""From the lists of a record to an episode."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.agents.trajectories.hdf5 import printable
from lram.agents.trajectories.readers.areas import LARGEST_SIDE, SIDE
from lram.agents.trajectories.readers.keys import choose_keys
from lram.agents.trajectories.readers.rlds.examples import ExampleError, FeatureList
from lram.agents.trajectories.readers.rlds.features import STEPS, Leaf, RldsFolder
from lram.agents.trajectories.readers.rlds.images import decoded, shrunk
from lram.agents.trajectories.readers.source import (
    ActionSpace,
    Array,
    Note,
    Options,
    RawEpisode,
    SourceError,
    flags,
)

ACTED_LAST = (
    "episodes have an action or a reward in the step that is_last, which RLDS has none in: it counts as a "
    "decision, and no observation follows it"
)
NO_LAST = "episodes end with an observation of zeros, which stands for none and was left out"
DISCOUNTED = "episodes have discounts other than 0 and 1, which are not read"

_FLAGS = ("is_first", "is_last", "is_terminal")
_INVALID = ("invalid", "episode_metadata/invalid")
_POLICY = ("agent_id", "episode_metadata/agent_id")


class EpisodeReader:
    """Reads the episodes of one data set.

    Args:
        about: The data set.
        options: Which keys are the observation and the action.

    Raises:
        SourceError: Such keys are not there, or it has no reward.
    """

    def __init__(self, about: RldsFolder, options: Options) -> None:
        self._leaves = about.leaves
        self._observation = self._keys(about, "observation", options.observation)
        self._action = self._keys(about, "action", options.action)
        reward = about.leaves.get(f"{STEPS}reward")
        if reward is None or not reward.is_vector:
            raise SourceError(f"{about.path} has no number as the reward of a step; leave it out")

    def invalid(self, example: Mapping[str, FeatureList], where: str) -> bool:
        """Return whether the data set marks the episode so."""
        names = [name for name in _INVALID if name in self._leaves and name in example]
        return bool(names) and bool(np.any(_numbers(example[names[0]], f"{where} {names[0]}")))

    def loader(self, example: Mapping[str, FeatureList], where: str) -> Callable[[], RawEpisode]:
        """Return what reads the episode of a record."""
        return lambda: self._read(example, where)

    def _keys(self, about: RldsFolder, what: str, asked: tuple[str, ...]) -> tuple[str, ...]:
        """Return the full names of the leaves that are read; ``asked`` are names below ``what``."""
        base = f"{STEPS}{what}"
        below = {name.removeprefix(f"{base}/"): name for name in about.leaves if name.startswith(f"{base}/")}
        if base in about.leaves:
            below[what] = base
        for key in asked:
            if key not in below and f"{STEPS}{key}" in about.leaves:
                below[key] = f"{STEPS}{key}"
        vectors = [key for key, name in below.items() if about.leaves[name].is_vector]
        images = [key for key, name in below.items() if about.leaves[name].is_image]
        where = f"the {what} in {about.path}"
        if what == "action":
            images = []
        return tuple(below[key] for key in choose_keys(asked, vectors, images, where, f"--{what}"))

    def _read(self, example: Mapping[str, FeatureList], where: str) -> RawEpisode:
        rewards = self._array(example, f"{STEPS}reward", where)
        steps = len(rewards)
        if not steps:
            raise SourceError(f"{where} is empty: it has no step; leave it out")
        first, last, terminal = (self._flag(example, name, steps, where) for name in _FLAGS)
        if first is not None and first[1:].any():
            raise SourceError(f"{where} begins anew at step {1 + int(first[1:].argmax())}; leave it out")
        if last is not None and last[:-1].any():
            raise SourceError(f"{where} ends at step {int(last[:-1].argmax())} and continues; leave it out")
        actions, space = self._actions(example, steps, where)
        observations, notes = self._observations(example, steps, where)
        ended = bool(last is not None and last[-1])
        if ended and not (_holds(actions[-1]) or _holds(rewards[-1])) and steps > 1:
            actions, rewards = actions[:-1], rewards[:-1]
            if not np.any(observations[-1]):
                observations = observations[:-1]
                notes.append(Note(NO_LAST))
        elif ended:
            notes.append(Note(ACTED_LAST))
        discounts = self._optional(example, "discount", steps, where)
        if discounts is not None and not np.isin(discounts, (0, 1)).all():
            notes.append(Note(DISCOUNTED))
        terminated = bool(terminal[-1]) if terminal is not None else bool(_zero_last(discounts))
        if terminal is not None and terminal[:-1].any():
            raise SourceError(
                f"{where} is terminal at step {int(terminal[:-1].argmax())} and continues; leave it out"
            )
        return RawEpisode(
            observations=observations,
            actions=actions,
            rewards=rewards,
            terminated=terminated,
            truncated=ended and not terminated,
            kind_of_end_known=last is not None or terminal is not None,
            space=space,
            policy=self._text(example),
            notes=tuple(notes),
        )

    def _actions(
        self, example: Mapping[str, FeatureList], steps: int, where: str
    ) -> tuple[Array, ActionSpace | None]:
        leaves = [self._leaves[name] for name in self._action]
        if len(leaves) == 1 and not leaves[0].shape:
            space = ActionSpace("discrete", leaves[0].classes) if leaves[0].classes else None
            return self._column(example, self._action[0], steps, where), space
        return self._side_by_side(example, self._action, steps, where), None

    def _observations(
        self, example: Mapping[str, FeatureList], steps: int, where: str
    ) -> tuple[Array, list[Note]]:
        name = self._observation[0]
        if not self._leaves[name].is_image:
            return self._side_by_side(example, self._observation, steps, where), []
        images, size = shrunk(self._images(example, name, steps, where))
        if size == (SIDE, SIDE):
            return images, []
        text = f"episodes have images of {size[1]} x {size[0]}, made {SIDE} x {SIDE} by the mean over areas"
        return images, [Note(text)]

    def _side_by_side(
        self, example: Mapping[str, FeatureList], names: tuple[str, ...], steps: int, where: str
    ) -> Array:
        columns = [self._column(example, name, steps, where).reshape(steps, -1) for name in names]
        return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)

    def _images(
        self, example: Mapping[str, FeatureList], name: str, steps: int, where: str
    ) -> Iterator[Array]:
        leaf = self._leaves[name]
        if leaf.kind == "tensor":
            if max(leaf.shape) > LARGEST_SIDE:
                raise SourceError(
                    f"{where} has pictures of {leaf.shape}; a side may have {LARGEST_SIDE} pixels"
                )
            yield from self._column(example, name, steps, where)
            return
        packed = self._list(example, name, where).bytes_list()
        _check_steps(len(packed), steps, f"{where} {printable(name)[:80]}")
        for step, data in enumerate(packed):
            yield decoded(data, leaf.shape, f"{where} {printable(name)[:80]}, step {step},")

    def _column(self, example: Mapping[str, FeatureList], name: str, steps: int, where: str) -> Array:
        values = self._array(example, name, where)
        _check_steps(len(values), steps, f"{where} {printable(name)[:80]}")
        return values

    def _optional(
        self, example: Mapping[str, FeatureList], what: str, steps: int, where: str
    ) -> Array | None:
        name = f"{STEPS}{what}"
        there = name in self._leaves and self._leaves[name].is_vector
        return self._column(example, name, steps, where) if there else None

    def _flag(
        self, example: Mapping[str, FeatureList], what: str, steps: int, where: str
    ) -> npt.NDArray[np.bool_] | None:
        values = self._optional(example, what, steps, where)
        return None if values is None else flags(values, where, what)

    def _text(self, example: Mapping[str, FeatureList]) -> str:
        for name in _POLICY:
            if name in example and example[name].kind == "bytes":
                for text in example[name].bytes_list()[:1]:
                    return printable(bytes(text[:200]).decode("utf-8", "replace"))
        return ""

    def _list(self, example: Mapping[str, FeatureList], name: str, where: str) -> FeatureList:
        if name not in example:
            raise SourceError(
                f"{where} has no {printable(name)[:80]!r}, and features.json tells of it; fetch it again"
            )
        return example[name]

    def _array(self, example: Mapping[str, FeatureList], name: str, where: str) -> Array:
        """Return a leaf's numbers as (steps, ...)."""
        leaf, values = self._leaves[name], self._list(example, name, where)
        what = f"{where} {printable(name)[:80]}"
        if leaf.encoding != "none":
            return _unpacked(values, leaf, what)
        found = _numbers(values, what)
        size = math.prod(leaf.shape)
        if len(found) % size:
            raise SourceError(
                f"{what} has {len(found)} numbers, which are no steps of shape {leaf.shape}; fetch it again"
            )
        found = found.view(np.uint64) if leaf.dtype == "uint64" and found.dtype == np.int64 else found
        return found.reshape(-1, *leaf.shape).astype(leaf.dtype)


def _unpacked(values: FeatureList, leaf: Leaf, what: str) -> Array:
    """Return a tensor whose arrays are byte strings, one a step."""
    dtype = np.dtype(leaf.dtype).newbyteorder("<")
    wanted = math.prod(leaf.shape) * dtype.itemsize
    arrays = []
    for step, data in enumerate(values.bytes_list() if values.kind == "bytes" else ()):
        plain: bytes | memoryview = data
        if leaf.encoding == "zlib":
            try:
                plain = zlib.decompressobj().decompress(data, wanted + 1)  # no more than it should be
            except zlib.error as error:
                raise SourceError(
                    f"{what}, step {step}, cannot be unpacked ({error}); fetch it again"
                ) from None
        if len(plain) != wanted:
            raise SourceError(
                f"{what}, step {step}, has not the {wanted} bytes of an array of shape {leaf.shape}; fetch "
                "it again"
            )
        arrays.append(np.frombuffer(plain, dtype).reshape(leaf.shape))
    return np.stack(arrays) if arrays else np.zeros((0, *leaf.shape), dtype)


def _numbers(values: FeatureList, what: str) -> Array:
    if values.kind == "bytes":
        raise SourceError(f"{what} has byte strings instead of numbers; fetch it again")
    try:
        return values.numbers()
    except ExampleError as error:
        raise SourceError(f"{what} {error}; fetch it again") from None


def _check_steps(found: int, steps: int, what: str) -> None:
    if found != steps:
        raise SourceError(f"{what} has {found} steps, and there are {steps} rewards; fetch it again")


def _holds(values: Any) -> bool:
    """Return whether there is anything but zeros and what is no number."""
    return bool(np.any(np.nan_to_num(np.asarray(values, np.float64), nan=0.0)))


def _zero_last(discounts: Array | None) -> bool:
    return discounts is not None and float(np.ravel(discounts)[-1]) == 0
