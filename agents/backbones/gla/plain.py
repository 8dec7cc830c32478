"""Gated linear attention (Yang, Wang, Shen, Panda and Kim 2023, arXiv 2312.06635), in parts.

    S_t = diag(alpha_t) S_{t-1} + k_t v_t^T        o_t = S_t^T q_t / sqrt(M)

with alpha_t = sigmoid(W_2 W_1 x_t + b)^(1/16), one a channel of the key, from a projection of low rank; o
through a norm of each head, times SiLU of a gate. Then a gated feed-forward part (SwiGLU).

Numerics: alpha is kept as its logarithm, at most 0, computed in float32 as log sigmoid, which has no
overflow; only differences of later and earlier sums are raised to e.

Shapes: B rows, S tokens, D width, H heads, M, N widths of a key and a value.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.gla import GLAConfig
from lram.agents.backbones.layers import split_last
from lram.agents.backbones.parts import (
    GatedFeedForward,
    GatedRMSNorm,
    Linear,
    MatrixMemory,
    Mixer,
    MixerBlock,
    MixerStack,
)
from lram.agents.backbones.parts.feed_forward import usual_hidden
from lram.agents.backbones.parts.initial import small_init, wang_init
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.states import State

EPS = 1e-6
"""Of every norm."""


class GLA(MixerStack):
    """The stack: blocks, then a norm."""

    def __init__(self, model: ModelShape) -> None:
        section = model.backbone
        super().__init__(model.width, (block(model.width, section) for _ in range(model.layers)), EPS)


def block(width: int, section: GLAConfig) -> MixerBlock:
    """Return one block."""
    hidden = section.hidden or usual_hidden(width)
    return MixerBlock(width, GLAMixer(width, section), GatedFeedForward(width, hidden), EPS)


def stacked(model: ModelShape, place: int) -> MixerBlock:
    """Return a block of a stack, with as many heads as that names."""
    return block(model.width, GLAConfig(heads=model.backbone.heads))


class GLAMixer(Mixer):
    """Projection in, gated linear attention, norm and gate, projection out."""

    def __init__(self, width: int, section: GLAConfig) -> None:
        super().__init__()
        heads, (key, value) = section.heads, section.head_widths(width)
        self.heads, self.divisor = heads, section.decay_divisor
        # q, k, v, the gate, and what the decays come from.
        self.widths = [heads * key, heads * key, heads * value, heads * value, section.decay_rank]
        self.in_proj = Linear(width, sum(self.widths), bias=False)
        self.decay_proj = Linear(section.decay_rank, heads * key)
        self.memory = MatrixMemory(heads, key, value)
        self.norm = GatedRMSNorm(heads * value, heads, eps=EPS)
        self.out_proj = Linear(heads * value, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Mixer`."""
        *read, gate = self._read(x)
        return self._write(self.memory(*read), gate)

    def initial_state(self, rows: int, device: torch.device) -> State:
        """The matrices (B, H, M, N)."""
        return self.memory.initial_state(rows, device)

    def step(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """See :class:`Mixer`."""
        q, k, v, log_decay, gate = self._read(x)
        o, state = self.memory.step(q, k, v, log_decay, state, valid)
        return self._write(o, gate), state

    def reset_parameters(self, layers: int) -> None:
        """The decays as in the authors' library, about 0.96; other projections as those of an xLSTM."""
        small_init(self.in_proj.weight, self.in_proj.in_features)
        wang_init(self.out_proj.weight, self.in_proj.in_features, layers)
        nn.init.normal_(self.decay_proj.weight, std=0.02)
        nn.init.zeros_(self.decay_proj.bias)

    def _read(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, S, D) -> q, k, v and the decay's logarithm as the memory takes them, the gate (B, S, H N)."""
        q, k, v, gate, low = torch.split(self.in_proj(x), self.widths, dim=-1)
        log_decay = F.logsigmoid(self.decay_proj(low).float()) / self.divisor
        q, k, v, log_decay = (split_last(part, self.heads) for part in (q, k, v, log_decay))
        return q * q.shape[-1] ** -0.5, k, v, log_decay, gate

    def _write(self, o: Tensor, gate: Tensor) -> Tensor:
        y: Tensor = self.out_proj(self.norm(o.flatten(-2), gate))
        return y
