"""What agents see while they are timed: a real task, recorded once under random actions.

One stream of timesteps serves all lanes: lane i reads it from another place on, so that no two lanes
(of 4,096 at most) ever read the same timestep at once, and from its beginning again when it ends. That no
observation is shown twice is seen to by :mod:`lram.harness.latency.feed`. Its
rewards are those of the task; where it was recorded over several episodes, the first reward of each
is 0.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.agents.api import Action, Observation
from lram.agents.durable import read_regular, write_durably
from lram.harness.errors import LramError
from lram.harness.storage.json_files import DAMAGE

FILE = "inputs.npz"

MOST = 4096
"""Timesteps recorded at most: about 50 MB of images."""

MARGIN = 256
"""Timesteps recorded beyond the longest context, for the timed decisions."""

_MOST_BYTES = 1 << 30  # of the file, and of what it unpacks to


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


def write(folder: Path, inputs: Inputs) -> None:
    """Write ``inputs`` into a sweep's folder."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, observations=inputs.observations, rewards=inputs.rewards, actions=inputs.actions
    )
    write_durably(folder / FILE, buffer.getvalue())


def read(folder: Path, digest: str) -> Inputs:
    """Read what :func:`write` wrote; LramError when it is not what the sweep was started with."""
    try:
        content = io.BytesIO(read_regular(folder / FILE, _MOST_BYTES))
        with zipfile.ZipFile(content) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
                raise ValueError(f"it unpacks to more than {_MOST_BYTES} bytes")
        with np.load(content, allow_pickle=False) as arrays:
            inputs = Inputs(arrays["observations"], arrays["rewards"], arrays["actions"])
    except DAMAGE as error:
        raise LramError(f"{folder / FILE} cannot be read: {error}; start a new sweep") from error
    if inputs.digest != digest:
        raise LramError(f"{folder / FILE} is not what the sweep was started with; start a new one")
    return inputs
