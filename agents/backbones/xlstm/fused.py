"""The fused step of an xLSTM.

A pass over an mLSTM block is a product (up-projection), one loop a row, and a product (down-projection
with the residual). The loop reads and writes the matrix memory once for three tokens: with F_t the
product of the forget gates up to token t, and A_ts the weight of token s at token t, both scaled by
e^-m as in the recurrence,

    h_t = F_t q_t C + sum_s A_ts (q_t k_s) v_s        C <- F_T C + sum_s A_Ts k_s v_s

which is the recurrence unrolled. Passes of more tokens go in groups of three.

Shapes: B rows, T tokens of a pass, D width, NH heads, F inner width, DH width of a head, K kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lram.agents.backbones.kernels.compiler import (
    exp,
    inner_kernel,
    kernel,
    prefetch,
    put,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from lram.agents.backbones.kernels.linear import PackedLinear
from lram.agents.backbones.sequences import arrays, over_rows
from lram.agents.backbones.states import State
from lram.agents.backbones.xlstm.layers import EPS, Norm
from lram.agents.backbones.xlstm.mlstm import MLSTMBlock
from lram.agents.backbones.xlstm.plain import XLSTM
from lram.agents.backbones.xlstm.slstm import SLSTMBlock

MOST_TOKENS = 16
"""Longer passes are read by the plain step, in chunks: it has more arithmetic for each byte."""

_GROUP = 3
# Rows of the memory are asked for this many places ahead (of 0, 4, 8 and 16 the fastest: 0.8 of the
# time of 0 when they come from memory).
_AHEAD = 8
_LINE = 16  # float32 in a cache line
_EPS = np.float32(1e-5)  # of every norm
_FLOOR = np.float32(1e-6)  # of the normaliser
_ZERO, _ONE = np.float32(0), np.float32(1)


class FusedXLSTM:
    """Called like :meth:`lram.agents.backbones.xlstm.plain.XLSTM.step`; for the weights as they are now."""

    def __init__(self, backbone: XLSTM, rows: int) -> None:
        self.backbone = backbone
        self.blocks = [
            _FusedMLSTM(block, rows) if isinstance(block, MLSTMBlock) else _FusedSLSTM(block, rows)
            for block in cast("Sequence[MLSTMBlock | SLSTMBlock]", backbone.blocks)
        ]
        self.norm = _normed(backbone.post_blocks_norm)

    def __call__(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :class:`lram.agents.backbones.contract.Backbone`."""
        rows, tokens, width = x.shape
        if tokens > MOST_TOKENS:
            return self.backbone.step(x, state, valid)
        mask = np.ones((rows, tokens), dtype=np.bool_) if valid is None else valid.contiguous().numpy()
        # Views, as the plain step may return them, too: the kernels would be compiled once more for them.
        x = x.reshape(rows * tokens, width).contiguous()
        state = [tuple(part.contiguous() for part in block_state) for block_state in state]
        for block, block_state in zip(self.blocks, state, strict=True):
            x = block(x, block_state, mask)
        return self.norm(x).view(rows, tokens, width), state


class _FusedMLSTM:
    """x + mLSTM(norm(x)), the state in place."""

    def __init__(self, block: MLSTMBlock, rows: int) -> None:
        layer = block.xlstm
        self.norm = _normed(block.xlstm_norm)
        self.up = PackedLinear.of(layer.proj_up, rows)
        self.down = PackedLinear.of(layer.proj_down, rows)
        cell = layer.mlstm_cell
        gates = torch.cat([cell.igate.weight, cell.fgate.weight])  # (2 NH, 3 F)
        self.weights = (
            *_conv(layer.conv1d.conv),
            *(_planes(part.weight) for part in (layer.q_proj, layer.k_proj, layer.v_proj)),
            _array(gates.view(len(gates), 3, -1)),
            _array(torch.cat([cell.igate.bias, cell.fgate.bias])),
            _array(_scale(cell.outnorm)),
            _array(layer.learnable_skip),
        )

    def __call__(self, x: Tensor, state: Any, mask: Any) -> Tensor:
        """x: (B T, D) -> the same."""
        up = self.up(self.norm(x))
        h = x.new_empty(len(x), up.shape[1] // 2)
        by_row = (
            up.numpy().reshape(*mask.shape, -1),
            mask,
            *arrays(*state),
            h.numpy().reshape(*mask.shape, -1),
        )
        over_rows(_mlstm, by_row, self.weights)
        return self.down.add_to(x, h)


class _FusedSLSTM:
    """x + sLSTM(norm(x)), then x + feed-forward(norm(x)), the state in place."""

    def __init__(self, block: SLSTMBlock, rows: int) -> None:
        layer, cell = block.xlstm, block.xlstm.slstm_cell
        self.norm, self.ffn_norm = _normed(block.xlstm_norm), _normed(block.ffn_norm)
        self.up = PackedLinear.of(block.ffn.proj_up, rows)
        self.down = PackedLinear.of(block.ffn.proj_down, rows)
        heads = cell._recurrent_kernel_.shape[0]
        # (gate i f z o, NH, DH out, DH in); the names of the first two are swapped, see SLSTMLayer.
        gates = torch.stack([part.weight for part in (layer.fgate, layer.igate, layer.zgate, layer.ogate)])
        self.weights = (
            *_conv(layer.conv1d.conv),
            _array(gates),
            _array(cell._recurrent_kernel_.view(heads, 4, gates.shape[2], -1)),
            _array(cell._bias_.view(4, -1)),
            _array(_scale(layer.group_norm)),
        )

    def __call__(self, x: Tensor, state: Any, mask: Any) -> Tensor:
        """x: (B T, D) -> the same."""
        normed = self.norm(x)
        y = torch.empty_like(x)
        given, read, out = (part.numpy().reshape(*mask.shape, -1) for part in (x, normed, y))
        over_rows(_slstm, (given, read, mask, *arrays(*state), out), self.weights)
        gate, up = self.up(self.ffn_norm(y)).chunk(2, dim=-1)
        return self.down.add_to(y, F.gelu(gate) * up)


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().clone().numpy()


def _normed(norm: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what norms (B T, D) as ``norm`` does, for its weight as it is now."""
    assert isinstance(norm, Norm)
    scale = _scale(norm)
    if norm.rms:
        return lambda x: F.rms_norm(x, scale.shape, scale, EPS)
    return lambda x: F.layer_norm(x, scale.shape, scale)


def _scale(norm: torch.nn.Module) -> Tensor:
    return 1.0 + norm.weight.detach()  # type: ignore[operator]


def _conv(conv: torch.nn.Conv1d) -> tuple[Any, Any]:
    assert conv.bias is not None
    return _array(conv.weight[:, 0].T), _array(conv.bias)  # (K, channels), (channels,)


def _planes(blocks: Tensor) -> Any:
    """(blocks, out, in) -> (out, in, blocks), so that a loop over the blocks reads in order."""
    return _array(blocks.permute(1, 2, 0))


@inner_kernel
def _convolve(x: Any, here: Any, past: Any, weight: Any, bias: Any, inputs: Any, y: Any) -> None:
    """Causal convolution and SiLU of the valid tokens ``here`` of x (T, C) -> y (len(here), C)."""
    kept, channels = past.shape
    count = len(here)
    for place in range(kept):
        put(past[place], inputs[place])
    for place in range(count):
        put(x[here[place], :channels], inputs[kept + place])
    for place in range(count):
        out = y[place]
        if kept == 3:  # the usual kernel of 4 taps, in one run
            w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
            x0, x1, x2, x3 = inputs[place], inputs[place + 1], inputs[place + 2], inputs[place + 3]
            for c in range(channels):
                out[c] = silu(bias[c] + w0[c] * x0[c] + w1[c] * x1[c] + w2[c] * x2[c] + w3[c] * x3[c])
            continue
        put(bias, out)
        for tap in range(kept + 1):
            taps, source = weight[tap], inputs[place + tap]
            for c in range(channels):
                out[c] += taps[c] * source[c]
        for c in range(channels):
            out[c] = silu(out[c])
    for place in range(kept):
        put(inputs[count + place], past[place])


@inner_kernel
def _headwise(x: Any, planes: Any, y: Any) -> None:
    """Block-diagonal product of one token: x (F,), planes (Q, Q, F / Q) -> y (F,)."""
    size, _, blocks = planes.shape
    if size == 4:
        for b in range(blocks):
            x0, x1, x2, x3 = x[4 * b], x[4 * b + 1], x[4 * b + 2], x[4 * b + 3]
            y[4 * b] = (
                planes[0, 0, b] * x0 + planes[0, 1, b] * x1 + planes[0, 2, b] * x2 + planes[0, 3, b] * x3
            )
            y[4 * b + 1] = (
                planes[1, 0, b] * x0 + planes[1, 1, b] * x1 + planes[1, 2, b] * x2 + planes[1, 3, b] * x3
            )
            y[4 * b + 2] = (
                planes[2, 0, b] * x0 + planes[2, 1, b] * x1 + planes[2, 2, b] * x2 + planes[2, 3, b] * x3
            )
            y[4 * b + 3] = (
                planes[3, 0, b] * x0 + planes[3, 1, b] * x1 + planes[3, 2, b] * x2 + planes[3, 3, b] * x3
            )
        return
    for b in range(blocks):
        for out in range(size):
            total = _ZERO
            for place in range(size):
                total += planes[out, place, b] * x[size * b + place]
            y[size * b + out] = total


@inner_kernel
def _dot(a: Any, b: Any) -> Any:
    total = _ZERO
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@inner_kernel
def _read_and_write(C: Any, q: Any, w: Any, v0: Any, v1: Any, v2: Any, decay: Any, out: Any) -> None:
    """out (3, DH) = q (3, DH) C; C (DH, DH) <- decay C + w^T v, in one run over C; w (3, DH)."""
    values = C.shape[1]
    out[:] = 0
    out0, out1, out2 = out[0], out[1], out[2]
    for d in range(C.shape[0]):
        for e in range(0, values, _LINE):
            prefetch(C, d + _AHEAD, e)
        row = C[d]
        q0, q1, q2, w0, w1, w2 = q[0, d], q[1, d], q[2, d], w[0, d], w[1, d], w[2, d]
        for e in range(values):
            c = row[e]
            out0[e] += q0 * c
            out1[e] += q1 * c
            out2[e] += q2 * c
            row[e] = decay * c + w0 * v0[e] + w1 * v1[e] + w2 * v2[e]


@inner_kernel
def _normalize(x: Any, scale: Any, y: Any) -> None:
    """LayerNorm of one part: x (N,) -> y (N,)."""
    mean = _ZERO
    for j in range(len(x)):
        mean += x[j]
    mean /= np.float32(len(x))
    variance = _ZERO
    for j in range(len(x)):
        variance += (x[j] - mean) * (x[j] - mean)
    factor = _ONE / np.sqrt(variance / np.float32(len(x)) + _EPS)
    for j in range(len(x)):
        y[j] = (x[j] - mean) * factor * scale[j]


@kernel
def _mlstm(
    up: Any,
    mask: Any,
    C: Any,
    n: Any,
    m: Any,
    past: Any,
    h: Any,
    conv_weight: Any,
    conv_bias: Any,
    q_planes: Any,
    k_planes: Any,
    v_planes: Any,
    gate_weight: Any,
    gate_bias: Any,
    norm: Any,
    skip: Any,
) -> None:
    """All between the projections: up (B, T, 2 F) -> h (B, T, F); C, n, m, past change in place."""
    rows, tokens, inner = up.shape[0], up.shape[1], up.shape[2] // 2
    heads, width = n.shape[1], n.shape[2]
    most = (tokens + _GROUP - 1) // _GROUP * _GROUP
    inputs = np.empty((past.shape[1] + tokens, inner), np.float32)
    conv = np.empty((tokens, inner), np.float32)
    # Whole groups: what is behind the last token stays zero and adds nothing.
    q = np.zeros((most, inner), np.float32)
    k, v = np.zeros_like(q), np.zeros_like(q)
    gates = np.empty((most, 2 * heads), np.float32)
    weighted = np.empty((_GROUP, width), np.float32)
    read = np.empty((_GROUP, width), np.float32)
    for row in range(rows):
        h[row] = 0
        here = np.flatnonzero(mask[row])
        count = len(here)
        if count == 0:
            continue
        _convolve(up[row], here, past[row], conv_weight, conv_bias, inputs, conv)
        q[count:], k[count:], v[count:] = 0, 0, 0
        for place in range(count):
            _headwise(conv[place], q_planes, q[place])
            _headwise(conv[place], k_planes, k[place])
            _headwise(up[row, here[place], :inner], v_planes, v[place])
        for gate in range(2 * heads):
            for_q, for_k, for_v = gate_weight[gate, 0], gate_weight[gate, 1], gate_weight[gate, 2]
            for place in range(count):
                total = _dot(for_q, q[place]) + _dot(for_k, k[place]) + _dot(for_v, v[place])
                gates[place, gate] = gate_bias[gate] + total
        for first in range(0, count, _GROUP):
            group = slice(first, first + _GROUP)
            size = min(_GROUP, count - first)
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                memory = (C[row, head], n[row, head], m[row, head : head + 1])
                i, f = gates[group, head], gates[group, heads + head]
                _mlstm_group(q[group], k[group], v[group], i[:size], f[:size], part, memory, weighted, read)
                for t in range(size):
                    _normalize(read[t], norm[part], h[row, here[first + t], part])
        for place in range(count):
            out, skipped, gate_z = h[row, here[place]], conv[place], up[row, here[place], inner:]
            for c in range(inner):
                out[c] = (out[c] + skip[c] * skipped[c]) * silu(gate_z[c])


@inner_kernel
def _mlstm_group(
    q: Any, k: Any, v: Any, i: Any, f: Any, part: Any, memory: Any, weighted: Any, read: Any
) -> None:
    """Up to three tokens of the head at ``part``: q, k, v (3, F), raw gates i, f -> read (3, DH).

    The memory C (DH, DH), n (DH,), m (1,) changes in place.
    """
    C, n, m = memory
    count, width = len(i), len(n)
    k_scale = np.float32(1 / math.sqrt(width))
    v0, v1, v2 = v[0, part], v[1, part], v[2, part]
    weights = np.zeros((_GROUP, _GROUP), np.float32)  # A_ts
    decay = np.zeros(_GROUP, np.float32)  # F_t
    floor = np.zeros(_GROUP, np.float32)  # e^-m_t
    scale, kept = m[0], _ONE
    for t in range(count):
        log_f = -softplus(-f[t])
        new_scale = max(log_f + scale, i[t])
        forget = exp(log_f + scale - new_scale)
        for s in range(t):
            weights[t, s] = forget * weights[t - 1, s]
        weights[t, t] = exp(i[t] - new_scale)
        kept *= forget
        decay[t], scale = kept, new_scale
        floor[t] = exp(-scale)
    m[0] = scale

    for s in range(_GROUP):
        w, source, target = weights[count - 1, s] * k_scale, k[s, part], weighted[s]
        for d in range(width):
            target[d] = w * source[d]
    scores = np.zeros((_GROUP, _GROUP), np.float32)
    normalizer = np.zeros(_GROUP, np.float32)
    for t in range(count):
        normalizer[t] = decay[t] * _dot(q[t, part], n)
        for s in range(t + 1):
            scores[t, s] = weights[t, s] * k_scale * _dot(q[t, part], k[s, part])
            normalizer[t] += scores[t, s]
    w0, w1, w2 = weighted[0], weighted[1], weighted[2]
    for d in range(width):
        n[d] = decay[count - 1] * n[d] + w0[d] + w1[d] + w2[d]
    _read_and_write(C, q[:, part], weighted, v0, v1, v2, decay[count - 1], read)
    for t in range(count):
        factor = _ONE / (max(abs(normalizer[t]), floor[t]) + _FLOOR)
        past, s0, s1, s2 = decay[t] * factor, scores[t, 0], scores[t, 1], scores[t, 2]
        s0, s1, s2 = s0 * factor, s1 * factor, s2 * factor
        out = read[t]
        for e in range(width):
            out[e] = past * out[e] + s0 * v0[e] + s1 * v1[e] + s2 * v2[e]


@kernel
def _slstm(
    x: Any,
    normed: Any,
    mask: Any,
    y: Any,
    c: Any,
    n: Any,
    m: Any,
    past: Any,
    out: Any,
    conv_weight: Any,
    conv_bias: Any,
    gate_weight: Any,
    recurrent: Any,
    bias: Any,
    norm: Any,
) -> None:
    """x + norm(sLSTM(normed)): x, normed (B, T, D) -> out (B, T, D); y, c, n, m, past in place."""
    rows, tokens, inner = x.shape
    _, heads, width, _ = gate_weight.shape
    inputs = np.empty((past.shape[1] + tokens, inner), np.float32)
    conv = np.empty((tokens, inner), np.float32)
    raw = np.empty((tokens, 4, inner), np.float32)
    hidden = np.empty(inner, np.float32)
    for row in range(rows):
        for token in range(tokens):
            put(x[row, token], out[row, token])
        here = np.flatnonzero(mask[row])
        if len(here) == 0:
            continue
        _convolve(normed[row], here, past[row], conv_weight, conv_bias, inputs, conv)
        for gate in range(4):
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                for d in range(width):
                    weight = gate_weight[gate, head, d]
                    for place in range(len(here)):
                        source = conv[place] if gate < 2 else normed[row, here[place]]
                        raw[place, gate, head * width + d] = _dot(weight, source[part])
        for place in range(len(here)):
            for head in range(heads):
                before = y[row, head * width : (head + 1) * width]
                for gate in range(4):
                    for d in range(width):
                        at = head * width + d
                        raw[place, gate, at] += bias[gate, at] + _dot(recurrent[head, gate, d], before)
            _slstm_token(raw[place], y[row], c[row], n[row], m[row])
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                _normalize(y[row, part], norm[part], hidden[part])
            target = out[row, here[place]]
            for d in range(inner):
                target[d] += hidden[d]


@inner_kernel
def _slstm_token(raw: Any, y: Any, c: Any, n: Any, m: Any) -> None:
    """The recurrence: raw gates i, f, z, o (4, D); y, c, n, m (D,) in place."""
    i_raw, f_raw, z_raw, o_raw = raw[0], raw[1], raw[2], raw[3]
    for d in range(len(y)):
        log_f = m[d] - softplus(-f_raw[d])
        # A fresh memory takes the input gate as its scale.
        scale = i_raw[d] if n[d] == _ZERO else max(i_raw[d], log_f)
        i, f = exp(min(i_raw[d] - scale, _ZERO)), exp(min(log_f - scale, _ZERO))
        cell, count = f * c[d] + i * tanh(z_raw[d]), f * n[d] + i
        y[d] = sigmoid(o_raw[d]) * cell / count
        c[d], n[d], m[d] = cell, count, scale
