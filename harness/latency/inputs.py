"""The file of what agents see while they are timed: a real task, recorded once under random actions.

:mod:`lram.harness.timing.inputs` tells how lanes share it; that no observation is shown twice is seen to by
:mod:`lram.harness.latency.feed`.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from lram.agents.durable import read_regular, write_durably
from lram.harness.errors import LramError
from lram.harness.storage.json_files import DAMAGE
from lram.harness.timing.inputs import Inputs

FILE = "inputs.npz"

MOST = 4096
"""Timesteps recorded at most: about 50 MB of images."""

MARGIN = 256
"""Timesteps recorded beyond the longest context, for the timed decisions."""

_MOST_BYTES = 1 << 30  # of the file, and of what it unpacks to


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
