"""The Transformer's step on packed weights, its attention one loop over the keys that a row has.

A decision's few queries read every key and value of the row once, so attention is limited by the
memory; three queries are computed at a time, because they cost little more than one. Long passes (a
prefill) are limited by arithmetic instead, and use PyTorch's attention.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.kernels.compiler import exp, kernel, prefetch
from lram.agents.backbones.kernels.linear import PackedLinear
from lram.agents.backbones.states import State
from lram.agents.backbones.transformer.cache import Attend, CachedPass, TokenWindow, cached_attention
from lram.agents.backbones.transformer.plain import (
    Transformer,
    TransformerBlock,
    learned_positions,
    rotary_angles,
    rotate,
)

FEW = 32
"""Most tokens of a row that the kernel reads at once; more are left to PyTorch."""

# Keys and values are asked for this many places ahead (of 0, 16, 32 and 64 the fastest: half the time
# of 0 when they come from memory).
_AHEAD = 32
_LINE = 16  # float32 in a cache line


class FusedTransformer:
    """A Transformer's ``step``, with its weights as they are now.

    Args:
        backbone: float32, on the processor.
        rows: About how many tokens, of all rows together, a pass will have.
    """

    def __init__(self, backbone: Transformer, rows: int) -> None:
        self.past, self.heads, self.wpe = backbone.past, backbone.heads, backbone.wpe
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
        if self.wpe is None:
            cos_sin = rotary_angles(position, self.head_width)
        else:
            x = x + learned_positions(self.wpe, position)
        for layer, block in enumerate(self.blocks):
            heads = block.project(x).view(*x.shape[:2], 3, self.heads, -1)  # (B, S, 3, NH, DH)
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
        half = self.head_width // 2 if self.wpe is None else 0  # 0: no rotation
        cos, sin = (np.empty((*position.shape, half), dtype=np.float32) for _ in range(2))
        if self.wpe is None:
            _angles(position, cos, sin)
        else:
            x = x + learned_positions(self.wpe, past.position)
        slots = keys.shape[3]
        band = slots if past.band is None else past.band
        scores = np.empty((3, slots), dtype=np.float32)
        attended = torch.empty(x.shape, dtype=torch.float32)
        out = attended.view(*x.shape[:2], self.heads, -1).numpy()  # (B, k, NH, DH)
        for layer, block in enumerate(self.blocks):
            qkv = block.project(x).view(*x.shape[:2], 3, self.heads, -1).numpy()  # (B, k, 3, NH, DH)
            _attend(qkv, cos, sin, keys, values, layer, position, valid, band, scores, out)
            x = block.finish(x, attended)
        y: Tensor = self.norm(x)
        return y


class _FusedTransformerBlock:
    """The parts of a block before and after attention."""

    def __init__(self, block: nn.Module, rows: int) -> None:
        assert isinstance(block, TransformerBlock)
        self.first_norm, self.second_norm = block.ln_1, block.ln_2
        self.c_attn = PackedLinear.of(block.attn.c_attn, rows)
        self.attn_proj = PackedLinear.of(block.attn.c_proj, rows)
        self.c_fc = PackedLinear.of(block.mlp.c_fc, rows, "gelu")
        self.mlp_proj = PackedLinear.of(block.mlp.c_proj, rows)

    def project(self, x: Tensor) -> Tensor:
        """(B, k, D) -> queries, keys and values (B, k, 3 D)."""
        return self.c_attn(self.first_norm(x))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add what attention found (B, k, D), then the feed-forward part, to x (B, k, D)."""
        x = self.attn_proj.add_to(x, attended)
        return self.mlp_proj.add_to(x, self.c_fc(self.second_norm(x)))


@kernel
def _attend(
    qkv: Any,
    cos: Any,
    sin: Any,
    keys: Any,
    values: Any,
    layer: int,
    position: Any,
    valid: Any,
    band: int,
    scores: Any,
    out: Any,
) -> None:
    """One layer's attention: write the new keys and values, then let each query read what it sees.

    Args:
        qkv: (B, k, 3, NH, DH); queries are rotated in place.
        cos: Of the rotary angles, (B, k, DH / 2); of width 0 for none.
        sin: Likewise.
        keys: (B, L, NH, slots, DH).
        values: Likewise.
        layer: Which of the L.
        position: (B, k).
        valid: (B, k).
        band: A token sees itself and the ``band - 1`` before it.
        scores: Working memory, (3, slots).
        out: (B, k, NH, DH); zeros for masked tokens.
    """
    rows, tokens, _, heads, width = qkv.shape
    slots, half = keys.shape[3], cos.shape[2]
    scale = np.float32(1.0 / np.sqrt(width))
    query = np.empty(tokens, np.int64)  # which tokens are valid
    mixed = np.empty((3, width), np.float32)
    sa, sb, sc = scores[0], scores[1], scores[2]
    ya, yb, yc = mixed[0], mixed[1], mixed[2]
    for row in range(rows):
        count = 0
        for token in range(tokens):
            if not valid[row, token]:
                out[row, token] = 0
                continue
            query[count] = token
            count += 1
            slot = position[row, token] % slots
            for head in range(heads):
                if half:
                    _rotate(qkv[row, token, 0, head], cos[row, token], sin[row, token])
                    _rotate(qkv[row, token, 1, head], cos[row, token], sin[row, token])
                keys[row, layer, head, slot] = qkv[row, token, 1, head]
                values[row, layer, head, slot] = qkv[row, token, 2, head]
        if count == 0:
            continue
        newest = position[row, query[count - 1]]
        oldest = max(0, position[row, query[0]] - band + 1)
        held = newest + 1 - oldest
        # In a ring, what is seen may go on at slot 0.
        start = oldest % slots
        run = min(held, slots - start)
        for head in range(heads):
            k, v = keys[row, layer, head], values[row, layer, head]
            for first in range(0, count, 3):
                a, b = query[first], query[min(first + 1, count - 1)]
                c = query[min(first + 2, count - 1)]
                qa, qb, qc = qkv[row, a, 0, head], qkv[row, b, 0, head], qkv[row, c, 0, head]
                _score(k[start : start + run], qa, qb, qc, sa, sb, sc)
                _score(k[: held - run], qa, qb, qc, sa[run:], sb[run:], sc[run:])
                mixed[:] = 0
                na = _weigh(sa, position[row, a] - oldest, band, held, scale)
                nb = _weigh(sb, position[row, b] - oldest, band, held, scale)
                nc = _weigh(sc, position[row, c] - oldest, band, held, scale)
                _mix(v[start : start + run], sa, sb, sc, ya, yb, yc)
                _mix(v[: held - run], sa[run:], sb[run:], sc[run:], ya, yb, yc)
                _scale(ya, na, out[row, a, head])
                _scale(yb, nb, out[row, b, head])
                _scale(yc, nc, out[row, c, head])


@kernel
def _angles(position: Any, cos: Any, sin: Any) -> None:
    """:func:`lram.agents.backbones.transformer.plain.rotary_angles` of positions (B, k): cos and sin (B,
    k, DH / 2).
    """
    half = cos.shape[2]
    for j in range(half):
        frequency = 10000.0 ** -(j / half)
        for row in range(position.shape[0]):
            for token in range(position.shape[1]):
                angle = position[row, token] * frequency
                cos[row, token, j], sin[row, token, j] = np.cos(angle), np.sin(angle)


@kernel
def _rotate(x: Any, cos: Any, sin: Any) -> None:
    """Rotate the pairs (x_j, x_{j + DH/2}) of x (DH,) by their angles, in place."""
    half = len(cos)
    for j in range(half):
        a, b = x[j], x[j + half]
        x[j] = a * cos[j] - b * sin[j]
        x[j + half] = a * sin[j] + b * cos[j]


@kernel
def _score(keys: Any, qa: Any, qb: Any, qc: Any, sa: Any, sb: Any, sc: Any) -> None:
    """Products of keys (n, DH) with three queries (DH,) -> three times scores (n or more,)."""
    count, width = keys.shape
    for j in range(count):
        for d in range(0, width, _LINE):
            prefetch(keys, j + _AHEAD, d)
        a = b = c = np.float32(0)
        for d in range(width):
            k = keys[j, d]
            a += qa[d] * k
            b += qb[d] * k
            c += qc[d] * k
        sa[j], sb[j], sc[j] = a, b, c


@kernel
def _weigh(scores: Any, own: int, band: int, count: int, scale: Any) -> Any:
    """Exponentials of scores[:count] within the band that ends at ``own``, zeros outside; 1 / their sum."""
    first = max(0, own - band + 1)
    scores[:first] = 0
    scores[own + 1 : count] = 0
    seen = scores[first : own + 1]  # counted from 0: other loops are not vectorised
    top = seen[0]
    for j in range(len(seen)):
        top = max(top, seen[j])
    total = np.float32(0)
    for j in range(len(seen)):
        weight = exp((seen[j] - top) * scale)
        seen[j] = weight
        total += weight
    return np.float32(1) / total


@kernel
def _scale(x: Any, factor: Any, y: Any) -> None:
    for j in range(len(x)):
        y[j] = x[j] * factor


@kernel
def _mix(values: Any, wa: Any, wb: Any, wc: Any, ya: Any, yb: Any, yc: Any) -> None:
    """Add the sums of values (n, DH) by three times weights (n or more,) to three results (DH,)."""
    count, width = values.shape
    # Eight at a time, so that the sums are loaded and stored once for eight values.
    whole = count - count % 8
    for j in range(0, whole, 8):
        for ahead in range(_AHEAD, _AHEAD + 8):
            for d in range(0, width, _LINE):
                prefetch(values, j + ahead, d)
        for d in range(width):
            v0, v1, v2, v3 = values[j, d], values[j + 1, d], values[j + 2, d], values[j + 3, d]
            v4, v5, v6, v7 = values[j + 4, d], values[j + 5, d], values[j + 6, d], values[j + 7, d]
            ya[d] += (wa[j] * v0 + wa[j + 1] * v1 + wa[j + 2] * v2 + wa[j + 3] * v3) + (
                wa[j + 4] * v4 + wa[j + 5] * v5 + wa[j + 6] * v6 + wa[j + 7] * v7
            )
            yb[d] += (wb[j] * v0 + wb[j + 1] * v1 + wb[j + 2] * v2 + wb[j + 3] * v3) + (
                wb[j + 4] * v4 + wb[j + 5] * v5 + wb[j + 6] * v6 + wb[j + 7] * v7
            )
            yc[d] += (wc[j] * v0 + wc[j + 1] * v1 + wc[j + 2] * v2 + wc[j + 3] * v3) + (
                wc[j + 4] * v4 + wc[j + 5] * v5 + wc[j + 6] * v6 + wc[j + 7] * v7
            )
    for j in range(whole, count):
        for d in range(width):
            ya[d] += wa[j] * values[j, d]
            yb[d] += wb[j] * values[j, d]
            yc[d] += wc[j] * values[j, d]
