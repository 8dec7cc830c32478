"""The compiled forms of the matrix memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lram.agents.backbones.kernels.matrix_memory import advance, scan, scan_backward
from lram.agents.backbones.sequences import arrays, mask_of, over_rows

_KEPT_NUMBERS = 1 << 18
"""Numbers of the matrices that are computed anew at once, backwards: they fit in a second cache."""


def scan_sequence(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, a: Tensor | None, b: Tensor | None
) -> Tensor:
    """Return o (B, S, H, N) in float32 from zero; differentiable. Arguments as of ``MatrixMemory``."""
    if a is None or b is None:
        a, b = q.new_empty(*q.shape[:2], 0, q.shape[3]), q.new_empty(*q.shape[:2], 0, q.shape[3])
    # Of weights that are not float32 some may come in their type, some in float32.
    inputs = [tensor.float() for tensor in (q, k, v, log_decay, a, b)]
    o: Tensor = _Scan.apply(*inputs)  # type: ignore[no-untyped-call]
    return o


class _Scan(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        given = [tensor.contiguous() for tensor in inputs]
        q, v = given[0], given[2]
        (rows, tokens, heads, width), key_width = v.shape, q.shape[3]
        every = max(2, min(16, _KEPT_NUMBERS // (key_width * width)))
        pieces = (tokens - 1) // every if any(ctx.needs_input_grad) else 0
        kept = v.new_empty(rows, heads, pieces, key_width, width)
        out = torch.empty_like(v)
        over_rows(scan, arrays(*given, kept, out), (every,))
        ctx.every = every
        ctx.save_for_backward(*given, kept)
        return out

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        *given, kept = ctx.saved_tensors
        gradients = [torch.empty_like(tensor) for tensor in given]
        over_rows(scan_backward, arrays(*given, kept, dout.contiguous(), *gradients), (ctx.every,))
        return tuple(gradients)


class MatrixMemoryStep:
    """Takes the place of a :class:`lram.agents.backbones.parts.MatrixMemory` in a step."""

    def step(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        log_decay: Tensor,
        state: Tensor,
        valid: Tensor | None,
        a: Tensor | None = None,
        b: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As of ``MatrixMemory``; ``state`` (B, H, M, N) is written to."""
        if a is None or b is None:
            a = b = q.new_empty(*q.shape[:2], 0, q.shape[3])
        given = arrays(*(tensor.contiguous() for tensor in (q, k, v, log_decay, a, b)))
        state, out = state.contiguous(), torch.empty_like(v, memory_format=torch.contiguous_format)
        over_rows(advance, (*given, mask_of(v, valid), state.numpy(), out.numpy()))
        return out, state
