"""The compiled forms of norms and of the gated feed-forward part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from lram.agents.backbones.kernels.linear import PackedLinear
from lram.agents.backbones.kernels.pointwise import gated_rms_norm, gelu_gate, rms_norm, silu_gate

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
