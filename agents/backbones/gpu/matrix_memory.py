# mypy: disable-error-code="no-untyped-def"
# Triton compiles no function whose arguments have types.
"""The matrix memory of the parts: the next tokens of every head, its matrix read once and written once.

The same recurrence as :func:`lram.agents.backbones.parts.matrix_memory.plain.advance`, token by token. A
program has some columns of one head's matrix in registers; a token that is not there changes nothing.

Shapes: see :mod:`lram.agents.backbones.parts.matrix_memory`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_COLUMNS = 32
"""Of a program."""


def advance(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    state: Tensor,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return o (B, k, H, N), float32, and the state after the valid tokens, which is written to."""
    rows, heads, M, N = state.shape
    corrected = a is not None and b is not None
    assert state.is_contiguous()
    q, k, v, log_decay = (one.float().contiguous() for one in (q, k, v, log_decay))
    a, b = (one.float().contiguous() if one is not None and corrected else q for one in (a, b))
    tokens, out = v.shape[1], torch.empty(v.shape, device=v.device)
    there = q if valid is None else valid.contiguous().view(torch.int8)
    _advance[(rows * heads, triton.cdiv(N, _COLUMNS))](
        *(q, k, v, log_decay, a, b, state, there, out),
        *(heads, q.shape[2], tokens, M, N),
        ONE_DECAY=log_decay.shape[-1] == 1,
        CORRECTED=corrected,
        MASKED=valid is not None,
        WIDTH=triton.next_power_of_2(M),
        COLUMNS=_COLUMNS,
    )
    return out, state


@triton.jit  # type: ignore[untyped-decorator]
def _advance(
    q,
    k,
    v,
    log_decay,
    a,
    b,
    state,
    there,
    out,
    heads,
    key_heads,
    tokens,
    M,
    N,
    ONE_DECAY: tl.constexpr,
    CORRECTED: tl.constexpr,
    MASKED: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row, head = tl.program_id(0) // heads, tl.program_id(0) % heads
    key_head = head // (heads // key_heads)
    place, column = tl.arange(0, WIDTH), tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    here, inside = place < M, column < N
    matrix = state + (tl.program_id(0) * M + place[:, None]) * N + column[None, :]
    S = tl.load(matrix, mask=here[:, None] & inside[None, :], other=0.0)
    for token in range(tokens):
        of_key = ((row * tokens + token) * key_heads + key_head) * M + place
        of_head = (row * tokens + token) * heads + head
        if ONE_DECAY:
            decay = tl.zeros((WIDTH,), tl.float32) + tl.load(log_decay + of_head)
        else:
            decay = tl.load(log_decay + of_head * M + place, mask=here, other=0.0)
        key = tl.load(k + of_key, mask=here, other=0.0)
        value = tl.load(v + of_head * N + column, mask=inside, other=0.0)
        new = tl.exp(decay)[:, None] * S + key[:, None] * value[None, :]
        if CORRECTED:
            asked = tl.load(a + of_key, mask=here, other=0.0)
            held = tl.sum(asked[:, None] * S, axis=0)
            new += tl.load(b + of_head * M + place, mask=here, other=0.0)[:, None] * held[None, :]
        query = tl.load(q + of_key, mask=here, other=0.0)
        tl.store(out + of_head * N + column, tl.sum(query[:, None] * new, axis=0), mask=inside)
        if MASKED:
            new = tl.where(tl.load(there + row * tokens + token) != 0, new, S)
        S = new
    tl.store(matrix, S, mask=here[:, None] & inside[None, :])
