"""Kernels of Mamba's selective scan over whole sequences, forwards and backwards.

    h_t = 2^(dt_t A) h_{t-1} + dt_t B_t u_t        out_t = (C_t h_t + D u_t) silu(z_t)

Forwards, of the states only every ``EVERY``-th is kept. Backwards, the states between two kept ones
are computed anew, into memory that stays in the cache. A part of the channels (``LANES``) goes through
a whole row before the next part.

Shapes: B rows, S tokens, E channels, N state size, R rank of the step size. A is scaled by log2(e).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lram.agents.backbones.kernels.compiler import elementary, float_of_bits, kernel, sigmoid, silu, softplus

EVERY = 16
"""Tokens from one kept state to the next."""

LANES = 192
"""Channels that go through a row together; of 32 to 256 the fastest (0.25 ns a number, back 0.85)."""

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LOWEST, _LN2 = np.float32(-126), np.float32(math.log(2))
_E1, _E2, _E3, _E4, _E5, _E6 = (np.float32(math.log(2) ** i / math.factorial(i)) for i in range(1, 7))


@elementary
def exp2(x: Any) -> Any:
    """2^x for x <= 0; below -126 as at -126 (NaN stays NaN). Relative error below 3e-7."""
    x = _LOWEST if x < _LOWEST else x
    whole = np.floor(x + _HALF)
    rest = x - whole
    series = _E3 + rest * (_E4 + rest * (_E5 + rest * _E6))
    series = _ONE + rest * (_E1 + rest * (_E2 + rest * series))
    return series * float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))


def kept_states(tokens: int) -> int:
    """Return how many states of a row are kept; the first, zero, is not."""
    return (tokens - 1) // EVERY


@kernel
def scan(  # type: ignore[no-untyped-def]
    xz, u, raw_dt, params, y, out, kept, A, D
) -> None:
    """xz (B, S, 2 E), u, raw_dt (B, S, E), params (B, S, R + 2 N) -> y before the gate, out (B, S, E).

    kept (B, states, N, E), or (B, 0, N, E) to keep none; A (N, E); D (E,).
    """
    rows, tokens, E = u.shape
    N = A.shape[0]
    rank = params.shape[2] - 2 * N
    h = np.empty((N, LANES), np.float32)
    dt, dt_u = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    total = np.empty(LANES, np.float32)
    for row in range(rows):
        for first in range(0, E, LANES):
            count = min(LANES, E - first)
            part = slice(first, first + count)
            h[:] = _ZERO
            for token in range(tokens):
                if kept.shape[1] > 0 and token > 0 and token % EVERY == 0:
                    for n in range(N):
                        source, target = h[n], kept[row, token // EVERY - 1, n, part]
                        for e in range(count):
                            target[e] = source[e]
                raw, u_token = raw_dt[row, token, part], u[row, token, part]
                for e in range(count):
                    step = softplus(raw[e])
                    dt[e] = step
                    dt_u[e] = step * u_token[e]
                    total[e] = _ZERO
                for n in range(N):
                    b, c = params[row, token, rank + n], params[row, token, rank + N + n]
                    own, A_n = h[n], A[n, part]
                    for e in range(count):
                        new = exp2(dt[e] * A_n[e]) * own[e] + dt_u[e] * b
                        own[e] = new
                        total[e] += new * c
                z, skip = xz[row, token, E + first : E + first + count], D[part]
                y_token, out_token = y[row, token, part], out[row, token, part]
                for e in range(count):
                    value = total[e] + skip[e] * u_token[e]
                    y_token[e] = value
                    out_token[e] = value * silu(z[e])


@kernel
def scan_backward(  # type: ignore[no-untyped-def]
    xz, u, raw_dt, params, y, kept, dout, dxz, du, draw_dt, dparams, dA, dD, A, D
) -> None:
    """dout (B, S, E) -> dxz (the E last), du, draw_dt, dparams (the 2 N last, others zero).

    dA (B, N, E; of the A without its scale) and dD (B, E) are of each row.
    """
    rows, tokens, E = u.shape
    N = A.shape[0]
    rank = params.shape[2] - 2 * N
    # Entering token i of the piece, and after it, hs[i + 1]; decays its 2^(dt A).
    hs = np.empty((EVERY + 1, N, LANES), np.float32)
    decays = np.empty((EVERY, N, LANES), np.float32)
    carry = np.empty((N, LANES), np.float32)  # what later tokens want of the state
    dts, dt_us = np.empty((EVERY, LANES), np.float32), np.empty((EVERY, LANES), np.float32)
    dy = np.empty(LANES, np.float32)
    ddt_u, ddt = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for row in range(rows):
        dparams[row] = _ZERO
        dA[row] = _ZERO
        dD[row] = _ZERO
        for first in range(0, E, LANES):
            count = min(LANES, E - first)
            part = slice(first, first + count)
            skip, dskip = D[part], dD[row, part]
            carry[:] = _ZERO
            for piece in range((tokens - 1) // EVERY, -1, -1):
                start = piece * EVERY
                size = min(EVERY, tokens - start)
                if piece == 0:
                    hs[0] = _ZERO
                else:
                    for n in range(N):
                        source, target = kept[row, piece - 1, n, part], hs[0, n]
                        for e in range(count):
                            target[e] = source[e]
                for i in range(size):
                    raw, u_token = raw_dt[row, start + i, part], u[row, start + i, part]
                    dt, dt_u = dts[i], dt_us[i]
                    for e in range(count):
                        step = softplus(raw[e])
                        dt[e] = step
                        dt_u[e] = step * u_token[e]
                    for n in range(N):
                        b = params[row, start + i, rank + n]
                        decay, old, new, A_n = decays[i, n], hs[i, n], hs[i + 1, n], A[n, part]
                        for e in range(count):
                            factor = exp2(dt[e] * A_n[e])
                            decay[e] = factor
                            new[e] = factor * old[e] + dt_u[e] * b

                for i in range(size - 1, -1, -1):
                    token = start + i
                    z = xz[row, token, E + first : E + first + count]
                    dz = dxz[row, token, E + first : E + first + count]
                    dout_token, y_token = dout[row, token, part], y[row, token, part]
                    for e in range(count):
                        s = sigmoid(z[e])
                        dz[e] = dout_token[e] * y_token[e] * s * (_ONE + z[e] * (_ONE - s))
                        dy[e] = dout_token[e] * z[e] * s
                        ddt_u[e] = _ZERO
                        ddt[e] = _ZERO
                    dt, dt_u = dts[i], dt_us[i]
                    for n in range(N):
                        b, c = params[row, token, rank + n], params[row, token, rank + N + n]
                        decay, old, new, A_n = decays[i, n], hs[i, n], hs[i + 1, n], A[n, part]
                        own, dA_n = carry[n], dA[row, n, part]
                        db, dc = _ZERO, _ZERO
                        for e in range(count):
                            dh = own[e] + dy[e] * c
                            dc += dy[e] * new[e]
                            db += dh * dt_u[e]
                            ddt_u[e] += dh * b
                            back = dh * decay[e]
                            own[e] = back
                            dexponent = back * old[e]
                            ddt[e] += dexponent * A_n[e]
                            dA_n[e] += dexponent * dt[e]
                        dparams[row, token, rank + n] += db
                        dparams[row, token, rank + N + n] += dc
                    raw, u_token = raw_dt[row, token, part], u[row, token, part]
                    draw, du_token = draw_dt[row, token, part], du[row, token, part]
                    for e in range(count):
                        dskip[e] += dy[e] * u_token[e]
                        du_token[e] = dy[e] * skip[e] + ddt_u[e] * dt[e]
                        draw[e] = (ddt_u[e] * u_token[e] + _LN2 * ddt[e]) * sigmoid(raw[e])
