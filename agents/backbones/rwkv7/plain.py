"""RWKV-7 (Peng et al. 2025, "RWKV-7 Goose", arXiv 2503.14456), in parts.

A block is x + time mixing(norm(x)), then x + channel mixing(norm(x)). Both read a token x together with the
one before it, x', which is a state: x + (x' - x) m, with m a channel. Channel mixing is down(relu(up(.))^2).
Time mixing reads so a receptance r, key k and value v, each projected; and a raw decay, rate, gate and, from
the second block on, share of the first block's value, each through a low rank. With sigma the sigmoid, *
channel by channel, and n the key times a scale, at length 1 in each head:

    value   v <- v + (v_first - v) * sigma(raw share)     from the second block on
    decay   w = exp(-e^(-1/2) * sigma(raw decay))         between 0.545 and 1
    rate    a = sigma(raw rate)
    key     k <- k * (1 + (a - 1) * key rate)
    matrix  S <- diag(w) S - (a * n) (n^T S) + k v^T,     o = S^T r
    output  (norm(o) + (sum over a head of r * k * bonus) v) * gate, projected

The norm is of each head by itself, by mean and variance, with a weight and a bias a channel. v_first is
handed on within a pass, and so is no state. The authors write S with the value first; here the key is first,
as in all of this package.

Numerics: the decay is kept as its logarithm, never below -0.607, so it needs no clamp; lengths are at least
1e-12; the norm adds 64e-5 to the variance whatever the head's width, as the authors' code does (that of
flash-linear-attention adds 1e-5 times the head's width: the same at 64).

Shapes: B rows, S tokens, D width, H heads, M width of a head.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from lram.agents.backbones.blocks import BlockStack
from lram.agents.backbones.parts import Linear
from lram.agents.backbones.parts.initial import wang_init
from lram.agents.backbones.rwkv7 import RWKV7Config, published_rank
from lram.agents.backbones.rwkv7.initial import orthogonal, place_channels
from lram.agents.backbones.rwkv7.inputs import RecurrenceInputs
from lram.agents.backbones.rwkv7.mixing import LowRank, SquaredReLU, TokenMix
from lram.agents.backbones.rwkv7.recurrence import Recurrence
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.states import State


class RWKV7(BlockStack):
    """The stack: a norm, blocks that hand on the first one's value, a norm."""

    def __init__(self, model: ModelShape) -> None:
        places = range(model.layers)
        super().__init__(
            model.width,
            (RWKV7Block(model.width, model.backbone, place, first=place == 0) for place in places),
        )
        self.first_norm = nn.LayerNorm(model.width)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`lram.agents.backbones.contract.Backbone`."""
        x, value = self.first_norm(x), None
        for block in self._blocks:
            x, value = block.read(x, value)
        y: Tensor = self.norm(x)
        return y

    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :class:`lram.agents.backbones.contract.Backbone`."""
        x, value, new_state = self.first_norm(x), None, []
        for block, block_state in zip(self._blocks, state, strict=True):
            x, block_state, value = block.advance(x, block_state, valid, value)
            new_state.append(block_state)
        return self.norm(x), new_state

    def reset_parameters(self) -> None:
        """The authors' rules but for what the blocks add, see :mod:`lram.agents.backbones.rwkv7.initial`."""
        for block in self._blocks:
            block.reset_parameters(len(self.blocks))

    @property
    def _blocks(self) -> Iterable[RWKV7Block]:
        return cast("Iterable[RWKV7Block]", self.blocks)


class RWKV7Block(nn.Module):
    """x + time mixing(norm(x)), then x + channel mixing(norm(x)).

    Args:
        width: Of a token.
        section: The options.
        place: Of the block, counted from 0; some initial weights depend on it.
        first: Whether its value is the one that later blocks are handed, or it is handed one.
    """

    def __init__(self, width: int, section: RWKV7Config, place: int, *, first: bool) -> None:
        super().__init__()
        self.place = place
        self.time_norm, self.channel_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.time = TimeMixing(width, section, first=first)
        self.channels = ChannelMixing(width, section.hidden or 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> the same; of a first block."""
        return self.read(x, None)[0]

    def read(self, x: Tensor, value: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, S, D) and the first block's value -> the same, from the initial state."""
        y, value = self.time(self.time_norm(x), value)
        x = x + y
        return x + self.channels(self.channel_norm(x)), value

    def initial_state(self, rows: int, device: torch.device) -> State:
        """The matrices (B, H, M, N), and the token before of either mixing (B, D)."""
        return *self.time.initial_state(rows, device), self.channels.initial_state(rows, device)

    def step(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """(B, k, D) -> the same; of a first block."""
        return self.advance(x, state, valid, None)[:2]

    def advance(
        self, x: Tensor, state: State, valid: Tensor | None, value: Tensor | None
    ) -> tuple[Tensor, State, Tensor]:
        """(B, k, D) and the first block's value -> the same, and the state after the valid tokens."""
        y, time, value = self.time.step(self.time_norm(x), state[:2], valid, value)
        x = x + y
        y, last = self.channels.step(self.channel_norm(x), state[2], valid)
        return x + y, (*time, last), value

    def reset_parameters(self, layers: int) -> None:
        """The rules for the block at its place of ``layers``."""
        self.time.reset_parameters(self.place, layers)
        self.channels.reset_parameters(self.place, layers)


def stacked(model: ModelShape, place: int) -> RWKV7Block:
    """Return a block of a stack: as a first one, which is handed no value."""
    return RWKV7Block(model.width, RWKV7Config(), place, first=True)


class TimeMixing(nn.Module):
    """RecurrenceInputs of six kinds from two tokens, projections, the recurrence, projection out."""

    def __init__(self, width: int, section: RWKV7Config, *, first: bool) -> None:
        super().__init__()
        head = section.width_of_head(width)
        rank = section.decay_rank or published_rank(width, 2.5)
        self.mix = TokenMix(width, 6)  # receptance, decay, key, value, rate, gate
        self.receptance = Linear(width, width, bias=False)
        self.key = Linear(width, width, bias=False)
        self.value = Linear(width, width, bias=False)
        self.decay = LowRank(width, rank, torch.tanh)
        self.rate = LowRank(width, section.rate_rank or published_rank(width, 2.5))
        self.gate = LowRank(width, section.gate_rank or published_rank(width, 5), torch.sigmoid, bias=False)
        value_rank = section.value_rank or published_rank(width, 1.7)
        self.value_mix = None if first else LowRank(width, value_rank)
        self.recurrence = Recurrence(width // head, head)
        self.out = Linear(width, width, bias=False)

    def forward(self, x: Tensor, first_value: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, S, D) and the first block's value, where this is another -> the same."""
        y, value = self.recurrence(self._project(self.mix(x), first_value))
        return self.out(y), value if first_value is None else first_value

    def initial_state(self, rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The matrices (B, H, M, N), and the token before (B, D)."""
        return self.recurrence.initial_state(rows, device), self.mix.initial_state(rows, device)

    def step(
        self, x: Tensor, state: tuple[Tensor, Tensor], valid: Tensor | None, first_value: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """(B, k, D) -> the same, the new state, and the first block's value."""
        mixed, last = self.mix.step(x, state[1], valid)
        y, matrices, value = self.recurrence.step(self._project(mixed, first_value), state[0], valid)
        return self.out(y), (matrices, last), value if first_value is None else first_value

    def reset_parameters(self, place: int, layers: int) -> None:
        """See :class:`RWKV7Block`."""
        channels = place_channels(self.out.in_features, place, layers)
        early, wide = 1 - place / layers, channels.fraction
        with torch.no_grad():
            powers = torch.tensor([0.2, 0.9, 0.7, 0.7, 0.9, 0.2]).unsqueeze(-1) * early
            self.mix.weight.copy_(1 - wide**powers)
        orthogonal(self.receptance.weight, 1)
        orthogonal(self.value.weight, 1)
        orthogonal(self.key.weight, 0.1)
        wang_init(self.out.weight, self.out.in_features, layers)
        zigzag = channels.zigzag(self.recurrence.head_width)
        self.decay.reset_parameters(channels.decays + 0.5 + 2.5 * zigzag)
        self.rate.reset_parameters(-0.19 + 0.3 * zigzag + 0.4 * channels.linear)
        self.gate.reset_parameters(None)
        if self.value_mix is not None:
            self.value_mix.reset_parameters(0.73 - 0.4 * channels.linear)
        self.recurrence.reset_parameters(0.71 - 0.1 * channels.linear, ((1 + place) / layers) ** 0.7)

    def _project(self, mixed: tuple[Tensor, ...], first_value: Tensor | None) -> RecurrenceInputs:
        x_r, x_w, x_k, x_v, x_a, x_g = mixed
        share = None if self.value_mix is None else self.value_mix(x_v)
        return RecurrenceInputs(
            r=self.receptance(x_r),
            k=self.key(x_k),
            v=self.value(x_v),
            decay=self.decay(x_w),
            rate=self.rate(x_a),
            gate=self.gate(x_g),
            mixed=None if first_value is None or share is None else (first_value, share),
        )


class ChannelMixing(nn.Module):
    """The feed-forward part: down(relu(up(x + (x' - x) m))^2), which keeps the token before."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.mix = TokenMix(width, 1)
        self.up, self.activate = Linear(width, hidden, bias=False), SquaredReLU()
        self.down = Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> the same."""
        return self._feed(*self.mix(x))

    def initial_state(self, rows: int, device: torch.device) -> Tensor:
        """The token before (B, D)."""
        return self.mix.initial_state(rows, device)

    def step(self, x: Tensor, last: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, k, D) -> the same, and the new last token."""
        inputs, last = self.mix.step(x, last, valid)
        return self._feed(*inputs), last

    def reset_parameters(self, place: int, layers: int) -> None:
        """See :class:`RWKV7Block`."""
        fraction = place_channels(self.up.in_features, place, layers).fraction
        with torch.no_grad():
            self.mix.weight.copy_(1 - fraction ** ((1 - place / layers) ** 4))
        orthogonal(self.up.weight, 1)
        wang_init(self.down.weight, self.down.out_features, layers)

    def _feed(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(self.activate(self.up(x)))
        return y
