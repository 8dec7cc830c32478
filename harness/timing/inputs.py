"""What agents see while they are timed: a recorded stream of timesteps.

One stream serves all lanes: lane i reads it from another place on, so that no two lanes (of as many as it
has timesteps) ever read the same timestep at once, and from its beginning again when it ends. Its rewards are
those of the task; where it was recorded over several episodes, the first reward of each is 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.agents.api import Action, Observation

Shown = tuple[list[Observation], list[float]]
"""One observation and one reward a lane."""


@dataclass(frozen=True)
class Inputs:
    """A recorded stream of n timesteps.

    Attributes:
        observations: (n, *shape of the task).
        rewards: Given with each observation: what the action before it earned, as agents see it, (n,).
        actions: Taken at each, (n,) or (n, dimensions).
    """

    observations: npt.NDArray[Any]
    rewards: npt.NDArray[np.float64]
    actions: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.rewards)

    def places(self, timestep: int, batch: int) -> npt.NDArray[np.int64]:
        """Return which recorded timestep each of ``batch`` lanes reads at ``timestep``: (batch,)."""
        stride = max(1, len(self) // batch)
        return (timestep + stride * np.arange(batch)) % len(self)

    def seen(self, places: Sequence[int] | npt.NDArray[np.int64]) -> tuple[list[Observation], list[float]]:
        """Return one observation and reward a lane."""
        return [self.observations[place] for place in places], [float(self.rewards[p]) for p in places]

    def action(self, place: int) -> Action:
        """Return the action that was taken there."""
        taken = self.actions[place]
        return int(taken) if self.actions.ndim == 1 else taken

    @property
    def digest(self) -> str:
        """SHA-256 of all arrays."""
        hashed = hashlib.sha256()
        for array in (self.observations, self.rewards, self.actions):
            hashed.update(f"{array.dtype.str}{array.shape}".encode())
            hashed.update(np.ascontiguousarray(array).tobytes())
        return hashed.hexdigest()
