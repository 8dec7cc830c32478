# mypy: disable-error-code="no-untyped-def"
# Triton compiles no function whose arguments have types.
"""The matrix memory of an mLSTM: the next tokens of every head, its matrix read once and written once.

The same formula as ``read_chunk`` of :mod:`lram.agents.backbones.xlstm.mlstm`. A program has some columns of
one head's matrix. Tokens that are not there have an input gate of 0 and a forget gate of 1, as masked ones.

Shapes: B rows, NH heads, T tokens, DH width of a head.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lram.agents.backbones.gpu import MOST_TOKENS

_PART = 32
"""Columns of a program, and rows of the matrix that it reads at once."""


def read_chunk(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, log_f: Tensor, memory: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Read T <= 16 tokens; float32 throughout.

    Args:
        q, k, v: (B, NH, T, DH) in any order in memory; k is scaled already.
        i, log_f: Input gate and logarithm of the forget gate (B, NH, T).
        memory: C (B, NH, DH, DH), which is written to, n (B, NH, DH), m (B, NH).

    Returns:
        h (B, NH, T, DH), and the new memory.
    """
    C, n, m = memory
    rows, heads, tokens, width = q.shape
    h, n_new, m_new = torch.empty(q.shape, device=q.device), torch.empty_like(n), torch.empty_like(m)
    i, log_f = i.contiguous(), log_f.contiguous()
    assert C.is_contiguous()
    _read[(rows * heads, triton.cdiv(width, _PART))](
        *(q, k, v, i, log_f, C, n.contiguous(), m.contiguous(), h, n_new, m_new),
        *(*q.stride(), *k.stride(), *v.stride()),
        heads,
        tokens,
        width,
        T=MOST_TOKENS,
        PART=_PART,
    )
    return h, (C, n_new, m_new)


@triton.jit  # type: ignore[untyped-decorator]
def _read(
    q,
    k,
    v,
    i,
    log_f,
    C,
    n,
    m,
    h,
    n_new,
    m_new,
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
    heads,
    tokens,
    width,
    T: tl.constexpr,
    PART: tl.constexpr,
):
    head = tl.program_id(0)  # of all rows
    first = tl.program_id(1) == 0
    row, own = head // heads, head % heads
    token, column = tl.arange(0, T), tl.program_id(1) * PART + tl.arange(0, PART)
    there, inside = token < tokens, column < width
    gate = tl.load(i + head * tokens + token, mask=there, other=float("-inf"))
    f_sum = tl.cumsum(tl.load(log_f + head * tokens + token, mask=there, other=0.0), axis=0)
    m_old = tl.load(m + head)

    # log of the weight of token s (second) at token t (first)
    log_d = f_sum[:, None] - f_sum[None, :] + gate[None, :]
    log_d = tl.where(token[None, :] <= token[:, None], log_d, float("-inf"))
    scale = tl.maximum(tl.max(log_d, axis=1), f_sum + m_old)
    weight, past = tl.exp(log_d - scale[:, None]), tl.exp(f_sum + m_old - scale)
    # Tokens beyond the last change nothing, so the last of the block has what the last token has.
    last = token == T - 1
    kept = tl.sum(tl.where(last, past, 0.0), axis=0)
    added = tl.sum(tl.where(last[:, None], weight, 0.0), axis=0)

    both = there[:, None] & inside[None, :]
    values = tl.load(
        v + row * v_row + own * v_head + token[:, None] * v_token + column[None, :] * v_place,
        mask=both,
        other=0.0,
    )
    scores = tl.zeros((T, T), tl.float32)
    of_norm = tl.zeros((T,), tl.float32)
    of_matrix = tl.zeros((T, PART), tl.float32)
    for start in range(0, width, PART):
        place = start + tl.arange(0, PART)
        here = place < width
        mask = there[:, None] & here[None, :]
        of_q = q + row * q_row + own * q_head + token[:, None] * q_token + place[None, :] * q_place
        of_k = k + row * k_row + own * k_head + token[:, None] * k_token + place[None, :] * k_place
        query, key = tl.load(of_q, mask=mask, other=0.0), tl.load(of_k, mask=mask, other=0.0)
        norm = tl.load(n + head * width + place, mask=here, other=0.0)
        scores += tl.dot(query, tl.trans(key), input_precision="ieee")
        of_norm += tl.sum(query * norm[None, :], axis=1)
        matrix = C + (head * width + place[:, None]) * width + column[None, :]
        held = here[:, None] & inside[None, :]
        old = tl.load(matrix, mask=held, other=0.0)
        of_matrix += tl.dot(query, old, input_precision="ieee")
        key = key * added[:, None]
        tl.store(matrix, kept * old + tl.dot(tl.trans(key), values, input_precision="ieee"), mask=held)
        if first:
            tl.store(n_new + head * width + place, kept * norm + tl.sum(key, axis=0), mask=here)
    scores = scores * weight
    normalizer = tl.sum(scores, axis=1) + past * of_norm
    result = tl.dot(scores, values, input_precision="ieee") + past[:, None] * of_matrix
    result = result / (tl.maximum(tl.abs(normalizer), tl.exp(-scale)) + 1e-6)[:, None]
    tl.store(h + (head * tokens + token[:, None]) * width + column[None, :], result, mask=both)
    if first:
        tl.store(m_new + head, tl.sum(tl.where(last, scale, 0.0), axis=0))
