"""What RWKV-7 reads its inputs with: interpolation with the token before, and projections of low rank.

Shapes: B rows, S tokens, k new tokens, D width, I inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lram.agents.backbones.linear import linear
from lram.agents.backbones.parts import PreviousToken
from lram.agents.backbones.parts.part import Part
from lram.agents.backbones.rwkv7.initial import orthogonal
from lram.agents.backbones.sequences import compiled_for


class TokenMix(nn.Module, Part):
    """``inputs`` interpolations, or beyond, of a token x and the one before it, x': x + (x' - x) m."""

    def __init__(self, width: int, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, width))
        self.before = PreviousToken(width)

    def initial_state(self, rows: int, device: torch.device) -> Tensor:
        """Zeros: the last token of a row (B, D)."""
        return self.before.initial_state(rows, device)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, S, D) -> I of the same."""
        if compiled_for(x, self.weight):
            from lram.agents.backbones.rwkv7.sequence import mix_tokens

            return mix_tokens(x, self.weight)
        return self._mix(x, self.before(x))

    def step(self, x: Tensor, last: Tensor, valid: Tensor | None) -> tuple[tuple[Tensor, ...], Tensor]:
        """(B, k, D) and (B, D) -> I of the former, and the new last token."""
        before, last = self.before.step(x, last, valid)
        return self._mix(x, before), last

    def compiled(self, tokens: int) -> Any:
        """See :class:`Part`."""
        from lram.agents.backbones.rwkv7.fused import TokenMixStep

        return TokenMixStep(self.weight)

    def _mix(self, x: Tensor, before: Tensor) -> tuple[Tensor, ...]:
        step = before - x
        return tuple(torch.addcmul(x, step, weight) for weight in self.weight)


def _as_it_is(x: Tensor) -> Tensor:
    return x


class LowRank(nn.Module, Part):
    """act(x down) up + bias, through ``rank`` numbers.

    Its weights are parameters of its own, not of a Linear, so that they do not decay in training.
    """

    def __init__(
        self, width: int, rank: int, activate: Callable[[Tensor], Tensor] = _as_it_is, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.down, self.up = nn.Parameter(torch.zeros(rank, width)), nn.Parameter(torch.zeros(width, rank))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> the same."""
        return linear(self.activate(linear(x, self.down)), self.up, self.bias)

    def compiled(self, tokens: int) -> Any:
        """See :class:`Part`."""
        from lram.agents.backbones.rwkv7.fused import LowRankStep

        return LowRankStep(self.down, self.up, self.bias, self.activate, tokens)

    def matrices(self) -> Iterator[Tensor]:
        """See :class:`Part`."""
        yield from (self.down, self.up)

    def reset_parameters(self, bias: Tensor | None) -> None:
        """``down`` zero, ``up`` orthogonal."""
        nn.init.zeros_(self.down)
        orthogonal(self.up.t(), 0.1)
        with torch.no_grad():
            if self.bias is not None and bias is not None:
                self.bias.copy_(bias)


class SquaredReLU(nn.Module, Part):
    """relu(x)^2 (So et al. 2021, arXiv 2109.08668)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        return x.relu().square()

    def compiled(self, tokens: int) -> Any:
        """See :class:`Part`."""
        from lram.agents.backbones.rwkv7.fused import square_relu

        return square_relu
