# mypy: disable-error-code="no-untyped-def"
# Triton compiles no function whose arguments have types.
"""The scalar memory of an sLSTM: one kernel a token, for all rows and heads.

The same formula as ``SLSTMCell`` of :mod:`lram.agents.backbones.xlstm.slstm`. What a head gave for one token
goes into all of its gates of the next, so tokens follow each other as launches; a program has some channels
of a head and reads their rows of the recurrent matrix, whose type may be that of the weights.

Shapes: B rows, k tokens, D width, NH heads, DH width of a head.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lram.agents.backbones.gpu.functions import sigmoid, softplus, tanh

_ROWS, _CHANNELS, _PART = 16, 16, 64
"""Of a program: rows, channels, and numbers of the last output that it reads at once."""

Memory = tuple[Tensor, Tensor, Tensor, Tensor]


def read_tokens(
    gates: Tensor, matrix: Tensor, bias: Tensor, memory: Memory, valid: Tensor | None
) -> tuple[Tensor, Memory]:
    """Read k tokens.

    Args:
        gates: What the input gives to the gates i, f, z, o (B, k, 4, D).
        matrix: The recurrent one (NH, 4 DH, DH).
        bias: (4 D,): gate, head, channel.
        memory: y, c, n, m (B, D) each, float32; c, n and m are written to.
        valid: (B, k) or None.

    Returns:
        (B, k, D), float32, and the memory after the valid tokens.
    """
    rows, tokens, _, width = gates.shape
    heads, _, head_width = matrix.shape
    y, c, n, m = memory
    assert c.is_contiguous()
    assert n.is_contiguous()
    assert m.is_contiguous()
    gates, matrix = gates.contiguous(), matrix.contiguous()
    out = torch.empty(rows, tokens, width, device=gates.device)
    # What a token is given must not be written over while others of its programs read it.
    kept = [y.contiguous(), *torch.empty(tokens, rows, width, device=gates.device).unbind()]
    there = bias if valid is None else valid.contiguous().view(torch.int8)
    grid = (heads, triton.cdiv(head_width, _CHANNELS), triton.cdiv(rows, _ROWS))
    for token in range(tokens):
        _read_token[grid](
            *(gates, matrix, bias, kept[token], c, n, m, there, out, kept[token + 1]),
            *(rows, width, head_width, token, tokens),
            MASKED=valid is not None,
            ROWS=_ROWS,
            CHANNELS=_CHANNELS,
            PART=_PART,
        )
    return out, (kept[-1], c, n, m)


@triton.jit  # type: ignore[untyped-decorator]
def _recurrent(y, of_row, matrix, gate, width, present, inside, PART: tl.constexpr, PRECISION: tl.constexpr):
    """Add up what the last outputs of a head give to some channels of a gate."""
    place = tl.arange(0, PART)
    total = tl.zeros((of_row.shape[0], gate.shape[0]), tl.float32)
    for start in range(0, width, PART):
        part = start + place
        there = (part < width)[None, :]
        last = tl.load(y + of_row[:, None] + part[None, :], mask=present[:, None] & there, other=0.0)
        own = tl.load(matrix + gate[:, None] * width + part[None, :], mask=inside[:, None] & there, other=0.0)
        total += tl.dot(last, tl.trans(own.to(tl.float32)), input_precision=PRECISION)
    return total


@triton.jit  # type: ignore[untyped-decorator]
def gates_of(
    gates,
    given,
    both,
    bias,
    place,
    y,
    of_row,
    matrix,
    channel,
    head_width,
    width,
    present,
    inside,
    PART: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return the gates i, f, z, o of some rows and channels of a head, of the last outputs ``y``."""
    i = _recurrent(y, of_row, matrix, channel, head_width, present, inside, PART, PRECISION)
    i += tl.load(gates + given, mask=both, other=0.0).to(tl.float32)
    i += tl.load(bias + place, mask=inside, other=0.0).to(tl.float32)[None, :]
    f = _recurrent(y, of_row, matrix, head_width + channel, head_width, present, inside, PART, PRECISION)
    f += tl.load(gates + given + width, mask=both, other=0.0).to(tl.float32)
    f += tl.load(bias + width + place, mask=inside, other=0.0).to(tl.float32)[None, :]
    z = _recurrent(y, of_row, matrix, 2 * head_width + channel, head_width, present, inside, PART, PRECISION)
    z += tl.load(gates + given + 2 * width, mask=both, other=0.0).to(tl.float32)
    z += tl.load(bias + 2 * width + place, mask=inside, other=0.0).to(tl.float32)[None, :]
    o = _recurrent(y, of_row, matrix, 3 * head_width + channel, head_width, present, inside, PART, PRECISION)
    o += tl.load(gates + given + 3 * width, mask=both, other=0.0).to(tl.float32)
    o += tl.load(bias + 3 * width + place, mask=inside, other=0.0).to(tl.float32)[None, :]
    return i, f, z, o


@triton.jit
def next_memory(i, f, z, o, c, n, m):
    """Return what is read at a token, and the memory c, n, m after it."""
    log_f = m - softplus(-f)
    scale = tl.where(n == 0, i, tl.maximum(i, log_f))  # that of a fresh memory is its input gate
    i = tl.exp(tl.minimum(i - scale, 0.0))
    f = tl.exp(tl.minimum(log_f - scale, 0.0))
    c_next = f * c + i * tanh(z)
    n_next = f * n + i
    return sigmoid(o) * c_next / n_next, c_next, n_next, scale


@triton.jit  # type: ignore[untyped-decorator]
def _read_token(
    gates,
    matrix,
    bias,
    y,
    c,
    n,
    m,
    there,
    out,
    y_new,
    rows,
    width,
    head_width,
    token,
    tokens,
    MASKED: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    PART: tl.constexpr,
):
    head = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)  # of the head
    row = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    inside, present = channel < head_width, row < rows
    both = present[:, None] & inside[None, :]
    place = head * head_width + channel
    of_head = row * width + head * head_width
    own = matrix + head * 4 * head_width * head_width
    given = (row[:, None] * tokens + token) * 4 * width + place[None, :]

    i, f, z, o = gates_of(
        gates,
        given,
        both,
        bias,
        place,
        y,
        of_head,
        own,
        channel,
        head_width,
        width,
        present,
        inside,
        PART,
        "ieee",
    )
    held = row[:, None] * width + place[None, :]
    c_old, n_old = tl.load(c + held, mask=both, other=0.0), tl.load(n + held, mask=both, other=0.0)
    m_old = tl.load(m + held, mask=both, other=0.0)
    result, c_next, n_next, scale = next_memory(i, f, z, o, c_old, n_old, m_old)
    tl.store(out + (row[:, None] * tokens + token) * width + place[None, :], result, mask=both)
    if MASKED:
        read = (tl.load(there + row * tokens + token, mask=present, other=0) != 0)[:, None]
        result = tl.where(read, result, tl.load(y + held, mask=both, other=0.0))
        c_next, n_next = tl.where(read, c_next, c_old), tl.where(read, n_next, n_old)
        scale = tl.where(read, scale, m_old)
    tl.store(y_new + held, result, mask=both)
    tl.store(c + held, c_next, mask=both)
    tl.store(n + held, n_next, mask=both)
    tl.store(m + held, scale, mask=both)
