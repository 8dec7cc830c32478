"""Kernels of RWKV-7: interpolation with the token before, the next tokens of the recurrence, squared ReLU.

Shapes: B rows, S tokens, T tokens of a pass, D width, H heads, M width of a head, I inputs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lram.agents.backbones.kernels.compiler import exp, kernel, sigmoid
from lram.agents.backbones.kernels.matrix_memory import correct_write_and_read, held

_ZERO, _ONE = np.float32(0), np.float32(1)
_FASTEST, _SHORTEST, _EPS = np.float32(math.exp(-0.5)), np.float32(1e-12), np.float32(64e-5)


@kernel
def mix(x: Any, y: Any, weight: Any) -> None:
    """x (B, S, D), weight (D,) -> y (B, S, D) = x + (x' - x) weight, x' the token before."""
    rows, tokens, D = x.shape
    for row in range(rows):
        for token in range(tokens):
            new, out = x[row, token], y[row, token]
            if token == 0:
                for c in range(D):
                    out[c] = new[c] - new[c] * weight[c]
                continue
            old = x[row, token - 1]
            for c in range(D):
                out[c] = new[c] + (old[c] - new[c]) * weight[c]


@kernel
def mix_backward(x: Any, dy: Any, dx: Any, dweight: Any, weight: Any) -> None:
    """dy (B, S, D) -> added to dx (B, S, D); dweight (B, D) of each row, written."""
    rows, tokens, D = x.shape
    for row in range(rows):
        total = dweight[row]
        for c in range(D):
            total[c] = -dy[row, 0, c] * x[row, 0, c]
            dx[row, 0, c] += dy[row, 0, c] * (_ONE - weight[c])
        for token in range(1, tokens):
            new, old, slope = x[row, token], x[row, token - 1], dy[row, token]
            for_new, for_old = dx[row, token], dx[row, token - 1]
            for c in range(D):
                part = slope[c] * weight[c]
                total[c] += slope[c] * (old[c] - new[c])
                for_new[c] += slope[c] - part
                for_old[c] += part


@kernel
def mix_next(x: Any, last: Any, valid: Any, weight: Any, y: Any) -> None:
    """x (B, T, D), valid (B, T), weight (I, D) -> y (I, B, T, D); last (B, D) in place.

    y is x where there is no token.
    """
    rows, tokens, D = x.shape
    for row in range(rows):
        old = last[row]
        for token in range(tokens):
            new = x[row, token]
            for i in range(len(weight)):
                own, out = weight[i], y[i, row, token]
                for c in range(D):
                    out[c] = new[c] + (old[c] - new[c]) * own[c]
            if valid[row, token]:
                for c in range(D):
                    old[c] = new[c]


@kernel
def square_relu(x: Any) -> None:
    """relu(x)^2 of x (N,), in place."""
    for c in range(len(x)):
        value = max(x[c], _ZERO) if x[c] == x[c] else x[c]  # NaN stays
        x[c] = value * value


@kernel
def advance(
    r: Any,
    k: Any,
    v: Any,
    decay: Any,
    rate: Any,
    gate: Any,
    first: Any,
    share: Any,
    weights: Any,
    valid: Any,
    S: Any,
    value: Any,
    out: Any,
) -> None:
    """The tokens (B, T, D) that ``valid`` (B, T) has -> value, out (B, T, D); S (B, H, M, M) in place.

    first and share, of the first block's value, are (0, T, D) in that block. weights (5, D): the key's scale,
    the rate's share in the key, the bonus, and the norm's weight and bias. out is zero where there is no
    token.
    """
    rows, tokens, _ = r.shape
    heads, M = S.shape[1:3]
    mixed = len(first) > 0
    w, a, b = np.empty(M, np.float32), np.empty(M, np.float32), np.empty(M, np.float32)
    key, before = np.empty(M, np.float32), np.empty(M, np.float32)
    for row in range(rows):
        for head in range(heads):
            own, at = S[row, head], slice(head * M, (head + 1) * M)
            k_scale, k_rate, bonus = weights[0, at], weights[1, at], weights[2, at]
            norm_weight, norm_bias = weights[3, at], weights[4, at]
            for token in range(tokens):
                y, v_t, new = out[row, token, at], v[row, token, at], value[row, token, at]
                if mixed:
                    v_first, v_share = first[row, token, at], share[row, token, at]
                    for i in range(M):
                        new[i] = v_t[i] + (v_first[i] - v_t[i]) * sigmoid(v_share[i])
                else:
                    for i in range(M):
                        new[i] = v_t[i]
                if not valid[row, token]:
                    for i in range(M):
                        y[i] = _ZERO
                    continue
                r_t, k_t, g_t = r[row, token, at], k[row, token, at], gate[row, token, at]
                decay_t, rate_t = decay[row, token, at], rate[row, token, at]
                length = _ZERO
                for i in range(M):
                    a[i] = k_t[i] * k_scale[i]
                    length += a[i] * a[i]
                shorten = _ONE / max(np.sqrt(length), _SHORTEST)
                read = _ZERO
                for i in range(M):
                    strength = sigmoid(rate_t[i])
                    a[i] *= shorten
                    b[i] = -a[i] * strength
                    key[i] = k_t[i] * (_ONE + (strength - _ONE) * k_rate[i])
                    w[i] = exp(-_FASTEST * sigmoid(decay_t[i]))
                    read += r_t[i] * key[i] * bonus[i]
                held(own, a, before)
                correct_write_and_read(own, r_t, key, new, w, b, before, y)
                mean = _ZERO
                for i in range(M):
                    mean += y[i]
                mean /= np.float32(M)
                variance = _ZERO
                for i in range(M):
                    variance += (y[i] - mean) * (y[i] - mean)
                scale = _ONE / np.sqrt(variance / np.float32(M) + _EPS)
                for i in range(M):
                    normed = (y[i] - mean) * scale * norm_weight[i] + norm_bias[i]
                    y[i] = (normed + read * new[i]) * g_t[i]
