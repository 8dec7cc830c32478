"""The random generators of a report: one for each thing that is estimated."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def stream(seed: int, *names: str) -> np.random.Generator:
    """Return the generator that belongs to ``names``.

    Each agent and task draws from a stream of its own, so its interval does not change when another
    agent or task joins the report.
    """
    digest = hashlib.sha256("\x00".join((str(seed), *names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
