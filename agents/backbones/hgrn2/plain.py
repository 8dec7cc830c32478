"""HGRN2 (Qin, Yang, Sun, Shen, Li, Sun and Zhong 2024, arXiv 2404.07904), in parts.

    S_t = diag(f_t) S_{t-1} + (1 - f_t) v_t^T        o_t = S_t^T q_t / sqrt(M)
    f_t = b + (1 - b) sigmoid(.)        b of layer l = sum over 1 <= j <= l of softmax over layers (beta)_j

one f a channel of the key, with a lower bound b that the first layer has not; q through SiLU; o through one
norm of all heads, without a gate. Then a gated feed-forward part (SwiGLU). The beta (layers, D) are the
stack's, which hands each block its b.

Numerics: f in float32, at least the smallest normal number, 1.2e-38, so that its logarithm is finite; only
differences of later and earlier sums of logarithms are raised to e.

Shapes: B rows, S tokens, D width, L layers, H heads, M = D / H width of a key and of a value.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.hgrn2 import HGRN2Config
from lram.agents.backbones.layers import split_last
from lram.agents.backbones.parts import (
    GatedFeedForward,
    Linear,
    MatrixMemory,
    Mixer,
    MixerBlock,
    MixerStack,
    RMSNorm,
)
from lram.agents.backbones.parts.feed_forward import usual_hidden
from lram.agents.backbones.parts.initial import small_init, wang_init
from lram.agents.backbones.parts.part import Part
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.states import State

EPS = 1e-6
"""Of the norms of blocks and stack."""

OUTPUT_EPS = 1e-5
"""Of the mixer's own norm; the published models differ here from their other norms."""

_LEAST = torch.finfo(torch.float32).tiny


class HGRN2(MixerStack):
    """The stack: blocks, each with a lower bound of its forget gates, then a norm."""

    def __init__(self, model: ModelShape) -> None:
        section = model.backbone
        super().__init__(model.width, (block(model.width, section) for _ in range(model.layers)), EPS)
        self.lower_bounds = LowerBounds(model.layers, model.width)

    @property
    def bounded(self) -> list[tuple[MixerBlock, Tensor]]:
        """The blocks, each with its bound (D,)."""
        return list(zip(cast("list[MixerBlock]", self.blocks), self.lower_bounds(), strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`MixerStack`."""
        for block, bound in self.bounded:
            x = block(x, bound)
        y: Tensor = self.norm(x)
        return y

    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :class:`MixerStack`."""
        new_state = []
        for (block, bound), old in zip(self.bounded, state, strict=True):
            x, new = block.step(x, old, valid, bound)
            new_state.append(new)
        return self.norm(x), new_state

    def reset_parameters(self) -> None:
        """The rules of every block; bounds that rise evenly."""
        super().reset_parameters()
        nn.init.zeros_(self.lower_bounds.weight)


def block(width: int, section: HGRN2Config) -> MixerBlock:
    """Return one block."""
    hidden = section.hidden or usual_hidden(width)
    return MixerBlock(width, HGRN2Mixer(width, section.heads), GatedFeedForward(width, hidden), EPS)


def stacked(model: ModelShape, place: int) -> MixerBlock:
    """Return a block of a stack: without lower bounds, which a whole HGRN2 shares out."""
    return block(model.width, HGRN2Config(heads=model.backbone.heads))


class LowerBounds(nn.Module, Part):
    """The lower bounds of the forget gates of all layers."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(layers, width))

    def forward(self) -> list[Tensor]:
        """Return the bounds (D,) of each layer, float32, from 0 in the first to below 1."""
        shares = self.weight.float().softmax(dim=0)
        return list((shares.cumsum(dim=0) - shares[0]).unbind())

    def compiled(self, tokens: int) -> Any:
        """See :class:`Part`: the bounds of the weights as they are now."""
        bounds = [bound.detach().clone() for bound in self()]
        return lambda: bounds


class HGRN2Mixer(Mixer):
    """Projection in, gated recurrence, norm, projection out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = Linear(width, 3 * width, bias=False)  # q, f, v
        self.memory = MatrixMemory(heads, width // heads, width // heads)
        self.norm = RMSNorm(width, OUTPUT_EPS)
        self.out_proj = Linear(width, width, bias=False)

    def forward(self, x: Tensor, bound: Tensor | None = None) -> Tensor:
        """See :class:`Mixer`; ``bound`` (D,) of the forget gates, None: 0."""
        return self._write(self.memory(*self._read(x, bound)), x)

    def initial_state(self, rows: int, device: torch.device) -> State:
        """The matrices (B, H, M, M)."""
        return self.memory.initial_state(rows, device)

    def step(
        self, x: Tensor, state: State, valid: Tensor | None, bound: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """See :class:`Mixer`, and ``forward``."""
        q, k, v, log_decay = self._read(x, bound)
        o, state = self.memory.step(q, k, v, log_decay, state, valid)
        return self._write(o, x), state

    def reset_parameters(self, layers: int) -> None:
        """As those of an xLSTM."""
        small_init(self.in_proj.weight, self.in_proj.in_features)
        wang_init(self.out_proj.weight, self.in_proj.in_features, layers)

    def _read(self, x: Tensor, bound: Tensor | None) -> tuple[Tensor, ...]:
        """(B, S, D) -> q, k, v and the decay's logarithm as the memory takes them."""
        q, f, v = self.in_proj(x).chunk(3, dim=-1)
        decay = f.float().sigmoid()
        if bound is not None:
            decay = bound + (1 - bound) * decay
        scale = (x.shape[-1] // self.heads) ** -0.5
        parts = (F.silu(q) * scale, 1 - decay, v, decay.clamp(min=_LEAST).log())
        return tuple(split_last(part, self.heads) for part in parts)

    def _write(self, o: Tensor, x: Tensor) -> Tensor:
        y: Tensor = self.out_proj(self.norm(o.flatten(-2)).to(x.dtype))
        return y
