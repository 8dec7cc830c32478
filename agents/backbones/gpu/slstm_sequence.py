# mypy: disable-error-code="no-untyped-def"
# Triton compiles no function whose arguments have types.
"""The scalar memory of an sLSTM over whole sequences, with gradients.

The same formula as ``SLSTMCell`` of :mod:`lram.agents.backbones.xlstm.slstm`, from an empty memory. What a
head gave for one token goes into all of its gates of the next. So a program has one head of some rows, goes
through all tokens, and reads the head's recurrent matrix again at each: what it gave for a token comes to lie
in memory, where all of its threads find it after a barrier.

Kept for the backward pass are the gates with what the recurrence added, and y, c, n and m at every token. The
scale m is a constant to it: c and n are both multiples of e^-m, of which y is the ratio. The gradient of the
recurrent matrix, a sum over rows and tokens, is one product of PyTorch's after it.

Gates are read as they are, float32 or bfloat16; in the latter case products are made as TF32. Everything else
is float32.

Shapes: B rows, S tokens, D width, NH heads, DH width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from lram.agents.backbones.gpu.functions import sigmoid, softplus, tanh
from lram.agents.backbones.gpu.mlstm_sequence import STAGES
from lram.agents.backbones.gpu.slstm import gates_of, next_memory

ROWS = 16
"""Of a program: the fewest that a GPU multiplies a matrix by."""

CHANNELS = 32
"""Of a head, that a program has at once; with twice as many, registers do not suffice."""

PART = 64
"""Numbers of a head that it multiplies at once."""


def read(gates: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """Read sequences from an empty memory.

    Args:
        gates: What the input gives to the gates i, f, z, o (B, S, 4, D), float32 or bfloat16.
        matrix: The recurrent one (NH, 4 DH, DH).
        bias: (4 D,): gate, head, channel.

    Returns:
        y (B, S, D), float32.
    """
    y: Tensor = _ReadTokens.apply(gates, matrix, bias)  # type: ignore[no-untyped-call]
    return y


class _ReadTokens(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        gates, matrix = gates.contiguous(), matrix.contiguous()
        rows, tokens, _, width = gates.shape
        raw = torch.empty(gates.shape, device=gates.device)
        y, c, n, m = (torch.empty(rows, tokens, width, device=gates.device) for _ in range(4))
        grid, given = _programs(gates, matrix)
        _read_all[grid](gates, matrix, bias, raw, y, c, n, m, **given)
        ctx.save_for_backward(gates, matrix, bias, raw, y, c, n, m)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, ...]:
        gates, matrix, bias, raw, y, c, n, m = ctx.saved_tensors
        draw = torch.empty_like(raw)
        dc, dn = (torch.zeros_like(y[:, 0]) for _ in range(2))
        grid, given = _programs(gates, matrix)
        _all_gradients[grid](matrix, raw, c, n, m, dout.contiguous(), draw, dc, dn, **given)
        rows, tokens, _ = y.shape
        heads, _, head_width = matrix.shape
        before = y[:, :-1].reshape(rows, tokens - 1, heads, head_width)
        slopes = draw[:, 1:].reshape(rows, tokens - 1, 4, heads, head_width)
        with torch.autocast(y.device.type, enabled=False):
            dmatrix = torch.einsum("btghi,bthj->hgij", slopes, before).flatten(1, 2)
        dbias = draw.sum(dim=(0, 1)).flatten()
        return draw.to(gates.dtype), dmatrix.to(matrix.dtype), dbias.to(bias.dtype)


def _programs(gates: Tensor, matrix: Tensor) -> tuple[tuple[int, int], dict[str, Any]]:
    """Return how many programs a kernel has, and what is said to each."""
    rows, tokens, _, width = gates.shape
    heads, _, head_width = matrix.shape
    return (heads, triton.cdiv(rows, ROWS)), {
        "rows": rows,
        "tokens": tokens,
        "width": width,
        "head_width": head_width,
        "PRECISION": "tf32" if gates.dtype == torch.bfloat16 else "ieee",
        "ROWS": ROWS,
        "CHANNELS": CHANNELS,
        "PART": PART,
        "num_stages": STAGES,
    }


@triton.jit  # type: ignore[untyped-decorator]
def _read_all(
    gates,
    matrix,
    bias,
    raw,
    y,
    c,
    n,
    m,
    rows,
    tokens,
    width,
    head_width,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    PART: tl.constexpr,
):
    head = tl.program_id(0)
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    own = matrix + head * 4 * head_width * head_width
    for token in range(tokens):
        known = row < tl.where(token > 0, rows, 0)  # of an empty memory there is nothing to be read
        last = (row * tokens + token - 1) * width + head * head_width
        for start in range(0, head_width, CHANNELS):
            channel = start + tl.arange(0, CHANNELS)
            inside = channel < head_width
            place = head * head_width + channel
            both = (row < rows)[:, None] & inside[None, :]
            given = (row * tokens + token)[:, None] * 4 * width + place[None, :]
            i, f, z, o = gates_of(
                gates,
                given,
                both,
                bias,
                place,
                y,
                last,
                own,
                channel,
                head_width,
                width,
                known,
                inside,
                PART,
                PRECISION,
            )
            tl.store(raw + given, i, mask=both)
            tl.store(raw + given + width, f, mask=both)
            tl.store(raw + given + 2 * width, z, mask=both)
            tl.store(raw + given + 3 * width, o, mask=both)
            old, held = known[:, None] & inside[None, :], last[:, None] + channel[None, :]
            c_old = tl.load(c + held, mask=old, other=0.0)
            n_old = tl.load(n + held, mask=old, other=0.0)
            m_old = tl.load(m + held, mask=old, other=0.0)
            result, c_new, n_new, m_new = next_memory(i, f, z, o, c_old, n_old, m_old)
            tl.store(y + held + width, result, mask=both)
            tl.store(c + held + width, c_new, mask=both)
            tl.store(n + held + width, n_new, mask=both)
            tl.store(m + held + width, m_new, mask=both)
        tl.debug_barrier()


@triton.jit  # type: ignore[untyped-decorator]
def _wanted(
    draw,
    later,
    own,
    channel,
    head_width,
    width,
    known,
    inside,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    PART: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Add up what the gates of the next token want of some channels of a head."""
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    for gate in range(4):
        for start in range(0, head_width, PART):
            part = start + tl.arange(0, PART)
            there = part < head_width
            at = later[:, None] + gate * width + part[None, :]
            slope = tl.load(draw + at, mask=known[:, None] & there[None, :], other=0.0)
            at_weight = (gate * head_width + part)[:, None] * head_width + channel[None, :]
            weight = tl.load(own + at_weight, mask=there[:, None] & inside[None, :], other=0.0)
            total += tl.dot(slope, weight.to(tl.float32), input_precision=PRECISION)
    return total


@triton.jit  # type: ignore[untyped-decorator]
def _all_gradients(
    matrix,
    raw,
    c,
    n,
    m,
    dout,
    draw,
    dc,
    dn,
    rows,
    tokens,
    width,
    head_width,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    PART: tl.constexpr,
):
    head = tl.program_id(0)
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    own = matrix + head * 4 * head_width * head_width
    for back in range(tokens):
        token = tokens - 1 - back
        follows = row < tl.where(back > 0, rows, 0)
        known = row < tl.where(token > 0, rows, 0)
        later = (row * tokens + token + 1) * 4 * width + head * head_width
        for start in range(0, head_width, CHANNELS):
            channel = start + tl.arange(0, CHANNELS)
            inside = channel < head_width
            place = (head * head_width + channel)[None, :]
            both, old = (row < rows)[:, None] & inside[None, :], known[:, None] & inside[None, :]
            held = (row * tokens + token)[:, None] * width + place
            dy = tl.load(dout + held, mask=both, other=0.0)
            dy += _wanted(
                draw,
                later,
                own,
                channel,
                head_width,
                width,
                follows,
                inside,
                ROWS,
                CHANNELS,
                PART,
                PRECISION,
            )
            given = (row * tokens + token)[:, None] * 4 * width + place
            i = tl.load(raw + given, mask=both, other=0.0)
            f = tl.load(raw + given + width, mask=both, other=0.0)
            z = tanh(tl.load(raw + given + 2 * width, mask=both, other=0.0))
            o = sigmoid(tl.load(raw + given + 3 * width, mask=both, other=0.0))
            n_new = tl.load(n + held, mask=both, other=1.0)
            m_new = tl.load(m + held, mask=both, other=0.0)
            m_old = tl.load(m + held - width, mask=old, other=0.0)
            i = tl.exp(tl.minimum(i - m_new, 0.0))
            forget = tl.exp(tl.minimum(m_old - softplus(-f) - m_new, 0.0))
            carried = row[:, None] * width + place
            of_c = tl.load(dc + carried, mask=both, other=0.0) + dy * o / n_new
            of_o = dy * o * tl.load(c + held, mask=both, other=0.0) / n_new
            of_n = tl.load(dn + carried, mask=both, other=0.0) - of_o / n_new
            of_f = of_c * tl.load(c + held - width, mask=old, other=0.0)
            of_f += of_n * tl.load(n + held - width, mask=old, other=0.0)
            tl.store(draw + given, (of_c * z + of_n) * i, mask=both)
            tl.store(draw + given + width, of_f * forget * sigmoid(-f), mask=both)
            tl.store(draw + given + 2 * width, of_c * i * (1.0 - z * z), mask=both)
            tl.store(draw + given + 3 * width, of_o * (1.0 - o), mask=both)
            tl.store(dc + carried, of_c * forget, mask=both)
            tl.store(dn + carried, of_n * forget, mask=both)
        tl.debug_barrier()
