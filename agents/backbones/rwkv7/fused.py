"""What takes the place of RWKV-7's own parts in a compiled step; with copies of their weights as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lram.agents.backbones.kernels.linear import PackedLinear
from lram.agents.backbones.parts.convolution_kernels import mask_of
from lram.agents.backbones.rwkv7 import kernels

if TYPE_CHECKING:
    from lram.agents.backbones.rwkv7.mixing import LowRank, TokenMix
    from lram.agents.backbones.rwkv7.recurrence import Mixed, Recurrence


class TokenMixStep:
    """Of a :class:`lram.agents.backbones.rwkv7.mixing.TokenMix`."""

    def __init__(self, mix: TokenMix) -> None:
        self._weight = mix.weight.detach().numpy().copy()

    def step(self, x: Tensor, last: Tensor, valid: Tensor | None) -> tuple[tuple[Tensor, ...], Tensor]:
        """As of ``TokenMix``; ``last`` (B, D) is written to."""
        x, last = x.contiguous(), last.contiguous()
        y = torch.empty(len(self._weight), *x.shape)
        kernels.mix_next(x.numpy(), last.numpy(), mask_of(x, valid), self._weight, y.numpy())
        return y.unbind(0), last


class LowRankStep:
    """Of a :class:`lram.agents.backbones.rwkv7.mixing.LowRank`."""

    def __init__(self, part: LowRank, tokens: int) -> None:
        self._down, self._up = PackedLinear(part.down, None, tokens), PackedLinear(part.up, part.bias, tokens)
        self._activate = part.activate

    def __call__(self, x: Tensor) -> Tensor:
        """(..., D) -> the same."""
        return self._up(self._activate(self._down(x)))


class RecurrenceStep:
    """Of a :class:`lram.agents.backbones.rwkv7.recurrence.Recurrence`."""

    def __init__(self, part: Recurrence) -> None:
        kept = (part.key_scale, part.key_rate, part.bonus, part.norm_weight, part.norm_bias)
        self._weights = torch.stack([weight.detach() for weight in kept]).numpy()

    def step(
        self,
        r: Tensor,
        k: Tensor,
        v: Tensor,
        decay: Tensor,
        rate: Tensor,
        gate: Tensor,
        mixed: Mixed | None,
        state: Tensor,
        valid: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As of ``Recurrence``; ``state`` (B, H, M, M) is written to."""
        none = np.empty((0, *v.shape[1:]), np.float32)
        first, share = (none, none) if mixed is None else (mixed[0].numpy(), mixed[1].numpy())
        state, value, out = state.contiguous(), torch.empty_like(v), torch.empty_like(v)
        given = (tensor.numpy() for tensor in (r, k, v, decay, rate, gate))
        results = state.numpy(), value.numpy(), out.numpy()
        kernels.advance(*given, first, share, self._weights, mask_of(v, valid), *results)
        return out, state, value


def square_relu(x: Tensor) -> Tensor:
    """relu(x)^2; ``x`` is written to."""
    kernels.square_relu(x.view(-1).numpy())
    return x
