"""Initial weights as in the authors' code (BlinkDL/RWKV-LM, RWKV-v7/train_temp/src/model.py).

What a block adds to its input begins at zero there. Here it is drawn as in the other backbones: with zeros no
token of an untrained model reaches another, so that nothing of it could be checked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Channels:
    """Numbers of the channels (D,) that initial weights follow.

    Attributes:
        fraction: From 0 towards 1: n / D.
        linear: From -0.5 to 0.5.
        decays: From -6 to 0, the slower the later the block is.
    """

    fraction: Tensor
    linear: Tensor
    decays: Tensor

    def zigzag(self, head_width: int) -> Tensor:
        """Return from -1 to 1 within each head, squared, with the sign."""
        middle = (head_width - 1) / 2
        place = (torch.arange(len(self.fraction)) % head_width - middle) / max(middle, 0.5)
        return place * place.abs()


def place_channels(width: int, place: int, layers: int) -> Channels:
    """Return the numbers for a block at ``place`` of ``layers``."""
    n, late = torch.arange(width, dtype=torch.float32), place / max(layers - 1, 1)
    even = n / max(width - 1, 1)
    return Channels(n / width, even - 0.5, -6 + 6 * even ** (1 + late**0.3))


def orthogonal(weight: Tensor, gain: float) -> None:
    """Draw an orthogonal matrix (out, in), times ``gain``, and times sqrt(out / in) where that is above 1."""
    rows, columns = weight.shape
    nn.init.orthogonal_(weight, gain * math.sqrt(max(1, rows / columns)))
