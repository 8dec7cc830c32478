"""Interpolation with the token before over whole sequences, by kernels, with gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lram.agents.backbones.rwkv7 import kernels
from lram.agents.backbones.sequences import arrays, over_rows


def mix_tokens(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """x (B, S, D), weight (I, D) -> I times (B, S, D) float32; differentiable."""
    mixed: tuple[Tensor, ...] = _Mix.apply(x, weight)  # type: ignore[no-untyped-call]
    return mixed


class _Mix(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        x, weight = x.contiguous(), weight.contiguous()
        outputs = tuple(torch.empty_like(x) for _ in weight)
        for own, y in zip(weight, outputs, strict=True):
            over_rows(kernels.mix, arrays(x, y), arrays(own))
        ctx.save_for_backward(x, weight)
        return outputs

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        dx, dweight = torch.zeros_like(x), x.new_empty(len(x), *weight.shape)
        for i, (own, dy) in enumerate(zip(weight, slopes, strict=True)):
            part = torch.empty_like(dweight[:, i])
            over_rows(kernels.mix_backward, arrays(x, dy.contiguous(), dx, part), arrays(own))
            dweight[:, i] = part
        return dx, dweight.sum(dim=0)
