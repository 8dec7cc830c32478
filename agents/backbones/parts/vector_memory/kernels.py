"""The compiled forms of the vector memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lram.agents.backbones.kernels.vector_memory import advance, scan, scan_backward
from lram.agents.backbones.sequences import arrays, mask_of, over_rows


def scan_sequence(decay: Tensor, new: Tensor) -> Tensor:
    """decay, new (B, S, E) -> h_t (B, S, E) float32, from zero; differentiable."""
    h: Tensor = _Scan.apply(decay, new)  # type: ignore[no-untyped-call]
    return h


class _Scan(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, decay: Tensor, new: Tensor) -> Tensor:
        decay, new = decay.contiguous(), new.contiguous()
        out = torch.empty_like(new)
        over_rows(scan, arrays(decay, new, out))
        ctx.save_for_backward(decay, out)
        return out

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        decay, out = ctx.saved_tensors
        ddecay, dnew = torch.empty_like(decay), torch.empty_like(out)
        over_rows(scan_backward, arrays(decay, out, dout.contiguous(), ddecay, dnew))
        return ddecay, dnew


class VectorMemoryStep:
    """Takes the place of a :class:`lram.agents.backbones.parts.VectorMemory` in a step."""

    def step(self, decay: Tensor, new: Tensor, h: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """decay, new (B, k, E) -> the h_t; ``h`` (B, E) is written to."""
        decay, new, h = decay.contiguous(), new.contiguous(), h.contiguous()
        out = torch.empty_like(new)
        advance(decay.numpy(), new.numpy(), mask_of(new, valid), h.numpy(), out.numpy())
        return out, h
