"""The vector of 22 entries in which every task of the domain is seen, so that one model can play them all.

====== ======================================================================================================
0      ``ASKED``: 1 where the action counts. 1      ``MARK``: 1 at what is to be kept (a cue, a sample, a
start), where an inner episode begins (keydoor), and where the last pull paid (bandit). 2-11   ``FIRST``: a
symbol, a value, a position or a row, one-hot. 12-21  ``SECOND``: another one of these, or a key as ten bits
of +1 and -1.
====== ======================================================================================================
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BLOCK = 10
ASKED = 0
MARK = 1
FIRST = 2
SECOND = FIRST + BLOCK
WIDTH = SECOND + BLOCK

Vectors = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


def blank(steps: int) -> Vectors:
    """Return ``steps`` observations, float32 (steps, 22), that show nothing."""
    return np.zeros((steps, WIDTH), np.float32)


def show(observations: Vectors, steps: Indices, block: int, symbols: Indices) -> None:
    """Write ``symbols[i]``, one-hot, into the block of the observation ``steps[i]``."""
    observations[steps, block + symbols] = 1.0
