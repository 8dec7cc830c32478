"""Mixing layers of kinds that are not made of parts; stacks take the blocks of the others as they are.

To add one: a class with ``forward``, ``step`` and ``initial_state``, made with (model, place in the stack),
and a line of :data:`lram.agents.backbones.stack.MIXERS`.

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

from lram.agents.backbones.cells.plain import CellBlock
from lram.agents.backbones.gpu import KernelReader
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.mamba.plain import MambaBlock
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.states import State
from lram.agents.backbones.transformer.cache import (
    CachedPass,
    KeyValueCache,
    cached_attention,
    wide_heads,
)
from lram.agents.backbones.transformer.plain import TransformerBlock
from lram.agents.backbones.transformer.positions import rotary_angles
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.backbones.xlstm.mlstm import MLSTMBlock
from lram.agents.backbones.xlstm.slstm import SLSTMBlock


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

    def reset_parameters(self, layers: int) -> None:
        """Draw initial weights for a stack of ``layers``; by default they stay as PyTorch drew them."""


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

    def reset_parameters(self, layers: int) -> None:
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
        self.block = MambaBlock(model.width, MambaConfig())

    def initial_state(self, rows: int, device: torch.device) -> State:
        """See :class:`MixingLayer`."""
        return self.block.mixer.initial_state(rows)

    def reset_parameters(self, layers: int) -> None:
        """See :class:`MixingLayer`."""
        self.block.mixer.reset_parameters(layers)


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

    def reset_parameters(self, layers: int) -> None:
        """As PyTorch drew them."""


class LSTMMixing(GRUMixing):
    """torch's LSTM."""

    cell, parts = nn.LSTM, 2


class AttentionMixing(MixingLayer, KernelReader):
    """Causal attention over the last ``window`` tokens, rotary positions, and GPT-2's feed-forward part."""

    def __init__(self, model: ModelShape, place: int) -> None:
        super().__init__(model, place)
        heads, self.window = model.backbone.heads, model.backbone.window
        self.head_width = model.width // heads
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

    def why_no_kernel(self) -> str | None:
        """See :class:`KernelReader`."""
        return wide_heads(self.head_width)

    def _read(self, x: Tensor, past: CachedPass) -> Tensor:
        attend = partial(cached_attention(past), 0)
        y: Tensor = self.block(x, attend, rotary_angles(past.position, self.head_width))
        return y

    def reset_parameters(self, layers: int) -> None:
        """The rules of Hugging Face's GPT-2."""
        for name, parameter in self.block.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers))
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
