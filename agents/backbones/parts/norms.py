"""Norms by the root mean square, with and without a gate. Shapes: (..., width)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.layers import RootMeanSquareNorm, split_last
from lram.agents.backbones.parts.part import Part
from lram.agents.backbones.sequences import compiled_for


class RMSNorm(RootMeanSquareNorm, Part):
    """:class:`RootMeanSquareNorm` with a compiled form."""

    def compiled(self, tokens: int) -> Any:
        """See :class:`Part`."""
        from lram.agents.backbones.parts.pointwise_kernels import RMSNormStep

        return RMSNormStep(self.weight, self.eps)


class GatedRMSNorm(nn.Module, Part):
    """Norm of each group of channels, times SiLU of a gate.

    Args:
        width: Channels.
        groups: That are normalised each by itself.
        shared: Whether the groups share a weight (of a group's width) instead of one of all channels.
        gate_first: Whether the gate is applied before the norm (Mamba-2) instead of after it.
        eps: Added to the mean square.
    """

    def __init__(
        self, width: int, groups: int = 1, *, shared: bool = True, gate_first: bool = False, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width // groups if shared else width))
        self.groups, self.shared, self.gate_first, self.eps = groups, shared, gate_first, eps

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """x, gate (..., width) -> the same, of the type of ``gate``."""
        # Only to train: a step comes here, too, and is in plain PyTorch unless it is the compiled one.
        if torch.is_grad_enabled() and x.dim() == 3 and compiled_for(x, self.weight):
            from lram.agents.backbones.parts.pointwise_kernels import gated_norm

            return gated_norm(x, gate, self._whole(), self.groups, self.gate_first, self.eps).to(gate.dtype)
        x, weight = x.float(), self.weight.float()
        open_gate = F.silu(gate.float())
        if self.gate_first:
            x = x * open_gate
        if self.shared:
            parts = split_last(x, self.groups)
            y = F.rms_norm(parts, weight.shape, weight, self.eps).flatten(-2)
        else:
            parts = split_last(x, self.groups)
            y = F.rms_norm(parts, parts.shape[-1:], None, self.eps).flatten(-2) * weight
        return (y if self.gate_first else y * open_gate).to(gate.dtype)

    def compiled(self, tokens: int) -> Any:
        """See :class:`Part`."""
        from lram.agents.backbones.parts.pointwise_kernels import GatedRMSNormStep

        return GatedRMSNormStep(self._whole(), self.groups, self.gate_first, self.eps)

    def _whole(self) -> Tensor:
        """The weight of every channel."""
        return self.weight.repeat(self.groups) if self.shared else self.weight
