"""Stacks of torch's GRU and LSTM: ``x + cell(norm(x))`` a block, a norm at the end.

Shapes: B rows, S tokens, k new tokens, D width, H width of a state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lram.agents.backbones.blocks import BlockStack
from lram.agents.backbones.layers import column, keep_valid
from lram.agents.backbones.spec import ModelShape

CellState = tuple[Tensor, ...]  # h (B, H); for an LSTM c (B, H), too


class CellStack(BlockStack):
    """Blocks of one of torch's recurrent cells."""

    cell: type[nn.GRU] | type[nn.LSTM]
    parts: int  # tensors of a block's state

    def __init__(self, model: ModelShape) -> None:
        width, hidden = model.width, model.backbone.hidden or model.width
        blocks = (CellBlock(self.cell, self.parts, width, hidden) for _ in range(model.layers))
        super().__init__(width, blocks)


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
