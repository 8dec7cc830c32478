# mypy: disable-error-code="no-untyped-def"
# Triton compiles no function whose arguments have types.
"""The gradients of :mod:`lram.agents.backbones.gpu.mlstm_sequence`: kernels of its backward pass.

Shapes: B rows, S tokens, NH heads, DH width of a head, F = NH x DH.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lram.agents.backbones.gpu.mlstm_tiles import block, by_state, part_of, products, tile_of, weights


@triton.jit  # type: ignore[untyped-decorator]
def state_gradients(
    q,
    dnum,
    dnorm,
    c,
    m,
    dstates,
    dnorms,
    heads,
    tokens,
    width,
    scale,
    chunk,
    PRECISION: tl.constexpr,
    T: tl.constexpr,
    PART: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write those of the states between chunks, dstates and dnorms; a program has a part of one head's."""
    head, first, vector, of_key, of_value, both = part_of(heads, tokens, width, COLUMNS)
    dC, dn = tl.zeros((COLUMNS, COLUMNS), tl.float32), tl.zeros((COLUMNS,), tl.float32)
    kept = (tokens - 1) // chunk
    for back in range(kept):
        number = kept - back
        start = number * chunk
        before = tl.load(m + vector + start - 1)
        if back > 0:
            decay = tl.exp(before - tl.load(c + vector + start + chunk - 1))
            dC, dn = dC * decay, dn * decay
        for tile in range(0, chunk, T):
            token = start + tile + tl.arange(0, T)
            there = token < tokens
            past = tl.exp(before - tl.load(c + vector + token, mask=there, other=float("inf")))
            query = block(q, first, token, of_key, tokens, width, heads)
            slope = block(dnum, first, token, of_value, tokens, width, heads)
            weighted = query * past[:, None]
            dn += tl.sum(weighted * tl.load(dnorm + vector + token, mask=there, other=0.0)[:, None], axis=0)
            dC += tl.dot(tl.trans(weighted), slope, input_precision=PRECISION)
        place = (head * kept + number - 1) * width + of_key
        tl.store(dstates + place[:, None] * width + of_value[None, :], dC, mask=both)
        if tl.program_id(2) == 0:
            tl.store(dnorms + place, dn, mask=of_key < width)


@triton.jit  # type: ignore[untyped-decorator]
def key_gradients(
    q,
    k,
    v,
    dnum,
    dnorm,
    a,
    c,
    dstates,
    dnorms,
    dk,
    dv,
    heads,
    tokens,
    width,
    scale,
    chunk,
    PRECISION: tl.constexpr,
    T: tl.constexpr,
    PART: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write those of keys and values, dk and dv, at some tokens of a head."""
    begin, head, first, vector, token, column = tile_of(heads, tokens, width, T, COLUMNS)
    number, kept = begin // chunk, (tokens - 1) // chunk
    of_key, of_value = tl.zeros((T, COLUMNS), tl.float32), tl.zeros((T, COLUMNS), tl.float32)
    for start in range(begin, tl.minimum((number + 1) * chunk, tokens), T):
        later = start + tl.arange(0, T)
        weight = weights(a, c, vector, later, token, tokens) * scale
        scores = products(q, k, first, later, token, tokens, width, heads, PRECISION, T, PART) * weight
        slopes = products(dnum, v, first, later, token, tokens, width, heads, PRECISION, T, PART)
        slopes += tl.load(dnorm + vector + later, mask=later < tokens, other=0.0)[:, None]
        slopes = slopes * weight
        query = block(q, first, later, column, tokens, width, heads)
        slope = block(dnum, first, later, column, tokens, width, heads)
        of_key += tl.dot(tl.trans(slopes), query, input_precision=PRECISION)
        of_value += tl.dot(tl.trans(scores), slope, input_precision=PRECISION)
    there, inside = token < tokens, column < width
    if number < kept:  # the memory after this chunk, which is whole
        last = tl.load(c + vector + (number + 1) * chunk - 1)
        weight = tl.exp(tl.load(a + vector + token) - last) * scale
        after = (head * kept + number) * width
        to_value = by_state(
            k, dstates, first, token, after, column, tokens, width, heads, False, PRECISION, T, PART, COLUMNS
        )
        to_key = by_state(
            v, dstates, first, token, after, column, tokens, width, heads, True, PRECISION, T, PART, COLUMNS
        )
        to_key += tl.load(dnorms + after + column, mask=inside, other=0.0)[None, :]
        of_key += weight[:, None] * to_key
        of_value += weight[:, None] * to_value
    target = first + token[:, None] * heads * width + column[None, :]
    tl.store(dk + target, of_key, mask=there[:, None] & inside[None, :])
    tl.store(dv + target, of_value, mask=there[:, None] & inside[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def query_gradients(
    k,
    v,
    dnum,
    dnorm,
    a,
    c,
    m,
    states,
    norms,
    dq,
    heads,
    tokens,
    width,
    scale,
    chunk,
    PRECISION: tl.constexpr,
    T: tl.constexpr,
    PART: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write those of queries, dq, at some tokens of a head."""
    begin, head, first, vector, token, column = tile_of(heads, tokens, width, T, COLUMNS)
    number = begin // chunk
    there, inside = token < tokens, column < width
    of_norm = tl.load(dnorm + vector + token, mask=there, other=0.0)
    of_query = tl.zeros((T, COLUMNS), tl.float32)
    for start in range(number * chunk, begin + 1, T):
        other = start + tl.arange(0, T)
        slopes = products(dnum, v, first, token, other, tokens, width, heads, PRECISION, T, PART)
        slopes = (slopes + of_norm[:, None]) * weights(a, c, vector, token, other, tokens) * scale
        key = block(k, first, other, column, tokens, width, heads)
        of_query += tl.dot(slopes, key, input_precision=PRECISION)
    if number > 0:
        at = tl.load(c + vector + token, mask=there, other=float("inf"))
        past = tl.exp(tl.load(m + vector + number * chunk - 1) - at)
        before = (head * ((tokens - 1) // chunk) + number - 1) * width
        of_state = by_state(
            dnum,
            states,
            first,
            token,
            before,
            column,
            tokens,
            width,
            heads,
            True,
            PRECISION,
            T,
            PART,
            COLUMNS,
        )
        n = tl.load(norms + before + column, mask=inside, other=0.0)
        of_query += past[:, None] * (of_state + of_norm[:, None] * n[None, :])
    target = first + token[:, None] * heads * width + column[None, :]
    tl.store(dq + target, of_query, mask=there[:, None] & inside[None, :])
