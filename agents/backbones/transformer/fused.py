"""The Transformer's step on packed weights, its attention one loop over the keys that a row has.

Long passes (a prefill) are limited by arithmetic instead of memory, and use PyTorch's attention.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.kernels.attention import angles, attend_to_cache
from lram.agents.backbones.kernels.linear import PackedLinear
from lram.agents.backbones.states import State
from lram.agents.backbones.transformer.cache import Attend, CachedPass, TokenWindow, cached_attention
from lram.agents.backbones.transformer.plain import Transformer, TransformerBlock
from lram.agents.backbones.transformer.positions import learned_positions, rotary_angles, rotate

FEW = 32
"""Most tokens of a row that the kernel reads at once; more are left to PyTorch."""


class FusedTransformer:
    """A Transformer's ``step``, with its weights as they are now.

    Args:
        backbone: float32, on the processor.
        rows: About how many tokens, of all rows together, a pass will have.
    """

    def __init__(self, backbone: Transformer, rows: int) -> None:
        self.past, self.heads, self.wpe = backbone.past, backbone.heads, backbone.wpe
        self.rotary = backbone.positions == "rotary"
        self.head_width = backbone.width // backbone.heads
        self.norm = backbone.ln_f
        self.blocks = [_FusedTransformerBlock(block, rows) for block in backbone.h]

    def __call__(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :meth:`lram.agents.backbones.contract.Backbone.step`."""
        if valid is None:
            valid = torch.ones(x.shape[:2], dtype=torch.bool)
        if isinstance(self.past, TokenWindow):
            return self.past.step(x, state, valid, self._read_causal)
        return self.past.step(x, state, valid, self._read_cached)

    def _read_causal(self, x: Tensor) -> Tensor:
        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

        return self._read_long(x, torch.arange(x.shape[1]), attend)

    def _read_cached(self, x: Tensor, past: CachedPass) -> Tensor:
        if x.shape[1] > FEW:
            return self._read_long(x, past.position, cached_attention(past))
        return self._read_few(x, past)

    def _read_long(self, x: Tensor, position: Tensor, attend: Attend) -> Tensor:
        """Read x (B, S, D) with the given attention, as ``Transformer`` does."""
        cos_sin = None
        if self.rotary:
            cos_sin = rotary_angles(position, self.head_width)
        elif self.wpe is not None:
            x = x + learned_positions(self.wpe, position)
        for layer, block in enumerate(self.blocks):
            heads = block.project(x, self.heads)
            q, k, v = heads.transpose(1, 3).unbind(dim=2)  # (B, NH, S, DH)
            if cos_sin is not None:
                q, k = rotate(q, *cos_sin), rotate(k, *cos_sin)
            x = block.finish(x, attend(layer, q, k, v).transpose(1, 2).flatten(-2))
        y: Tensor = self.norm(x)
        return y

    def _read_few(self, x: Tensor, past: CachedPass) -> Tensor:
        """Read x (B, k, D) with the kernel."""
        keys, values = past.keys.numpy(), past.values.numpy()
        position, valid = past.position.numpy(), past.valid.numpy()
        half = self.head_width // 2 if self.rotary else 0  # 0: no rotation
        cos, sin = (np.empty((*position.shape, half), dtype=np.float32) for _ in range(2))
        if self.rotary:
            angles(position, cos, sin)
        elif self.wpe is not None:
            x = x + learned_positions(self.wpe, past.position)
        slots = keys.shape[3]
        band = slots if past.band is None else past.band
        scores = np.empty((3, slots), dtype=np.float32)
        attended = torch.empty(x.shape, dtype=torch.float32)
        out = attended.view(*x.shape[:2], self.heads, -1).numpy()  # (B, k, NH, DH)
        for layer, block in enumerate(self.blocks):
            qkv = block.project(x, self.heads).flatten(2, 3).numpy()  # (B, k, 3 NH, DH)
            attend_to_cache(qkv, cos, sin, keys, values, layer, position, valid, band, scores, out)
            x = block.finish(x, attended)
        y: Tensor = self.norm(x)
        return y


class _FusedTransformerBlock:
    """The parts of a block before and after attention."""

    def __init__(self, block: nn.Module, rows: int) -> None:
        assert isinstance(block, TransformerBlock)
        self.first_norm, self.second_norm, self.post = block.ln_1, block.ln_2, block.post
        self.q_norm, self.k_norm = block.attn.q_norm, block.attn.k_norm
        self.c_attn = PackedLinear.of(block.attn.c_attn, rows)
        self.attn_proj = PackedLinear.of(block.attn.c_proj, rows)
        self.c_fc = PackedLinear.of(block.mlp.c_fc, rows, "gelu")
        self.mlp_proj = PackedLinear.of(block.mlp.c_proj, rows)

    def project(self, x: Tensor, heads: int) -> Tensor:
        """(B, k, D) -> queries, keys and values (B, k, 3, NH, DH)."""
        qkv = self.c_attn(x if self.post else self.first_norm(x)).view(*x.shape[:2], 3, heads, -1)
        if self.q_norm is not None and self.k_norm is not None:
            qkv[:, :, 0] = self.q_norm(qkv[:, :, 0])
            qkv[:, :, 1] = self.k_norm(qkv[:, :, 1])
        return qkv

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add what attention found (B, k, D), then the feed-forward part, to x (B, k, D)."""
        x = self.attn_proj.add_to(x, attended)
        if self.post:
            x = self.first_norm(x)
            y: Tensor = self.second_norm(self.mlp_proj.add_to(x, self.c_fc(x)))
            return y
        return self.mlp_proj.add_to(x, self.c_fc(self.second_norm(x)))
