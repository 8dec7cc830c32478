"""The gated feed-forward part: down(act(gate(x)) * up(x)) (Shazeer 2020, arXiv 2002.05202)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.linear import Linear
from lram.agents.backbones.parts.initial import small_init, wang_init
from lram.agents.backbones.parts.part import Part


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"silu": cast("Callable[[Tensor], Tensor]", F.silu), "gelu": _gelu}
)
"""SwiGLU's and GeGLU's; GELU in its approximation by tanh, as Griffin has it."""


def usual_hidden(width: int) -> int:
    """Return 8/3 of ``width``, rounded up to a multiple of 16: with a gate, the weights of four times it."""
    return math.ceil(width / 6) * 16


class GatedFeedForward(nn.Module, Part):
    """Two projections up in one product, the first through the activation; and one down.

    Args:
        width: Of a token.
        hidden: Width between.
        activation: One of ``ACTIVATIONS``.
        bias: Whether the projections have one.
    """

    def __init__(self, width: int, hidden: int, activation: str = "silu", *, bias: bool = False) -> None:
        super().__init__()
        self.up = Linear(width, 2 * hidden, bias=bias)
        self.down = Linear(hidden, width, bias=bias)
        self.activation, self.activate = activation, ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same."""
        gate, up = self.up(x).chunk(2, dim=-1)
        y: Tensor = self.down(self.activate(gate) * up)
        return y

    def compiled(self, tokens: int) -> Any:
        """See :class:`Part`."""
        from lram.agents.backbones.parts.pointwise_kernels import FeedForwardStep

        return FeedForwardStep(self.up, self.down, self.activation, tokens)

    def reset_parameters(self, layers: int) -> None:
        """Draw initial weights, as those of the feed-forward part of an xLSTM of ``layers`` blocks."""
        width = self.up.in_features
        small_init(self.up.weight, width)
        wang_init(self.down.weight, width, layers)
        for linear in (self.up, self.down):
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
