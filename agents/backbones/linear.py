"""``Linear`` for many tokens: float32 products on processors go to oneDNN, in both directions.

PyTorch gives them to MKL, which reaches less than half of oneDNN's speed on some processors (Zen 5 core,
4800 tokens: 95 to 105 Gflop/s against 175 to 250; weight gradients 105 against 140 to 205). On processors
where MKL is at its best the two are equal. Both sum in float32; the order of the sums differs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lram.agents.backbones.sequences import plain_asked

FEWEST_TOKENS = 128
"""With fewer, the call itself costs what is gained; passes that decide have fewer."""


class Linear(nn.Linear):
    """``nn.Linear``, with the same parameters and results up to rounding."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x (..., in) times weight (out, in), transposed, plus bias (out,)."""
    if not _suits_onednn(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        y: Tensor = _Linear.apply(x.flatten(0, -2), weight, bias)  # type: ignore[no-untyped-call]
    else:
        y = product(x.flatten(0, -2), weight, bias)
    return y.view(*x.shape[:-1], -1)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x (M, in) times weight (out, in), transposed, plus bias; both in any order in memory."""
    if x.numel() == 0:
        return F.linear(x, weight, bias)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(_dense(x), _dense(weight), bias, "none", [], "")
    return y


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """Return the gradient (out, in) of a weight, given that of the result (M, out) and the input (M, in)."""
    if grad.shape[1] > x.shape[1]:
        return matmul(x.t(), grad).t()  # with the shorter side first, up to five times as fast
    return matmul(grad.t(), x)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Return a (M, K) times b (K, N), float32 on a processor, in any order in memory."""
    return product(a, b.t()) if available("_linear_pointwise") else a @ b


def _dense(x: Tensor) -> Tensor:
    # For rows that lie apart oneDNN may have no fast product, and then takes a hundred times as long.
    return x if x.is_contiguous() or x.t().is_contiguous() else x.contiguous()


def available(operator: str) -> bool:
    """Return whether oneDNN is here with this operator."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, operator)  # type: ignore[no-untyped-call]


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.dim() > 1
        and x.numel() >= FEWEST_TOKENS * x.shape[-1]
        and not plain_asked()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and available("_linear_pointwise")
    )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            matmul(grad, weight) if for_x else None,
            weight_gradient(grad, x) if for_weight else None,
            grad.sum(dim=0) if for_bias else None,
        )
