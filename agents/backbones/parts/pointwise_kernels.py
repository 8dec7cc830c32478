"""The compiled forms of norms and of the gated feed-forward part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lram.agents.backbones.kernels.linear import PackedLinear
from lram.agents.backbones.kernels.pointwise import (
    gated_rms_norm,
    gated_rms_norm_backward,
    gated_rms_norm_sequences,
    gelu_gate,
    rms_norm,
    silu_gate,
)
from lram.agents.backbones.sequences import arrays, over_rows

GATES: Mapping[str, Callable[..., None]] = MappingProxyType({"silu": silu_gate, "gelu": gelu_gate})
"""By the names of :data:`lram.agents.backbones.parts.feed_forward.ACTIVATIONS`."""


class RMSNormStep:
    """Takes the place of a :class:`lram.agents.backbones.parts.RMSNorm` in a step."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        self._weight, self._eps = weight.detach().clone().numpy(), eps

    def __call__(self, x: Tensor) -> Tensor:
        """(..., D) -> the same."""
        x = x.contiguous()
        y = torch.empty_like(x)
        width = len(self._weight)
        rms_norm(x.numpy().reshape(-1, width), self._weight, self._eps, y.numpy().reshape(-1, width))
        return y


class GatedRMSNormStep:
    """Takes the place of a :class:`lram.agents.backbones.parts.GatedRMSNorm` in a step.

    Args:
        weight: (D,), of all channels.
        groups: That are normalised each by itself.
        gate_first: Whether the gate is applied before the norm.
        eps: Added to the mean square.
    """

    def __init__(self, weight: Tensor, groups: int, gate_first: bool, eps: float) -> None:
        self._weight = weight.detach().clone().numpy()
        self._options = groups, gate_first, eps

    def __call__(self, x: Tensor, gate: Tensor) -> Tensor:
        """x, gate (..., D) -> the same."""
        x, gate = x.contiguous(), gate.contiguous()
        y = torch.empty_like(gate)
        flat = [tensor.numpy().reshape(-1, len(self._weight)) for tensor in (x, gate, y)]
        gated_rms_norm(flat[0], flat[1], self._weight, *self._options, flat[2])
        return y


def gated_norm(x: Tensor, gate: Tensor, weight: Tensor, groups: int, gate_first: bool, eps: float) -> Tensor:
    """x, gate (B, S, D), weight (D,) -> (B, S, D) float32, as ``GatedRMSNorm``; differentiable."""
    y: Tensor = _GatedNorm.apply(x, gate, weight, groups, gate_first, eps)  # type: ignore[no-untyped-call]
    return y


class _GatedNorm(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, gate: Tensor, weight: Tensor, *options: Any) -> Tensor:
        x, gate, weight = x.contiguous(), gate.contiguous(), weight.contiguous()
        y = torch.empty_like(x)
        over_rows(gated_rms_norm_sequences, arrays(x, gate, y), (*arrays(weight), *options))
        ctx.options = options
        ctx.save_for_backward(x, gate, weight)
        return y

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, gate, weight = ctx.saved_tensors
        dx, dgate, dweight = torch.empty_like(x), torch.empty_like(gate), x.new_empty(len(x), len(weight))
        by_row = arrays(x, gate, dy.contiguous(), dx, dgate, dweight)
        over_rows(gated_rms_norm_backward, by_row, (*arrays(weight), *ctx.options))
        return dx, dgate, dweight.sum(dim=0), None, None, None


class FeedForwardStep:
    """Takes the place of a :class:`lram.agents.backbones.parts.GatedFeedForward` in a step."""

    def __init__(self, up: nn.Linear, down: nn.Linear, activation: str, tokens: int) -> None:
        self._up, self._down = PackedLinear.of(up, tokens), PackedLinear.of(down, tokens)
        self._hidden, self._gate = down.in_features, GATES[activation]

    def __call__(self, x: Tensor) -> Tensor:
        """(..., width) -> the same."""
        up = self._up(x)
        y = up.new_empty(*up.shape[:-1], self._hidden)
        both: Any = up.numpy().reshape(-1, 2 * self._hidden)
        self._gate(both, y.numpy().reshape(-1, self._hidden))
        return self._down(y)
