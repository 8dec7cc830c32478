"""Mamba's selective scan over whole sequences in plain PyTorch, with a backward pass of its own.

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t        y_t = C_t h_t

Left to autograd, the loop over tokens would keep several tensors (B, E, N) for every one of them. Here
every ``EVERY``-th state is kept; backwards, the states in between are computed anew.

Shapes: B rows, S tokens, E channels, N state size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

EVERY = 16
"""Tokens from one kept state to the next: kept states and those computed anew take about the same memory."""


def selective_scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Scan from a zero state.

    Args:
        u: Inputs (B, S, E).
        dt: Step sizes (B, S, E), positive.
        A: (E, N), negative.
        B, C: (B, S, N).

    Returns:
        y (B, S, E), of the type of the inputs, which is the same for all.
    """
    y: Tensor = _SelectiveScan.apply(u, dt, A, B, C)  # type: ignore[no-untyped-call]
    return y


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        with torch.autocast(u.device.type, enabled=False):
            y, kept = _forward(u, dt, A, B, C)
        ctx.save_for_backward(u, dt, A, B, C, *(kept if any(ctx.needs_input_grad) else ()))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        u, dt, A, B, C, *kept = ctx.saved_tensors
        with torch.autocast(u.device.type, enabled=False):
            return _backward(u, dt, A, B, C, kept, dy)


def _forward(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return y and the states before every ``EVERY``-th token."""
    y, dt_u = torch.empty_like(u), dt * u
    h = u.new_zeros(len(u), *A.shape)
    kept = []
    for token in range(u.shape[1]):
        if token % EVERY == 0:
            kept.append(h)
        h = _next(h, dt[:, token], dt_u[:, token], A, B[:, token])[0]
        y[:, token] = (h @ C[:, token].unsqueeze(-1)).squeeze(-1)
    return y, kept


def _backward(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, kept: Sequence[Tensor], dy: Tensor
) -> tuple[Tensor, ...]:
    du, ddt, dA, dB, dC = (torch.zeros_like(tensor) for tensor in (u, dt, A, B, C))
    dt_u = dt * u
    carry = u.new_zeros(len(u), *A.shape)  # what later tokens want of the state
    for piece in reversed(range(len(kept))):
        tokens = range(piece * EVERY, min((piece + 1) * EVERY, u.shape[1]))
        states, decays = [kept[piece]], []
        for token in tokens:
            h, decay = _next(states[-1], dt[:, token], dt_u[:, token], A, B[:, token])
            states.append(h)
            decays.append(decay)
        for token in reversed(tokens):
            before, after = states[token - tokens.start], states[token - tokens.start + 1]
            slope = dy[:, token]
            dC[:, token] = (slope.unsqueeze(1) @ after).squeeze(1)
            dh = torch.addcmul(carry, slope.unsqueeze(-1), C[:, token].unsqueeze(1))
            dB[:, token] = (dt_u[:, token].unsqueeze(1) @ dh).squeeze(1)
            ddt_u = (dh @ B[:, token].unsqueeze(-1)).squeeze(-1)
            carry = dh * decays[token - tokens.start]
            dexponent = carry * before  # of dt A
            du[:, token] = ddt_u * dt[:, token]
            ddt[:, token] = ddt_u * u[:, token] + (dexponent * A).sum(dim=-1)
            dA += (dexponent * dt[:, token].unsqueeze(-1)).sum(dim=0)
    return du, ddt, dA, dB, dC


def _next(h: Tensor, dt: Tensor, dt_u: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """One token: h (B, E, N), dt, dt_u (B, E), B (B, N) -> the new state and its decay, (B, E, N) each."""
    decay = (dt.unsqueeze(-1) * A).exp_()
    return (dt_u.unsqueeze(-1) * B.unsqueeze(1)).addcmul_(decay, h), decay
