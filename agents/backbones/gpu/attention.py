# mypy: disable-error-code="no-untyped-def"
# Triton compiles no function whose arguments have types.
"""Attention to a cache: the next tokens of a row and head, and the slots that the row has in use.

The same as ``cached_attention`` of :mod:`lram.agents.backbones.transformer.cache`, full cache and ring. The
slots of a row and head are divided among programs where these are few (as in Flash-Decoding, Dao et al.
2023); a second kernel then puts their parts together. The first program reads the new tokens themselves, and
writes them into their slots: what others find there meanwhile is of tokens that no new one sees.

Shapes: B rows, k tokens, NH heads, KH heads of keys and values, DH width of a head.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from lram.agents.backbones.gpu import MOST_TOKENS

_SLOTS = 64
"""That a program reads at once; of wide heads, half as many."""

STAGES = 2
"""Parts of a cache on their way at once: with Triton's own three, heads of 256 have no room in any GPU."""

_PROGRAMS = 512
"""About as many as keep a large GPU busy."""


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    position: Tensor,
    valid: Tensor,
    count: Tensor,
    band: int | None,
) -> Tensor:
    """Read k <= 16 tokens.

    Args:
        q: Queries (B, NH, k, DH), in any order in memory.
        k, v: Keys and values of the new tokens (B, KH, k, DH), likewise.
        keys, values: The cache (B, KH, slots, DH), float32, which is written to; of one layout.
        position: Of each new token (B, k), int64.
        valid: (B, k).
        count: Tokens of each row, the valid new ones included (B,), int64.
        band: A token sees itself and the ``band - 1`` before it; None: all before it.

    Returns:
        (B, NH, k, DH) of the type of ``q``.
    """
    rows, heads, tokens, width = q.shape
    slots, lanes = keys.shape[2], rows * heads
    assert keys.stride() == values.stride()
    out = torch.empty(rows, tokens, heads, width, dtype=q.dtype, device=q.device).transpose(1, 2)
    parts = triton.next_power_of_2(max(1, min(_PROGRAMS // lanes, slots // (2 * _SLOTS))))
    seen = torch.empty(lanes, parts, 2, tokens, device=q.device) if parts > 1 else out
    read = torch.empty(lanes, parts, tokens, width, device=q.device) if parts > 1 else out
    WIDTH = max(16, triton.next_power_of_2(width))
    at_once = slots_at_once(WIDTH)
    _attend[(lanes, parts)](
        *(q, k, v, keys, values, position.contiguous(), valid.contiguous().view(torch.int8), count),
        *(out, seen, read),
        *(*q.stride(), *k.stride(), *v.stride(), *keys.stride(), *out.stride()),
        *(heads, heads // k.shape[1], tokens, slots, width, band or 0, 1 / math.sqrt(width)),
        BANDED=band is not None,
        PARTS=parts,
        # Numbers of bfloat16 lose nothing in TF32, and keys and values less than in bfloat16.
        PRECISION="tf32" if q.dtype == torch.bfloat16 else "ieee",
        T=MOST_TOKENS,
        WIDTH=WIDTH,
        SLOTS=at_once,
        num_stages=STAGES,
    )
    if parts > 1:
        _combine[(lanes, tokens)](
            *(seen, read, out, *out.stride(), heads, tokens, width), PARTS=parts, WIDTH=WIDTH
        )
    return out


def slots_at_once(width: int) -> int:
    """Return the slots that a program reads at once, of heads of ``width``."""
    return _SLOTS if width <= 64 else _SLOTS // 2


@triton.jit  # type: ignore[untyped-decorator]
def _attend(
    q,
    k,
    v,
    keys,
    values,
    position,
    there,
    count,
    out,
    seen,
    read,
    q_row,
    q_head,
    q_token,
    q_place,
    k_row,
    k_head,
    k_token,
    k_place,
    v_row,
    v_head,
    v_token,
    v_place,
    cache_row,
    cache_head,
    cache_slot,
    cache_place,
    out_row,
    out_head,
    out_token,
    out_place,
    heads,
    group,
    tokens,
    slots,
    width,
    band,
    scale,
    BANDED: tl.constexpr,
    PARTS: tl.constexpr,
    PRECISION: tl.constexpr,
    T: tl.constexpr,
    WIDTH: tl.constexpr,
    SLOTS: tl.constexpr,
):
    lane, part = tl.program_id(0), tl.program_id(1)
    row, head = (lane // heads).to(tl.int64), lane % heads
    key_head = head // group
    token, place = tl.arange(0, T), tl.arange(0, WIDTH)
    here, inside = token < tokens, place < width
    both = here[:, None] & inside[None, :]
    own = key_head * cache_head + row * cache_row + place[None, :] * cache_place
    of_q = q + row * q_row + head * q_head + token[:, None] * q_token + place[None, :] * q_place
    query = tl.load(of_q, mask=both, other=0.0).to(tl.float32) * scale
    at = tl.load(position + row * tokens + token, mask=here, other=0).to(tl.int32)
    valid = tl.load(there + row * tokens + token, mask=here, other=0) != 0
    before = tl.load(count + row).to(tl.int32) - tl.sum(valid.to(tl.int32), axis=0)

    most = tl.full((T,), float("-inf"), tl.float32)
    total = tl.zeros((T,), tl.float32)
    y = tl.zeros((T, WIDTH), tl.float32)
    if part == 0:
        of_k = k + row * k_row + key_head * k_head + token[:, None] * k_token + place[None, :] * k_place
        of_v = v + row * v_row + key_head * v_head + token[:, None] * v_token + place[None, :] * v_place
        key = tl.load(of_k, mask=both, other=0.0).to(tl.float32)
        value = tl.load(of_v, mask=both, other=0.0).to(tl.float32)
        # A masked token sees itself beside what it would see, so that its output is finite.
        visible = valid[None, :] & (at[None, :] <= at[:, None])
        if BANDED:
            visible = visible & (at[:, None] - at[None, :] < band)
        visible = (visible | (token[:, None] == token[None, :])) & here[None, :]
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION)
        scores = tl.where(visible, scores, float("-inf"))
        most = tl.max(scores, axis=1)
        most = tl.where(here, most, 0.0)
        weight = tl.exp(scores - most[:, None])
        total = tl.sum(weight, axis=1)
        y = tl.dot(weight, value, input_precision=PRECISION)
        if head % group == 0:
            target = own + (at % slots)[:, None] * cache_slot
            tl.store(keys + target, key, mask=both & valid[:, None])
            tl.store(values + target, value, mask=both & valid[:, None])

    used = tl.minimum(before, slots)
    share = tl.cdiv(tl.cdiv(used, PARTS), SLOTS) * SLOTS
    first = part * share
    for start in range(first, tl.minimum(first + share, used), SLOTS):
        slot = start + tl.arange(0, SLOTS)
        held = before - 1 - (before - 1 - slot + slots) % slots  # the position whose key a slot has
        some = (slot < used)[:, None] & inside[None, :]
        at_slot = own + slot[:, None].to(tl.int64) * cache_slot
        key = tl.load(keys + at_slot, mask=some, other=0.0)
        value = tl.load(values + at_slot, mask=some, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION)
        visible = (slot < used)[None, :] & (held >= 0)[None, :]
        if BANDED:
            visible = visible & (at[:, None] - held[None, :] < band)
        scores = tl.where(visible, scores, float("-inf"))
        above = tl.maximum(most, tl.max(scores, axis=1))
        safe = tl.where(above == float("-inf"), 0.0, above)
        weight, kept = tl.exp(scores - safe[:, None]), tl.exp(most - safe)
        total = kept * total + tl.sum(weight, axis=1)
        y = kept[:, None] * y + tl.dot(weight, value, input_precision=PRECISION)
        most = above

    if PARTS == 1:
        of_out = row * out_row + head * out_head + token[:, None] * out_token + place[None, :] * out_place
        tl.store(out + of_out, y / total[:, None], mask=both)
    else:
        own_part = lane * PARTS + part
        tl.store(seen + own_part * 2 * tokens + token, most, mask=here)
        tl.store(seen + (own_part * 2 + 1) * tokens + token, total, mask=here)
        tl.store(read + (own_part * tokens + token[:, None]) * width + place[None, :], y, mask=both)


@triton.jit  # type: ignore[untyped-decorator]
def _combine(
    seen,
    read,
    out,
    out_row,
    out_head,
    out_token,
    out_place,
    heads,
    tokens,
    width,
    PARTS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    lane, token = tl.program_id(0), tl.program_id(1)
    part, place = tl.arange(0, PARTS), tl.arange(0, WIDTH)
    inside = place < width
    of_part = (lane * PARTS + part) * 2 * tokens + token
    most, total = tl.load(seen + of_part), tl.load(seen + of_part + tokens)
    weight = tl.exp(most - tl.max(most, axis=0))  # the first part has seen the token itself
    of_read = ((lane * PARTS + part[:, None]) * tokens + token) * width + place[None, :]
    parts = tl.load(read + of_read, mask=inside[None, :], other=0.0)
    y = tl.sum(weight[:, None] * parts, axis=0) / tl.sum(weight * total, axis=0)
    of_out = (lane // heads) * out_row + (lane % heads) * out_head + token * out_token + place * out_place
    tl.store(out + of_out, y, mask=inside)
