"""A number a channel with a decay: h_t = a_t h_{t-1} + b_t, and every h_t is read.

Shapes: B rows, S tokens, k new tokens, E channels. The plain form over whole sequences combines neighbours,
then pairs of pairs (Hillis and Steele 1986); as decays are at most 1 and only multiplied, nothing overflows
and no logarithm is needed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.gpu import KernelReader, gpu_kernels_for
from lram.agents.backbones.layers import column, keep_valid
from lram.agents.backbones.parts.part import Part
from lram.agents.backbones.sequences import compiled_for


class VectorMemory(nn.Module, Part, KernelReader):
    """``channels`` numbers of a row."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def initial_state(self, rows: int, device: torch.device) -> Tensor:
        """Zeros (B, E)."""
        return torch.zeros(rows, self.channels, dtype=torch.float32, device=device)

    def forward(self, decay: Tensor, new: Tensor) -> Tensor:
        """decay a_t (0 to 1) and new b_t (B, S, E) -> h_t, float32."""
        if compiled_for(new):
            from lram.agents.backbones.parts.vector_memory.kernels import scan_sequence

            return scan_sequence(decay, new)
        return scan(decay.float(), new.float())

    def step(self, decay: Tensor, new: Tensor, h: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """decay, new (B, k, E) and h (B, E) -> the h_t, float32, and the newest."""
        if gpu_kernels_for(new.shape[1]):
            from lram.agents.backbones.gpu import vector_memory

            return vector_memory.advance(decay, new, h, valid)
        decay, new, outputs = decay.float(), new.float(), []
        for token in range(new.shape[1]):
            after = torch.addcmul(new[:, token], decay[:, token], h)
            h = keep_valid(column(valid, token), after, h)
            outputs.append(after)
        return torch.stack(outputs, dim=1), h

    def compiled(self, tokens: int) -> Any:
        """See :class:`Part`."""
        from lram.agents.backbones.parts.vector_memory.kernels import VectorMemoryStep

        return VectorMemoryStep()


def scan(decay: Tensor, new: Tensor) -> Tensor:
    """Return h_t (B, S, E) of decay and new alike, from zero."""
    distance, tokens = 1, new.shape[1]
    while distance < tokens:
        new = torch.addcmul(new, decay, F.pad(new, (0, 0, distance, -distance)))
        decay = decay * F.pad(decay, (0, 0, distance, -distance), value=1.0)
        distance *= 2
    return new
