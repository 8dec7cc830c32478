"""The recurrence of an sLSTM over whole sequences, with gradients: one node of autograd.

Eight rows go through their tokens together, so that the recurrent matrices are read once for eight.
Kept for the backward pass are the gates with what the recurrence added, and y, c, n and m at every token.

The scale m is a constant to the backward pass: c and n are both multiples of e^-m, of which y is the
ratio, so y does not depend on it.

Shapes: B rows, S tokens, D width, NH heads, DH width of a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lram.agents.backbones.kernels.compiler import exp, kernel, put, sigmoid, softplus, tanh
from lram.agents.backbones.kernels.tiles import COLUMNS, ROWS, UNIT, add_product
from lram.agents.backbones.linear import weight_gradient
from lram.agents.backbones.sequences import arrays, over_rows

if TYPE_CHECKING:
    from lram.agents.backbones.xlstm.slstm import SLSTMCell

_ZERO, _ONE = np.float32(0), np.float32(1)


def read(cell: SLSTMCell, gates: Tensor) -> Tensor:
    """gates (B, S, 4, D) from the inputs, without bias -> y (B, S, D) float32, from an empty memory."""
    heads = cell._recurrent_kernel_.shape[0]
    y: Tensor = _ReadSLSTM.apply(  # type: ignore[no-untyped-call]
        gates, cell._recurrent_kernel_.view(heads, 4, -1, gates.shape[-1] // heads), cell._bias_
    )
    return y


class _ReadSLSTM(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, gates: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
        rows, tokens, _, inner = gates.shape
        # (NH, DH in, 4 x DH out), each gate's outputs filled up to a multiple of 16
        matrices = F.pad(recurrent, (0, 0, 0, -recurrent.shape[2] % COLUMNS)).permute(0, 3, 1, 2)
        raw = gates.new_empty(rows, tokens, 4, inner)
        y, c, n, m = (gates.new_empty(rows, tokens, inner) for _ in range(4))
        over_rows(
            _read,
            arrays(gates.contiguous(), raw, y, c, n, m),
            arrays(matrices.flatten(2).contiguous(), bias.view(4, inner)),
        )
        ctx.save_for_backward(raw, y, c, n, m, recurrent)
        return y

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        raw, y, c, n, m, recurrent = ctx.saved_tensors
        heads, _, width, _ = recurrent.shape
        matrices = F.pad(recurrent, (0, -width % COLUMNS))  # (NH, 4, DH out, DH in, filled up)
        draw = torch.empty_like(raw)
        over_rows(
            _read_backward, arrays(raw, y, c, n, m, dout.contiguous(), draw), arrays(matrices.contiguous())
        )

        drecurrent = torch.empty_like(recurrent)
        before = y[:, :-1].reshape(len(y), y.shape[1] - 1, heads, width)
        slopes = draw[:, 1:].reshape(len(y), y.shape[1] - 1, 4, heads, width)
        for head in range(heads):
            slope, source = slopes[:, :, :, head].flatten(2).flatten(0, 1), before[:, :, head].flatten(0, 1)
            drecurrent[head] = weight_gradient(slope, source).view(4, width, width)
        return draw, drecurrent, draw.sum(dim=(0, 1)).flatten()


@kernel
def _read(  # type: ignore[no-untyped-def]
    gates, raw, y, c, n, m, matrices, bias
) -> None:
    """gates (B, S, 4, D) -> raw (B, S, 4, D), y, c, n, m (B, S, D). matrices (NH, DH, 4 x filled-up DH)."""
    rows, tokens, _, inner = gates.shape
    heads, width, out = matrices.shape
    filled = out // 4
    flat_matrices = matrices.reshape(-1)
    before, recurrent = np.zeros(ROWS * inner, np.float32), np.empty(ROWS * out, np.float32)
    nothing = np.zeros(inner, np.float32)
    work, forget = np.empty(inner, np.float32), np.empty(inner, np.float32)
    for first in range(0, rows, ROWS):
        count = min(ROWS, rows - first)
        before[:] = _ZERO
        for t in range(tokens):
            for row in range(first, first + count):
                for gate in range(4):
                    source, shift, target = gates[row, t, gate], bias[gate], raw[row, t, gate]
                    for d in range(inner):
                        target[d] = source[d] + shift[d]
            if t > 0:
                for head in range(heads):
                    recurrent[:] = _ZERO
                    own, matrix = before[head * width :], flat_matrices[head * width * out :]
                    add_product(own, inner, UNIT, matrix, out, recurrent, out, out, width)
                    for row in range(count):
                        for gate in range(4):
                            place = row * out + gate * filled
                            added = recurrent[place : place + width]
                            target = raw[first + row, t, gate, head * width : (head + 1) * width]
                            for d in range(width):
                                target[d] += added[d]
            for row in range(first, first + count):
                i, f, z, o = raw[row, t, 0], raw[row, t, 1], raw[row, t, 2], raw[row, t, 3]
                y_new, c_new, n_new, m_new = y[row, t], c[row, t], n[row, t], m[row, t]
                c_old, n_old, m_old = nothing, nothing, nothing
                if t > 0:
                    c_old, n_old, m_old = c[row, t - 1], n[row, t - 1], m[row, t - 1]
                for d in range(inner):
                    forget[d] = m_old[d] - softplus(-f[d])
                for d in range(inner):
                    # A fresh memory takes the input gate as its scale.
                    m_new[d] = i[d] if n_old[d] == _ZERO else max(i[d], forget[d])
                for d in range(inner):
                    forget[d] = exp(min(forget[d] - m_new[d], _ZERO))
                for d in range(inner):
                    work[d] = exp(min(i[d] - m_new[d], _ZERO))
                for d in range(inner):
                    n_new[d] = forget[d] * n_old[d] + work[d]
                for d in range(inner):
                    c_new[d] = forget[d] * c_old[d] + work[d] * tanh(z[d])
                for d in range(inner):
                    y_new[d] = sigmoid(o[d]) * c_new[d] / n_new[d]
                put(y_new, before[(row - first) * inner : (row - first + 1) * inner])


@kernel
def _read_backward(  # type: ignore[no-untyped-def]
    raw, y, c, n, m, dout, draw, matrices
) -> None:
    """dout (B, S, D) -> draw (B, S, 4, D). matrices (NH, 4, DH out, filled-up DH in)."""
    rows, tokens, _, inner = raw.shape
    heads, _, width, filled = matrices.shape
    flat_matrices = matrices.reshape(-1)
    dy = np.empty(ROWS * inner, np.float32)
    dc, dn = np.empty((ROWS, inner), np.float32), np.empty((ROWS, inner), np.float32)
    slopes, wanted = np.zeros(ROWS * 4 * width, np.float32), np.empty(ROWS * filled, np.float32)
    nothing = np.zeros(inner, np.float32)
    work, forget = np.empty(inner, np.float32), np.empty(inner, np.float32)
    for first in range(0, rows, ROWS):
        count = min(ROWS, rows - first)
        dy[:] = _ZERO
        dc[:] = _ZERO
        dn[:] = _ZERO
        for t in range(tokens - 1, -1, -1):
            for row in range(count):
                at = first + row
                i, f, z, o = raw[at, t, 0], raw[at, t, 1], raw[at, t, 2], raw[at, t, 3]
                di, df, dz, do = draw[at, t, 0], draw[at, t, 1], draw[at, t, 2], draw[at, t, 3]
                own_dc, own_dn, own_dy = dc[row], dn[row], dy[row * inner : (row + 1) * inner]
                c_new, n_new, m_new, slope = c[at, t], n[at, t], m[at, t], dout[at, t]
                c_old, n_old, m_old = nothing, nothing, nothing
                if t > 0:
                    c_old, n_old, m_old = c[at, t - 1], n[at, t - 1], m[at, t - 1]
                for d in range(inner):
                    own_dy[d] += slope[d]
                for d in range(inner):
                    work[d] = sigmoid(o[d])
                for d in range(inner):
                    own_dc[d] += own_dy[d] * work[d] / n_new[d]
                for d in range(inner):
                    do[d] = own_dy[d] * work[d] * c_new[d] / n_new[d]
                for d in range(inner):
                    own_dn[d] -= do[d] / n_new[d]
                for d in range(inner):
                    do[d] *= _ONE - work[d]
                for d in range(inner):
                    forget[d] = exp(min(m_old[d] - softplus(-f[d]) - m_new[d], _ZERO))
                for d in range(inner):
                    df[d] = (own_dc[d] * c_old[d] + own_dn[d] * n_old[d]) * forget[d]
                for d in range(inner):
                    df[d] *= sigmoid(-f[d])
                for d in range(inner):
                    work[d] = exp(min(i[d] - m_new[d], _ZERO))
                for d in range(inner):
                    dz[d] = tanh(z[d])
                for d in range(inner):
                    di[d] = (own_dc[d] * dz[d] + own_dn[d]) * work[d]
                for d in range(inner):
                    dz[d] = own_dc[d] * work[d] * (_ONE - dz[d] * dz[d])
                for d in range(inner):
                    own_dc[d] *= forget[d]
                for d in range(inner):
                    own_dn[d] *= forget[d]
            if t == 0:
                continue
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                for row in range(count):
                    for gate in range(4):
                        place = (row * 4 + gate) * width
                        put(draw[first + row, t, gate, part], slopes[place : place + width])
                wanted[:] = _ZERO
                matrix = flat_matrices[head * 4 * width * filled :]
                add_product(slopes, 4 * width, UNIT, matrix, filled, wanted, filled, filled, 4 * width)
                for row in range(count):
                    place = row * inner + head * width
                    put(wanted[row * filled : row * filled + width], dy[place : place + width])
