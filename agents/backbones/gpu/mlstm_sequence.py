# mypy: disable-error-code="no-untyped-def"
# Triton compiles no function whose arguments have types.
"""The matrix memory of an mLSTM over whole sequences, with gradients.

The same formula as ``read_chunk`` of :mod:`lram.agents.backbones.xlstm.mlstm`. A sequence is cut into chunks
of ``CHUNK`` tokens. Within one, a program has some tokens and goes through tiles of others, so that weights
of pairs never come to lie in memory; between chunks the memory is carried, and kept for the backward pass.
Most training sequences are one chunk: until it is about twice as long as a head is wide, half a chunk of
others is less work for a token than a matrix that it reads and writes.

What is one number a token stays in PyTorch, in float64: the sums of the logarithms of forget gates, the
largest log weight m, and their gradients, for which those of queries and keys suffice: the gradients of log
weights, added up over keys and over queries, are q dq and k dk.

Queries, keys and values are read as they are, float32 or bfloat16; of the latter, products are made as TF32,
which loses nothing of them. Sums, states and gates are float32 at least.

Shapes: B rows, S tokens, NH heads, DH width of a head, F = NH x DH.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from lram.agents.backbones.gpu.mlstm_gradients import key_gradients, query_gradients, state_gradients
from lram.agents.backbones.gpu.mlstm_tiles import block, part_of, products, tile_of, weights

CHUNK = 512
"""Tokens of a chunk; a multiple of ``TILE``."""

TILE = 64
"""Tokens that a program has, and that it meets at once."""

PART = 32
"""Numbers of a head that it multiplies at once."""

COLUMNS = 64
"""Numbers of a head that it gives."""

_EPS = 1e-6
STAGES = 2
"""Of loads that run ahead of what computes."""


def read(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
    """Read sequences from an empty memory.

    Args:
        q, k, v: (B, S, F), of one type, float32 or bfloat16; k is not scaled.
        i, f: Input and forget gates before their exponential and sigmoid (B, NH, S).

    Returns:
        h (B, S, F), float32.
    """
    i, log_f = i.double().contiguous(), F.logsigmoid(f.double().contiguous()).cumsum(dim=-1)
    m = log_f + (i - log_f).cummax(dim=-1).values
    h: Tensor = _Read.apply(q, k, v, i, log_f, m)  # type: ignore[no-untyped-call]
    return h


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, i: Tensor, log_f: Tensor, m: Tensor) -> Tensor:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        # A token s has the weight e^(a_s - c_t) at t of its chunk: both are from the chunk's beginning on.
        tokens = log_f.shape[-1]
        starts = F.pad(log_f[..., CHUNK - 1 : tokens - 1 : CHUNK], (1, 0))
        starts = starts.repeat_interleave(CHUNK, dim=-1)[..., :tokens]
        a, c = ((one - log_f + starts).float().contiguous() for one in (i, m))
        sizes = _Sizes(q, a)
        states, norms = sizes.states(), sizes.states(1)
        if sizes.kept:
            _states[sizes.of_states](k, v, a, c, m.float(), states, norms, **sizes.given)
        h, normalizer = torch.empty_like(q, dtype=torch.float32), torch.empty_like(a)
        _read_tiles[sizes.of_tokens](
            *(q, k, v, a, c, m.float(), states, norms, h, normalizer),
            **sizes.given,
        )
        ctx.save_for_backward(q, k, v, a, c, m, states, norms, h, normalizer)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor, ...]:
        q, k, v, a, c, m, states, norms, h, normalizer = ctx.saved_tensors
        sizes = _Sizes(q, a)
        heads = a.shape[1]
        m_short, floor = m.float(), torch.exp(-m.float())
        divisor = torch.maximum(normalizer.abs(), floor) + _EPS
        slope = -_by_head(dh, h, heads) / divisor  # of the divisor
        dnorm = torch.where(normalizer.abs() >= floor, slope * normalizer.sign(), 0.0).contiguous()
        # A normaliser of a token is one of its head: (B, S, NH, 1).
        dnum = (_heads(dh, heads) / divisor.transpose(1, 2).unsqueeze(-1)).flatten(-2)
        dstates, dnorms = sizes.states(), sizes.states(1)
        if sizes.kept:
            state_gradients[sizes.of_states](q, dnum, dnorm, c, m_short, dstates, dnorms, **sizes.given)
        dq, dk, dv = (torch.empty_like(q, dtype=torch.float32) for _ in range(3))
        key_gradients[sizes.of_tokens](
            *(q, k, v, dnum, dnorm, a, c, dstates, dnorms, dk, dv),
            **sizes.given,
        )
        query_gradients[sizes.of_tokens](
            *(k, v, dnum, dnorm, a, c, m_short, states, norms, dq),
            **sizes.given,
        )
        of_keys = _by_head(k, dk, heads).double()
        dlog_f = _by_head(q, dq, heads).double() - of_keys
        # h = e^-m x / (e^-m y + EPS): m would change nothing but for EPS.
        return dq.to(q.dtype), dk.to(q.dtype), dv.to(q.dtype), of_keys, dlog_f, (slope * _EPS).double()


def _heads(x: Tensor, heads: int) -> Tensor:
    """(B, S, F) -> (B, S, NH, DH)."""
    return x.reshape(*x.shape[:-1], heads, -1)


def _by_head(x: Tensor, y: Tensor, heads: int) -> Tensor:
    """Two (B, S, F) -> their products, added up in each head: (B, NH, S)."""
    return _heads(x.float() * y, heads).sum(dim=-1).transpose(1, 2)


class _Sizes:
    """How many programs a kernel has, and what each reads."""

    def __init__(self, q: Tensor, a: Tensor) -> None:
        rows, heads, tokens = a.shape
        width = q.shape[-1] // heads
        columns = triton.cdiv(width, COLUMNS)
        self.kept = triton.cdiv(tokens, CHUNK) - 1
        self.of_tokens = (triton.cdiv(tokens, TILE), rows * heads, columns)
        self.of_states = (rows * heads, columns, columns)
        self.given: dict[str, Any] = {
            "heads": heads,
            "tokens": tokens,
            "width": width,
            "scale": width**-0.5,
            "chunk": CHUNK,
            # Numbers of bfloat16 lose nothing in TF32, and weights and states less than in bfloat16.
            "PRECISION": "tf32" if q.dtype == torch.bfloat16 else "ieee",
            "T": TILE,
            "PART": PART,
            "COLUMNS": COLUMNS,
            "num_stages": STAGES,
        }
        self._make = a.new_empty
        self._shape = rows * heads, self.kept, width

    def states(self, columns: int | None = None) -> Tensor:
        """Return memory for the states between chunks: (B NH, chunks - 1, DH, DH or ``columns``)."""
        return self._make(*self._shape, self._shape[-1] if columns is None else columns)


@triton.jit  # type: ignore[untyped-decorator]
def _states(
    k,
    v,
    a,
    c,
    m,
    states,
    norms,
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
    head, first, vector, of_key, of_value, both = part_of(heads, tokens, width, COLUMNS)
    C, n = tl.zeros((COLUMNS, COLUMNS), tl.float32), tl.zeros((COLUMNS,), tl.float32)
    kept = (tokens - 1) // chunk
    for number in range(kept):
        start = number * chunk
        last = tl.load(c + vector + start + chunk - 1)
        if number > 0:
            decay = tl.exp(tl.load(m + vector + start - 1) - last)
            C, n = C * decay, n * decay
        for tile in range(0, chunk, T):
            token = start + tile + tl.arange(0, T)
            weight = tl.exp(tl.load(a + vector + token) - last) * scale
            key = block(k, first, token, of_key, tokens, width, heads)
            value = block(v, first, token, of_value, tokens, width, heads)
            weighted = key * weight[:, None]
            n += tl.sum(weighted, axis=0)
            C += tl.dot(tl.trans(weighted), value, input_precision=PRECISION)
        place = (head * kept + number) * width + of_key
        tl.store(states + place[:, None] * width + of_value[None, :], C, mask=both)
        if tl.program_id(2) == 0:
            tl.store(norms + place, n, mask=of_key < width)


@triton.jit  # type: ignore[untyped-decorator]
def _read_tiles(
    q,
    k,
    v,
    a,
    c,
    m,
    states,
    norms,
    h,
    normalizer,
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
    begin, head, first, vector, token, column = tile_of(heads, tokens, width, T, COLUMNS)
    number = begin // chunk
    y, norm = tl.zeros((T, COLUMNS), tl.float32), tl.zeros((T,), tl.float32)
    for start in range(number * chunk, begin + 1, T):
        other = start + tl.arange(0, T)
        scores = products(q, k, first, token, other, tokens, width, heads, PRECISION, T, PART)
        scores = scores * weights(a, c, vector, token, other, tokens) * scale
        norm += tl.sum(scores, axis=1)
        value = block(v, first, other, column, tokens, width, heads)
        y += tl.dot(scores, value, input_precision=PRECISION)
    there = token < tokens
    if number > 0:
        at = tl.load(c + vector + token, mask=there, other=float("inf"))
        past = tl.exp(tl.load(m + vector + number * chunk - 1) - at)
        before = (head * ((tokens - 1) // chunk) + number - 1) * width
        of_state, of_norm = tl.zeros((T, COLUMNS), tl.float32), tl.zeros((T,), tl.float32)
        for start in range(0, width, PART):
            place = start + tl.arange(0, PART)
            query = block(q, first, token, place, tokens, width, heads)
            inside = (place < width)[:, None] & (column < width)[None, :]
            at_state = (before + place)[:, None] * width + column[None, :]
            state = tl.load(states + at_state, mask=inside, other=0.0)
            of_state += tl.dot(query, state, input_precision=PRECISION)
            n = tl.load(norms + before + place, mask=place < width, other=0.0)
            of_norm += tl.sum(query * n[None, :], axis=1)
        y += past[:, None] * of_state
        norm += past * of_norm
    floor = tl.exp(-tl.load(m + vector + token, mask=there, other=0.0))
    y = y / (tl.maximum(tl.abs(norm), floor) + 1e-6)[:, None]
    both = there[:, None] & (column < width)[None, :]
    tl.store(h + first + token[:, None] * heads * width + column[None, :], y, mask=both)
    if tl.program_id(2) == 0:
        tl.store(normalizer + vector + token, norm, mask=there)
