# mypy: disable-error-code="no-untyped-def"
# Triton compiles no function whose arguments have types.
"""Mamba's selective scan: the next tokens of every channel, its state read once and written once.

The same formula as ``MambaMixer._scan`` of :mod:`lram.agents.backbones.mamba.plain`, from the softplus of the
step size to the gate; a token that is not there changes nothing.

Shapes: B rows, k tokens, E channels, N state size.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lram.agents.backbones.gpu.functions import sigmoid, softplus

_NUMBERS = 512
"""Of the state, of a program."""


def scan(
    x: Tensor,
    z: Tensor,
    dt: Tensor,
    B: Tensor,
    C: Tensor,
    A_log: Tensor,
    D: Tensor,
    h: Tensor,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Read k tokens.

    Args:
        x, z, dt: What is read, its gate, and the step size before softplus (B, k, E), in any order in memory.
        B, C: (B, k, N), likewise, with the same strides.
        A_log: (E, N).
        D: (E,).
        h: (B, E, N), float32, which is written to.
        valid: (B, k) or None.

    Returns:
        y (B, k, E), gated, of the type of ``x``, and the state after the valid tokens.
    """
    rows, tokens, channels = x.shape
    size = h.shape[2]
    assert h.is_contiguous()
    assert B.stride() == C.stride()
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    width = triton.next_power_of_2(size)
    at_once = max(1, _NUMBERS // width)
    _scan[(rows, triton.cdiv(channels, at_once))](
        *(x, z, dt, B, C, A_log.contiguous(), D, h),
        *(D if valid is None else valid.contiguous().view(torch.int8), out),
        *(*x.stride(), *z.stride(), *dt.stride(), *B.stride(), tokens, channels, size),
        MASKED=valid is not None,
        CHANNELS=at_once,
        SIZE=width,
    )
    return out, h


@triton.jit  # type: ignore[untyped-decorator]
def _scan(
    x,
    z,
    dt,
    B,
    C,
    A_log,
    D,
    state,
    there,
    out,
    x_row,
    x_token,
    x_place,
    z_row,
    z_token,
    z_place,
    dt_row,
    dt_token,
    dt_place,
    B_row,
    B_token,
    B_place,
    tokens,
    channels,
    size,
    MASKED: tl.constexpr,
    CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,
):
    row, channel = tl.program_id(0), tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    place = tl.arange(0, SIZE)
    inside, here = channel < channels, place < size
    both = inside[:, None] & here[None, :]
    numbers = channel[:, None] * size + place[None, :]
    A = -tl.exp(tl.load(A_log + numbers, mask=both, other=0.0).to(tl.float32))
    through = tl.load(D + channel, mask=inside, other=0.0).to(tl.float32)
    h = tl.load(state + row * channels * size + numbers, mask=both, other=0.0)
    for token in range(tokens):
        value = tl.load(x + row * x_row + token * x_token + channel * x_place, mask=inside, other=0.0)
        gate = tl.load(z + row * z_row + token * z_token + channel * z_place, mask=inside, other=0.0)
        step = tl.load(dt + row * dt_row + token * dt_token + channel * dt_place, mask=inside, other=0.0)
        of_size = row * B_row + token * B_token + place * B_place
        b = tl.load(B + of_size, mask=here, other=0.0).to(tl.float32)
        c = tl.load(C + of_size, mask=here, other=0.0).to(tl.float32)
        value, gate, step = value.to(tl.float32), gate.to(tl.float32), softplus(step.to(tl.float32))
        after = tl.exp(step[:, None] * A) * h + (step * value)[:, None] * b[None, :]
        y = tl.sum(after * c[None, :], axis=1) + through * value
        tl.store(out + (row * tokens + token) * channels + channel, y * gate * sigmoid(gate), mask=inside)
        if MASKED:
            after = tl.where(tl.load(there + row * tokens + token) != 0, after, h)
        h = after
    tl.store(state + row * channels * size + numbers, h, mask=both)
