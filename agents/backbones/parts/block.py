"""Pre-norm residual blocks of a token mixer and a feed-forward part, and a stack of them.

Shapes: B rows, S tokens, k new tokens, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from lram.agents.backbones.blocks import BlockStack
from lram.agents.backbones.parts.feed_forward import GatedFeedForward
from lram.agents.backbones.parts.norms import RMSNorm
from lram.agents.backbones.states import State


class Mixer(nn.Module, ABC):
    """What lets a token see those before it."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> the same, from the initial state."""

    @abstractmethod
    def initial_state(self, rows: int, device: torch.device) -> State:
        """Return the state of fresh rows, float32, the row first in every tensor."""

    @abstractmethod
    def step(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """(B, k, D) -> the same; masked tokens leave their row's state as it was."""

    def reset_parameters(self, layers: int) -> None:
        """Draw initial weights for one of ``layers`` blocks; by default they stay as PyTorch drew them."""

    def compiled_methods(self) -> Mapping[str, Callable[..., Any]]:
        """Return what takes the place of its methods in a compiled step, by their names; by default nothing.

        For what a kind computes between its parts, as one kernel instead of many small operations.
        """
        return {}


class MixerBlock(nn.Module):
    """x + mixer(norm(x)), then, where there is a feed-forward part, x + feed_forward(norm(x)).

    What a stack gives a block beside its tokens (``given``) goes to the mixer.
    """

    def __init__(
        self, width: int, mixer: nn.Module, feed_forward: nn.Module | None = None, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm, self.mixer = RMSNorm(width, eps), mixer
        self.feed_forward_norm = None if feed_forward is None else RMSNorm(width, eps)
        self.feed_forward = feed_forward

    @property
    def mixing(self) -> Mixer:
        """``mixer``, typed."""
        return cast("Mixer", self.mixer)

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """(B, S, D) -> the same."""
        return self._feed(x + self.mixing(self.norm(x), *given))

    def initial_state(self, rows: int, device: torch.device) -> State:
        """The mixer's."""
        return self.mixing.initial_state(rows, device)

    def step(self, x: Tensor, state: State, valid: Tensor | None, *given: Tensor) -> tuple[Tensor, State]:
        """(B, k, D) -> the same."""
        y, state = self.mixing.step(self.norm(x), state, valid, *given)
        return self._feed(x + y), state

    def reset_parameters(self, layers: int) -> None:
        """The rules of the mixer, and of a feed-forward part that has some."""
        self.mixing.reset_parameters(layers)
        if isinstance(self.feed_forward, GatedFeedForward):
            self.feed_forward.reset_parameters(layers)

    def _feed(self, x: Tensor) -> Tensor:
        if self.feed_forward is None or self.feed_forward_norm is None:
            return x
        y: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return y


class MixerStack(BlockStack):
    """Blocks one after the other, then a norm by the root mean square."""

    def __init__(self, width: int, blocks: Iterable[MixerBlock], eps: float = 1e-5) -> None:
        super().__init__(width, blocks, RMSNorm(width, eps))

    def reset_parameters(self) -> None:
        """The rules of every block."""
        for block in cast("Sequence[MixerBlock]", self.blocks):
            block.reset_parameters(len(self.blocks))
