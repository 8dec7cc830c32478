# mypy: disable-error-code="no-untyped-def"
# Triton compiles no function whose arguments have types.
"""What the kernels of :mod:`lram.agents.backbones.gpu.mlstm_sequence` and their gradients' share.

Shapes: B rows, S tokens, NH heads, DH width of a head, F = NH x DH; T tokens of a program.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def block(x, first, token, place, tokens, width, heads):
    """Load x (B, S, F) at some tokens and places of a head, of which ``first`` is the first number."""
    mask = (token < tokens)[:, None] & (place < width)[None, :]
    found = tl.load(x + first + token[:, None] * heads * width + place[None, :], mask=mask, other=0.0)
    return found.to(tl.float32)  # of which the interpreter makes products; it has none of bfloat16


@triton.jit  # type: ignore[untyped-decorator]
def products(
    x,
    y,
    first,
    token,
    other,
    tokens,
    width,
    heads,
    PRECISION: tl.constexpr,
    T: tl.constexpr,
    PART: tl.constexpr,
):
    """x_t y_s of two (B, S, F), for some tokens t and s: (T, T)."""
    total = tl.zeros((T, T), tl.float32)
    for start in range(0, width, PART):
        place = start + tl.arange(0, PART)
        one = block(x, first, token, place, tokens, width, heads)
        two = block(y, first, other, place, tokens, width, heads)
        total += tl.dot(one, tl.trans(two), input_precision=PRECISION)
    return total


@triton.jit
def weights(a, c, vector, token, other, tokens):
    """e^(a_s - c_t) for s <= t, else 0: (T, T)."""
    at = tl.load(c + vector + token, mask=token < tokens, other=0.0)
    of = tl.load(a + vector + other, mask=other < tokens, other=0.0)
    visible = (other[None, :] <= token[:, None]) & (token < tokens)[:, None]
    return tl.exp(tl.where(visible, of[None, :] - at[:, None], float("-inf")))


@triton.jit  # type: ignore[untyped-decorator]
def by_state(
    x,
    states,
    first,
    token,
    before,
    column,
    tokens,
    width,
    heads,
    TURNED: tl.constexpr,
    PRECISION: tl.constexpr,
    T: tl.constexpr,
    PART: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Multiply x (B, S, F) at some tokens of a head by columns of a state, or of it ``TURNED``."""
    total = tl.zeros((T, COLUMNS), tl.float32)
    for start in range(0, width, PART):
        place = start + tl.arange(0, PART)
        one = block(x, first, token, place, tokens, width, heads)
        if TURNED:
            at = (before + column)[None, :] * width + place[:, None]
        else:
            at = (before + place)[:, None] * width + column[None, :]
        state = tl.load(states + at, mask=(place < width)[:, None] & (column < width)[None, :], other=0.0)
        total += tl.dot(one, state, input_precision=PRECISION)
    return total


@triton.jit  # type: ignore[untyped-decorator]
def tile_of(heads, tokens, width, T: tl.constexpr, COLUMNS: tl.constexpr):
    """Return what a program of some tokens has.

    Its first token, its head of all rows', where that has its first number of (B, S, F) and of (B, NH, S),
    its tokens, and numbers of the head.
    """
    begin, head = tl.program_id(0) * T, tl.program_id(1).to(tl.int64)
    row, own = head // heads, head % heads
    first, vector = (row * tokens * heads + own) * width, head * tokens
    column = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    return begin, head, first, vector, begin + tl.arange(0, T), column


@triton.jit  # type: ignore[untyped-decorator]
def part_of(heads, tokens, width, COLUMNS: tl.constexpr):
    """Return what a program of a part of the states has.

    Its head of all rows', where that has its first number of (B, S, F) and of (B, NH, S), numbers of keys and
    of values, and which pairs of these there are.
    """
    head = tl.program_id(0).to(tl.int64)
    row, own = head // heads, head % heads
    first, vector = (row * tokens * heads + own) * width, head * tokens
    of_key = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    of_value = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    return head, first, vector, of_key, of_value, (of_key < width)[:, None] & (of_value < width)[None, :]
