"""The recurrence of RWKV-7, from its projected inputs to what is projected out.

The formulas are in :mod:`lram.agents.backbones.rwkv7.plain`.

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
from lram.agents.backbones.rwkv7.inputs import RecurrenceInputs

FASTEST = math.exp(-0.5)
"""The largest speed of a decay, minus its logarithm."""

EPS = 64e-5
SHORTEST = 1e-12


class Recurrence(nn.Module, Part):
    """Mixes the value, reads decay, rate and key, advances the matrices, and norms, adds and gates."""

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

    def forward(self, inputs: RecurrenceInputs) -> tuple[Tensor, Tensor]:
        """Return the output and the value, both (B, S, D) and of the type of the gate."""
        read = self._read(inputs)
        return self._write(self.memory(*read), read, inputs.gate)

    def step(
        self, inputs: RecurrenceInputs, state: Tensor, valid: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the output (B, k, D), the matrices after the valid tokens, and the value (B, k, D)."""
        read = self._read(inputs)
        r, k, v, log_decay, a, b = read
        o, state = self.memory.step(r, k, v, log_decay, state, valid, a, b)
        y, value = self._write(o, read, inputs.gate)
        return y, state, value

    def compiled(self, tokens: int) -> Any:
        """See :class:`Part`."""
        from lram.agents.backbones.rwkv7.fused import RecurrenceStep

        kept = (self.key_scale, self.key_rate, self.bonus, self.norm_weight, self.norm_bias)
        return RecurrenceStep(torch.stack([weight.detach() for weight in kept]))

    def reset_parameters(self, key_scale: Tensor, norm_weight: float) -> None:
        """The authors' rules."""
        with torch.no_grad():
            self.key_scale.copy_(key_scale)
            self.key_rate.fill_(1.02)
            self.bonus.fill_(-0.04)
            self.norm_weight.fill_(norm_weight)
            self.norm_bias.zero_()

    def _read(self, inputs: RecurrenceInputs) -> tuple[Tensor, ...]:
        """Return r, k, v, the decay's logarithm, a and b as the memory takes them, (B, S, H, M), float32."""
        r, k, v, rate = inputs.r.float(), inputs.k.float(), inputs.v.float(), inputs.rate.float().sigmoid()
        log_decay = -FASTEST * inputs.decay.float().sigmoid()
        if inputs.mixed is not None:
            first, share = inputs.mixed
            v = torch.lerp(v, first.float(), share.float().sigmoid())
        direction = F.normalize(split_last(k * self.key_scale.float(), self.heads), dim=-1, eps=SHORTEST)
        k = k * (1 + (rate - 1) * self.key_rate.float())
        r, k, v, log_decay, rate = (split_last(x, self.heads) for x in (r, k, v, log_decay, rate))
        return r, k, v, log_decay, direction, -direction * rate

    def _write(self, o: Tensor, read: tuple[Tensor, ...], gate: Tensor) -> tuple[Tensor, Tensor]:
        r, k, v, *_ = read
        y = F.layer_norm(o, o.shape[-1:], eps=EPS).flatten(-2)
        y = torch.addcmul(self.norm_bias.float(), y, self.norm_weight.float())
        bonus = (r * k * split_last(self.bonus.float(), self.heads)).sum(dim=-1, keepdim=True) * v
        return ((y + bonus.flatten(-2)) * gate.float()).to(gate.dtype), v.flatten(-2).to(gate.dtype)
