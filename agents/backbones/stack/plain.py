"""The stack: one mixing layer a block, then a norm."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from torch import nn

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
            block.reset_parameters(len(self.blocks))


def _mixer(name: str) -> Callable[[ModelShape, int], nn.Module]:
    module, _, maker = MIXERS[name].partition(":")
    found: Callable[[ModelShape, int], nn.Module] = getattr(importlib.import_module(module), maker)
    return found
