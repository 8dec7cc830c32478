"""Images made as large as models see them: 64 x 64, by the mean over areas."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

SIDE = 64
LARGEST_SIDE = 4096


def area_mean(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return an image (height, width, 3) as (3, 64, 64).

    Each pixel is the mean of the area that it covers, a half rounded up. All sums are of whole numbers below
    2**53, which float64 holds exactly, so that the result is the same on every machine.
    """
    height, width, channels = image.shape
    rows, columns = _shares(height), _shares(width)
    across = image.astype(np.float64).transpose(2, 0, 1).reshape(-1, width) @ columns.T
    sums = rows @ across.reshape(channels, height, SIDE)
    area = height * width
    return ((2 * sums.astype(np.int64) + area) // (2 * area)).astype(np.uint8)


@lru_cache(maxsize=16)
def _shares(size: int) -> npt.NDArray[np.float64]:
    """Return what each of 64 pixels covers of ``size`` pixels, (64, size), in 64ths of one of them."""
    starts = np.arange(SIDE)[:, None] * size
    places = np.arange(size)[None] * SIDE
    covered = np.minimum(starts + size, places + SIDE) - np.maximum(starts, places)
    shares: npt.NDArray[np.float64] = np.maximum(covered, 0).astype(np.float64)
    return shares
