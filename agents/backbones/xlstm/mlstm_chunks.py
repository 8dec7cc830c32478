"""One head of an mLSTM over a long sequence, in chunks, inside of kernels: time grows linearly.

Within a chunk every token looks at every earlier one, as :mod:`.mlstm_head` does with a whole sequence. What
lies before a chunk that begins at b is in a memory, scaled by e^-M of the last token before it:

    C_b = sum_{s < b} e^(a_s - M_{b-1}) k_s v_s / sqrt(DH)        n_b likewise, without v_s

so that token t adds g_t q_t C_b to its numerator and g_t q_t n_b to N_t, with g_t = e^(M_{b-1} - M_t) <= 1.
No exponent is above 0.

Backwards, a_s is in the weights of k_s alone and M_t in those of q_t, so that what they get by way of the
memory is k_s times that part of dk_s, and q_t times that of dq_t (as in chunked linear attention: Yang et
al., arXiv 2312.06635). Within a chunk it is summed over pairs of tokens: there a token's look at itself
cancels exactly.

Arrays as in :mod:`.mlstm_head`; a memory is (DH + 1, DH), the last row n.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lram.agents.backbones.kernels.compiler import exp, inner_kernel, put
from lram.agents.backbones.kernels.tiles import ROWS, UNIT, add_product
from lram.agents.backbones.xlstm.mlstm_head import (
    BLOCK,
    divide_by_normaliser,
    read_head_backward,
    sum_head,
    transpose,
)

CHUNK = 64
"""Tokens of a chunk, a multiple of ``BLOCK``."""

_ZERO = np.float32(0)


def chunk_of(tokens: int, width: int) -> Any:
    """Return the tokens of a chunk for kernels, or None where every token is to look at every earlier one.

    The latter takes about tokens x DH multiplications a token; chunks take CHUNK x DH, and 2 DH^2 for the
    memory.
    """
    return np.int64(CHUNK) if tokens > max(256, 2 * CHUNK + 2 * width) else None


@inner_kernel
def _scaled(x: Any, first: int, tokens: int, width: int, scales: Any, y: Any) -> None:
    """y (tokens, DH) = x (from token ``first`` on) times the token's scale."""
    for t in range(tokens):
        source, target, scale = x[(first + t) * width : (first + t + 1) * width], y[t * width :], scales[t]
        for e in range(width):
            target[e] = scale * source[e]


@inner_kernel
def _add_outer(x: Any, y: Any, first: int, tokens: int, width: int, memory: Any) -> None:
    """memory[:DH] += x^T y: x (tokens, DH), y from token ``first`` on."""
    for d in range(0, width, ROWS):
        add_product(x[d:], UNIT, width, y[first * width :], width, memory[d * width :], width, width, tokens)


@inner_kernel
def _add_rows(x: Any, matrix: Any, first: int, tokens: int, width: int, y: Any) -> None:
    """y (from token ``first`` on) += x (tokens, DH) times matrix (DH, DH), in whole rows of 8 tokens."""
    for t in range(0, tokens, ROWS):
        add_product(x[t * width :], width, UNIT, matrix, width, y[(first + t) * width :], width, width, width)


@inner_kernel
def _remember(
    k: Any,
    v: Any,
    a: Any,
    most: Any,
    first: int,
    tokens: int,
    width: int,
    scales: Any,
    work: Any,
    memory: Any,
) -> None:
    """Bring a memory over a chunk: from M of the token before it to that of its last."""
    top = most[first + tokens - 1]
    if first:
        decay = exp(np.float32(most[first - 1] - top))
        for place in range((width + 1) * width):
            memory[place] *= decay
    factor = np.float32(1 / math.sqrt(width))
    for t in range(tokens):
        scales[t] = factor * exp(np.float32(a[first + t] - top))
    _scaled(k, first, tokens, width, scales, work)
    _add_outer(work, v, first, tokens, width, memory)
    n = memory[width * width :]
    for t in range(tokens):
        source = work[t * width : (t + 1) * width]
        for d in range(width):
            n[d] += source[d]


@inner_kernel
def _shares(most: Any, first: int, tokens: int, scales: Any) -> None:
    """g_t of a chunk's tokens."""
    for t in range(tokens):
        scales[t] = exp(np.float32(most[first - 1] - most[first + t]))


@inner_kernel
def _dot(x: Any, y: Any, width: int) -> Any:
    total = _ZERO
    for e in range(width):
        total += x[e] * y[e]
    return total


@inner_kernel
def _add_and_dot(part: Any, row: Any, share: Any, x: Any, y: Any, width: int) -> Any:
    """y (DH,) += part + share times row; return x times what was added, summed."""
    total: Any = 0.0
    for e in range(width):
        added = part[e] + share * row[e]
        y[e] += added
        total += np.float64(x[e] * added)
    return total


@inner_kernel
def read_head_chunks(
    q: Any, k: Any, v: Any, a: Any, most: Any, scale: Any, tokens: int, width: int, norms: Any, h: Any
) -> None:
    """q, k, v (P, DH) -> norms N_t (T,), h (P, DH)."""
    padded = len(q) // width
    memory = np.zeros((width + 1) * width, np.float32)
    kT, work = np.empty(CHUNK * width, np.float32), np.zeros(CHUNK * width, np.float32)
    strip, scales = np.empty(ROWS * CHUNK, np.float32), np.empty(CHUNK, np.float32)
    for first in range(0, tokens, CHUNK):
        count, filled = min(CHUNK, tokens - first), min(CHUNK, padded - first)
        here = slice(first * width, (first + filled) * width)
        own = h[here]
        transpose(k[here], kT, filled, width)
        sum_head(
            q[here],
            kT,
            v[here],
            a[first:],
            most[first:],
            count,
            strip[: ROWS * filled],
            norms[first:],
            own,
        )
        if first:
            _shares(most, first, count, scales)
            _scaled(q, first, count, width, scales, work)
            work[count * width :] = _ZERO
            _add_rows(work, memory, 0, count, width, own)
            n = memory[width * width :]
            for t in range(count):
                norms[first + t] += _dot(work[t * width :], n, width)
        divide_by_normaliser(norms[first:], scale[first:], count, width, own)
        _remember(k, v, a, most, first, count, width, scales, work, memory)


@inner_kernel
def read_head_chunks_backward(
    q: Any,
    k: Any,
    v: Any,
    a: Any,
    most: Any,
    peak: Any,
    tokens: int,
    width: int,
    dnum: Any,
    dnorms: Any,
    dscale: Any,
    dq: Any,
    dk: Any,
    dv: Any,
    da: Any,
) -> None:
    """Gradients of a head, as :func:`.mlstm_head.read_head_backward` has them."""
    padded = len(q) // width
    size, chunks = (width + 1) * width, (tokens + CHUNK - 1) // CHUNK
    memories = np.zeros((chunks, size), np.float32)  # before each chunk
    dmemory, turned = np.zeros(size, np.float32), np.empty(width * width, np.float32)
    kT, vT = np.empty(CHUNK * width, np.float32), np.empty(CHUNK * width, np.float32)
    work = np.empty(CHUNK * width, np.float32)
    weights, dscores = np.empty(BLOCK * CHUNK, np.float32), np.empty(BLOCK * CHUNK, np.float32)
    scales, part = np.empty(CHUNK, np.float32), np.empty(CHUNK * width, np.float32)
    own_da, own_peak = np.empty(CHUNK + 1, np.float64), np.empty(CHUNK, np.int64)
    for number in range(1, chunks):
        put(memories[number - 1], memories[number])
        _remember(k, v, a, most, (number - 1) * CHUNK, CHUNK, width, scales, work, memories[number])
    factor = np.float32(1 / math.sqrt(width))
    da[:] = 0.0
    for number in range(chunks - 1, -1, -1):
        first = number * CHUNK
        count, filled = min(CHUNK, tokens - first), min(CHUNK, padded - first)
        here = slice(first * width, (first + filled) * width)
        transpose(k[here], kT, filled, width)
        transpose(v[here], vT, filled, width)
        # Where no token of the chunk has raised M, it is reached where it was before: one place for all such.
        for t in range(count):
            own_peak[t] = peak[first + t] - first if peak[first + t] >= first else count
        read_head_backward(
            q[here],
            k[here],
            kT,
            vT,
            a[first:],
            most[first:],
            own_peak,
            count,
            dnum[here],
            dnorms[first:],
            dscale[first:],
            weights[: BLOCK * filled],
            dscores[: BLOCK * filled],
            dq[here],
            dk[here],
            dv[here],
            own_da[: count + 1],
        )
        for t in range(count):
            da[first + t] += own_da[t]
        if number + 1 < chunks:  # what later chunks read of this one
            top = most[first + count - 1]
            for t in range(count):
                scales[t] = factor * exp(np.float32(a[first + t] - top))
            _scaled(k, first, count, width, scales, work)
            _add_rows(work, dmemory, first, count, width, dv)
            _scaled(v, first, count, width, scales, work)
            transpose_square(dmemory, turned, width)
            part[:] = _ZERO
            _add_rows(work, turned, 0, count, width, part)
            dn = dmemory[width * width :]
            for t in range(count):
                at = (first + t) * width
                da[first + t] += _add_and_dot(part[t * width :], dn, scales[t], k[at:], dk[at:], width)
        if number:  # what it reads of earlier ones
            da[peak[first - 1]] += own_da[count]
            memory = memories[number]
            _shares(most, first, count, scales)
            _scaled(dnum, first, count, width, scales, work)
            work[count * width :] = _ZERO
            transpose_square(memory, turned, width)
            part[:] = _ZERO
            _add_rows(work, turned, 0, count, width, part)
            n = memory[width * width :]
            for t in range(count):
                at, share = (first + t) * width, scales[t] * dnorms[first + t]
                da[peak[first + t]] -= _add_and_dot(part[t * width :], n, share, q[at:], dq[at:], width)
            decay = exp(np.float32(most[first - 1] - most[first + count - 1]))
            for place in range(size):
                dmemory[place] *= decay
            _scaled(q, first, count, width, scales, work)
            _add_outer(work, dnum, first, count, width, dmemory)
            dn = dmemory[width * width :]
            for t in range(count):
                source, share = work[t * width : (t + 1) * width], dnorms[first + t]
                for d in range(width):
                    dn[d] += share * source[d]


@inner_kernel
def transpose_square(x: Any, y: Any, width: int) -> None:
    """x (DH, DH) -> y, its transpose."""
    for d in range(width):
        source, target = x[d * width : (d + 1) * width], y[d:]
        for e in range(width):
            target[e * width] = source[e]
