"""Causal attention over the last tokens, with fewer heads of keys and values than of queries where asked.

Multi-query attention (Shazeer 2019, arXiv 1911.02150) has one head of keys and values. Positions are rotary
(Su et al. 2021, arXiv 2104.09864), on a head's first channels or on all of them. The keys and values of the
last ``window`` tokens are kept in a ring; sequences are read through the same band.

Shapes: B rows, S tokens, k new tokens, NH heads, KH heads of keys and values, DH width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.gpu import KernelReader
from lram.agents.backbones.parts.part import Part
from lram.agents.backbones.states import State
from lram.agents.backbones.transformer.cache import (
    CachedPass,
    KeyValueCache,
    cached_attention,
    wide_heads,
)
from lram.agents.backbones.transformer.positions import rotary_angles, rotate


class LocalAttention(nn.Module, Part, KernelReader):
    """A token sees itself and the ``window - 1`` before it.

    Args:
        heads: Of queries, a multiple of ``key_heads``.
        key_heads: Of keys and values.
        head_width: Width of a head.
        window: Tokens.
        rotated: Channels of a head that are rotated: the first ones, an even number.
    """

    def __init__(self, heads: int, key_heads: int, head_width: int, window: int, rotated: int) -> None:
        super().__init__()
        self.heads, self.key_heads, self.head_width = heads, key_heads, head_width
        self.window, self.rotated = window, rotated
        self.past = KeyValueCache(1, key_heads, head_width, window, ring=True)

    @property
    def width(self) -> int:
        """Channels of what it is given: all queries, all keys, all values, head after head."""
        return (self.heads + 2 * self.key_heads) * self.head_width

    def forward(self, qkv: Tensor) -> Tensor:
        """(B, S, (NH + 2 KH) DH) -> (B, S, NH DH)."""
        position = torch.arange(qkv.shape[1], device=qkv.device)
        q, k, v = self._read(qkv, position)
        shared = self.key_heads != self.heads
        if qkv.shape[1] <= self.window:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared)
        else:
            distance = position.unsqueeze(-1) - position  # (S, S)
            band = (distance >= 0) & (distance < self.window)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=band, enable_gqa=shared)
        return y.transpose(1, 2).flatten(-2)

    def initial_state(self, rows: int, device: torch.device) -> State:
        """The ring: ``count`` of tokens (B,), ``keys`` and ``values`` (B, 1, KH, slots, DH)."""
        return self.past.initial_state(rows, device)

    def step(self, qkv: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """(B, k, (NH + 2 KH) DH) -> (B, k, NH DH); ``state`` is written to."""
        if valid is None:
            valid = torch.ones(qkv.shape[:2], dtype=torch.bool, device=qkv.device)
        return self.past.step(qkv, state, valid, self._attend)

    def why_no_kernel(self) -> str | None:
        """See :class:`KernelReader`."""
        return wide_heads(self.head_width)

    def compiled(self, tokens: int) -> Any:
        """See :class:`Part`."""
        from lram.agents.backbones.parts.attention_step import LocalAttentionStep

        return LocalAttentionStep(self.past, self.heads, self.rotated)

    def _attend(self, qkv: Tensor, past: CachedPass) -> Tensor:
        y = cached_attention(past)(0, *self._read(qkv, past.position))
        return y.transpose(1, 2).flatten(-2)

    def _read(self, qkv: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries (B, NH, S, DH) and keys, and values (B, KH, S, DH)."""
        heads = qkv.view(*qkv.shape[:2], -1, self.head_width).transpose(1, 2)
        q, k, v = torch.split(heads, [self.heads, self.key_heads, self.key_heads], dim=1)
        cos_sin = rotary_angles(position, self.rotated)
        return self._rotate(q, cos_sin), self._rotate(k, cos_sin), v

    def _rotate(self, x: Tensor, cos_sin: tuple[Tensor, Tensor]) -> Tensor:
        first = rotate(x[..., : self.rotated], *cos_sin)
        return torch.cat([first, x[..., self.rotated :]], dim=-1)
