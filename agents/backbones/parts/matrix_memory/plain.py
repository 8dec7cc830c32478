"""The matrix memory in plain PyTorch: chunks of a sequence in parallel, and the next tokens one by one.

Within a chunk, with L_t the sum of the logarithms of the decays up to t and r_t = a_t^T S_{t-1},

    S_t = e^(L_t) S_0 + sum over s <= t of e^(L_t - L_s) (b_s r_s^T + k_s v_s^T)

so the r_t solve a triangular system, and the rest is products. Only differences of the L of a later and an
earlier token are raised to e, never a single one with its sign changed: all factors are at most 1, however
fast a memory decays. The sums are float64, because what is left of a difference after a fast decay would have
lost its digits.

Shapes: see :mod:`lram.agents.backbones.parts.matrix_memory`; C tokens of a chunk.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lram.agents.backbones.layers import column, keep_valid

CHUNK = 16
"""Tokens that are read at once. A decay a channel needs C x C x M factors a head."""

FEW_TOKENS = 8
"""Passes of no more tokens are read one by one, so that a token's bits do not depend on its neighbours."""


def read_sequence(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, a: Tensor | None, b: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Return o (B, S, H, N), float32, and the state after the sequence."""
    q, k, v, log_decay = (
        _by_head(q, state),
        _by_head(k, state),
        _by_head(v, state),
        _by_head(log_decay, state),
    )
    corrected = None if a is None or b is None else (_by_head(a, state), _by_head(b, state))
    outputs = []
    for first in range(0, v.shape[2], CHUNK):
        part = slice(first, first + CHUNK)
        fix = None if corrected is None else (corrected[0][:, :, part], corrected[1][:, :, part])
        o, state = _chunk(q[:, :, part], k[:, :, part], v[:, :, part], log_decay[:, :, part], fix, state)
        outputs.append(o)
    return torch.cat(outputs, dim=2).transpose(1, 2), state


def advance(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    state: Tensor,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return o (B, k, H, N), float32, and the state after the valid tokens."""
    if v.shape[1] > FEW_TOKENS:
        if valid is None:
            return read_sequence(q, k, v, log_decay, a, b, state)
        # A token that is not there writes nothing, corrects nothing, and lets nothing decay.
        here = valid[..., None, None].to(torch.float32)
        b = None if b is None else b * here
        o, new = read_sequence(q, k * here, v, log_decay * here, a, b, state)
        return o, keep_valid(valid.any(dim=1), new, state)
    factors = _by_head(log_decay, state).exp()  # (B, H, k, M or 1)
    q, k, v = _by_head(q, state), _by_head(k, state), _by_head(v, state)
    corrected = None if a is None or b is None else (_by_head(a, state), _by_head(b, state))
    outputs = []
    for token in range(v.shape[2]):
        new = factors[:, :, token].unsqueeze(-1) * state
        new = torch.addcmul(new, k[:, :, token].unsqueeze(-1), v[:, :, token].unsqueeze(-2))
        if corrected is not None:
            a_t, b_t = corrected[0][:, :, token], corrected[1][:, :, token]
            held = (a_t.unsqueeze(-2) @ state).squeeze(-2)  # (B, H, N)
            new = torch.addcmul(new, b_t.unsqueeze(-1), held.unsqueeze(-2))
        outputs.append((q[:, :, token].unsqueeze(-2) @ new).squeeze(-2))
        state = keep_valid(column(valid, token), new, state)
    return torch.stack(outputs, dim=1), state


def _by_head(x: Tensor, state: Tensor) -> Tensor:
    """(B, S, G or H, ...) -> (B, H, S, ...), float32."""
    heads = state.shape[1]
    x = x.float().transpose(1, 2)
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def _chunk(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, fix: tuple[Tensor, Tensor] | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """(B, H, C, ...) each -> o (B, H, C, N) and the state after the chunk."""
    sums = log_decay.double().cumsum(dim=2)  # L_t (B, H, C, M or 1)
    last = sums[:, :, -1:]
    here = _factors(sums, sums, 0)
    to_end = (last - sums).float().exp()
    o = (q * sums.float().exp()) @ state + _weights(q, k, here) @ v
    new = last.float().exp().transpose(2, 3) * state + (k * to_end).transpose(2, 3) @ v
    if fix is None:
        return o, new
    a, b = fix
    before = sums - log_decay  # L_{t-1}
    earlier = _factors(before, sums, -1)
    held = (a * before.float().exp()) @ state + _weights(a, k, earlier) @ v
    system = torch.eye(a.shape[2], dtype=a.dtype, device=a.device) - _weights(a, b, earlier)
    held = torch.linalg.solve_triangular(system, held, upper=False, unitriangular=True)
    return o + _weights(q, b, here) @ held, new + (b * to_end).transpose(2, 3) @ held


def _factors(later: Tensor, sums: Tensor, diagonal: int) -> Tensor:
    """Return e^(later_t - L_s), 0 above the diagonal: (B, H, C, C, M), or without M for one decay a head."""
    tokens = sums.shape[2]
    unseen = torch.ones(tokens, tokens, dtype=torch.bool, device=sums.device).triu(diagonal + 1)
    exponents = (later.unsqueeze(3) - sums.unsqueeze(2)).float()
    factors = exponents.masked_fill(unseen.unsqueeze(-1), -math.inf).exp()
    return factors.squeeze(-1) if sums.shape[-1] == 1 else factors


def _weights(x: Tensor, y: Tensor, factors: Tensor) -> Tensor:
    """Return the sum over M of x_t times factors_ts times y_s: (B, H, C, C)."""
    if factors.dim() == 4:
        return (x @ y.transpose(2, 3)) * factors
    return torch.einsum("bhtm,bhtsm,bhsm->bhts", x, factors, y)
