"""Attention of a few new tokens to the keys and values that are kept of each row.

A decision's few queries read every key and value of the row once, so attention is limited by the memory;
three queries are computed at a time, because they cost little more than one.

Shapes: B rows, k new tokens, L layers, NH heads of queries, KH heads of keys and values, of which each serves
as many queries; DH width of a head.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lram.agents.backbones.kernels.compiler import exp, inner_kernel, kernel, prefetch, put

# Keys and values are asked for this many places ahead (of 0, 16, 32 and 64 the fastest: half the time
# of 0 when they come from memory).
_AHEAD = 32
_LINE = 16  # float32 in a cache line


@kernel
def attend_to_cache(
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
        qkv: Queries, keys and values (B, k, NH + 2 KH, DH); queries and keys are rotated in place.
        cos: Of the rotary angles, (B, k, DH / 2), or fewer for the first channels alone; of width 0 for none.
        sin: Likewise.
        keys: (B, L, KH, slots, DH).
        values: Likewise.
        layer: Which of the L.
        position: (B, k).
        valid: (B, k).
        band: A token sees itself and the ``band - 1`` before it.
        scores: Working memory, (3, slots).
        out: (B, k, NH, DH); zeros for masked tokens.
    """
    rows, tokens, heads, width = out.shape
    key_heads, slots, half = keys.shape[2], keys.shape[3], cos.shape[2]
    share = heads // key_heads
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
            own = qkv[row, token]
            if half:
                for head in range(heads + key_heads):
                    _rotate(own[head], cos[row, token], sin[row, token])
            for head in range(key_heads):
                put(own[heads + head], keys[row, layer, head, slot])
                put(own[heads + key_heads + head], values[row, layer, head, slot])
        if count == 0:
            continue
        newest = position[row, query[count - 1]]
        oldest = max(0, position[row, query[0]] - band + 1)
        held = newest + 1 - oldest
        # In a ring, what is seen may continue at slot 0.
        start = oldest % slots
        run = min(held, slots - start)
        for head in range(heads):
            k, v = keys[row, layer, head // share], values[row, layer, head // share]
            for first in range(0, count, 3):
                a, b = query[first], query[min(first + 1, count - 1)]
                c = query[min(first + 2, count - 1)]
                qa, qb, qc = qkv[row, a, head], qkv[row, b, head], qkv[row, c, head]
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
def angles(position: Any, cos: Any, sin: Any) -> None:
    """Rotary angles of positions (B, k): cos and sin (B, k, half the channels that are rotated)."""
    half = cos.shape[2]
    for j in range(half):
        frequency = 10000.0 ** -(j / half)
        for row in range(position.shape[0]):
            for token in range(position.shape[1]):
                angle = position[row, token] * frequency
                cos[row, token, j], sin[row, token, j] = np.cos(angle), np.sin(angle)


@inner_kernel
def _rotate(x: Any, cos: Any, sin: Any) -> None:
    """Rotate the pairs (x_j, x_{j + n}) of the first 2 n channels of x by their n angles, in place."""
    half = len(cos)
    for j in range(half):
        a, b = x[j], x[j + half]
        x[j] = a * cos[j] - b * sin[j]
        x[j + half] = a * sin[j] + b * cos[j]


@inner_kernel
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


@inner_kernel
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


@inner_kernel
def _scale(x: Any, factor: Any, y: Any) -> None:
    for j in range(len(x)):
        y[j] = x[j] * factor


@inner_kernel
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
