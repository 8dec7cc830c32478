"""The stack: one mixing layer a block, then a norm."""

from __future__ import annotations

import importlib
from typing import cast

from lram.agents.backbones.blocks import BlockStack
from lram.agents.backbones.parts import HeadwiseLinear
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.stack import MIXERS, names_of_blocks
from lram.agents.backbones.stack.mixers import MixingLayer


class Stack(BlockStack):
    """See the module's text."""

    DECAYED = (HeadwiseLinear,)

    def __init__(self, model: ModelShape) -> None:
        names = enumerate(names_of_blocks(model))
        super().__init__(model.width, (_mixer(name)(model, place) for place, name in names))

    def reset_parameters(self) -> None:
        """The rules of the kind that each block is of."""
        for block in cast("list[MixingLayer]", self.blocks):
            block.reset_parameters()


def _mixer(name: str) -> type[MixingLayer]:
    module, _, kind = MIXERS[name].partition(":")
    found: type[MixingLayer] = getattr(importlib.import_module(module), kind)
    return found
