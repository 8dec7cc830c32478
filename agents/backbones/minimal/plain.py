"""minGRU and minLSTM (Feng et al. 2024, arXiv 2410.01201), in parts.

minGRU, with k_t and c_t from one projection of the token:

    h_t = (1 - z_t) h_{t-1} + z_t g(c_t)        z_t = sigmoid(k_t)

minLSTM, with f_t, i_t and c_t:

    h_t = f'_t h_{t-1} + i'_t g(c_t)        f'_t = sigmoid(f_t) / (sigmoid(f_t) + sigmoid(i_t)) = 1 - i'_t

where g(c) is c + 0.5 for c >= 0, and sigmoid(c) below: states are positive. A block is a causal convolution
of each channel (width 4, as in the paper's language models; no activation), the recurrence, and a projection
back; then a gated feed-forward part (SwiGLU), each after a norm and added to the token.

Numerics: a decay is at most 1 and only multiplied, and a state lies between the least and the largest g(c)
that it has seen, so nothing overflows, and what underflows has been forgotten. The paper computes in
logarithms because its parallel scan (Heinsen 2023, arXiv 2311.06281) divides by products of decays, which
underflow; the vector memory never divides. 1 - z is sigmoid(-k), which keeps its digits where it is small; f'
and i' are sigmoids of the difference of the gates' logarithms, so that two shut gates are no 0 / 0. Both are
float32.

The public code (github.com/lucidrains/minGRU-pytorch, 0.2.1, MIT) has the same recurrent layer: projections
without biases, none after a state as wide as the token; :mod:`lram.agents.backbones.minimal.public` reads its
weights. Around it, its language model differs. Its convolution, off by default, is of width 3, then of all
channels, both with biases, and is added to the token without a norm. Its feed-forward part is a Linear, exact
GELU and a Linear, with biases. Its norms add 1.2e-7 to the mean square. Its weights begin as PyTorch draws
them.

Shapes: B rows, S tokens, k new tokens, D width, E width of the state.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.minimal import MinGRUConfig, MinimalConfig, MinLSTMConfig
from lram.agents.backbones.parts import (
    GatedFeedForward,
    Linear,
    Mixer,
    MixerBlock,
    MixerStack,
    ShortConvolution,
    VectorMemory,
)
from lram.agents.backbones.parts.feed_forward import usual_hidden
from lram.agents.backbones.parts.initial import small_init, wang_init
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.states import State

EPS = 1e-6
"""Of every norm."""


class MinimalMixer(Mixer):
    """Convolution, projection in, gated recurrence, projection out."""

    inputs: ClassVar[int]
    """Numbers a channel that the projection gives: the candidate's, then the gates'."""

    def __init__(self, width: int, section: MinimalConfig) -> None:
        super().__init__()
        state, kernel = section.state_width(width), section.conv_kernel
        self.conv = None if kernel is None else ShortConvolution(width, kernel, silu=False)
        self.in_proj = Linear(width, self.inputs * state, bias=False)
        self.memory = VectorMemory(state)
        self.out_proj = nn.Identity() if state == width else Linear(state, width, bias=False)

    @abstractmethod
    def gates(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, inputs E) -> the decay and what is added, float32 (B, S, E)."""

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Mixer`."""
        h = self.memory(*self.gates(self.in_proj(x if self.conv is None else self.conv(x))))
        y: Tensor = self.out_proj(h.to(x.dtype))
        return y

    def initial_state(self, rows: int, device: torch.device) -> State:
        """h (B, E), and the past of the convolution where there is one."""
        memory = self.memory.initial_state(rows, device)
        return (memory,) if self.conv is None else (memory, self.conv.initial_state(rows, device))

    def step(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """See :class:`Mixer`."""
        kept: tuple[Tensor, ...] = ()
        seen = x
        if self.conv is not None:
            seen, past = self.conv.step(x, state[1], valid)
            kept = (past,)
        outputs, h = self.memory.step(*self.gates(self.in_proj(seen)), state[0], valid)
        return self.out_proj(outputs.to(x.dtype)), (h, *kept)

    def reset_parameters(self, layers: int) -> None:
        """Projections as those of an xLSTM."""
        width = self.in_proj.in_features
        small_init(self.in_proj.weight, width)
        if isinstance(self.out_proj, Linear):
            wang_init(self.out_proj.weight, width, layers)


class MinGRUMixer(MinimalMixer):
    """One gate: what is written replaces as much of the old."""

    inputs = 2

    def gates(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`MinimalMixer`."""
        candidate, k = projected.float().chunk(2, dim=-1)
        return torch.sigmoid(-k), torch.sigmoid(k) * positive(candidate)


class MinLSTMMixer(MinimalMixer):
    """A forget and an input gate, scaled so that they sum to 1."""

    inputs = 3

    def gates(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`MinimalMixer`."""
        candidate, f, i = projected.float().chunk(3, dim=-1)
        more = F.logsigmoid(i) - F.logsigmoid(f)  # log(sigmoid(i) / sigmoid(f))
        return torch.sigmoid(-more), torch.sigmoid(more) * positive(candidate)


def positive(c: Tensor) -> Tensor:
    """Return g(c): c + 0.5 for c >= 0, sigmoid(c) below."""
    return torch.where(c >= 0, c + 0.5, torch.sigmoid(c))


def block(mixer: type[MinimalMixer], width: int, section: MinimalConfig) -> MixerBlock:
    """Return one block."""
    hidden = section.hidden or usual_hidden(width)
    return MixerBlock(width, mixer(width, section), GatedFeedForward(width, hidden), EPS)


def stacked_mingru(model: ModelShape, place: int) -> MixerBlock:
    """Return a block of a stack."""
    return block(MinGRUMixer, model.width, MinGRUConfig())


def stacked_minlstm(model: ModelShape, place: int) -> MixerBlock:
    """Return a block of a stack."""
    return block(MinLSTMMixer, model.width, MinLSTMConfig())


class MinimalStack(MixerStack):
    """The stack: blocks, then a norm."""

    mixer: ClassVar[type[MinimalMixer]]

    def __init__(self, model: ModelShape) -> None:
        blocks = (block(self.mixer, model.width, model.backbone) for _ in range(model.layers))
        super().__init__(model.width, blocks, EPS)


class MinGRU(MinimalStack):
    """A stack of minGRUs."""

    mixer = MinGRUMixer


class MinLSTM(MinimalStack):
    """A stack of minLSTMs."""

    mixer = MinLSTMMixer
