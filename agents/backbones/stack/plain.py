"""The stack: one mixing layer a block, then a norm."""

from __future__ import annotations

import importlib
from typing import cast

from torch import Tensor, nn

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.stack import MIXERS, names_of_blocks
from lram.agents.backbones.stack.mixers import MixingLayer
from lram.agents.backbones.states import State
from lram.agents.backbones.xlstm.plain import HeadwiseLinear


class Stack(Backbone):
    """See the module's text."""

    DECAYED = (HeadwiseLinear,)

    def __init__(self, model: ModelShape) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _mixer(name)(model, place) for place, name in enumerate(names_of_blocks(model))
        )
        self.norm = nn.LayerNorm(model.width)

    @property
    def _stack(self) -> list[MixingLayer]:
        return cast("list[MixingLayer]", self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Backbone`."""
        for block in self._stack:
            x = block(x)
        y: Tensor = self.norm(x)
        return y

    def initial_state(self, rows: int) -> State:
        """The state of every block."""
        return [block.initial_state(rows, self.device) for block in self._stack]

    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :class:`Backbone`."""
        new_state = []
        for block, block_state in zip(self._stack, state, strict=True):
            x, block_state = block.step(x, block_state, valid)
            new_state.append(block_state)
        return self.norm(x), new_state

    def reset_parameters(self) -> None:
        """The rules of the kind that each block is of."""
        for block in self._stack:
            block.reset_parameters()


def _mixer(name: str) -> type[MixingLayer]:
    module, _, kind = MIXERS[name].partition(":")
    found: type[MixingLayer] = getattr(importlib.import_module(module), kind)
    return found
