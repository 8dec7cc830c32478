"""The fused step of Mamba: per block two products, two kernels and, between those, two small products.

    in_proj      oneDNN; the norm's weight is multiplied into its weights, the norm's factor 1 / rms
                 is applied where its result is read
    convolve     the factor, causal convolution, SiLU
    x_proj       oneDNN, or inside ``convolve`` for few tokens
    dt_proj      oneDNN, or inside ``scan`` for few tokens
    scan         softplus, the recurrence, the skip D, the gate
    out_proj     oneDNN, with the residual sum

Shapes: B rows, T tokens of a pass, D width, E channels, N state size, R rank of the step size,
K width of the convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lram.agents.backbones.kernels.compiler import kernel, silu, softplus
from lram.agents.backbones.kernels.linear import PackedLinear
from lram.agents.backbones.mamba.plain import NORM_EPS, Mamba, MambaBlock
from lram.agents.backbones.mamba.scan import exp2
from lram.agents.backbones.narrow_weights import asked_form
from lram.agents.backbones.sequences import over_rows
from lram.agents.backbones.states import State

# Up to here a call of oneDNN costs more than the kernels' own simple product.
FEW_TOKENS = 12

_ZERO, _ONE = np.float32(0), np.float32(1)
_EPS = np.float32(NORM_EPS)

# For a kernel: no weights, the product has been computed; no step sizes, they are yet to be computed.
_NO_WEIGHT = np.empty((0, 0), np.float32)


class FusedMamba:
    """Called as ``Mamba.step``, with the same states; see :mod:`lram.agents.backbones.kernels`.

    Args:
        backbone: Its weights are copied.
        rows_times_tokens: About how many tokens a pass will have, all rows together.
    """

    def __init__(self, backbone: Mamba, rows_times_tokens: int) -> None:
        self._norm = backbone.norm_f.weight.detach().clone()
        self._blocks = [_pack(block, rows_times_tokens) for block in backbone.blocks]

    def __call__(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :meth:`lram.agents.backbones.contract.Backbone.step`. The tensors of ``state`` are written
        to.
        """
        rows, tokens, _ = x.shape
        x = x.contiguous()
        here = np.ones((rows, tokens), np.bool_) if valid is None else valid.contiguous().numpy()
        work = _Work.of(rows, tokens, self._blocks[0])
        new_state = []
        for block, (h, past) in zip(self._blocks, state, strict=True):
            # The plain step may return views, which the kernels do not take.
            h, past = h.contiguous(), past.contiguous()
            x = block.step(x, h, past, here, work)
            new_state.append((h, past))
        return F.rms_norm(x, self._norm.shape, self._norm, NORM_EPS), new_state


class _Work(NamedTuple):
    """What the kernels of a block hand to each other.

    Attributes:
        u: (B, T, E): the convolution's output, then the scan's; zero where there is no token.
        u_array: The same memory.
        factor: (B, T): 1 / rms of the block's input.
        params: (B, T, R + 2 N): the result of ``x_proj``, for few tokens.
    """

    u: Tensor
    u_array: Any
    factor: Any
    params: Any

    @classmethod
    def of(cls, rows: int, tokens: int, block: _FusedMambaBlock) -> _Work:
        channels, params = block.dt_weight.shape[1], block.x_weight.shape[0]
        u = torch.empty(rows, tokens, channels, dtype=torch.float32)
        factor = np.empty((rows, tokens), np.float32)
        return cls(u, u.numpy(), factor, np.empty((rows, tokens, params), np.float32))


@dataclass(frozen=True, slots=True)
class _FusedMambaBlock:
    """A block's weights.

    Attributes:
        in_proj, out_proj, x_proj, dt_proj: Packed.
        norm: (D,), what ``in_proj`` reads is multiplied with; None: it is part of its weights, where they
            are float32.
        x_weight: ``x_proj`` for the kernels, (R + 2 N, E).
        dt_weight: ``dt_proj`` for the kernels, (R, E).
        channels: (K + 3, E): the convolution's places and bias, the bias of ``dt_proj``, D.
        A: -exp(A_log) x log2(e), (E, N).
        convolve, scan: The kernels for this N and K.
    """

    in_proj: PackedLinear
    out_proj: PackedLinear
    x_proj: PackedLinear
    dt_proj: PackedLinear
    norm: Tensor | None
    x_weight: Any
    dt_weight: Any
    channels: Any
    A: Any
    convolve: Callable[..., None]
    scan: Callable[..., None]

    def step(self, x: Tensor, h: Tensor, past: Tensor, valid: Any, work: _Work) -> Tensor:
        """(B, T, D) -> the same, with the residual; ``h`` and ``past`` are written to."""
        xz = self.in_proj(x if self.norm is None else x * self.norm)
        xz_array, u = xz.numpy(), work.u_array
        by_row = x.numpy(), xz_array, past.numpy(), valid, u, work.factor, work.params
        few = valid.size <= FEW_TOKENS
        over_rows(self.convolve, by_row, (self.channels, self.x_weight if few else _NO_WEIGHT))
        if few:
            params, dt, dt_weight = work.params, np.empty((*valid.shape, 0), np.float32), self.dt_weight
        else:
            product = self.x_proj(work.u)
            rank = len(self.dt_weight)
            params, dt_weight = product.numpy(), _NO_WEIGHT
            dt = self.dt_proj(product[..., :rank].contiguous()).numpy()
        by_row = xz_array, work.factor, params, dt, valid, h.numpy(), u
        over_rows(self.scan, by_row, (dt_weight, self.channels, self.A))
        return self.out_proj.add_to(x, work.u)


def _pack(block: MambaBlock, tokens: int) -> _FusedMambaBlock:
    mixer = block.mixer
    kernel_width, (_, size) = mixer.conv1d.weight.shape[2], mixer.A_log.shape
    assert mixer.conv1d.bias is not None
    rounded = asked_form() is not None  # a product of the two would be no such number any more
    convolve, scan = _kernels(kernel_width, size)
    with torch.no_grad():
        channels = torch.cat(
            [
                mixer.conv1d.weight[:, 0].T,
                torch.stack([mixer.conv1d.bias, mixer.dt_proj.bias, mixer.D]),
            ]
        )
        return _FusedMambaBlock(
            in_proj=PackedLinear(
                mixer.in_proj.weight if rounded else mixer.in_proj.weight * block.norm.weight, None, tokens
            ),
            out_proj=PackedLinear.of(mixer.out_proj, tokens),
            x_proj=PackedLinear.of(mixer.x_proj, tokens),
            dt_proj=PackedLinear.of(mixer.dt_proj, tokens),
            norm=block.norm.weight.clone() if rounded else None,
            x_weight=mixer.x_proj.weight.clone().numpy(),
            dt_weight=mixer.dt_proj.weight.T.clone(memory_format=torch.contiguous_format).numpy(),
            channels=channels.numpy(),
            A=(-torch.exp(mixer.A_log) * math.log2(math.e)).numpy(),
            convolve=convolve,
            scan=scan,
        )


@cache
def _kernels(K: int, N: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """Compile ``convolve`` and ``scan`` for these sizes: as constants they make the inner loops vectors."""

    @kernel
    def convolve(  # type: ignore[no-untyped-def]
        x, xz, past, valid, u, factor, params, channels, x_weight
    ) -> None:
        """x (B, T, D), xz (B, T, 2 E), past (B, K - 1, E) -> u, factor, params, past."""
        rows, tokens, width = x.shape
        E = u.shape[2]
        bias, last = channels[K], channels[K - 1]
        for row in range(rows):
            own = past[row]
            for token in range(tokens):
                out = u[row, token]
                if not valid[row, token]:
                    for e in range(E):
                        out[e] = _ZERO
                    continue
                token_x, new = x[row, token], xz[row, token]
                total = _ZERO
                for i in range(width):
                    total += token_x[i] * token_x[i]
                scale = _ONE / np.sqrt(total / np.float32(width) + _EPS)
                factor[row, token] = scale

                for e in range(E):
                    out[e] = bias[e]
                for place in range(K - 1):
                    weight, old, older = channels[place], own[place], own[max(place - 1, 0)]
                    for e in range(E):
                        value = old[e]
                        out[e] += weight[e] * value
                        older[e] = value
                newest = own[K - 2] if K > 1 else out
                for e in range(E):
                    value = scale * new[e]
                    y = out[e] + last[e] * value
                    newest[e] = value
                    out[e] = silu(y)

                for j in range(x_weight.shape[0]):
                    total = _ZERO
                    for e in range(E):
                        total += x_weight[j, e] * out[e]
                    params[row, token, j] = total

    @kernel
    def scan(  # type: ignore[no-untyped-def]
        xz, factor, params, dt_given, valid, h, u, dt_weight, channels, A
    ) -> None:
        """h_t = 2^(dt A) h_{t-1} + dt B_t u_t; (C_t h_t + D u_t) silu(z_t) takes the place of u."""
        rows, tokens, E = u.shape
        rank = params.shape[2] - 2 * N
        dt_bias, D = channels[K + 1], channels[K + 2]
        flat_A = A.ravel()
        dt, dt_u, y = np.empty(E, np.float32), np.empty(E, np.float32), np.empty(E, np.float32)
        for row in range(rows):
            own = h[row].ravel()  # the same memory; flat, the loops become vectors for every N
            for token in range(tokens):
                if not valid[row, token]:
                    continue
                value = params[row, token]
                B, C = value[rank : rank + N], value[rank + N :]
                out, z, scale = u[row, token], xz[row, token, E:], factor[row, token]

                if dt_weight.shape[0] > 0:
                    for e in range(E):
                        dt[e] = dt_bias[e]
                    for r in range(rank):
                        low = value[r]
                        for e in range(E):
                            dt[e] += dt_weight[r, e] * low
                else:
                    for e in range(E):
                        dt[e] = dt_given[row, token, e]

                for e in range(E):
                    dt[e] = softplus(dt[e])
                    dt_u[e] = dt[e] * out[e]
                for e in range(E):
                    dt_e, dt_u_e, total = dt[e], dt_u[e], _ZERO
                    for n in range(N):
                        new = exp2(dt_e * flat_A[e * N + n]) * own[e * N + n] + dt_u_e * B[n]
                        own[e * N + n] = new
                        total += new * C[n]
                    y[e] = total
                for e in range(E):
                    out[e] = (y[e] + D[e] * out[e]) * silu(scale * z[e])

    return convolve, scan
