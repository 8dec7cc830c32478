"""The matrix memory: the next tokens, whole sequences, and backwards.

A panel of a head's matrix is read from memory once for all tokens of a pass: their loop is the inner one.

Shapes: B rows, T tokens, H heads, G heads of keys, M width of a key, N width of a value; arrays as in
:class:`lram.agents.backbones.parts.matrix_memory.MatrixMemory`. Without a correction ``a`` and ``b`` have no
heads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lram.agents.backbones.kernels import panels
from lram.agents.backbones.kernels.compiler import exp, inner_kernel, kernel, put

_ZERO = np.float32(0)

_NONE: Any = np.int64(0)
"""For a plain 0 numba would compile a kernel once more."""


@inner_kernel
def _decays(log_decay: Any, row: int, first: int, head: int, w: Any) -> None:
    """log_decay (B, T, H, M or 1) -> w (tokens, M) of a head, from the ``first`` token on."""
    tokens, M = w.shape
    one_decay = log_decay.shape[3] == 1
    for i in range(tokens):
        if one_decay:
            one = exp(log_decay[row, first + i, head, 0])
            for m in range(M):
                w[i, m] = one
        else:
            for m in range(M):
                w[i, m] = exp(log_decay[row, first + i, head, m])


@inner_kernel
def held(S: Any, a: Any, r: Any) -> None:
    """r (N,) = a^T S."""
    M, N = S.shape
    begin = 0
    while begin < N:
        width = panels.panel_width(N - begin)
        panels.held(width, S, begin, M, N, a, 0, r, begin)
        begin += width


@inner_kernel
def correct_write_and_read(S: Any, q: Any, k: Any, v: Any, w: Any, b: Any, r: Any, out: Any) -> None:
    """S <- diag(w) S + b r^T + k v^T, in place; out (N,) = S^T q."""
    M, N = S.shape
    begin = 0
    while begin < N:
        width = panels.panel_width(N - begin)
        panels.correct_write_and_read(
            width, S, begin, S, begin, M, N, w, 0, k, q, 0, v, out, begin, b, 0, r, begin
        )
        begin += width


@inner_kernel
def _lead(
    first: int,
    tokens: int,
    row: int,
    head: int,
    q: Any,
    k: Any,
    v: Any,
    w: Any,
    a: Any,
    b: Any,
    valid: Any,
    S: Any,
    S_at: int,
    pace: int,
    r: Any,
    out: Any,
) -> None:
    """Lead the matrix at ``S_at`` of S (numbers,) through ``tokens`` from the ``first`` on.

    The matrix after a token goes ``pace`` numbers behind the one before it; r (tokens, N) = a^T S.
    ``valid`` (B, T), or (0, 0) where all tokens are there.
    """
    T, heads, N = v.shape[1:]
    G, M = k.shape[2:]
    key, corrected, masked = head // (heads // G), a.shape[2] > 0, len(valid) > 0
    begin = 0
    while begin < N:
        width, at = panels.panel_width(N - begin), S_at + begin
        for i in range(tokens):
            if masked and not valid[row, first + i]:
                continue
            token = row * T + first + i
            k_at, b_at = (token * G + key) * M, (token * heads + head) * M
            v_at, r_at, w_at = (token * heads + head) * N + begin, i * N + begin, i * M
            if corrected:
                panels.held(width, S, at, M, N, a, k_at, r, r_at)
                panels.correct_write_and_read(
                    width, S, at, S, at + pace, M, N, w, w_at, k, q, k_at, v, out, v_at, b, b_at, r, r_at
                )
            else:
                panels.write_and_read(
                    width, S, at, S, at + pace, M, N, w, w_at, k, q, k_at, v, out, v_at, b, b_at, r, r_at
                )
            at += pace
        begin += width


@kernel
def advance(q: Any, k: Any, v: Any, log_decay: Any, a: Any, b: Any, valid: Any, S: Any, out: Any) -> None:
    """The tokens (B, T, ...) that ``valid`` (B, T) has -> out (B, T, H, N); S (B, H, M, N) in place.

    out is zero where there is no token.
    """
    rows, tokens, heads, N = v.shape
    M = S.shape[2]
    w, r = np.empty((tokens, M), np.float32), np.empty((tokens, N), np.float32)
    matrices = S.ravel()  # the same memory, of the type that every use of _lead gives it
    for row in range(rows):
        for token in range(tokens):
            if not valid[row, token]:
                out[row, token] = _ZERO
        for head in range(heads):
            _decays(log_decay, row, _NONE, head, w)
            S_at = (row * heads + head) * M * N
            _lead(_NONE, tokens, row, head, q, k, v, w, a, b, valid, matrices, S_at, _NONE, r, out)


@kernel
def scan(q: Any, k: Any, v: Any, log_decay: Any, a: Any, b: Any, kept: Any, out: Any, every: int) -> None:
    """Whole sequences from zero -> out (B, T, H, N); the matrix before each ``every``-th token but the first.

    kept (B, H, matrices, M, N); (B, H, 0, M, N) to keep none.
    """
    rows, tokens, heads, N = v.shape
    M, keep, all_there = kept.shape[3], kept.shape[2] > 0, np.empty((0, 0), np.bool_)
    S, w, r = np.empty((M, N), np.float32), np.empty((every, M), np.float32), np.empty((every, N), np.float32)
    matrix = S.ravel()
    for row in range(rows):
        for head in range(heads):
            S[:] = _ZERO
            for first in range(0, tokens, every):
                if keep and first > 0:
                    for m in range(M):
                        put(S[m], kept[row, head, first // every - 1, m])
                size = min(every, tokens - first)
                _decays(log_decay, row, first, head, w[:size])
                _lead(first, size, row, head, q, k, v, w, a, b, all_there, matrix, _NONE, _NONE, r, out)


@kernel
def scan_backward(
    q: Any,
    k: Any,
    v: Any,
    log_decay: Any,
    a: Any,
    b: Any,
    kept: Any,
    dout: Any,
    dq: Any,
    dk: Any,
    dv: Any,
    dlog_decay: Any,
    da: Any,
    db: Any,
    every: int,
) -> None:
    """dout (B, T, H, N) -> the other gradients, of the shapes of what they are of; written, not added."""
    rows, tokens, heads, N = v.shape
    M, share = kept.shape[3], heads // k.shape[2]
    corrected, one_decay = a.shape[2] > 0, log_decay.shape[3] == 1
    states = np.empty((every + 1, M, N), np.float32)  # entering token i of the piece, and after it, i + 1
    w, r = np.empty((every, M), np.float32), np.empty((every, N), np.float32)
    G, dr = np.empty((M, N), np.float32), np.empty(N, np.float32)  # G: what later tokens want of the matrix
    all_there, again, matrices = np.empty((0, 0), np.bool_), np.empty_like(v), states.ravel()
    for row in range(rows):
        dq[row] = _ZERO
        dk[row] = _ZERO
        da[row] = _ZERO
        for head in range(heads):
            key = head // share
            G[:] = _ZERO
            for piece in range((tokens - 1) // every, -1, -1):
                start = piece * every
                size = min(every, tokens - start)
                if piece == 0:
                    states[0] = _ZERO
                else:
                    for m in range(M):
                        put(kept[row, head, piece - 1, m], states[0, m])
                _decays(log_decay, row, start, head, w[:size])
                _lead(start, size, row, head, q, k, v, w, a, b, all_there, matrices, _NONE, M * N, r, again)
                for i in range(size - 1, -1, -1):
                    token = start + i
                    slope, dv_t = dout[row, token, head], dv[row, token, head]
                    q_t, k_t, v_t = q[row, token, key], k[row, token, key], v[row, token, head]
                    dq_t, dk_t, dlog = dq[row, token, key], dk[row, token, key], dlog_decay[row, token, head]
                    old, new, w_t, r_t = states[i], states[i + 1], w[i], r[i]
                    for j in range(N):
                        dv_t[j] = _ZERO
                        dr[j] = _ZERO
                    if one_decay:
                        dlog[0] = _ZERO
                    for m in range(M):
                        own, before, after = G[m], old[m], new[m]
                        q_m, k_m, w_m = q_t[m], k_t[m], w_t[m]
                        for_q, for_k, for_w = _ZERO, _ZERO, _ZERO
                        for j in range(N):
                            g = own[j] + q_m * slope[j]
                            own[j] = g
                            for_q += after[j] * slope[j]
                            for_k += g * v_t[j]
                            for_w += g * before[j]
                            dv_t[j] += k_m * g
                        dq_t[m] += for_q
                        dk_t[m] += for_k
                        if one_decay:
                            dlog[0] += w_m * for_w
                        else:
                            dlog[m] = w_m * for_w
                        if not corrected:
                            for j in range(N):
                                own[j] *= w_m
                    if corrected:
                        a_t, b_t = a[row, token, key], b[row, token, head]
                        da_t, db_t = da[row, token, key], db[row, token, head]
                        for m in range(M):
                            own, b_m, for_b = G[m], b_t[m], _ZERO
                            for j in range(N):
                                for_b += own[j] * r_t[j]
                                dr[j] += b_m * own[j]
                            db_t[m] = for_b
                        for m in range(M):
                            own, before, a_m, w_m, for_a = G[m], old[m], a_t[m], w_t[m], _ZERO
                            for j in range(N):
                                for_a += before[j] * dr[j]
                                own[j] = w_m * own[j] + a_m * dr[j]
                            da_t[m] += for_a
