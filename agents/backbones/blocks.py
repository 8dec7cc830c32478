"""A stack of blocks with a norm at the end: what backbones of one block after the other have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.states import State


class StackedBlock(Protocol):
    """What a block does; shapes (rows, tokens, width), the row first in every tensor of a state."""

    def __call__(self, x: Tensor) -> Tensor:
        """Read whole sequences from the initial state."""

    def initial_state(self, rows: int, device: torch.device) -> State:
        """Return the state of fresh rows."""

    def step(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """Read the next tokens; masked ones leave their row's state as it was."""


class BlockStack(Backbone):
    """Blocks one after the other, then a norm: a LayerNorm unless ``norm`` is given."""

    def __init__(self, width: int, blocks: Iterable[nn.Module], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width) if norm is None else norm

    @property
    def stacked(self) -> list[StackedBlock]:
        """``blocks``, typed."""
        return cast("list[StackedBlock]", self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Backbone`."""
        for block in self.stacked:
            x = block(x)
        y: Tensor = self.norm(x)
        return y

    def initial_state(self, rows: int) -> State:
        """The state of every block."""
        return [block.initial_state(rows, self.device) for block in self.stacked]

    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :class:`Backbone`."""
        new_state = []
        for block, block_state in zip(self.stacked, state, strict=True):
            x, block_state = block.step(x, block_state, valid)
            new_state.append(block_state)
        return self.norm(x), new_state
