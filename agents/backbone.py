"""The Backbone contract: what turns a stream of embedded tokens into hidden states.

``forward`` reads whole sequences at once, for training; ``step`` reads the next few tokens of many
rows, for acting. What always holds, and is checked for every kind in ``tests/agents``:

* ``step`` over a sequence, in passes of any size, gives what ``forward`` gives on it (for a
  Transformer with ``cache: recompute``: while no token has left the window).
* A token that ``valid`` masks leaves its row's state as it was, bit for bit; what ``step`` returns at
  its place is finite for finite inputs and has no meaning.
* A row that was ``reset`` is as in ``initial_state``, bit for bit.
* A row's outputs do not depend on the contents of other rows.
* States are float32 whatever the type of the weights, and have the row first in every tensor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from lram.agents.config import Kind, ModelConfig

State: TypeAlias = Any
"""Nested tuples, lists and dicts of tensors, each with the row as its first dimension."""


class Backbone(nn.Module, ABC):
    """A stack of blocks with a recurrent form; the module's text tells the contract."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return hidden states (rows, tokens, width) of whole sequences ``x`` of that shape."""

    @abstractmethod
    def initial_state(self, rows: int) -> State:
        """Return the state of ``rows`` fresh rows."""

    @abstractmethod
    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Read the next k tokens of every row.

        Args:
            x: (rows, k, width).
            state: What ``initial_state`` or the last ``step`` returned. Its memory may be used for
                the returned state, so read only the latter afterwards (``take`` makes a copy). A state
                made in ``torch.inference_mode`` can be used there only.
            valid: (rows, k) bool; False where there is no token. None: all are there.

        Returns:
            Hidden states (rows, k, width), and the state after the valid tokens.
        """

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw initial weights from torch's global generator, by the reference's rules."""

    def reset(self, state: State, rows: Sequence[int]) -> None:
        """Make ``rows`` of ``state`` fresh, in place."""
        put(state, rows, self.initial_state(len(rows)))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


def build_backbone(config: ModelConfig) -> Backbone:
    """Return the backbone that ``config`` names, with uninitialised or default weights."""
    module, name = _KINDS[config.kind]
    backbone: Backbone = getattr(import_module(module), name)(config)
    return backbone


_KINDS: dict[Kind, tuple[str, str]] = {
    "xlstm": ("lram.agents.xlstm", "XLSTM"),
    "mamba": ("lram.agents.mamba", "Mamba"),
    "transformer": ("lram.agents.transformer", "Transformer"),
}


def take(state: State, rows: Sequence[int]) -> State:
    """Return a copy of the given rows of ``state``, in that order."""

    def select(tensor: Tensor) -> Tensor:
        return tensor.index_select(0, torch.as_tensor(rows, dtype=torch.int64, device=tensor.device))

    return _map(select, state)


def copied(state: State) -> State:
    """Return ``state`` in memory of its own."""
    return _map(torch.clone, state)


def put(state: State, rows: Sequence[int], part: State) -> None:
    """Overwrite the given rows of ``state``, in place, with the rows of ``part``.

    Where a cache has grown more in one than in the other, the smaller is filled up with zeros.
    """
    for target, source in zip(tensors(state), tensors(part), strict=True):
        if target.shape[1:] != source.shape[1:]:
            shape = [max(sizes) for sizes in zip(target.shape[1:], source.shape[1:], strict=True)]
            target.set_(_filled_up(target, shape))  # type: ignore[call-overload]
            source = _filled_up(source, shape)
        target.index_copy_(0, torch.as_tensor(rows, dtype=torch.int64, device=target.device), source)


def clear(state: State, rows: Sequence[int]) -> None:
    """Fill the given rows of ``state`` with zeros, in place.

    Where that is a fresh state it takes less time than :func:`put`, because no memory has to be found: for
    four lanes of 7 MB 1.2 instead of 15 ms.
    """
    for tensor in tensors(state):
        for row in rows:
            tensor[row].zero_()


def _filled_up(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    larger = tensor.new_zeros(len(tensor), *shape)
    larger[tuple(slice(size) for size in tensor.shape)] = tensor
    return larger


def state_bytes(state: State) -> int:
    """Return the bytes of all tensors of ``state``."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors(state))


def keep_valid(valid: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    """Return ``new`` for the rows where ``valid`` (rows,) is true, ``old`` for the others."""
    if valid is None:
        return new
    return torch.where(valid.view(-1, *[1] * (new.dim() - 1)), new, old)


def column(valid: Tensor | None, token: int) -> Tensor | None:
    """Return which rows have the ``token``-th token of a pass: (rows,), or None for all."""
    return None if valid is None else valid[:, token]


def split_last(x: Tensor, parts: int) -> Tensor:
    """Cut the last dimension into equal parts: (..., parts x n) -> (..., parts, n)."""
    return x.reshape(*x.shape[:-1], parts, -1)


def causal_conv(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """Convolve each channel of ``x`` (rows, tokens, channels) with its past; ``conv`` pads both ends."""
    y: Tensor = conv(x.transpose(1, 2))
    return y[..., : x.shape[1]].transpose(1, 2)


def causal_conv_step(conv: nn.Conv1d, x: Tensor, past: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Continue :func:`causal_conv` by k tokens.

    Args:
        conv: Its depthwise convolution of width K.
        x: (rows, k, channels).
        past: The last K - 1 valid inputs of each row, newest last: (rows, K - 1, channels).
        valid: (rows, k) or None.

    Returns:
        The outputs (rows, k, channels), and the new past.
    """
    assert conv.bias is not None
    kernel = conv.weight[:, 0].T  # (K, channels)
    tokens, kept = x.shape[1], past.shape[1]
    if valid is not None:
        # Valid tokens first, so that each finds its predecessors right before it.
        order = torch.argsort(valid, dim=1, descending=True, stable=True)
        x = x.gather(1, order.unsqueeze(-1).expand_as(x))
    inputs = torch.cat([past, x.to(past.dtype)], dim=1)  # (rows, K - 1 + k, channels)
    # One product a place of the kernel, not a library's convolution: a token's bits then do not
    # depend on how many are read with it.
    y = sum((inputs[:, place : place + tokens] * kernel[place] for place in range(kept + 1)), conv.bias)
    y = y.to(x.dtype)
    if valid is None:
        return y, inputs[:, tokens:]
    ranks = order.argsort(dim=1)
    y = y.gather(1, ranks.unsqueeze(-1).expand_as(y))
    newest = valid.sum(dim=1, keepdim=True) + torch.arange(kept, device=x.device)  # (rows, K - 1)
    return y, inputs.gather(1, newest.unsqueeze(-1).expand(-1, -1, inputs.shape[2]))


def _map(function: Callable[[Tensor], Tensor], state: State) -> State:
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, dict):
        return {key: _map(function, value) for key, value in state.items()}
    return type(state)(_map(function, value) for value in state)


def tensors(state: State) -> list[Tensor]:
    """Return all tensors of ``state``, in order."""
    if isinstance(state, Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state
    return [tensor for value in values for tensor in tensors(value)]
