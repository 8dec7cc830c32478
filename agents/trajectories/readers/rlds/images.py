"""Pictures of the records: JPEG and PNG, or plain arrays, made as large as models see them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.agents.trajectories.readers.areas import LARGEST_SIDE, area_mean
from lram.agents.trajectories.readers.source import SourceError, short

_MOST_PIXELS = LARGEST_SIDE * LARGEST_SIDE


def decoded(data: memoryview, shape: tuple[int, ...], where: str) -> npt.NDArray[np.uint8]:
    """Return a packed picture as (height, width, 3).

    Args:
        data: A JPEG or PNG file.
        shape: Height, width and colours that it should have; 0 for what is not recorded.
        where: Names it in a sentence.

    Raises:
        SourceError: It is damaged, of another kind or shape, or too large.
    """
    from PIL import Image  # a part of matplotlib's installation

    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            width, height = image.size
            described = (shape[0] or height, shape[1] or width)
            if (height, width) != described or image.mode not in ("RGB", "L", "P", "RGBA"):
                raise SourceError(
                    f"{where} is a picture of {width} x {height} ({image.mode}), and features.json says "
                    f"{described[1]} x {described[0]} in colours; fetch it again"
                )
            if height * width > _MOST_PIXELS or max(height, width) > LARGEST_SIDE:
                raise SourceError(
                    f"{where} is a picture of {width} x {height}, and a side may have {LARGEST_SIDE} pixels; "
                    "make it smaller"
                )
            return np.asarray(image.convert("RGB"))
    except SourceError:
        raise
    except Exception as error:  # whatever its decoders raise for a damaged file
        raise SourceError(f"{where} is no whole JPEG or PNG ({short(error)}); fetch it again") from None


def shrunk(images: Iterable[npt.NDArray[Any]]) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """Return pictures (height, width, 3) as (n, 3, 64, 64), and the height and width of the first one."""
    found: list[npt.NDArray[np.uint8]] = []
    size = (0, 0)
    for image in images:
        size = size if found else (image.shape[0], image.shape[1])
        found.append(area_mean(image))
    return np.stack(found), size
