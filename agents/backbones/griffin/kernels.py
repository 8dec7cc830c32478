"""The compiled forms of RG-LRU.

Shapes: B rows, T tokens, E channels, H blocks of the gates, W = E / H their width, N tokens of all rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lram.agents.backbones.kernels.compiler import exp, expm1, inner_kernel, kernel, put, sigmoid
from lram.agents.backbones.kernels.tiles import COLUMNS, ROWS, UNIT, add_product
from lram.agents.backbones.sequences import arrays, mask_of, over_rows

_ZERO, _ONE, _TWO, _FOUR = np.float32(0), np.float32(1), np.float32(2), np.float32(4)
_SMALLEST = np.float32(1e-6)  # see recurrence.SMALLEST


def recur_sequence(gates: Tensor, u: Tensor, rate: Tensor, heads: int) -> Tensor:
    """gates before their sigmoid (B, T, 2 E), u (B, T, E), rate (E,) -> h (B, T, E); differentiable.

    ``rate`` is that of r in the decay's logarithm.
    """
    h: Tensor = _Recur.apply(gates, u, rate, heads)  # type: ignore[no-untyped-call]
    return h


class _Recur(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, gates: Tensor, u: Tensor, rate: Tensor, heads: int) -> Tensor:
        gates, u, rate = gates.contiguous(), u.contiguous(), rate.contiguous()
        h = torch.empty_like(u)
        ctx.heads = heads
        over_rows(_recur, arrays(_by_head(gates, heads), u, h), arrays(rate))
        ctx.save_for_backward(gates, u, rate, h)
        return h

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gates, u, rate, h = ctx.saved_tensors
        dgates, du, drate = torch.empty_like(gates), torch.empty_like(u), u.new_zeros(len(u), len(rate))
        given, wanted = _by_head(gates, ctx.heads), _by_head(dgates, ctx.heads)
        over_rows(_recur_backward, arrays(given, u, h, dh.contiguous(), wanted, du, drate), arrays(rate))
        return dgates, du, drate.sum(dim=0), None


def _by_head(gates: Tensor, heads: int) -> Tensor:
    """Return gates (B, T, 2 E) as (B, T, H, 2 W): of each block i, then r."""
    return gates.view(*gates.shape[:2], heads, -1)


@inner_kernel
def _advance(gates: Any, u: Any, rate: Any, before: Any, begun: bool, h: Any) -> None:
    """One token: gates (H, 2 W or more), u, rate, before (E,) -> h (E,), which may be ``before``."""
    heads = len(gates)
    width = len(u) // heads
    for head in range(heads):
        first = head * width
        raw_i, raw_r, x = gates[head, :width], gates[head, width:], u[first : first + width]
        old, new, own_rate = before[first : first + width], h[first : first + width], rate[first:]
        if begun:
            for j in range(width):
                log_decay = -own_rate[j] * sigmoid(raw_r[j])
                room = np.sqrt(-expm1(_TWO * log_decay))
                new[j] = exp(log_decay) * old[j] + room * sigmoid(raw_i[j]) * x[j]
        else:
            for j in range(width):
                new[j] = sigmoid(raw_i[j]) * x[j]


@kernel
def _recur(gates: Any, u: Any, h: Any, rate: Any) -> None:
    """gates (B, T, H, 2 W), u (B, T, E), rate (E,) -> h (B, T, E)."""
    rows, tokens, _ = u.shape
    for row in range(rows):
        for token in range(tokens):
            before = h[row, max(token - 1, 0)]
            _advance(gates[row, token], u[row, token], rate, before, token > 0, h[row, token])


@kernel
def _recur_backward(gates: Any, u: Any, h: Any, dh: Any, dgates: Any, du: Any, drate: Any, rate: Any) -> None:
    """dh (B, T, E) -> dgates, du of the shapes of gates and u; added to drate (B, E)."""
    rows, tokens, channels = u.shape
    heads, width = gates.shape[2], gates.shape[3] // 2
    carried = np.empty(channels, np.float32)  # what later tokens ask of this one's h
    for row in range(rows):
        carried[:] = _ZERO
        for token in range(tokens - 1, -1, -1):
            for head in range(heads):
                first = head * width
                part = slice(first, first + width)
                raw_i, raw_r = gates[row, token, head, :width], gates[row, token, head, width:]
                for_i, for_r = dgates[row, token, head, :width], dgates[row, token, head, width:]
                x, slope, for_x = u[row, token, part], dh[row, token, part], du[row, token, part]
                later, own_rate, for_rate = carried[part], rate[part], drate[row, part]
                if token == 0:
                    for j in range(width):
                        i, g = sigmoid(raw_i[j]), slope[j] + later[j]
                        for_x[j] = g * i
                        for_i[j] = g * x[j] * i * (_ONE - i)
                        for_r[j] = _ZERO
                    continue
                before = h[row, token - 1, part]
                for j in range(width):
                    i, r, g = sigmoid(raw_i[j]), sigmoid(raw_r[j]), slope[j] + later[j]
                    log_decay = -own_rate[j] * r
                    decay, free = exp(log_decay), -expm1(_TWO * log_decay)
                    room, most = np.sqrt(free), np.sqrt(max(_FOUR * free, _SMALLEST))
                    for_x[j] = g * room * i
                    for_i[j] = g * room * x[j] * i * (_ONE - i)
                    for_log = g * decay * (before[j] - _TWO * decay * i * x[j] / most)
                    for_r[j] = -for_log * own_rate[j] * r * (_ONE - r)
                    for_rate[j] -= for_log * r
                    later[j] = g * decay


@kernel
def _step(
    u: Any, valid: Any, weight: Any, bias: Any, rate: Any, h: Any, begun: Any, gates: Any, y: Any
) -> None:
    """The next tokens.

    Args:
        u: (N or more, E), N the tokens of all rows, row after row; a multiple of 8.
        valid: (B, k).
        weight: Of the gates, (H, W, 2 W or more), a multiple of 16.
        bias: (H, as many).
        rate: (E,).
        h: (B, E), in place.
        begun: (B, 1), in place.
        gates: Working memory (N or more, H, as many).
        y: (B, k, E); h as it was where there is no token.
    """
    rows, tokens, channels = y.shape
    heads, width, columns = weight.shape
    flat_u, flat_gates, flat_weight = u.reshape(-1), gates.reshape(-1), weight.reshape(-1)
    for n in range(len(u)):
        for head in range(heads):
            put(bias[head], gates[n, head])
    for n in range(0, len(u), ROWS):
        for head in range(heads):
            source, target = flat_u[n * channels + head * width :], flat_gates[(n * heads + head) * columns :]
            own = flat_weight[head * width * columns :]
            add_product(source, channels, UNIT, own, columns, target, heads * columns, columns, width)
    for row in range(rows):
        for token in range(tokens):
            n = row * tokens + token
            if valid[row, token]:
                _advance(gates[n], u[n], rate, h[row], begun[row, 0] > _ZERO, h[row])
                begun[row, 0] = _ONE
            put(h[row], y[row, token])


class RGLRUStep:
    """Takes the place of a :class:`lram.agents.backbones.griffin.recurrence.RGLRU` in a step."""

    def __init__(self, weight: Tensor, bias: Tensor, rate: Tensor) -> None:
        weight = weight.detach().transpose(1, 2)  # (H, W, 2 W)
        heads, _, out = weight.shape
        columns = -(-out // COLUMNS) * COLUMNS
        self._weight = torch.nn.functional.pad(weight, (0, columns - out)).contiguous().numpy()
        self._bias = torch.nn.functional.pad(bias.detach().view(heads, out), (0, columns - out)).numpy()
        self._rate = rate.detach().clone().numpy()

    def step(
        self, u: Tensor, state: tuple[Tensor, Tensor], valid: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, k, E) -> the same; ``state`` is written to."""
        h, begun = (part.contiguous() for part in state)
        y = torch.empty(u.shape)
        count = u.shape[0] * u.shape[1]
        padded = np.zeros((-(-count // ROWS) * ROWS, u.shape[2]), np.float32)
        padded[:count] = u.reshape(count, -1).numpy()
        gates = np.empty((len(padded), *self._bias.shape), np.float32)
        here = mask_of(u, valid)
        _step(padded, here, self._weight, self._bias, self._rate, h.numpy(), begun.numpy(), gates, y.numpy())
        return y, (h, begun)
