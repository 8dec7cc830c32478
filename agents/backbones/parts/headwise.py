"""A Linear whose matrix is block-diagonal. Shapes: (..., width)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lram.agents.backbones.layers import split_last


class HeadwiseLinear(nn.Module):
    """Each of ``blocks`` parts of the channels has a matrix of its own.

    Args:
        width: Channels, a multiple of ``blocks``.
        blocks: Parts.
        out: Channels of the result, block after block; None: as many as ``width``.
        bias: Whether it has one, of ``out`` numbers.
    """

    def __init__(self, width: int, blocks: int, out: int | None = None, *, bias: bool = False) -> None:
        super().__init__()
        out = width if out is None else out
        self.weight = nn.Parameter(torch.zeros(blocks, out // blocks, width // blocks))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., out)."""
        parts = split_last(x, self.weight.shape[0])
        y = torch.einsum("...hd,hod->...ho", parts, self.weight).flatten(-2)
        return y if self.bias is None else y + self.bias
