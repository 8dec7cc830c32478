"""The compiled forms of the short convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lram.agents.backbones.kernels.convolution import convolve, convolve_backward, convolve_tokens
from lram.agents.backbones.sequences import arrays, mask_of, over_rows


def convolve_sequence(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (B, S, C), weight (C, 1, K), bias (C,) or none -> (B, S, C) float32, with SiLU; differentiable."""
    if bias is None:
        bias = weight.new_zeros(len(weight))
    y: Tensor = _Convolve.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return y


class _Convolve(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x, kernel = x.contiguous(), weight[:, 0].t().contiguous()  # (K, C)
        y = torch.empty_like(x)
        over_rows(convolve, arrays(x, y), arrays(kernel, bias))
        ctx.save_for_backward(x, kernel, bias)
        return y

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        x, kernel, bias = ctx.saved_tensors
        dx, rows = torch.empty_like(x), len(x)
        dkernel, dbias = x.new_empty(rows, *kernel.shape), x.new_empty(rows, len(bias))
        over_rows(convolve_backward, arrays(x, dy.contiguous(), dx, dkernel, dbias), arrays(kernel, bias))
        return dx, dkernel.sum(dim=0).t().unsqueeze(1), dbias.sum(dim=0)


class ConvolutionStep:
    """Takes the place of a :class:`lram.agents.backbones.parts.convolution.ShortConvolution` in a step."""

    def __init__(self, weight: Tensor, bias: Tensor | None, silu: bool) -> None:
        weight = weight.detach()
        self._kernel = weight[:, 0].t().contiguous().numpy()
        self._bias = np.zeros(len(weight), np.float32) if bias is None else bias.detach().numpy().copy()
        self._silu = silu

    def step(self, x: Tensor, past: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, k, C) -> the same; ``past`` (B, K - 1, C) is written to."""
        x, past = x.contiguous(), past.contiguous()
        y = torch.empty_like(x)
        here = mask_of(x, valid)
        convolve_tokens(x.numpy(), past.numpy(), here, self._kernel, self._bias, self._silu, y.numpy())
        return y, past
