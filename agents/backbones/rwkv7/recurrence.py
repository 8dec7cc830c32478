"""The recurrence of RWKV-7, from its projected inputs to what is projected out.

With sigma the sigmoid, * channel by channel, and n the key times ``key_scale`` at length 1 in each head:

    value   v <- v + (v_first - v) * sigma(raw mix)       but in the first block
    decay   w = exp(-e^(-1/2) * sigma(raw decay))         between 0.545 and 1
    rate    a = sigma(raw rate)
    key     k <- k * (1 + (a - 1) * key_rate)
    matrix  S <- diag(w) S - (a * n) (n^T S) + k v^T,     o = S^T r
    output  (norm(o) + (sum over a head of r * k * bonus) v) * gate

The norm is of each head by itself, by mean and variance, with a weight and a bias a channel.

Numerics: the decay is kept as its logarithm, never below -0.607, so it needs no clamp; lengths are at least
1e-12; the norm adds 64e-5 to the variance whatever the head's width, as the authors' code does (that of
flash-linear-attention adds 1e-5 times the head's width: the same at 64).

Shapes: B rows, S tokens, k new tokens, D width, H heads, M width of a head; all inputs (B, S, D).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.layers import split_last
from lram.agents.backbones.parts import MatrixMemory
from lram.agents.backbones.parts.part import Part

FASTEST = math.exp(-0.5)
"""The largest speed of a decay, minus its logarithm."""

EPS = 64e-5
SHORTEST = 1e-12
Mixed = tuple[Tensor, Tensor]
"""The first block's value, and the raw share of it that is mixed in."""


class Recurrence(nn.Module, Part):
    """See the module's text."""

    def __init__(self, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        width = heads * head_width
        self.memory = MatrixMemory(heads, head_width, head_width)
        self.key_scale = nn.Parameter(torch.ones(width))
        self.key_rate = nn.Parameter(torch.ones(width))
        self.bonus = nn.Parameter(torch.zeros(width))
        self.norm_weight = nn.Parameter(torch.ones(width))
        self.norm_bias = nn.Parameter(torch.zeros(width))

    def initial_state(self, rows: int, device: torch.device) -> Tensor:
        """Zeros (B, H, M, M), the key first."""
        return self.memory.initial_state(rows, device)

    def forward(
        self, r: Tensor, k: Tensor, v: Tensor, decay: Tensor, rate: Tensor, gate: Tensor, mixed: Mixed | None
    ) -> tuple[Tensor, Tensor]:
        """Return the output and the value, both (B, S, D) and of the type of ``gate``."""
        inputs = self._read(r, k, v, decay, rate, mixed)
        return self._write(self.memory(*inputs), inputs, gate)

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
        """Return the output (B, k, D), the matrices after the valid tokens, and the value (B, k, D)."""
        inputs = self._read(r, k, v, decay, rate, mixed)
        o, state = self.memory.step(*inputs[:4], state, valid, *inputs[4:])
        y, value = self._write(o, inputs, gate)
        return y, state, value

    def compiled(self, tokens: int) -> Any:
        """See :class:`Part`."""
        from lram.agents.backbones.rwkv7.fused import RecurrenceStep

        return RecurrenceStep(self)

    def reset_parameters(self, key_scale: Tensor, norm_weight: float) -> None:
        """The authors' rules."""
        with torch.no_grad():
            self.key_scale.copy_(key_scale)
            self.key_rate.fill_(1.02)
            self.bonus.fill_(-0.04)
            self.norm_weight.fill_(norm_weight)
            self.norm_bias.zero_()

    def _read(
        self, r: Tensor, k: Tensor, v: Tensor, decay: Tensor, rate: Tensor, mixed: Mixed | None
    ) -> tuple[Tensor, ...]:
        """Return r, k, v, the decay's logarithm, a and b as the memory takes them, (B, S, H, M), float32."""
        r, k, v, rate = r.float(), k.float(), v.float(), rate.float().sigmoid()
        log_decay = -FASTEST * decay.float().sigmoid()
        if mixed is not None:
            v = torch.lerp(v, mixed[0].float(), mixed[1].float().sigmoid())
        direction = F.normalize(split_last(k * self.key_scale.float(), self.heads), dim=-1, eps=SHORTEST)
        k = k * (1 + (rate - 1) * self.key_rate.float())
        r, k, v, log_decay, rate = (split_last(x, self.heads) for x in (r, k, v, log_decay, rate))
        return r, k, v, log_decay, direction, -direction * rate

    def _write(self, o: Tensor, inputs: tuple[Tensor, ...], gate: Tensor) -> tuple[Tensor, Tensor]:
        r, k, v, *_ = inputs
        y = F.layer_norm(o, o.shape[-1:], eps=EPS).flatten(-2)
        y = torch.addcmul(self.norm_bias.float(), y, self.norm_weight.float())
        bonus = (r * k * split_last(self.bonus.float(), self.heads)).sum(dim=-1, keepdim=True) * v
        return ((y + bonus.flatten(-2)) * gate.float()).to(gate.dtype), v.flatten(-2).to(gate.dtype)
