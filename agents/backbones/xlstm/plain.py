"""xLSTM: mLSTM blocks (matrix memory) with sLSTM blocks (scalar memory) between them.

The block stack of Beck et al. 2024 (arXiv 2405.04517) in plain PyTorch; the blocks are in :mod:`.mlstm` and
:mod:`.slstm`. Parameters have the names and shapes of ``xlstm.xLSTMBlockStack`` (PyPI ``xlstm``, sLSTM
backend "vanilla"), so its weights load here as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.parts.headwise import HeadwiseLinear
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.states import State, clear
from lram.agents.backbones.xlstm.layers import Norm
from lram.agents.backbones.xlstm.mlstm import MLSTMBlock
from lram.agents.backbones.xlstm.slstm import SLSTMBlock


class XLSTM(Backbone):
    """The stack: blocks, then a norm."""

    DECAYED = (HeadwiseLinear,)

    def __init__(self, config: ModelShape) -> None:
        super().__init__()
        section = config.backbone
        self.blocks = nn.ModuleList(
            SLSTMBlock(config.width, section, position, config.layers)
            if position in section.slstm_at
            else MLSTMBlock(config.width, section, config.layers)
            for position in range(config.layers)
        )
        self.post_blocks_norm = Norm(config.width, rms=section.norm == "rms")

    @property
    def _stack(self) -> Sequence[MLSTMBlock | SLSTMBlock]:
        return cast("Sequence[MLSTMBlock | SLSTMBlock]", self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Backbone`. Time and memory grow linearly with S."""
        for block in self._stack:
            x = block(x)
        y: Tensor = self.post_blocks_norm(x)
        return y

    def initial_state(self, rows: int) -> State:
        """One tuple a block."""
        return [block.initial_state(rows) for block in self._stack]

    def reset(self, state: State, rows: Sequence[int]) -> None:
        """See :class:`Backbone`."""
        clear(state, rows)

    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :class:`Backbone`."""
        new_state = []
        for block, block_state in zip(self._stack, state, strict=True):
            x, block_state = block.step(x, block_state, valid)
            new_state.append(block_state)
        return self.post_blocks_norm(x), new_state

    def reset_parameters(self) -> None:
        """The rules of the xlstm package."""
        for block in self._stack:
            block.reset_parameters()
