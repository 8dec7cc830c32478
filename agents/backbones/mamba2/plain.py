"""Mamba-2 (Dao and Gu 2024, arXiv 2405.21060), in parts.

    S_t = exp(dt_t A) S_{t-1} + B_t (dt_t x_t)^T        o_t = S_t^T C_t + D x_t

with dt_t = softplus(.) of each head, A = -exp(A_log) and D of each head; x, B and C after a short convolution
and SiLU; B and C are shared by the heads of a group. Then y = norm(o silu(z)), each group of channels by
itself, and a projection. A block is a mixer alone.

Numerics: dt A is kept as it is, the logarithm of the decay, at most 0, and only differences of later and
earlier sums are raised to e; dt, A and the state are float32 whatever the type of the weights.

Shapes: B rows, S tokens, D width, E channels, H heads of P channels, G groups, N numbers a channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lram.agents.backbones.layers import softplus, split_last
from lram.agents.backbones.mamba2 import Mamba2Config
from lram.agents.backbones.parts import (
    GatedRMSNorm,
    Linear,
    MatrixMemory,
    Mixer,
    MixerBlock,
    MixerStack,
    ShortConvolution,
)
from lram.agents.backbones.parts.initial import step_size_biases
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.states import State

EPS = 1e-5
"""Of every norm."""


class Mamba2(MixerStack):
    """The stack: blocks, then a norm."""

    def __init__(self, model: ModelShape) -> None:
        super().__init__(model.width, (block(model.width, model.backbone) for _ in range(model.layers)), EPS)


def block(width: int, section: Mamba2Config) -> MixerBlock:
    """Return one block."""
    return MixerBlock(width, Mamba2Mixer(width, section), eps=EPS)


def stacked(model: ModelShape, place: int) -> MixerBlock:
    """Return a block of a stack; its heads are 64 channels wide."""
    return block(model.width, Mamba2Config())


class Mamba2Mixer(Mixer):
    """Projection in, convolution, recurrence, gate and norm, projection out.

    Weights have the names and the order of the authors' code: ``in_proj`` gives z, x, B, C and dt.
    """

    def __init__(self, width: int, section: Mamba2Config) -> None:
        super().__init__()
        (heads, head_width), groups, size = section.heads(width), section.groups, section.state_size
        self.heads, self.groups = heads, groups
        self.channels, self.keys = heads * head_width, groups * size
        self.mixed = self.channels + 2 * self.keys
        self.in_proj = Linear(width, self.channels + self.mixed + heads, bias=False)
        self.conv = ShortConvolution(self.mixed, section.conv_kernel)
        self.dt_bias = nn.Parameter(torch.zeros(heads))
        self.A_log = nn.Parameter(torch.zeros(heads))
        self.D = nn.Parameter(torch.ones(heads))
        self.memory = MatrixMemory(heads, size, head_width)
        self.norm = GatedRMSNorm(self.channels, groups, shared=False, gate_first=True, eps=EPS)
        self.out_proj = Linear(self.channels, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Mixer`."""
        z, mixed, dt = self._project(x)
        C, B, new, log_decay, skip = self._read(self.conv(mixed), dt)
        return self._write(self.memory(C, B, new, log_decay), skip, z)

    def initial_state(self, rows: int, device: torch.device) -> State:
        """The matrices (B, H, N, P), and the past of the convolution (B, K - 1, E + 2 G N)."""
        return self.memory.initial_state(rows, device), self.conv.initial_state(rows, device)

    def step(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """See :class:`Mixer`."""
        z, mixed, dt = self._project(x)
        mixed, past = self.conv.step(mixed, state[1], valid)
        C, B, new, log_decay, skip = self._read(mixed, dt)
        o, matrices = self.memory.step(C, B, new, log_decay, state[0], valid)
        return self._write(o, skip, z), (matrices, past)

    def reset_parameters(self, layers: int) -> None:
        """The rules of ``mamba_ssm``: decays exp(-dt A) of A from 1 to 16 and dt from 0.001 to 0.1."""
        for linear in (self.in_proj, self.out_proj):
            nn.init.kaiming_uniform_(linear.weight, a=math.sqrt(5))
        self.conv.reset_parameters()
        with torch.no_grad():
            self.out_proj.weight /= math.sqrt(layers)
            self.A_log.copy_(torch.log(1 + 15 * torch.rand(self.heads)))
            self.dt_bias.copy_(step_size_biases(self.heads))

    def compiled_methods(self) -> Mapping[str, Callable[..., Any]]:
        """See :class:`Mixer`."""
        from lram.agents.backbones.mamba2.kernels import MambaReadStep

        key, value = (self.groups, self.keys // self.groups), self.channels // self.heads
        return {"_read": MambaReadStep(self.dt_bias, self.A_log, self.D, key, value)}

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, S, D) -> z (B, S, E); x, B and C together; raw dt (B, S, H)."""
        return torch.split(self.in_proj(x), [self.channels, self.mixed, self.heads], dim=-1)

    def _read(self, mixed: Tensor, dt: Tensor) -> tuple[Tensor, ...]:
        """Return C, B, dt x and the decay's logarithm as the memory takes them, and D x."""
        x, B, C = torch.split(mixed, [self.channels, self.keys, self.keys], dim=-1)
        heads = split_last(x, self.heads).float()  # (B, S, H, P)
        dt = softplus(dt.float() + self.dt_bias.float()).unsqueeze(-1)  # (B, S, H, 1)
        log_decay = dt * -self.A_log.float().exp().unsqueeze(-1)
        skip = self.D.float().unsqueeze(-1) * heads
        return split_last(C, self.groups), split_last(B, self.groups), dt * heads, log_decay, skip

    def _write(self, o: Tensor, skip: Tensor, z: Tensor) -> Tensor:
        y: Tensor = self.out_proj(self.norm((o + skip).flatten(-2), z))
        return y
