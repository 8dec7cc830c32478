"""Images of any size made as large as models see them.

The protocol is that of Gymnasium's tasks (``lram.envs.domains.gym.images``), so that a model is trained on
what it is shown when it acts; a test holds the two to the same numbers.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

SIDE = 64
LARGEST_SIDE = 4096
"""Pixels of an image's side, at most."""


def area_mean(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return an image (height, width, 3) as (3, 64, 64): each pixel the mean of its area, a half rounded up.

    All sums are of whole numbers below 2**53, which float64 holds exactly, so that the result is the same on
    every machine.
    """
    height, width, colours = image.shape
    if (height, width) == (SIDE, SIDE):
        return np.ascontiguousarray(image.transpose(2, 0, 1))
    across = image.astype(np.float64).transpose(2, 0, 1).reshape(-1, width) @ _weights(width).T
    sums = _weights(height) @ across.reshape(colours, height, SIDE)
    area = height * width
    return ((2 * sums.astype(np.int64) + area) // (2 * area)).astype(np.uint8)


@lru_cache(maxsize=16)
def _weights(size: int) -> npt.NDArray[np.float64]:
    """Return, in 64ths of a pixel, how much of each of ``size`` pixels lies in each of 64: (64, size)."""
    edges = np.arange(SIDE + 1) * size
    places = np.arange(size) * SIDE
    upper = np.minimum(edges[1:, None], places + SIDE)
    lower = np.maximum(edges[:-1, None], places)
    shares: npt.NDArray[np.float64] = np.maximum(upper - lower, 0).astype(np.float64)
    return shares
