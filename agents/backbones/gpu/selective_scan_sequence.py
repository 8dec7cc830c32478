# mypy: disable-error-code="no-untyped-def"
# Triton compiles no function whose arguments have types.
"""Mamba's selective scan over whole sequences, with gradients.

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t        out_t = (C_t h_t + D x_t) silu(z_t)

The same formula as ``MambaMixer._scan`` of :mod:`lram.agents.backbones.mamba.plain`, from the softplus of the
step size to the gate, from a zero state. A program has some channels of a row and goes through all tokens,
``EVERY`` of them at once: none of what it loads depends on a state, so their loads need not wait for each
other. Forwards, the state before each piece but the first is kept. Backwards, the states within a piece are
computed anew and stay in registers.

What B and C of a token get from the channels of several programs is written for each and added up after, in
the same order at each run. Everything between is float32, whatever the types of what is read.

Shapes: B rows, S tokens, E channels, N state size.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from lram.agents.backbones.gpu.functions import sigmoid, softplus

EVERY = 8
"""Tokens of a piece: a thread has so many states in its registers, backwards."""

NUMBERS = 512
"""Of the state, of a program: four a thread; with eight, registers do not suffice backwards."""


def scan(x: Tensor, z: Tensor, dt: Tensor, B: Tensor, C: Tensor, A: Tensor, D: Tensor) -> Tensor:
    """Read sequences from a zero state.

    Args:
        x, z, dt: What is read, its gate, and the step size before softplus (B, S, E), float32 or bfloat16.
        B, C: (B, S, N), likewise.
        A: (E, N), negative, float32.
        D: (E,), float32.

    Returns:
        (B, S, E), gated, of the type of ``x``.
    """
    given = x, z, dt, B, C, A, D
    keep = torch.is_grad_enabled() and any(one.requires_grad for one in given)
    y: Tensor = _Scan.apply(*given, keep)  # type: ignore[no-untyped-call]
    return y


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, z: Tensor, dt: Tensor, B: Tensor, C: Tensor, A: Tensor, D: Tensor, keep: bool
    ) -> Tensor:
        x, dt, A, D = (one.contiguous() for one in (x, dt, A, D))
        (z,), (B, C) = _alike(z), _alike(B, C)  # parts of what a projection gave
        sizes = _ScanSizes(x, A)
        kept = sizes.states() if keep else A
        out = torch.empty_like(x)
        _read[sizes.grid](
            *(x, z, dt, B, C, A, D, kept, out),
            *(*z.stride()[:2], *B.stride()[:2]),
            **sizes.given,
            KEEP=keep,
        )
        ctx.save_for_backward(x, z, dt, B, C, A, D, kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        x, z, dt, B, C, A, D, kept = ctx.saved_tensors
        sizes = _ScanSizes(x, A)
        dx, dz, ddt = (torch.empty(x.shape, dtype=one.dtype, device=x.device) for one in (x, z, dt))
        # Of each program: (B, its number, S, N).
        dB, dC = (A.new_empty(len(x), sizes.grid[1], *B.shape[1:]) for _ in range(2))
        dA, dD = A.new_empty(len(x), *A.shape), D.new_empty(len(x), *D.shape)
        _gradients[sizes.grid](
            *(x, z, dt, B, C, A, D, kept, dout.contiguous(), dx, dz, ddt, dB, dC, dA, dD),
            *(*z.stride()[:2], *B.stride()[:2]),
            **sizes.given,
        )
        of_B, of_C = dB.sum(dim=1).to(B.dtype), dC.sum(dim=1).to(C.dtype)
        return dx, dz, ddt, of_B, of_C, dA.sum(dim=0), dD.sum(dim=0), None


def _alike(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return them with numbers of a token beside each other, and with the same strides."""
    if all(one.stride(-1) == 1 and one.stride() == tensors[0].stride() for one in tensors):
        return tensors
    return tuple(one.contiguous() for one in tensors)


class _ScanSizes:
    """How many programs a kernel has, and what each reads."""

    def __init__(self, x: Tensor, A: Tensor) -> None:
        rows, tokens, channels = x.shape
        size = A.shape[1]
        width = triton.next_power_of_2(size)
        at_once = max(1, NUMBERS // width)
        self.grid = rows, triton.cdiv(channels, at_once)
        self.given: dict[str, Any] = {
            "tokens": tokens,
            "channels": channels,
            "size": size,
            "EVERY": EVERY,
            "CHANNELS": at_once,
            "SIZE": width,
        }
        self._make, self._shape = A.new_empty, (rows, triton.cdiv(tokens, EVERY) - 1, *A.shape)

    def states(self) -> Tensor:
        """Return memory for the states between pieces: (B, pieces - 1, E, N)."""
        return self._make(self._shape)


@triton.jit
def _token(x, dt, at, there):
    """Load what some channels read at a token, and their step sizes, before softplus and after.

    A token that is not ``there`` has no step, so that a state passes by it as it is.
    """
    value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    raw = tl.load(dt + at, mask=there, other=0.0).to(tl.float32)
    return value, raw, tl.where(there, softplus(raw), 0.0)


@triton.jit
def _next(h, A, value, step, b):
    """Return the state after a token: (CHANNELS, SIZE)."""
    return tl.exp(step[:, None] * A) * h + (step * value)[:, None] * b[None, :]


@triton.jit  # type: ignore[untyped-decorator]
def _read(
    x,
    z,
    dt,
    B,
    C,
    A,
    D,
    kept,
    out,
    z_row,
    z_token,
    B_row,
    B_token,
    tokens,
    channels,
    size,
    KEEP: tl.constexpr,
    EVERY: tl.constexpr,
    CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    channel, place = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, SIZE)
    inside, here = channel < channels, place < size
    both = inside[:, None] & here[None, :]
    numbers = channel[:, None] * size + place[None, :]
    decay = tl.load(A + numbers, mask=both, other=0.0)
    through = tl.load(D + channel, mask=inside, other=0.0)
    pieces = (tokens - 1) // EVERY  # that are kept
    h = tl.zeros((CHANNELS, SIZE), tl.float32)
    for start in range(0, tokens, EVERY):
        if KEEP:
            before = row * pieces + start // EVERY - 1
            known = both & (numbers < tl.where(start > 0, channels * size, 0))
            tl.store(kept + before * channels * size + numbers, h, mask=known)
        for i in tl.static_range(EVERY):
            token = start + i
            there = channel < tl.where(token < tokens, channels, 0)
            at = (row * tokens + token) * channels + channel
            value, _, step = _token(x, dt, at, there)
            gate = tl.load(z + row * z_row + token * z_token + channel, mask=there, other=0.0).to(tl.float32)
            of_size, given = row * B_row + token * B_token + place, place < tl.where(token < tokens, size, 0)
            h = _next(h, decay, value, step, tl.load(B + of_size, mask=given, other=0.0).to(tl.float32))
            c = tl.load(C + of_size, mask=given, other=0.0).to(tl.float32)
            y = tl.sum(h * c[None, :], axis=1) + through * value
            tl.store(out + at, y * gate * sigmoid(gate), mask=there)


@triton.jit  # type: ignore[untyped-decorator]
def _gradients(
    x,
    z,
    dt,
    B,
    C,
    A,
    D,
    kept,
    dout,
    dx,
    dz,
    ddt,
    dB,
    dC,
    dA,
    dD,
    z_row,
    z_token,
    B_row,
    B_token,
    tokens,
    channels,
    size,
    EVERY: tl.constexpr,
    CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    channel, place = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, SIZE)
    inside, here = channel < channels, place < size
    both = inside[:, None] & here[None, :]
    numbers = channel[:, None] * size + place[None, :]
    decay = tl.load(A + numbers, mask=both, other=0.0)
    through = tl.load(D + channel, mask=inside, other=0.0)
    program = row * tl.num_programs(1) + tl.program_id(1)
    pieces = (tokens - 1) // EVERY
    later = tl.zeros((CHANNELS, SIZE), tl.float32)  # what later tokens want of the state
    of_A, of_D = tl.zeros((CHANNELS, SIZE), tl.float32), tl.zeros((CHANNELS,), tl.float32)
    for back in range(pieces + 1):
        start = (pieces - back) * EVERY
        before = row * pieces + start // EVERY - 1
        known = both & (numbers < tl.where(start > 0, channels * size, 0))
        h = tl.load(kept + before * channels * size + numbers, mask=known, other=0.0)
        states = (h,)
        for i in tl.static_range(EVERY):
            token = start + i
            at = (row * tokens + token) * channels + channel
            value, _, step = _token(x, dt, at, channel < tl.where(token < tokens, channels, 0))
            of_size, given = row * B_row + token * B_token + place, place < tl.where(token < tokens, size, 0)
            h = _next(h, decay, value, step, tl.load(B + of_size, mask=given, other=0.0).to(tl.float32))
            # Triton unpacks no tuple.
            states = states + (h,)  # type: ignore[assignment]  # noqa: RUF005
        for j in tl.static_range(EVERY):
            token = start + EVERY - 1 - j
            there = channel < tl.where(token < tokens, channels, 0)
            at = (row * tokens + token) * channels + channel
            value, raw, step = _token(x, dt, at, there)
            gate = tl.load(z + row * z_row + token * z_token + channel, mask=there, other=0.0).to(tl.float32)
            of_size, given = row * B_row + token * B_token + place, place < tl.where(token < tokens, size, 0)
            b = tl.load(B + of_size, mask=given, other=0.0).to(tl.float32)
            c = tl.load(C + of_size, mask=given, other=0.0).to(tl.float32)
            slope = tl.load(dout + at, mask=there, other=0.0).to(tl.float32)
            after = states[EVERY - j]
            y = tl.sum(after * c[None, :], axis=1) + through * value
            open_gate = sigmoid(gate)
            tl.store(dz + at, slope * y * open_gate * (1.0 + gate * (1.0 - open_gate)), mask=there)
            dy = slope * gate * open_gate
            dh = later + dy[:, None] * c[None, :]
            of_token = (program * tokens + token) * size + place
            tl.store(dC + of_token, tl.sum(dy[:, None] * after, axis=0), mask=given)
            tl.store(dB + of_token, tl.sum((step * value)[:, None] * dh, axis=0), mask=given)
            later = dh * tl.exp(step[:, None] * decay)
            dexponent = later * states[EVERY - 1 - j]
            of_A += dexponent * step[:, None]
            of_D += dy * value
            dinput = tl.sum(dh * b[None, :], axis=1)  # of step times value
            tl.store(dx + at, dy * through + dinput * step, mask=there)
            dstep = dinput * value + tl.sum(dexponent * decay, axis=1)
            tl.store(ddt + at, dstep * sigmoid(raw), mask=there)
    tl.store(dA + row * channels * size + numbers, of_A, mask=both)
    tl.store(dD + row * channels + channel, of_D, mask=inside)
