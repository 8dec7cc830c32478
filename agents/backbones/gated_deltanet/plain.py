"""Gated DeltaNet (Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464), in parts.

    S_t = alpha_t (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T        o_t = S_t^T q_t / sqrt(M)

with alpha_t = exp(-exp(A) softplus(dt_t)) and beta_t = sigmoid(.), one each a head; q, k and v after a short
convolution and SiLU, q and k of length 1; o through a norm of each head, times SiLU of a gate. Then a gated
feed-forward part (SwiGLU).

Numerics: alpha is kept as its logarithm, at most 0, and only differences of later and earlier sums are raised
to e; lengths are the root of the sum of squares plus 1e-6.

Shapes: B rows, S tokens, D width, H heads, M, N widths of a key and a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lram.agents.backbones.gated_deltanet import EPS, GatedDeltaNetConfig
from lram.agents.backbones.layers import sigmoid, softplus, split_last
from lram.agents.backbones.parts import (
    GatedFeedForward,
    GatedRMSNorm,
    Linear,
    MatrixMemory,
    Mixer,
    MixerBlock,
    MixerStack,
    ShortConvolution,
)
from lram.agents.backbones.parts.feed_forward import usual_hidden
from lram.agents.backbones.parts.initial import small_init, step_size_biases, wang_init
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.states import State


class GatedDeltaNet(MixerStack):
    """The stack: blocks, then a norm."""

    def __init__(self, model: ModelShape) -> None:
        section = model.backbone
        super().__init__(model.width, (block(model.width, section) for _ in range(model.layers)), EPS)


def block(width: int, section: GatedDeltaNetConfig) -> MixerBlock:
    """Return one block."""
    hidden = section.hidden or usual_hidden(width)
    return MixerBlock(width, GatedDeltaMixer(width, section), GatedFeedForward(width, hidden), EPS)


def stacked(model: ModelShape, place: int) -> MixerBlock:
    """Return a block of a stack, with as many heads as that names."""
    return block(model.width, GatedDeltaNetConfig(heads=model.backbone.heads))


class GatedDeltaMixer(Mixer):
    """Projection in, convolution, gated delta rule, norm and gate, projection out."""

    def __init__(self, width: int, section: GatedDeltaNetConfig) -> None:
        super().__init__()
        heads, (key, value) = section.heads, section.head_widths(width)
        self.heads, self.key_heads = heads, section.key_heads or heads
        self.keys, self.values = self.key_heads * key, heads * value
        self.strongest = 2.0 if section.negative_eigenvalues else 1.0
        # q, k, v; the gate; beta and dt of each head.
        self.mixed = 2 * self.keys + self.values
        self.in_proj = Linear(width, self.mixed + self.values + 2 * heads, bias=False)
        self.conv = ShortConvolution(self.mixed, section.conv_kernel, bias=False)
        self.A_log = nn.Parameter(torch.zeros(heads))
        self.dt_bias = nn.Parameter(torch.zeros(heads))
        self.memory = MatrixMemory(heads, key, value)
        self.norm = GatedRMSNorm(self.values, heads, eps=EPS)
        self.out_proj = Linear(self.values, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Mixer`."""
        mixed, gate, rates = self._project(x)
        return self._write(self.memory(*self._read(self.conv(mixed), rates)), gate)

    def initial_state(self, rows: int, device: torch.device) -> State:
        """The matrices (B, H, M, N), and the past of the convolution."""
        return self.memory.initial_state(rows, device), self.conv.initial_state(rows, device)

    def step(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """See :class:`Mixer`."""
        mixed, gate, rates = self._project(x)
        mixed, past = self.conv.step(mixed, state[1], valid)
        q, k, v, log_decay, a, b = self._read(mixed, rates)
        o, matrices = self.memory.step(q, k, v, log_decay, state[0], valid, a, b)
        return self._write(o, gate), (matrices, past)

    def reset_parameters(self, layers: int) -> None:
        """Decays and step sizes as in the authors' code; projections as those of an xLSTM."""
        small_init(self.in_proj.weight, self.in_proj.in_features)
        wang_init(self.out_proj.weight, self.in_proj.in_features, layers)
        with torch.no_grad():
            # Uniform over 0 to 16; not 0 itself, of which there is no logarithm.
            self.A_log.copy_(torch.log(16 * (1 - torch.rand(self.heads))))
            self.dt_bias.copy_(step_size_biases(self.heads))

    def compiled_methods(self) -> Mapping[str, Callable[..., Any]]:
        """See :class:`Mixer`."""
        from lram.agents.backbones.gated_deltanet.kernels import DeltaReadStep

        key, value = self.keys // self.key_heads, self.values // self.heads
        return {"_read": DeltaReadStep(self.A_log, self.dt_bias, self.strongest, self.key_heads, key, value)}

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, S, D) -> q, k and v together; the gate (B, S, H N); raw beta, then raw dt (B, S, 2 H)."""
        return torch.split(self.in_proj(x), [self.mixed, self.values, 2 * self.heads], dim=-1)

    def _read(self, mixed: Tensor, rates: Tensor) -> tuple[Tensor, ...]:
        """Return q, k, v, the decay's logarithm, a and b as the memory takes them."""
        beta, dt = rates.chunk(2, dim=-1)
        q, k, v = torch.split(mixed, [self.keys, self.keys, self.values], dim=-1)
        q, k = _of_length_one(split_last(q, self.key_heads)), _of_length_one(split_last(k, self.key_heads))
        rate = self.strongest * sigmoid(beta).unsqueeze(-1)  # (B, S, H, 1)
        log_decay = -self.A_log.float().exp() * softplus(dt.float() + self.dt_bias.float())
        log_decay = log_decay.unsqueeze(-1)
        share = self.heads // self.key_heads
        of_heads = k if share == 1 else k.repeat_interleave(share, dim=2)
        return (
            q * q.shape[-1] ** -0.5,
            k,
            rate * split_last(v, self.heads),
            log_decay,
            k,
            -log_decay.exp() * rate * of_heads,
        )

    def _write(self, o: Tensor, gate: Tensor) -> Tensor:
        y: Tensor = self.out_proj(self.norm(o.flatten(-2), gate))
        return y


def _of_length_one(x: Tensor) -> Tensor:
    x = x.float()
    return x * torch.rsqrt(x.square().sum(dim=-1, keepdim=True) + EPS)
