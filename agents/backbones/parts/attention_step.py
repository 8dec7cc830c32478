"""The compiled form of local attention."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lram.agents.backbones.kernels.attention import angles, attend_to_cache
from lram.agents.backbones.states import State
from lram.agents.backbones.transformer.cache import CachedPass, KeyValueCache


class LocalAttentionStep:
    """Takes the place of a :class:`lram.agents.backbones.parts.attention.LocalAttention` in a step."""

    def __init__(self, past: KeyValueCache, heads: int, rotated: int) -> None:
        self._past, self._heads, self._half = past, heads, rotated // 2

    def step(self, qkv: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """(B, k, (NH + 2 KH) DH) -> (B, k, NH DH); ``qkv`` and ``state`` are written to."""
        if valid is None:
            valid = torch.ones(qkv.shape[:2], dtype=torch.bool)
        return self._past.step(qkv, state, valid, self._attend)

    def _attend(self, qkv: Tensor, past: CachedPass) -> Tensor:
        position, window = past.position.numpy(), past.band
        assert window is not None
        cos, sin = (np.empty((*position.shape, self._half), np.float32) for _ in range(2))
        angles(position, cos, sin)
        keys, values = past.keys.numpy(), past.values.numpy()
        width = keys.shape[4]
        y = torch.empty(*qkv.shape[:2], self._heads * width)
        given, out = qkv.view(*qkv.shape[:2], -1, width).numpy(), y.view(*y.shape[:2], -1, width).numpy()
        scores = np.empty((3, keys.shape[3]), np.float32)
        attend_to_cache(given, cos, sin, keys, values, 0, position, past.valid.numpy(), window, scores, out)
        return y
