"""The short causal convolution before a recurrence, and the token before.

Shapes: B rows, S tokens, k new tokens, C channels, K width of the convolution.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.gpu import KernelReader
from lram.agents.backbones.layers import causal_conv, causal_conv_step, keep_valid, wide_convolution
from lram.agents.backbones.parts.part import Part
from lram.agents.backbones.sequences import compiled_for


class ShortConvolution(nn.Conv1d, Part, KernelReader):
    """Convolves each channel with its past, then SiLU where ``silu``."""

    def __init__(self, channels: int, kernel: int, *, bias: bool = True, silu: bool = True) -> None:
        super().__init__(channels, channels, kernel, groups=channels, padding=kernel - 1, bias=bias)
        self.silu = silu

    def initial_state(self, rows: int, device: torch.device) -> Tensor:
        """Zeros: the last K - 1 inputs of a row (B, K - 1, C), newest last."""
        channels, _, kernel = self.weight.shape
        return torch.zeros(rows, kernel - 1, channels, dtype=torch.float32, device=device)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, C) -> the same."""
        if self.silu and compiled_for(x, self.weight):
            from lram.agents.backbones.parts.convolution_kernels import convolve_sequence

            return convolve_sequence(x, self.weight, self.bias).to(x.dtype)
        y = causal_conv(super().forward, x)
        return F.silu(y) if self.silu else y

    def step(self, x: Tensor, past: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, k, C) -> the same, and the new past."""
        return causal_conv_step(self, x, past, valid, silu=self.silu)

    def why_no_kernel(self) -> str | None:
        """See :class:`KernelReader`."""
        return wide_convolution(self)

    def compiled(self, tokens: int) -> Any:
        """See :class:`Part`."""
        from lram.agents.backbones.parts.convolution_kernels import ConvolutionStep

        return ConvolutionStep(self.weight, self.bias, self.silu)


class PreviousToken(nn.Module):
    """The token before each: zero before the first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def initial_state(self, rows: int, device: torch.device) -> Tensor:
        """Zeros: the last token of a row (B, C)."""
        return torch.zeros(rows, self.channels, dtype=torch.float32, device=device)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, C) -> the same."""
        return F.pad(x, (0, 0, 1, -1))

    def step(self, x: Tensor, last: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, k, C) -> the same, and the new last token; masked tokens are nobody's predecessors."""
        if valid is None:
            return torch.cat([last.to(x.dtype).unsqueeze(1), x[:, :-1]], dim=1), x[:, -1].float()
        before = []
        for token in range(x.shape[1]):
            before.append(last.to(x.dtype))
            last = keep_valid(valid[:, token], x[:, token].float(), last)
        return torch.stack(before, dim=1), last
