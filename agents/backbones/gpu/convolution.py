# mypy: disable-error-code="no-untyped-def"
# Triton compiles no function whose arguments have types.
"""The causal convolution of each channel: the next tokens, and the past that is kept of them.

The same as :func:`lram.agents.backbones.layers.causal_conv_step`, with SiLU where that follows. A program has
the past of some channels of a row in registers, as a ring; a token that is not there is read, but not kept.

Shapes: B rows, k tokens, C channels, K width of the convolution.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lram.agents.backbones.gpu.functions import sigmoid

_CHANNELS = 128
"""Of a program."""


def convolve(
    x: Tensor, past: Tensor, weight: Tensor, bias: Tensor | None, valid: Tensor | None, *, silu: bool
) -> tuple[Tensor, Tensor]:
    """Read k tokens.

    Args:
        x: (B, k, C), in any order in memory.
        past: The last K - 1 >= 1 valid tokens (B, K - 1, C), float32, newest last; it is written to.
        weight: (C, 1, K).
        bias: (C,) or None.
        valid: (B, k) or None.
        silu: Whether SiLU follows.

    Returns:
        (B, k, C) of the type of ``x``, and the new past.
    """
    rows, tokens, channels = x.shape
    assert past.is_contiguous()
    weight = weight.contiguous()
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    kept = past.shape[1]
    _convolve[(rows, triton.cdiv(channels, _CHANNELS))](
        *(x, past, weight, weight if bias is None else bias),
        *(weight if valid is None else valid.contiguous().view(torch.int8), out),
        *(*x.stride(), tokens, channels),
        KEPT=kept,
        SLOTS=triton.next_power_of_2(kept),
        BIASED=bias is not None,
        SILU=silu,
        MASKED=valid is not None,
        CHANNELS=_CHANNELS,
    )
    return out, past


@triton.jit  # type: ignore[untyped-decorator]
def _convolve(
    x,
    past,
    weight,
    bias,
    there,
    out,
    x_row,
    x_token,
    x_place,
    tokens,
    channels,
    KEPT: tl.constexpr,
    SLOTS: tl.constexpr,
    BIASED: tl.constexpr,
    SILU: tl.constexpr,
    MASKED: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    row, channel = tl.program_id(0), tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    slot, inside = tl.arange(0, SLOTS), channel < channels
    both = (slot < KEPT)[:, None] & inside[None, :]
    own = past + row * KEPT * channels + channel[None, :]
    taps = weight + channel * (KEPT + 1)
    held = tl.load(own + slot[:, None] * channels, mask=both, other=0.0)
    newest = tl.load(taps + KEPT, mask=inside, other=0.0).to(tl.float32)
    added = tl.zeros((CHANNELS,), tl.float32)
    if BIASED:
        added += tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
    age = slot  # of what a slot holds: 0 is the oldest
    for token in range(tokens):
        of_x = x + row * x_row + token * x_token + channel * x_place
        value = tl.load(of_x, mask=inside, other=0.0).to(tl.float32)
        tap = tl.load(taps[None, :] + age[:, None], mask=both, other=0.0).to(tl.float32)
        y = added + tl.sum(held * tap, axis=0) + newest * value
        if SILU:
            y = y * sigmoid(y)
        tl.store(out + (row * tokens + token) * channels + channel, y, mask=inside)
        if MASKED:
            here = tl.load(there + row * tokens + token) != 0
            held = tl.where((age == 0)[:, None] & here, value[None, :], held)
            age = tl.where(here, (age + KEPT - 1) % KEPT, age)
        else:
            held = tl.where((age == 0)[:, None], value[None, :], held)
            age = (age + KEPT - 1) % KEPT
    tl.store(own + age[:, None] * channels, held, mask=both)
