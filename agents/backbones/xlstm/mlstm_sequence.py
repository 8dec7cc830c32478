"""An mLSTM layer between its two projections, for whole sequences, with gradients.

One node of autograd, one loop a row: convolution, queries, keys and values, gates, memory, norm, skip,
output gate. Kept for the backward pass are its input, the convolution's output, the gates, and the
memory's output with its normaliser. Queries, keys and values of a head live in the cache only.

The gates read queries, keys and values, which are linear in x and its convolution; so their weights are
multiplied with those of the projections first, and they read x and its convolution.

Shapes: B rows, S tokens, F inner width, NH heads, DH width of a head, K width of the convolution, G the
number of gates, 2 NH, padded to a multiple of 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lram.agents.backbones.kernels.compiler import inner_kernel, kernel, put, sigmoid, silu
from lram.agents.backbones.kernels.convolution import before_silu, convolve_row_backward
from lram.agents.backbones.kernels.tiles import COLUMNS, ROWS, UNIT, add_product, blockwise, blockwise_weight
from lram.agents.backbones.sequences import arrays, over_rows
from lram.agents.backbones.xlstm.mlstm_chunks import chunk_of, read_head_chunks, read_head_chunks_backward
from lram.agents.backbones.xlstm.mlstm_head import (
    BLOCK,
    divide_by_normaliser,
    gate_gradients,
    log_weights,
    normaliser_gradient,
    read_head_backward,
    sum_head,
    transpose,
)

if TYPE_CHECKING:
    from lram.agents.backbones.xlstm.mlstm import MLSTMLayer

_EPS = np.float32(1e-5)  # of the norm
_ZERO, _ONE = np.float32(0), np.float32(1)


def can_read(layer: MLSTMLayer) -> bool:
    """Return whether the layer's sizes suit the tiles."""
    inner, heads = len(layer.learnable_skip), layer.mlstm_cell.heads
    return inner // layer.q_proj.weight.shape[0] == 4 and inner // heads % COLUMNS == 0


def read(layer: MLSTMLayer, up: Tensor) -> Tensor:
    """up (B, S, 2 F), the up-projection -> (B, S, F) float32, to be projected down."""
    cell, conv = layer.mlstm_cell, layer.conv1d.conv
    blocks = torch.stack([layer.q_proj.weight, layer.k_proj.weight, layer.v_proj.weight])  # (3, F/4, out, in)
    gate_weight = torch.cat([cell.igate.weight, cell.fgate.weight])
    gates = len(gate_weight)
    for_qkv = gate_weight.view(gates, 3, -1, 4)  # (2 NH, 3, F/4, out)
    for_in = torch.einsum("gpbo,pboi->gpbi", for_qkv, blocks)
    combined = torch.stack([for_in[:, 0] + for_in[:, 1], for_in[:, 2]], dim=1).flatten(2)  # (2 NH, 2, F)
    y: Tensor = _ReadMLSTM.apply(  # type: ignore[no-untyped-call]
        up,
        conv.weight[:, 0].t(),
        conv.bias,
        blocks.permute(0, 3, 1, 2).flatten(2),  # (3, in, F)
        F.pad(combined, (0, 0, 0, 0, 0, -gates % ROWS)),
        torch.cat([cell.igate.bias, cell.fgate.bias]),
        1.0 + cell.outnorm.weight,
        layer.learnable_skip,
    )
    return y


class _ReadMLSTM(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, up: Tensor, *weights: Tensor) -> Tensor:
        up = up.contiguous()
        weights = tuple(weight.contiguous() for weight in weights)
        rows, tokens, inner = up.shape[0], up.shape[1], up.shape[2] // 2
        heads = len(weights[4]) // 2
        convolved, h, out = (up.new_empty(rows, tokens, inner) for _ in range(3))
        gates, norms = up.new_empty(rows, tokens, 2 * heads), up.new_empty(rows, heads, tokens)
        ctx.chunk = chunk_of(tokens, inner // heads)
        over_rows(_read, arrays(up, convolved, gates, norms, h, out), (*arrays(*weights), ctx.chunk))
        ctx.save_for_backward(up, convolved, gates, norms, h, *weights)
        return out

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        up, convolved, gates, norms, h, *weights = ctx.saved_tensors
        planes = weights[2]
        turned = planes.view(3, 4, -1, 4).transpose(1, 3).flatten(2)  # (3, out, F)
        dup = torch.empty_like(up)
        # Each row has its own, and their sum has one order, whatever the number of threads.
        dweights = [up.new_empty(len(up), *weight.shape) for weight in weights]
        over_rows(
            _read_backward,
            arrays(up, convolved, gates, norms, h, dout.contiguous(), dup, *dweights),
            (*arrays(*weights, turned.contiguous()), ctx.chunk),
        )
        return (dup, *(dweight.sum(dim=0) for dweight in dweights))


@inner_kernel
def _project(
    x: Any, first: int, stride: int, planes: Any, plane: int, inner: int, y: Any, tokens: int, width: int
) -> None:
    """Add to y (P, DH) the block-diagonal product of x; planes (3, 4, F), from ``plane`` on."""
    for t in range(tokens):
        for c in range(0, width, COLUMNS):
            blockwise(x, first + t * stride + c, planes, plane + c, inner, y, t * width + c)


@inner_kernel
def _queries_keys_values(
    up: Any, convolved: Any, first: int, planes: Any, tokens: int, inner: int, q: Any, k: Any, v: Any
) -> None:
    width = len(q) // ((tokens + COLUMNS - 1) // COLUMNS * COLUMNS)
    q[:], k[:], v[:] = _ZERO, _ZERO, _ZERO
    _project(convolved, first, inner, planes, first, inner, q, tokens, width)
    _project(convolved, first, inner, planes, 4 * inner + first, inner, k, tokens, width)
    _project(up, first, 2 * inner, planes, 8 * inner + first, inner, v, tokens, width)


@inner_kernel
def _normalize(h: Any, heads: int, normed: Any, inverses: Any) -> None:
    """h (F,) -> normed (F,), zero mean and unit variance in each head; one over the deviations (NH,)."""
    width = len(h) // heads
    for head in range(heads):
        x, y = h[head * width : (head + 1) * width], normed[head * width : (head + 1) * width]
        mean, variance = _ZERO, _ZERO
        for e in range(width):
            mean += x[e]
        mean /= np.float32(width)
        for e in range(width):
            variance += (x[e] - mean) * (x[e] - mean)
        inverse = _ONE / np.sqrt(variance / np.float32(width) + _EPS)
        for e in range(width):
            y[e] = (x[e] - mean) * inverse
        inverses[head] = inverse


@kernel
def _read(  # type: ignore[no-untyped-def]
    up,
    convolved,
    gates,
    norms,
    h,
    out,
    conv_weight,
    conv_bias,
    planes,
    gate_weight,
    gate_bias,
    scale,
    skip,
    chunk,
) -> None:
    """up (B, S, 2 F) -> convolved, h, out (B, S, F), gates (B, S, 2 NH), norms (B, NH, S).

    For no ``chunk`` numba compiles no code that reads in chunks.
    """
    rows, tokens, inner = out.shape
    heads = norms.shape[1]
    width, padded = inner // heads, (tokens + COLUMNS - 1) // COLUMNS * COLUMNS
    q = np.empty(padded * width, np.float32)
    k, v, kT, own = np.empty_like(q), np.empty_like(q), np.empty_like(q), np.empty_like(q)
    strip = np.empty(ROWS * padded, np.float32)
    a, most, log_scale = np.empty(tokens), np.empty(tokens), np.empty(tokens)
    peak = np.empty(tokens, np.int64)
    normed, inverses = np.empty(inner, np.float32), np.empty(heads, np.float32)
    flat_planes = planes.reshape(-1)
    for row in range(rows):
        flat_up, flat_convolved = up[row].reshape(-1), convolved[row].reshape(-1)
        for t in range(tokens):
            y, x = convolved[row, t], up[row, t]
            before_silu(up[row], t, conv_weight, conv_bias, y)
            for c in range(inner):
                y[c] = silu(y[c])
            for gate in range(2 * heads):
                total, for_y, for_x = _ZERO, gate_weight[gate, 0], gate_weight[gate, 1]
                for c in range(inner):
                    total += for_y[c] * y[c] + for_x[c] * x[c]
                gates[row, t, gate] = gate_bias[gate] + total
        for head in range(heads):
            first = head * width
            _queries_keys_values(flat_up, flat_convolved, first, flat_planes, tokens, inner, q, k, v)
            log_weights(gates[row], head, heads, a, most, log_scale, peak)
            if chunk is not None:
                read_head_chunks(q, k, v, a, most, log_scale, tokens, width, norms[row, head], own)
            else:
                transpose(k, kT, padded, width)
                sum_head(q, kT, v, a, most, tokens, strip, norms[row, head], own)
                divide_by_normaliser(norms[row, head], log_scale, tokens, width, own)
            for t in range(tokens):
                put(own[t * width : (t + 1) * width], h[row, t, first : first + width])
        for t in range(tokens):
            _normalize(h[row, t], heads, normed, inverses)
            y, z, out_t = convolved[row, t], up[row, t, inner:], out[row, t]
            for c in range(inner):
                out_t[c] = (normed[c] * scale[c] + skip[c] * y[c]) * silu(z[c])


@inner_kernel
def _gate_and_norm_backward(  # type: ignore[no-untyped-def]
    h, y, z, dout, scale, skip, dz, dy, dscale, dskip, dh, dots, work, normed, inverses
) -> None:
    """One token, all (F,). -> dz, dy, dh, and dh times h of each head, dots (NH,); added to dscale, dskip."""
    inner, heads = len(h), len(dots)
    width = inner // heads
    _normalize(h, heads, normed, inverses)
    # Many short loops: with more arrays at once LLVM finds too many that could overlap.
    for c in range(inner):
        work[c] = sigmoid(z[c])
    for c in range(inner):
        dy[c] = dout[c] * z[c] * work[c]  # of what the gate multiplies
    for c in range(inner):
        dz[c] = dout[c] * work[c] * (_ONE + z[c] * (_ONE - work[c]))
    for c in range(inner):
        work[c] = normed[c] * scale[c] + skip[c] * y[c]
    for c in range(inner):
        dz[c] *= work[c]
    for c in range(inner):
        dskip[c] += dy[c] * y[c]
    for c in range(inner):
        dscale[c] += dy[c] * normed[c]
    for c in range(inner):
        work[c] = dy[c] * scale[c]
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        slope, x, own, target = work[part], normed[part], h[part], dh[part]
        total, along, dot = _ZERO, _ZERO, _ZERO
        for e in range(width):
            total += slope[e]
            along += slope[e] * x[e]
        total, along = total / np.float32(width), along / np.float32(width)
        inverse = inverses[head]
        for e in range(width):
            value = inverse * (slope[e] - total - x[e] * along)
            target[e] = value
            dot += value * own[e]
        dots[head] = dot
    for c in range(inner):
        dy[c] *= skip[c]


@inner_kernel
def _project_backward(
    x: Any,
    first: int,
    stride: int,
    dy: Any,
    turned: Any,
    plane: int,
    inner: int,
    dx: Any,
    dx_first: int,
    dplanes: Any,
    tokens: int,
    width: int,
) -> None:
    """dy (P, DH) of :func:`_project` -> added to dx (P, F) from ``dx_first`` on, and to dplanes."""
    for t in range(tokens):
        for c in range(0, width, COLUMNS):
            blockwise(dy, t * width + c, turned, plane + c, inner, dx, dx_first + t * inner + c)
            blockwise_weight(x, first + t * stride + c, dy, t * width + c, dplanes, plane + c, inner)


@kernel
def _read_backward(  # type: ignore[no-untyped-def]
    up,
    convolved,
    gates,
    norms,
    h,
    dout,
    dup,
    dconv_weight,
    dconv_bias,
    dplanes,
    dgate_weight,
    dgate_bias,
    dscale,
    dskip,
    conv_weight,
    conv_bias,
    planes,
    gate_weight,
    gate_bias,
    scale,
    skip,
    turned,
    chunk,
) -> None:
    """dout (B, S, F) -> dup (B, S, 2 F), and the gradients of the weights of each row (B, ...)."""
    rows, tokens, inner = dout.shape
    heads, count = norms.shape[1], gate_weight.shape[0]
    width, padded = inner // heads, (tokens + COLUMNS - 1) // COLUMNS * COLUMNS
    q = np.empty(padded * width, np.float32)
    k, v, kT, vT = np.empty_like(q), np.empty_like(q), np.empty_like(q), np.empty_like(q)
    dq, dk, dv, dnum = np.empty_like(q), np.empty_like(q), np.empty_like(q), np.zeros_like(q)
    weights, dscores = np.empty(BLOCK * padded, np.float32), np.empty(BLOCK * padded, np.float32)
    a, most, log_scale, da = np.empty(tokens), np.empty(tokens), np.empty(tokens), np.empty(tokens)
    peak = np.empty(tokens, np.int64)
    dnorms, dlog_scale = np.empty(tokens, np.float32), np.empty(tokens, np.float32)
    normed, before, inverses = (
        np.empty(inner, np.float32),
        np.empty(inner, np.float32),
        np.empty(heads, np.float32),
    )
    dh, dots = np.empty((tokens, inner), np.float32), np.empty((tokens, heads), np.float32)
    dx, dy = np.empty((padded, inner), np.float32), np.empty((padded, inner), np.float32)
    flat_dx, flat_dy = dx.reshape(-1), dy.reshape(-1)
    dgates = np.zeros((padded, count), np.float32)
    flat_dgates = dgates.reshape(-1)
    flat_planes, flat_turned, flat_gate_weight = (
        planes.reshape(-1),
        turned.reshape(-1),
        gate_weight.reshape(-1),
    )
    for row in range(rows):
        flat_up, flat_convolved = up[row].reshape(-1), convolved[row].reshape(-1)
        flat_dplanes, flat_dgate_weight = dplanes[row].reshape(-1), dgate_weight[row].reshape(-1)
        flat_dplanes[:], flat_dgate_weight[:] = _ZERO, _ZERO
        dscale[row], dskip[row] = _ZERO, _ZERO
        flat_dx[:] = _ZERO
        for t in range(tokens):
            _gate_and_norm_backward(
                h[row, t],
                convolved[row, t],
                up[row, t, inner:],
                dout[row, t],
                scale,
                skip,
                dup[row, t, inner:],
                dy[t],
                dscale[row],
                dskip[row],
                dh[t],
                dots[t],
                before,
                normed,
                inverses,
            )
        for head in range(heads):
            first = head * width
            _queries_keys_values(flat_up, flat_convolved, first, flat_planes, tokens, inner, q, k, v)
            log_weights(gates[row], head, heads, a, most, log_scale, peak)
            for t in range(tokens):
                inverse, dnorms[t], dlog_scale[t] = normaliser_gradient(
                    dots[t, head], norms[row, head, t], log_scale[t]
                )
                source, target = dh[t, first : first + width], dnum[t * width : (t + 1) * width]
                for e in range(width):
                    target[e] = source[e] * inverse
            dq[:], dk[:], dv[:] = _ZERO, _ZERO, _ZERO
            if chunk is not None:
                read_head_chunks_backward(
                    q,
                    k,
                    v,
                    a,
                    most,
                    peak,
                    tokens,
                    width,
                    dnum,
                    dnorms,
                    dlog_scale,
                    dq,
                    dk,
                    dv,
                    da,
                )
            else:
                transpose(k, kT, padded, width)
                transpose(v, vT, padded, width)
                read_head_backward(
                    q,
                    k,
                    kT,
                    vT,
                    a,
                    most,
                    peak,
                    tokens,
                    dnum,
                    dnorms,
                    dlog_scale,
                    weights,
                    dscores,
                    dq,
                    dk,
                    dv,
                    da,
                )
            gate_gradients(gates[row], head, heads, da, dlog_scale, dgates)
            places = (flat_dy, first, flat_dplanes, tokens, width)
            _project_backward(flat_convolved, first, inner, dq, flat_turned, first, inner, *places)
            _project_backward(
                flat_convolved, first, inner, dk, flat_turned, 4 * inner + first, inner, *places
            )
            _project_backward(
                flat_up, first, 2 * inner, dv, flat_turned, 8 * inner + first, inner, flat_dx, *places[1:]
            )

        for gate in range(2 * heads):
            total = _ZERO
            for t in range(tokens):
                total += dgates[t, gate]
            dgate_bias[row, gate] = total
        for gate in range(0, count, ROWS):
            source, target = flat_dgates[gate:], flat_dgate_weight[gate * 2 * inner :]
            add_product(source, UNIT, count, flat_convolved, inner, target, 2 * inner, inner, tokens)
            add_product(source, UNIT, count, flat_up, 2 * inner, target[inner:], 2 * inner, inner, tokens)
        for t in range(0, tokens, ROWS):
            source, at = flat_dgates[t * count :], t * inner
            for_x = flat_gate_weight[inner:]
            add_product(source, count, UNIT, flat_gate_weight, 2 * inner, flat_dy[at:], inner, inner, count)
            add_product(source, count, UNIT, for_x, 2 * inner, flat_dx[at:], inner, inner, count)
        convolve_row_backward(
            up[row],
            dy[:tokens],
            dx[:tokens],
            dconv_weight[row],
            dconv_bias[row],
            conv_weight,
            conv_bias,
            before,
        )
        for t in range(tokens):
            source, target = dx[t], dup[row, t]
            for c in range(inner):
                target[c] = source[c]
