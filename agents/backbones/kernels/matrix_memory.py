"""The matrix memory: the next tokens, whole sequences, and backwards.

A head's matrix is read from memory once for all tokens of a pass: the loop over tokens is the inner one.

Shapes: B rows, T tokens, H heads, G heads of keys, M width of a key, N width of a value; arrays as in
:class:`lram.agents.backbones.parts.matrix_memory.MatrixMemory`. Without a correction ``a`` and ``b`` have no
heads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lram.agents.backbones.kernels.compiler import exp, kernel

_ZERO = np.float32(0)


@kernel
def _decays(log_decay: Any, w: Any) -> None:
    """log_decay (M,) or (1,) -> w (M,)."""
    if len(log_decay) == 1:
        one = exp(log_decay[0])
        for i in range(len(w)):
            w[i] = one
    else:
        for i in range(len(w)):
            w[i] = exp(log_decay[i])


@kernel
def held(S: Any, a: Any, r: Any) -> None:
    """r (N,) = a^T S."""
    M, N = S.shape
    for j in range(N):
        r[j] = _ZERO
    whole = M - M % 4
    for i in range(0, whole, 4):
        a0, a1, a2, a3 = a[i], a[i + 1], a[i + 2], a[i + 3]
        s0, s1, s2, s3 = S[i], S[i + 1], S[i + 2], S[i + 3]
        for j in range(N):
            r[j] += a0 * s0[j] + a1 * s1[j] + a2 * s2[j] + a3 * s3[j]
    for i in range(whole, M):
        a0, s0 = a[i], S[i]
        for j in range(N):
            r[j] += a0 * s0[j]


@kernel
def _write_and_read(S: Any, q: Any, k: Any, v: Any, w: Any, out: Any) -> None:
    """S <- diag(w) S + k v^T, in place; out (N,) = S^T q."""
    M, N = S.shape
    for j in range(N):
        out[j] = _ZERO
    whole = M - M % 4
    for i in range(0, whole, 4):
        w0, w1, w2, w3 = w[i], w[i + 1], w[i + 2], w[i + 3]
        k0, k1, k2, k3 = k[i], k[i + 1], k[i + 2], k[i + 3]
        q0, q1, q2, q3 = q[i], q[i + 1], q[i + 2], q[i + 3]
        s0, s1, s2, s3 = S[i], S[i + 1], S[i + 2], S[i + 3]
        for j in range(N):
            value = v[j]
            x0, x1 = w0 * s0[j] + k0 * value, w1 * s1[j] + k1 * value
            x2, x3 = w2 * s2[j] + k2 * value, w3 * s3[j] + k3 * value
            s0[j], s1[j], s2[j], s3[j] = x0, x1, x2, x3
            out[j] += q0 * x0 + q1 * x1 + q2 * x2 + q3 * x3
    for i in range(whole, M):
        w0, k0, q0, s0 = w[i], k[i], q[i], S[i]
        for j in range(N):
            x0 = w0 * s0[j] + k0 * v[j]
            s0[j] = x0
            out[j] += q0 * x0


@kernel
def correct_write_and_read(S: Any, q: Any, k: Any, v: Any, w: Any, b: Any, r: Any, out: Any) -> None:
    """S <- diag(w) S + b r^T + k v^T, in place; out (N,) = S^T q."""
    M, N = S.shape
    for j in range(N):
        out[j] = _ZERO
    whole = M - M % 4
    for i in range(0, whole, 4):
        w0, w1, w2, w3 = w[i], w[i + 1], w[i + 2], w[i + 3]
        k0, k1, k2, k3 = k[i], k[i + 1], k[i + 2], k[i + 3]
        b0, b1, b2, b3 = b[i], b[i + 1], b[i + 2], b[i + 3]
        q0, q1, q2, q3 = q[i], q[i + 1], q[i + 2], q[i + 3]
        s0, s1, s2, s3 = S[i], S[i + 1], S[i + 2], S[i + 3]
        for j in range(N):
            value, old = v[j], r[j]
            x0, x1 = w0 * s0[j] + b0 * old + k0 * value, w1 * s1[j] + b1 * old + k1 * value
            x2, x3 = w2 * s2[j] + b2 * old + k2 * value, w3 * s3[j] + b3 * old + k3 * value
            s0[j], s1[j], s2[j], s3[j] = x0, x1, x2, x3
            out[j] += q0 * x0 + q1 * x1 + q2 * x2 + q3 * x3
    for i in range(whole, M):
        w0, k0, b0, q0, s0 = w[i], k[i], b[i], q[i], S[i]
        for j in range(N):
            x0 = w0 * s0[j] + b0 * r[j] + k0 * v[j]
            s0[j] = x0
            out[j] += q0 * x0


@kernel
def advance(q: Any, k: Any, v: Any, log_decay: Any, a: Any, b: Any, valid: Any, S: Any, out: Any) -> None:
    """The tokens (B, T, ...) that ``valid`` (B, T) has -> out (B, T, H, N); S (B, H, M, N) in place.

    out is zero where there is no token.
    """
    rows, tokens, heads, N = v.shape
    M, share = S.shape[2], heads // k.shape[2]
    corrected = a.shape[2] > 0
    w, r = np.empty(M, np.float32), np.empty(N, np.float32)
    for row in range(rows):
        for head in range(heads):
            own, key = S[row, head], head // share
            for token in range(tokens):
                y = out[row, token, head]
                if not valid[row, token]:
                    for j in range(N):
                        y[j] = _ZERO
                    continue
                _decays(log_decay[row, token, head], w)
                q_t, k_t, v_t = q[row, token, key], k[row, token, key], v[row, token, head]
                if corrected:
                    held(own, a[row, token, key], r)
                    correct_write_and_read(own, q_t, k_t, v_t, w, b[row, token, head], r, y)
                else:
                    _write_and_read(own, q_t, k_t, v_t, w, y)


@kernel
def scan(q: Any, k: Any, v: Any, log_decay: Any, a: Any, b: Any, kept: Any, out: Any, every: int) -> None:
    """Whole sequences from zero -> out (B, T, H, N); the matrix before each ``every``-th token but the first.

    kept (B, H, matrices, M, N); (B, H, 0, M, N) to keep none.
    """
    rows, tokens, heads, N = v.shape
    M, share = kept.shape[3], heads // k.shape[2]
    corrected, keep = a.shape[2] > 0, kept.shape[2] > 0
    S, w, r = np.empty((M, N), np.float32), np.empty(M, np.float32), np.empty(N, np.float32)
    for row in range(rows):
        for head in range(heads):
            key = head // share
            S[:] = _ZERO
            for token in range(tokens):
                if keep and token > 0 and token % every == 0:
                    kept[row, head, token // every - 1] = S
                _decays(log_decay[row, token, head], w)
                q_t, k_t, v_t = q[row, token, key], k[row, token, key], v[row, token, head]
                y = out[row, token, head]
                if corrected:
                    held(S, a[row, token, key], r)
                    correct_write_and_read(S, q_t, k_t, v_t, w, b[row, token, head], r, y)
                else:
                    _write_and_read(S, q_t, k_t, v_t, w, y)


@kernel
def _rebuild(old: Any, new: Any, k: Any, v: Any, w: Any, b: Any, r: Any) -> None:
    """new = diag(w) old + b r^T + k v^T (M, N); without b of no length."""
    M, N = old.shape
    corrected = len(b) > 0
    for i in range(M):
        w_i, k_i, source, target = w[i], k[i], old[i], new[i]
        if corrected:
            b_i = b[i]
            for j in range(N):
                target[j] = w_i * source[j] + b_i * r[j] + k_i * v[j]
        else:
            for j in range(N):
                target[j] = w_i * source[j] + k_i * v[j]


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
    none = np.empty(0, np.float32)
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
                    states[0] = kept[row, head, piece - 1]
                for i in range(size):
                    token = start + i
                    _decays(log_decay[row, token, head], w[i])
                    k_t, v_t = k[row, token, key], v[row, token, head]
                    if corrected:
                        held(states[i], a[row, token, key], r[i])
                        _rebuild(states[i], states[i + 1], k_t, v_t, w[i], b[row, token, head], r[i])
                    else:
                        _rebuild(states[i], states[i + 1], k_t, v_t, w[i], none, r[i])
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
