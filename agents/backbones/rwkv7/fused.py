"""What takes the place of RWKV-7's own parts in a compiled step; with copies of their weights as they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lram.agents.backbones.kernels.linear import PackedLinear
from lram.agents.backbones.rwkv7 import kernels
from lram.agents.backbones.rwkv7.inputs import RecurrenceInputs
from lram.agents.backbones.sequences import arrays, mask_of


class TokenMixStep:
    """Of a :class:`lram.agents.backbones.rwkv7.mixing.TokenMix`."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.detach().numpy().copy()

    def step(self, x: Tensor, last: Tensor, valid: Tensor | None) -> tuple[tuple[Tensor, ...], Tensor]:
        """As of ``TokenMix``; ``last`` (B, D) is written to."""
        x, last = x.contiguous(), last.contiguous()
        y = torch.empty(len(self._weight), *x.shape)
        kernels.mix_next(x.numpy(), last.numpy(), mask_of(x, valid), self._weight, y.numpy())
        return y.unbind(0), last


class LowRankStep:
    """Of a :class:`lram.agents.backbones.rwkv7.mixing.LowRank`."""

    def __init__(
        self,
        down: Tensor,
        up: Tensor,
        bias: Tensor | None,
        activate: Callable[[Tensor], Tensor],
        tokens: int,
    ) -> None:
        self._down, self._up = PackedLinear(down, None, tokens), PackedLinear(up, bias, tokens)
        self._activate = activate

    def __call__(self, x: Tensor) -> Tensor:
        """(..., D) -> the same."""
        return self._up(self._activate(self._down(x)))


class RecurrenceStep:
    """Of a :class:`lram.agents.backbones.rwkv7.recurrence.Recurrence`.

    Args:
        weights: (5, D): the key's scale, the rate's share in the key, the bonus, the norm's weight and bias.
    """

    def __init__(self, weights: Tensor) -> None:
        self._weights = weights.numpy()

    def step(
        self, inputs: RecurrenceInputs, state: Tensor, valid: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As of ``Recurrence``; ``state`` (B, H, M, M) is written to."""
        *projected, mixed = inputs
        v = inputs.v
        none = np.empty((0, *v.shape[1:]), np.float32)
        first, share = (none, none) if mixed is None else arrays(*mixed)
        state, value, out = state.contiguous(), torch.empty_like(v), torch.empty_like(v)
        given = *arrays(*projected), first, share, self._weights, mask_of(v, valid)
        kernels.advance(*given, *arrays(state, value, out))
        return out, state, value


def square_relu(x: Tensor) -> Tensor:
    """relu(x)^2; ``x`` is written to."""
    kernels.square_relu(x.view(-1).numpy())
    return x
