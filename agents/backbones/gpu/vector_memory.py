# mypy: disable-error-code="no-untyped-def"
# Triton compiles no function whose arguments have types.
"""The vector memory of the parts: the next tokens of every channel, its number read once and written once.

The same recurrence as ``VectorMemory.step`` of :mod:`lram.agents.backbones.parts.vector_memory`, token by
token; one that is not there changes nothing.

Shapes: B rows, k tokens, E channels.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_CHANNELS = 128
"""Of a program."""


def advance(decay: Tensor, new: Tensor, h: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """decay, new (B, k, E) and h (B, E), which is written to -> the h_t, float32, and the newest."""
    decay, new = decay.float().contiguous(), new.float().contiguous()
    rows, tokens, channels = new.shape
    assert h.is_contiguous()
    out = torch.empty_like(new)
    there = decay if valid is None else valid.contiguous().view(torch.int8)
    _decay[(rows, triton.cdiv(channels, _CHANNELS))](
        *(decay, new, h, there, out, tokens, channels), MASKED=valid is not None, CHANNELS=_CHANNELS
    )
    return out, h


@triton.jit  # type: ignore[untyped-decorator]
def _decay(decay, new, state, there, out, tokens, channels, MASKED: tl.constexpr, CHANNELS: tl.constexpr):
    row, channel = tl.program_id(0), tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channel < channels
    h = tl.load(state + row * channels + channel, mask=inside, other=0.0)
    for token in range(tokens):
        place = (row * tokens + token) * channels + channel
        after = tl.load(decay + place, mask=inside, other=0.0) * h + tl.load(
            new + place, mask=inside, other=0.0
        )
        tl.store(out + place, after, mask=inside)
        if MASKED:
            after = tl.where(tl.load(there + row * tokens + token) != 0, after, h)
        h = after
    tl.store(state + row * channels + channel, h, mask=inside)
