"""Mixing layers: blocks of the kinds that the package has, each with one interface.

To add one: a class with ``forward``, ``step`` and ``initial_state``, and a line of
:data:`lram.agents.backbones.stack.MIXERS`.

Shapes: B rows, S tokens, k new tokens, D width.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lram.agents.backbones.gated_deltanet.plain as gated_deltanet
import lram.agents.backbones.gla.plain as gla
import lram.agents.backbones.griffin.plain as griffin
import lram.agents.backbones.hgrn2.plain as hgrn2
import lram.agents.backbones.mamba2.plain as mamba2
import lram.agents.backbones.minimal.plain as minimal
from lram.agents.backbones.cells.plain import CellBlock
from lram.agents.backbones.gated_deltanet import GatedDeltaNetConfig
from lram.agents.backbones.gla import GLAConfig
from lram.agents.backbones.griffin import RGLRUConfig
from lram.agents.backbones.hgrn2 import HGRN2Config
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.mamba.plain import MambaBlock
from lram.agents.backbones.mamba2 import Mamba2Config
from lram.agents.backbones.minimal import MinGRUConfig, MinLSTMConfig
from lram.agents.backbones.parts import MixerBlock
from lram.agents.backbones.rwkv7 import RWKV7Config
from lram.agents.backbones.rwkv7.plain import RWKV7Block
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.states import State
from lram.agents.backbones.transformer.cache import CachedPass, KeyValueCache, cached_attention
from lram.agents.backbones.transformer.plain import TransformerBlock, rotary_angles
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.backbones.xlstm.plain import MLSTMBlock, SLSTMBlock


class MixingLayer(nn.Module, ABC):
    """A block of a stack: ``x + what it mixes(norm(x))``."""

    @abstractmethod
    def __init__(self, model: ModelShape, place: int) -> None:
        """Make the block at ``place`` of ``model``, whose options are those of a stack."""
        super().__init__()

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> the same, from the initial state."""

    @abstractmethod
    def initial_state(self, rows: int, device: torch.device) -> State:
        """Return the state of fresh rows, the row first in every tensor."""

    @abstractmethod
    def step(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """(B, k, D) -> the same; masked tokens leave their row's state as it was."""

    def reset_parameters(self) -> None:
        """Draw initial weights; by default they stay as PyTorch drew them."""


class _Own(MixingLayer):
    """A block that keeps its state as the mixer does."""

    block: Any

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return y

    def initial_state(self, rows: int, device: torch.device) -> State:
        """See :class:`MixingLayer`."""
        return self.block.initial_state(rows)

    def step(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        y, state = self.block.step(x, state, valid)
        return y, state

    def reset_parameters(self) -> None:
        self.block.reset_parameters()


class MLSTMMixing(_Own):
    """Matrix memory of an xLSTM."""

    def __init__(self, model: ModelShape, place: int) -> None:
        super().__init__(model, place)
        self.block = MLSTMBlock(model.width, XLSTMConfig(heads=model.backbone.heads), model.layers)


class SLSTMMixing(_Own):
    """Scalar memory of an xLSTM, with its feed-forward part."""

    def __init__(self, model: ModelShape, place: int) -> None:
        super().__init__(model, place)
        section = XLSTMConfig(heads=model.backbone.heads)
        self.block = SLSTMBlock(model.width, section, place, model.layers)


class MambaMixing(_Own):
    """Selective state space of Mamba-1."""

    def __init__(self, model: ModelShape, place: int) -> None:
        super().__init__(model, place)
        self.block, self.layers = MambaBlock(model.width, MambaConfig()), model.layers

    def initial_state(self, rows: int, device: torch.device) -> State:
        """See :class:`MixingLayer`."""
        return self.block.mixer.initial_state(rows)

    def reset_parameters(self) -> None:
        """See :class:`MixingLayer`."""
        self.block.mixer.reset_parameters(self.layers)


class GRUMixing(_Own):
    """torch's GRU."""

    cell: type[nn.GRU] | type[nn.LSTM] = nn.GRU
    parts = 1

    def __init__(self, model: ModelShape, place: int) -> None:
        super().__init__(model, place)
        self.block = CellBlock(self.cell, self.parts, model.width, model.width)

    def initial_state(self, rows: int, device: torch.device) -> State:
        """See :class:`MixingLayer`."""
        return self.block.initial_state(rows, device)

    def reset_parameters(self) -> None:
        """As PyTorch drew them."""


class LSTMMixing(GRUMixing):
    """torch's LSTM."""

    cell, parts = nn.LSTM, 2


class _OfParts(_Own):
    """A block that is made of parts, with the kind's own options but for those that a stack has, too."""

    @abstractmethod
    def make(self, model: ModelShape) -> MixerBlock:
        """Return the block."""

    def __init__(self, model: ModelShape, place: int) -> None:
        super().__init__(model, place)
        self.block, self.layers = self.make(model), model.layers

    def initial_state(self, rows: int, device: torch.device) -> State:
        """See :class:`MixingLayer`."""
        return self.block.initial_state(rows, device)

    def reset_parameters(self) -> None:
        """See :class:`MixingLayer`."""
        self.block.reset_parameters(self.layers)


class GatedDeltaNetMixing(_OfParts):
    """Gated delta rule, with its feed-forward part."""

    def make(self, model: ModelShape) -> MixerBlock:
        """See :class:`_OfParts`."""
        return gated_deltanet.block(model.width, GatedDeltaNetConfig(heads=model.backbone.heads))


class GLAMixing(_OfParts):
    """Gated linear attention, with its feed-forward part."""

    def make(self, model: ModelShape) -> MixerBlock:
        """See :class:`_OfParts`."""
        return gla.block(model.width, GLAConfig(heads=model.backbone.heads))


class HGRN2Mixing(_OfParts):
    """HGRN2, with its feed-forward part; without lower bounds, which a whole HGRN2 shares out."""

    def make(self, model: ModelShape) -> MixerBlock:
        """See :class:`_OfParts`."""
        return hgrn2.block(model.width, HGRN2Config(heads=model.backbone.heads))


class MinGRUMixing(_OfParts):
    """minGRU, with its feed-forward part."""

    def make(self, model: ModelShape) -> MixerBlock:
        """See :class:`_OfParts`."""
        return minimal.block(minimal.MinGRUMixer, model.width, MinGRUConfig())


class MinLSTMMixing(_OfParts):
    """minLSTM, with its feed-forward part."""

    def make(self, model: ModelShape) -> MixerBlock:
        """See :class:`_OfParts`."""
        return minimal.block(minimal.MinLSTMMixer, model.width, MinLSTMConfig())


class RWKV7Mixing(_Own):
    """Time and channel mixing of RWKV-7, as in the first block of one: no value is handed to it."""

    def __init__(self, model: ModelShape, place: int) -> None:
        super().__init__(model, place)
        self.block = RWKV7Block(model.width, RWKV7Config(), first=True)
        self.place, self.layers = place, model.layers

    def initial_state(self, rows: int, device: torch.device) -> State:
        """See :class:`MixingLayer`."""
        return self.block.initial_state(rows, device)

    def reset_parameters(self) -> None:
        """See :class:`MixingLayer`."""
        self.block.reset_parameters(self.place, self.layers)


class Mamba2Mixing(_OfParts):
    """State space of Mamba-2, without a feed-forward part; its heads are 64 channels wide."""

    def make(self, model: ModelShape) -> MixerBlock:
        """See :class:`_OfParts`."""
        return mamba2.block(model.width, Mamba2Config())


class RGLRUMixing(_OfParts):
    """RG-LRU, with its feed-forward part: Hawk's block."""

    def make(self, model: ModelShape) -> MixerBlock:
        """See :class:`_OfParts`."""
        return griffin.block(model.width, RGLRUConfig(heads=model.backbone.heads))


class AttentionMixing(MixingLayer):
    """Causal attention over the last ``window`` tokens, rotary positions, and GPT-2's feed-forward part."""

    def __init__(self, model: ModelShape, place: int) -> None:
        super().__init__(model, place)
        heads, self.window = model.backbone.heads, model.backbone.window
        self.head_width, self.layers = model.width // heads, model.layers
        self.past = KeyValueCache(1, heads, self.head_width, self.window, ring=True)
        self.block = TransformerBlock(model.width, heads)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`MixingLayer`."""
        position = torch.arange(x.shape[1], device=x.device)
        distance = position.unsqueeze(-1) - position  # (S, S)
        band = (distance >= 0) & (distance < self.window)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=band)

        y: Tensor = self.block(x, attend, rotary_angles(position, self.head_width))
        return y

    def initial_state(self, rows: int, device: torch.device) -> State:
        """See :class:`MixingLayer`."""
        return self.past.initial_state(rows, device)

    def step(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """See :class:`MixingLayer`."""
        if valid is None:
            valid = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return self.past.step(x, state, valid, self._read)

    def _read(self, x: Tensor, past: CachedPass) -> Tensor:
        attend = partial(cached_attention(past), 0)
        y: Tensor = self.block(x, attend, rotary_angles(past.position, self.head_width))
        return y

    def reset_parameters(self) -> None:
        """The rules of Hugging Face's GPT-2."""
        for name, parameter in self.block.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.layers))
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
