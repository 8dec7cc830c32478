"""One head of an mLSTM over one whole sequence, forwards and backwards, inside of kernels.

With F_t the sum of the logarithms of the forget gates up to t, token s has at token t the weight

    w_ts = exp(a_s - M_t),  a_s = i_s - F_s,  M_t = max of a_s over s <= t,

scaled by e^-m with m_t = F_t + M_t, as in the recurrence. Then

    P_ts = w_ts (q_t k_s) / sqrt(DH)        N_t = sum_s P_ts
    h_t = sum_s P_ts v_s / (max(|N_t|, e^-m_t) + 1e-6)

No matrix of tokens by tokens is kept: eight rows of it are computed, used, and, backwards, computed
anew. What is after the token is not computed, but for the rest of a tile.

Arrays are one-dimensional. T tokens, padded with zeros to P, a multiple of 16; DH width of a head.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lram.agents.backbones.kernels.compiler import exp, inner_kernel
from lram.agents.backbones.kernels.tiles import COLUMNS, ROWS, UNIT, add_product

BLOCK = 32
"""Rows whose weights are kept together, backwards: sums over tokens are then long enough."""

FLOOR = np.float32(1e-6)  # of the normaliser
_ZERO, _ONE = np.float32(0), np.float32(1)


@inner_kernel
def log_weights(gates: Any, head: int, heads: int, a: Any, most: Any, scale: Any, peak: Any) -> None:
    """gates (T, >= 2 NH; i, then f) -> a_s, M_t, m_t and the s at which M_t is reached; in float64."""
    total, best, at = 0.0, -math.inf, 0
    for t in range(gates.shape[0]):
        f: Any = np.float64(gates[t, heads + head])
        total += min(f, 0.0) - math.log1p(math.exp(-abs(f)))
        a[t] = np.float64(gates[t, head]) - total
        if a[t] > best:
            best, at = a[t], t
        most[t], scale[t], peak[t] = best, best + total, at


@inner_kernel
def transpose(x: Any, y: Any, tokens: int, width: int) -> None:
    """x (P, DH) -> y (DH, P)."""
    for first in range(0, tokens, COLUMNS):
        for d in range(width):
            # Loops over slices, here and below: numba allows for negative indices wherever a sum of
            # indices could be one, and then nothing becomes a vector.
            source, target = x[first * width + d :: width], y[d * tokens + first :]
            for t in range(COLUMNS):
                target[t] = source[t]


@inner_kernel
def _strip(a: Any, b: Any, out: Any, padded: int, width: int, columns: int) -> None:
    """out (8, columns; rows P apart) = a (8, DH) times b (DH, P)."""
    for row in range(ROWS):
        out[row * padded : row * padded + columns] = _ZERO
    add_product(a, width, UNIT, b, padded, out, padded, columns, width)


@inner_kernel
def _exponents(a: Any, top: float, count: int, out: Any) -> None:
    """a_s - top in float32: exact enough where the weight is not near 0."""
    for s in range(count):
        out[s] = np.float32(a[s] - top)


@inner_kernel
def sum_head(
    q: Any, kT: Any, v: Any, a: Any, most: Any, tokens: int, strip: Any, norms: Any, sums: Any
) -> None:
    """q, v (P, DH), kT (DH, P) -> norms N_t (T,), numerators (P, DH). strip (8, P) is overwritten."""
    padded = len(strip) // ROWS
    width = len(q) // padded
    factor = np.float32(1 / math.sqrt(width))
    exponents, weights = np.empty(padded, np.float32), np.empty(padded, np.float32)
    for start in range(0, tokens, ROWS):
        columns = (start + ROWS + COLUMNS - 1) // COLUMNS * COLUMNS
        _strip(q[start * width :], kT, strip, padded, width, columns)
        _exponents(a, most[start], min(start + ROWS, tokens), exponents)
        for row in range(min(ROWS, tokens - start)):
            t = start + row
            shift, total = np.float32(most[t] - most[start]), _ZERO
            scores = strip[row * padded : row * padded + columns]
            for s in range(t + 1):
                weights[s] = factor * exp(exponents[s] - shift)
            for s in range(t + 1):
                value = scores[s] * weights[s]
                scores[s] = value
                total += value
            scores[t + 1 :] = _ZERO
            norms[t] = total
        sums[start * width : (start + ROWS) * width] = _ZERO
        add_product(strip, padded, UNIT, v, width, sums[start * width :], width, width, start + ROWS)


@inner_kernel
def divide_by_normaliser(norms: Any, scale: Any, tokens: int, width: int, sums: Any) -> None:
    """Numerators (P, DH) -> h."""
    for t in range(tokens):
        inverse = _ONE / (max(abs(norms[t]), exp(np.float32(-scale[t]))) + FLOOR)
        own = sums[t * width : (t + 1) * width]
        for e in range(width):
            own[e] *= inverse


@inner_kernel
def normaliser_gradient(dot: Any, norm: Any, scale: Any) -> Any:
    """dot of h_t and its gradient -> 1 / (the normaliser), the gradients of N_t and of m_t."""
    floor = exp(np.float32(-scale))
    inverse = _ONE / (max(abs(norm), floor) + FLOOR)
    slope = -dot * inverse
    if abs(norm) >= floor:
        return inverse, slope if norm >= _ZERO else -slope, _ZERO
    return inverse, _ZERO, -floor * slope


@inner_kernel
def read_head_backward(
    q: Any,
    k: Any,
    kT: Any,
    vT: Any,
    a: Any,
    most: Any,
    peak: Any,
    tokens: int,
    dnum: Any,
    dnorms: Any,
    dscale: Any,
    weights: Any,
    dscores: Any,
    dq: Any,
    dk: Any,
    dv: Any,
    da: Any,
) -> None:
    """Gradients of a head.

    Args:
        dnum: Of the sums before they are divided by the normaliser, (P, DH).
        dnorms, dscale: Of N_t and m_t, (T,).
        weights, dscores: (``BLOCK``, P), overwritten.
        dq, dk, dv: Added to, (P, DH).
        da: Of i_s, by way of a_s, (T,), float64.
    """
    padded = len(weights) // BLOCK
    width = len(q) // padded
    factor = np.float32(1 / math.sqrt(width))
    exponents, own = np.empty(padded, np.float32), np.empty(padded, np.float32)
    dlog = np.empty(padded, np.float32)
    da[:] = 0.0
    for block in range(0, tokens, BLOCK):
        rows = min(BLOCK, (tokens - block + ROWS - 1) // ROWS * ROWS)
        for start in range(block, block + rows, ROWS):
            columns = (start + ROWS + COLUMNS - 1) // COLUMNS * COLUMNS
            first = (start - block) * padded
            _strip(q[start * width :], kT, weights[first:], padded, width, columns)
            _strip(dnum[start * width :], vT, dscores[first:], padded, width, columns)
            _exponents(a, most[start], min(start + ROWS, tokens), exponents)
            for t in range(start, min(start + ROWS, tokens)):
                here = (t - block) * padded
                scores, slopes = weights[here : here + columns], dscores[here : here + columns]
                shift, dnorm, total = np.float32(most[t] - most[start]), dnorms[t], _ZERO
                for s in range(t + 1):
                    own[s] = factor * exp(exponents[s] - shift)
                for s in range(t + 1):
                    scores[s] *= own[s]
                for s in range(t + 1):
                    value = (slopes[s] + dnorm) * scores[s]
                    dlog[s] = value
                    total += value
                for s in range(t + 1):
                    slopes[s] = (slopes[s] + dnorm) * own[s]
                for s in range(t + 1):
                    da[s] += np.float64(dlog[s])
                # m_t scales all weights of the row; it is where the largest of them is.
                da[peak[t]] += np.float64(dscale[t] - total)
                scores[t + 1 :] = _ZERO
                slopes[t + 1 :] = _ZERO
            add_product(
                dscores[first:], padded, UNIT, k, width, dq[start * width :], width, width, start + ROWS
            )
        for s in range(0, block + rows, ROWS):
            skipped = max(0, s - block)  # rows before s, which do not see it
            at, count = skipped * padded + s, rows - skipped
            source = (block + skipped) * width
            add_product(
                weights[at:], UNIT, padded, dnum[source:], width, dv[s * width :], width, width, count
            )
            add_product(dscores[at:], UNIT, padded, q[source:], width, dk[s * width :], width, width, count)


@inner_kernel
def gate_gradients(gates: Any, head: int, heads: int, da: Any, dscale: Any, dgates: Any) -> None:
    """da_s, dm_t -> dgates (T, >= 2 NH): F_t is in m_t, and in a_s with a minus."""
    total = 0.0
    for t in range(gates.shape[0] - 1, -1, -1):
        total += np.float64(dscale[t]) - da[t]
        dgates[t, head] = np.float32(da[t])
        dgates[t, heads + head] = np.float32(total / (1.0 + math.exp(np.float64(gates[t, heads + head]))))
