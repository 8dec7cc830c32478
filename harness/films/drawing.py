"""Frames: scenes with a caption above each, alone or beside each other.

Captions are drawn by Pillow, which matplotlib needs, in the monospaced font that matplotlib brings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lram.harness.films.spool import Image, Moment

_FONT_PIXELS = 12
_LINE = 15
_MARGIN = 4
_GAP = 4  # between scenes
_LEAST_WIDTH = 236  # the caption's longest usual line
_BACKGROUND, _INK, _MARK = (22, 24, 28), (236, 236, 236), (255, 178, 62)


@dataclass(frozen=True, slots=True)
class Caption:
    """What stands above a scene, whatever the moment."""

    agent: str
    task: str
    episode: int
    length: int
    note: str = ""


def scene(image: Image, height: int) -> Image:
    """Return ``image`` with a height of ``height`` pixels and its own proportions.

    Small images are enlarged with hard edges, so that pixels of a game stay pixels; others are averaged.
    """
    from PIL import Image as Pictures

    if image.shape[0] == height:
        return image
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    how = Pictures.Resampling.NEAREST if height > image.shape[0] else Pictures.Resampling.BOX
    return np.asarray(Pictures.fromarray(image).resize((width, height), how))


def panel(image: Image, height: int, width: int, caption: Caption, moment: Moment, *, mark: bool) -> Image:
    """Return a scene with its caption, uint8 (caption and ``height``, width, 3).

    Args:
        image: The scene.
        height: That it has in the panel.
        width: Of the panel; where it exceeds the scene's, that stands in the middle.
        caption, moment: What stands above it.
        mark: Whether it does so in another colour.
    """
    from PIL import Image as Pictures
    from PIL import ImageDraw

    lines = _lines(caption, moment)
    band = len(lines) * _LINE + _MARGIN
    band += (band + height) % 2
    canvas = Pictures.new("RGB", (width, band + height), _BACKGROUND)
    shown = scene(image, height)
    canvas.paste(Pictures.fromarray(shown), ((width - shown.shape[1]) // 2, band))
    draw = ImageDraw.Draw(canvas)
    most = int((width - 2 * _MARGIN) / _font().getlength("M"))
    for line, text in enumerate(lines):
        draw.text((_MARGIN, 2 + line * _LINE), _fitted(text, most), _MARK if mark else _INK, font=_font())
    return np.asarray(canvas)


def panel_width(shape: tuple[int, int], height: int) -> int:
    """Return the width that a panel needs whose images have ``shape`` (height, width); it is even."""
    width = max(_LEAST_WIDTH, round(shape[1] * height / shape[0]))
    return width + width % 2


def usual_height(shape: tuple[int, int], least: int = 256) -> int:
    """Return the height of a scene where none is asked for: its own, or a whole multiple of a small one."""
    return shape[0] * max(1, math.ceil(least / shape[0])) if shape[0] < least else shape[0]


def beside(panels: Sequence[Image], columns: int) -> Image:
    """Return panels of one size, with even sides as encoders need them, in rows of ``columns``."""
    height, width, _ = panels[0].shape
    rows = math.ceil(len(panels) / columns)
    # A panel has even sides, and so has the gap.
    shape = (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3)
    canvas = np.full(shape, _BACKGROUND, np.uint8)
    for place, one in enumerate(panels):
        top, left = place // columns * (height + _GAP), place % columns * (width + _GAP)
        canvas[top : top + height, left : left + width] = one
    return canvas


def _lines(caption: Caption, moment: Moment) -> list[str]:
    reward = "" if moment.reward is None else f"  reward {moment.reward:.4g}"
    asked = "" if moment.asked is None else f"  to go {moment.asked:.5g}"
    return [
        caption.agent,
        f"{caption.task}  episode {caption.episode}",
        f"step {moment.step}/{caption.length}{reward}",
        f"return {moment.total:.5g}{asked}",
        *([caption.note] if caption.note else []),
    ]


def _fitted(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


@cache
def _font() -> Any:
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts/ttf/DejaVuSansMono.ttf"), _FONT_PIXELS)
