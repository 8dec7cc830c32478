"""Stacks of torch's GRU and LSTM: ``x + cell(norm(x))`` a block, a norm at the end.

Shapes: B rows, S tokens, k new tokens, D width, H width of a state.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.layers import column, keep_valid
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.states import State

CellState = tuple[Tensor, ...]  # h (B, H); for an LSTM c (B, H), too


class CellStack(Backbone):
    """Blocks of one of torch's recurrent cells."""

    cell: type[nn.GRU] | type[nn.LSTM]
    parts: int  # tensors of a block's state

    def __init__(self, model: ModelShape) -> None:
        super().__init__()
        hidden = model.backbone.hidden or model.width
        self.blocks = nn.ModuleList(
            CellBlock(self.cell, self.parts, model.width, hidden) for _ in range(model.layers)
        )
        self.norm = nn.LayerNorm(model.width)

    @property
    def _stack(self) -> list[CellBlock]:
        return cast("list[CellBlock]", self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Backbone`."""
        for block in self._stack:
            x = block(x)
        y: Tensor = self.norm(x)
        return y

    def initial_state(self, rows: int) -> State:
        """One tuple a block, all zeros."""
        return [block.initial_state(rows, self.device) for block in self._stack]

    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :class:`Backbone`."""
        new_state = []
        for block, block_state in zip(self._stack, state, strict=True):
            x, block_state = block.step(x, block_state, valid)
            new_state.append(block_state)
        return self.norm(x), new_state


class GRU(CellStack):
    """A stack of GRUs."""

    cell, parts = nn.GRU, 1


class LSTM(CellStack):
    """A stack of LSTMs."""

    cell, parts = nn.LSTM, 2


class CellBlock(nn.Module):
    """x + cell(norm(x)), projected back where the state is not as wide as a token."""

    def __init__(self, cell: type[nn.GRU] | type[nn.LSTM], parts: int, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.cell = cell(width, hidden, batch_first=True)
        self.out = nn.Identity() if hidden == width else nn.Linear(hidden, width)
        self.parts, self.hidden = parts, hidden

    def initial_state(self, rows: int, device: torch.device) -> CellState:
        """Zeros."""
        shape = rows, self.hidden
        return tuple(torch.zeros(shape, dtype=torch.float32, device=device) for _ in range(self.parts))

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> the same."""
        y: Tensor = x + self.out(self.cell(self.norm(x))[0])
        return y

    def step(self, x: Tensor, state: CellState, valid: Tensor | None) -> tuple[Tensor, CellState]:
        """(B, k, D) -> the same. One token at a time: a row's bits must not depend on which of its
        neighbours have one.
        """
        normed, outputs = self.norm(x), []
        for token in range(x.shape[1]):
            given = tuple(part.to(x.dtype).unsqueeze(0) for part in state)
            y, new = self.cell(normed[:, token : token + 1], given if self.parts > 1 else given[0])
            outputs.append(y)
            parts = new if self.parts > 1 else (new,)
            there = column(valid, token)
            state = tuple(
                keep_valid(there, after[0].float(), before)
                for after, before in zip(parts, state, strict=True)
            )
        return x + self.out(torch.cat(outputs, dim=1)), state
