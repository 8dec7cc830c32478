"""What every adapter shares: the order of calls, the check of actions, the time limit.

An adapter tells how an episode starts (``_begin``) and what one action does (``_advance``); this base
class holds the rest of the Session contract (:mod:`lram.envs.session`), so that it is held once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from lram.envs.session import Action, Observation, SessionError, SessionSpec, Step

IMAGE_SHAPE = (3, 64, 64)


class SimulatorSession(ABC):
    """A Session over one simulator.

    Args:
        name: ``domain/task``, for error messages.
        spec: Shapes and kinds.
        limit: Decisions after which an episode is truncated; None where the adapter counts itself
            or the simulator has the only limit.
    """

    def __init__(self, name: str, spec: SessionSpec, limit: int | None) -> None:
        self._name = name
        self._spec = spec
        self._limit = limit
        self._decisions = 0
        self._in_episode = False

    @property
    def spec(self) -> SessionSpec:
        """Shapes and kinds, constant over the session's life."""
        return self._spec

    def reset(self, seed: int) -> Observation:
        """Start the episode that ``seed`` (0 <= seed < 2**31) names; SessionError for other seeds."""
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**31:
            raise SessionError(f"{self._name}: a seed is an integer from 0 to 2**31 - 1, not {seed!r}")
        self._in_episode = False
        observation = self._begin(int(seed))
        self._decisions = 0
        self._in_episode = True
        return observation

    def step(self, action: Action) -> Step:
        """Apply one action.

        Raises:
            SessionError: outside an episode; for an action of the wrong kind, shape or range, which
                leaves the episode as it was; or where the simulator fails, which ends the episode.
        """
        if not self._in_episode:
            raise SessionError(f"{self._name}: step() outside an episode; call reset(seed) first")
        valid = self._checked(action)
        self._in_episode = False
        step = self._advance(valid)
        self._decisions += 1
        if self._limit is not None and self._decisions >= self._limit and not step.terminated:
            step = step._replace(truncated=True, context_reset=False)
        self._in_episode = not (step.terminated or step.truncated)
        return step

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the scene as an image for people, uint8 (height, width, 3)."""
        raise SessionError(f"{self._name}: this session cannot be rendered")

    def close(self) -> None:
        """Free the simulator; may be called more than once."""
        self._in_episode = False

    @abstractmethod
    def _begin(self, seed: int) -> Observation:
        """Start an episode; the array must be the caller's own."""

    @abstractmethod
    def _advance(self, action: Action) -> Step:
        """Apply a checked action: an int, or float32 (action_size,) within [-1, 1]."""

    def _checked(self, action: Action) -> Action:
        size = self._spec.action_size
        if self._spec.action == "discrete":
            index = np.asarray(action)
            if index.shape != () or index.dtype.kind not in "iu" or not 0 <= int(index) < size:
                raise SessionError(
                    f"{self._name}: an action is an integer from 0 to {size - 1}, not {action!r}"
                )
            return int(index)
        vector = np.asarray(action)
        if vector.shape != (size,) or vector.dtype.kind not in "fiu":
            raise SessionError(
                f"{self._name}: an action is {size} numbers in [-1, 1], "
                f"not an array of shape {vector.shape} and type {vector.dtype}"
            )
        if not np.isfinite(vector).all():
            raise SessionError(f"{self._name}: an action holds a value that is not finite: {vector}")
        return np.clip(vector, -1.0, 1.0).astype(np.float32)


def vector_spec(width: int, action: str, action_size: int) -> SessionSpec:
    """Spec of a session with float32 (width,) observations; ``action`` is discrete or continuous."""
    if action == "discrete":
        return SessionSpec("vector", (width,), "discrete", action_size)
    return SessionSpec("vector", (width,), "continuous", action_size)


def image_spec(action_size: int) -> SessionSpec:
    """Spec of a session with uint8 (3, 64, 64) observations and discrete actions."""
    return SessionSpec("image", IMAGE_SHAPE, "discrete", action_size)


def finite_reward(name: str, reward: float) -> float:
    """Return ``reward`` as a float; SessionError where the simulator gave NaN or infinity."""
    value = float(reward)
    if not math.isfinite(value):
        raise SessionError(f"{name}: the simulator returned the reward {value}")
    return value


def finite_vector(name: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return an own float32 copy; SessionError where the simulator gave NaN or infinity."""
    vector: npt.NDArray[np.float32] = np.array(values, dtype=np.float32)
    if not np.isfinite(vector).all():
        raise SessionError(f"{name}: the simulator returned an observation that is not finite")
    return vector
