"""What mLSTM and sLSTM blocks have in common: the norm, and the convolution before the memory.

Shapes: B rows, S tokens, k tokens of a decision.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.gpu import KernelReader
from lram.agents.backbones.layers import causal_conv, causal_conv_step, split_last, wide_convolution

EPS = 1e-5
"""Of every norm; PyTorch's own of a LayerNorm."""


class Norm(nn.Module):
    """LayerNorm without bias, or norm by the root mean square, over ``groups`` equal parts; scaled by
    1 + weight.
    """

    def __init__(self, width: int, groups: int = 1, *, rms: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.groups, self.rms = groups, rms

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same."""
        parts = split_last(x, self.groups)
        norm = F.rms_norm if self.rms else F.layer_norm
        return norm(parts, parts.shape[-1:], eps=EPS).flatten(-2) * (1.0 + self.weight)


class CausalConv(nn.Module, KernelReader):
    """Depthwise causal convolution followed by SiLU."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel, groups=width, padding=kernel - 1)

    def initial_state(self, rows: int) -> Tensor:
        """Zeros."""
        weight = self.conv.weight
        return torch.zeros(
            rows, weight.shape[2] - 1, weight.shape[0], dtype=torch.float32, device=weight.device
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, width) -> the same."""
        return F.silu(causal_conv(self.conv, x))

    def step(self, x: Tensor, past: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, k, width) -> the same."""
        return causal_conv_step(self.conv, x, past, valid, silu=True)

    def why_no_kernel(self) -> str | None:
        """See :class:`KernelReader`."""
        return wide_convolution(self.conv)
