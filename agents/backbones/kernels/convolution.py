"""Causal convolution of each channel, with SiLU or without: whole sequences, and the next tokens.

Shapes: B rows, S tokens, T tokens of a pass, C channels, K width of the convolution. ``x`` may have more
channels than C: the first C are read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lram.agents.backbones.kernels.compiler import inner_kernel, kernel, sigmoid, silu

_ZERO, _ONE = np.float32(0), np.float32(1)


@inner_kernel
def before_silu(x: Any, token: int, weight: Any, bias: Any, out: Any) -> None:
    """x (S, >= C) -> out (C,), the convolution at ``token``."""
    K, C = weight.shape
    if K == 4 and token >= 3:
        w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
        x0, x1, x2, x3 = x[token - 3], x[token - 2], x[token - 1], x[token]
        for c in range(C):
            out[c] = bias[c] + w0[c] * x0[c] + w1[c] * x1[c] + w2[c] * x2[c] + w3[c] * x3[c]
        return
    for c in range(C):
        out[c] = bias[c]
    for tap in range(max(0, K - 1 - token), K):
        taps, source = weight[tap], x[token - (K - 1) + tap]
        for c in range(C):
            out[c] += taps[c] * source[c]


@kernel
def convolve(x: Any, y: Any, weight: Any, bias: Any) -> None:
    """x (B, S, >= C), weight (K, C), bias (C,) -> y (B, S, C), with SiLU."""
    rows, tokens, C = y.shape
    for row in range(rows):
        for token in range(tokens):
            out = y[row, token]
            before_silu(x[row], token, weight, bias, out)
            for c in range(C):
                out[c] = silu(out[c])


@kernel
def convolve_backward(x: Any, dy: Any, dx: Any, dweight: Any, dbias: Any, weight: Any, bias: Any) -> None:
    """dy (B, S, C) -> dx (B, S, >= C; the first C), dweight (B, K, C), dbias (B, C) of each row."""
    rows, tokens, C = dy.shape
    before = np.empty(C, np.float32)
    for row in range(rows):
        for token in range(tokens):
            target = dx[row, token]
            for c in range(C):
                target[c] = _ZERO
        convolve_row_backward(x[row], dy[row], dx[row], dweight[row], dbias[row], weight, bias, before)


@inner_kernel
def convolve_row_backward(
    x: Any, dy: Any, dx: Any, dweight: Any, dbias: Any, weight: Any, bias: Any, before: Any
) -> None:
    """x, dy of one row -> added to dx; dweight (K, C), dbias (C,). before (C,) is overwritten."""
    tokens, C = dy.shape
    K = weight.shape[0]
    dweight[:] = _ZERO
    dbias[:] = _ZERO
    for token in range(tokens):
        before_silu(x, token, weight, bias, before)
        dy_token = dy[token]
        for c in range(C):
            s = sigmoid(before[c])
            before[c] = dy_token[c] * s * (_ONE + before[c] * (_ONE - s))
        for c in range(C):
            dbias[c] += before[c]
        for tap in range(max(0, K - 1 - token), K):
            at = token - (K - 1) + tap
            source, target, taps, dtaps = x[at], dx[at], weight[tap], dweight[tap]
            for c in range(C):
                target[c] += taps[c] * before[c]
                dtaps[c] += source[c] * before[c]


@kernel
def convolve_tokens(x: Any, past: Any, valid: Any, weight: Any, bias: Any, silu_after: bool, y: Any) -> None:
    """x (B, T, C), valid (B, T), weight (K, C), bias (C,) -> y (B, T, C); past (B, K - 1, C) in place.

    y is zero where there is no token.
    """
    rows, tokens, C = x.shape
    K = weight.shape[0]
    last = weight[K - 1]
    for row in range(rows):
        own = past[row]
        for token in range(tokens):
            out, new = y[row, token], x[row, token]
            if not valid[row, token]:
                for c in range(C):
                    out[c] = _ZERO
                continue
            for c in range(C):
                out[c] = bias[c]
            for place in range(K - 1):
                taps, old, older = weight[place], own[place], own[max(place - 1, 0)]
                for c in range(C):
                    value = old[c]
                    out[c] += taps[c] * value
                    older[c] = value
            if K > 1:
                newest = own[K - 2]
                for c in range(C):
                    newest[c] = new[c]
            if silu_after:
                for c in range(C):
                    out[c] = silu(out[c] + last[c] * new[c])
            else:
                for c in range(C):
                    out[c] = out[c] + last[c] * new[c]
