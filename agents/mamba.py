"""Mamba-1: selective state spaces (Gu and Dao 2023, arXiv 2312.00752), in plain PyTorch.

Parameters have the names and shapes of ``mamba_ssm.Mamba`` inside a stack of pre-norm blocks, so its
weights load here as they are.

Shapes: B rows, S tokens, D width, E = expand x D channels, N state size, R rank of the step size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbone import (
    Backbone,
    State,
    causal_conv,
    causal_conv_step,
    column,
    keep_valid,
)
from lram.agents.config import MambaConfig, ModelConfig

LayerState = tuple[Tensor, Tensor]  # h (B, E, N), conv (B, K - 1, E)


class Mamba(Backbone):
    """The stack: blocks, then a norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        section = config.mamba
        assert section is not None
        self.layers = nn.ModuleList(Block(config.width, section) for _ in range(config.layers))
        self.norm_f = RMSNorm(config.width)

    @property
    def _stack(self) -> Sequence[Block]:
        return cast("Sequence[Block]", self.layers)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Backbone`."""
        for layer in self._stack:
            x = layer(x)
        y: Tensor = self.norm_f(x)
        return y

    def initial_state(self, rows: int) -> State:
        """One tuple a block."""
        return [layer.mixer.initial_state(rows) for layer in self._stack]

    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :class:`Backbone`."""
        new_state = []
        for layer, layer_state in zip(self._stack, state, strict=True):
            x, layer_state = layer.step(x, layer_state, valid)
            new_state.append(layer_state)
        return self.norm_f(x), new_state

    def reset_parameters(self) -> None:
        """The rules of ``mamba_ssm``."""
        for layer in self._stack:
            layer.mixer.reset_parameters(len(self.layers))


class RMSNorm(nn.Module):
    """x / root mean square, times a weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same."""
        return F.rms_norm(x, self.weight.shape, self.weight, eps=1e-5)


class Block(nn.Module):
    """x + mixer(norm(x))."""

    def __init__(self, width: int, section: MambaConfig) -> None:
        super().__init__()
        self.norm = RMSNorm(width)
        self.mixer = Mixer(width, section)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> the same."""
        y: Tensor = x + self.mixer(self.norm(x))
        return y

    def step(self, x: Tensor, state: LayerState, valid: Tensor | None) -> tuple[Tensor, LayerState]:
        """(B, k, D) -> the same."""
        y, state = self.mixer.step(self.norm(x), state, valid)
        return x + y, state


class Mixer(nn.Module):
    """Projection in, convolution, selective scan, gate, projection out."""

    def __init__(self, width: int, section: MambaConfig) -> None:
        super().__init__()
        channels, size = section.expand * width, section.state_size
        self.rank = section.dt_rank or math.ceil(width / 16)
        self.in_proj = nn.Linear(width, 2 * channels, bias=False)
        self.conv1d = nn.Conv1d(
            channels, channels, section.conv_kernel, groups=channels, padding=section.conv_kernel - 1
        )
        self.x_proj = nn.Linear(channels, self.rank + 2 * size, bias=False)
        self.dt_proj = nn.Linear(self.rank, channels)
        self.A_log = nn.Parameter(torch.zeros(channels, size))
        self.D = nn.Parameter(torch.ones(channels))
        self.out_proj = nn.Linear(channels, width, bias=False)

    def initial_state(self, rows: int) -> LayerState:
        """Zeros."""
        channels, _, kernel = self.conv1d.weight.shape
        device = self.A_log.device
        return (
            torch.zeros(rows, *self.A_log.shape, device=device),
            torch.zeros(rows, kernel - 1, channels, device=device),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> the same."""
        x, z = self.in_proj(x).chunk(2, dim=-1)  # (B, S, E) each
        x = F.silu(causal_conv(self.conv1d, x))
        y, _ = self._scan(x, self.initial_state(x.shape[0])[0], None)
        out: Tensor = self.out_proj(y * F.silu(z))
        return out

    def step(self, x: Tensor, state: LayerState, valid: Tensor | None) -> tuple[Tensor, LayerState]:
        """(B, k, D) -> the same."""
        h, past = state
        x, z = self.in_proj(x).chunk(2, dim=-1)
        x, past = causal_conv_step(self.conv1d, x, past, valid)
        y, h = self._scan(F.silu(x), h, valid)
        return self.out_proj(y * F.silu(z)), (h, past)

    def _scan(self, x: Tensor, h: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """h_t = exp(dt A) h_{t-1} + dt B_t x_t; y_t = C_t h_t + D x_t. (B, S, E) -> the same."""
        size = self.A_log.shape[1]
        dt, B, C = self.x_proj(x).split([self.rank, size, size], dim=-1)
        dt = F.softplus(self.dt_proj(dt).float())  # (B, S, E)
        B, C = B.float().unsqueeze(-2), C.float().unsqueeze(-1)  # (B, S, 1, N), (B, S, N, 1)
        A = -torch.exp(self.A_log.float())  # (E, N)
        dt_x = dt * x.float()

        outputs = []
        for token in range(x.shape[1]):
            decay = torch.exp(dt[:, token].unsqueeze(-1) * A)  # (B, E, N)
            h_new = decay * h + dt_x[:, token].unsqueeze(-1) * B[:, token]
            outputs.append((h_new @ C[:, token]).squeeze(-1))
            h = keep_valid(column(valid, token), h_new, h)
        y = torch.stack(outputs, dim=1) + self.D.float() * x.float()
        return y.to(x.dtype), h

    def reset_parameters(self, layers: int) -> None:
        """The output of ``layers`` blocks is added up, so each is drawn smaller."""
        for linear in (self.in_proj, self.x_proj, self.out_proj):
            nn.init.kaiming_uniform_(linear.weight, a=math.sqrt(5))
        with torch.no_grad():
            self.out_proj.weight /= math.sqrt(layers)
            channels, size = self.A_log.shape
            self.A_log.copy_(torch.log(torch.arange(1, size + 1.0)).expand(channels, size))
            # Step sizes spread log-uniformly over 0.001 .. 0.1, through the inverse of softplus.
            nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
            low, high = math.log(0.001), math.log(0.1)
            dt = torch.exp(torch.rand(channels) * (high - low) + low).clamp(min=1e-4)
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))
