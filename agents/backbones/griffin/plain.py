"""Hawk and Griffin (De et al. 2024, arXiv 2402.19427), in parts.

A recurrent block mixes by out = W_o (RG-LRU(conv(W_x x + b_x)) * gelu(W_y x + b_y)) + b_o, the convolution
without an activation; a block of local attention by one head of keys and values for all queries, with rotary
positions on the first half of each head. Both are followed by a gated feed-forward part (GeGLU, with biases).

Shapes: B rows, S tokens, D width, E width of the recurrent state.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.griffin import GriffinConfig, RGLRUConfig, names_of_blocks
from lram.agents.backbones.griffin.recurrence import RGLRU
from lram.agents.backbones.parts import (
    GatedFeedForward,
    HeadwiseLinear,
    Linear,
    LocalAttention,
    Mixer,
    MixerBlock,
    MixerStack,
    ShortConvolution,
)
from lram.agents.backbones.parts.initial import small_init, wang_init
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.states import State

EPS = 1e-6
"""Of every norm."""


class Griffin(MixerStack):
    """The stack: blocks, then a norm."""

    DECAYED = (HeadwiseLinear,)

    def __init__(self, model: ModelShape) -> None:
        names = names_of_blocks(model)
        super().__init__(model.width, (block(model.width, model.backbone, name) for name in names), EPS)


class Hawk(Griffin):
    """The same without attention."""


def block(width: int, section: RGLRUConfig | GriffinConfig, name: str = "recurrent") -> MixerBlock:
    """Return one block, of the kind ``name``."""
    mixer: Mixer
    if name == "attention":
        assert isinstance(section, GriffinConfig)
        mixer = AttentionMixer(width, section)
    else:
        mixer = RecurrentMixer(width, section)
    feed_forward = GatedFeedForward(width, section.hidden or 3 * width, "gelu", bias=True)
    return MixerBlock(width, mixer, feed_forward, EPS)


class RecurrentMixer(Mixer):
    """Projection in, convolution, RG-LRU, gate, projection out."""

    def __init__(self, width: int, section: RGLRUConfig | GriffinConfig) -> None:
        super().__init__()
        state = section.state or width
        self.in_proj = Linear(width, 2 * state)  # the gate, then what the recurrence reads
        self.conv = ShortConvolution(state, section.conv_kernel, silu=False)
        self.recurrence = RGLRU(state, section.heads)
        self.out_proj = Linear(state, width)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Mixer`."""
        gate, u = self.in_proj(x).chunk(2, dim=-1)
        return self._write(self.recurrence(self.conv(u)), gate)

    def initial_state(self, rows: int, device: torch.device) -> State:
        """The recurrence's, and the past of the convolution."""
        return self.recurrence.initial_state(rows, device), self.conv.initial_state(rows, device)

    def step(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """See :class:`Mixer`."""
        gate, u = self.in_proj(x).chunk(2, dim=-1)
        u, past = self.conv.step(u, state[1], valid)
        h, memory = self.recurrence.step(u, state[0], valid)
        return self._write(h, gate), (memory, past)

    def reset_parameters(self, layers: int) -> None:
        """The recurrence and its convolution as in the authors' code; projections as those of an xLSTM."""
        width = self.in_proj.in_features
        small_init(self.in_proj.weight, width)
        wang_init(self.out_proj.weight, width, layers)
        nn.init.normal_(self.conv.weight, std=math.sqrt(0.01 / self.conv.weight.shape[2]))
        for module in (self.in_proj, self.out_proj, self.conv):
            assert module.bias is not None
            nn.init.zeros_(module.bias)
        self.recurrence.reset_parameters()

    def _write(self, h: Tensor, gate: Tensor) -> Tensor:
        y: Tensor = self.out_proj(h * F.gelu(gate, approximate="tanh"))
        return y


class AttentionMixer(Mixer):
    """Projection in, local attention, projection out."""

    def __init__(self, width: int, section: GriffinConfig) -> None:
        super().__init__()
        head = width // section.heads
        self.attention = LocalAttention(section.heads, 1, head, section.window, rotated=head // 2)
        self.in_proj = Linear(width, self.attention.width, bias=False)  # queries, keys, values
        self.out_proj = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Mixer`."""
        y: Tensor = self.out_proj(self.attention(self.in_proj(x)))
        return y

    def initial_state(self, rows: int, device: torch.device) -> State:
        """The ring of keys and values."""
        return self.attention.initial_state(rows, device)

    def step(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """See :class:`Mixer`."""
        y, state = self.attention.step(self.in_proj(x), state, valid)
        return self.out_proj(y), state

    def reset_parameters(self, layers: int) -> None:
        """As those of an xLSTM."""
        width = self.in_proj.in_features
        small_init(self.in_proj.weight, width)
        wang_init(self.out_proj.weight, width, layers)
        nn.init.zeros_(self.out_proj.bias)
