"""A Mamba mixer between its two large projections, for whole sequences, with gradients.

One node of autograd: convolution, the two small products, scan and gate. Kept for the backward pass are
its inputs, what the kernels hand to each other (B, S, E) and every 16th state; the rest is computed anew.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lram.agents.backbones.kernels.convolution import convolve, convolve_backward
from lram.agents.backbones.linear import linear, matmul, weight_gradient
from lram.agents.backbones.mamba.scan import kept_states, scan, scan_backward
from lram.agents.backbones.sequences import arrays, over_rows


def mix(
    xz: Tensor,
    conv: torch.nn.Conv1d,
    x_proj: torch.nn.Linear,
    dt_proj: torch.nn.Linear,
    A_log: Tensor,
    D: Tensor,
) -> Tensor:
    """xz (B, S, 2 E), the projected input and gate -> (B, S, E) float32, to be projected back."""
    weights = (conv.weight, conv.bias, x_proj.weight, dt_proj.weight, dt_proj.bias, A_log, D)
    y: Tensor = _Mix.apply(xz, *weights)  # type: ignore[no-untyped-call]
    return y


class _Mix(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any,
        xz: Tensor,
        conv_weight: Tensor,
        conv_bias: Tensor,
        x_weight: Tensor,
        dt_weight: Tensor,
        dt_bias: Tensor,
        A_log: Tensor,
        D: Tensor,
    ) -> Tensor:
        xz = xz.contiguous()
        rows, tokens, _ = xz.shape
        channels, size = A_log.shape
        rank = dt_weight.shape[1]
        kernel = conv_weight[:, 0].t().contiguous()  # (K, E)
        A = (-torch.exp(A_log)).t().contiguous()  # (N, E)

        u = xz.new_empty(rows, tokens, channels)
        over_rows(convolve, arrays(xz, u), arrays(kernel, conv_bias))
        params = linear(u, x_weight)
        raw_dt = linear(params[..., :rank], dt_weight, dt_bias)
        y, out = torch.empty_like(u), torch.empty_like(u)
        kept = u.new_empty(rows, kept_states(tokens) if any(ctx.needs_input_grad) else 0, size, channels)
        over_rows(scan, arrays(xz, u, raw_dt, params, y, out, kept), arrays(A * math.log2(math.e), D))
        ctx.save_for_backward(xz, u, params, raw_dt, y, kept, kernel, conv_bias, x_weight, dt_weight, A, D)
        return out

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        xz, u, params, raw_dt, y, kept, kernel, conv_bias, x_weight, dt_weight, A, D = ctx.saved_tensors
        rows, tokens, channels = u.shape
        size, rank = len(A), dt_weight.shape[1]
        dxz, du, draw_dt = torch.empty_like(xz), torch.empty_like(u), torch.empty_like(u)
        dparams = torch.empty_like(params)
        dA, dD = u.new_empty(rows, size, channels), u.new_empty(rows, channels)
        over_rows(
            scan_backward,
            arrays(xz, u, raw_dt, params, y, kept, dout.contiguous(), dxz, du, draw_dt, dparams, dA, dD),
            arrays(A * math.log2(math.e), D),
        )
        low = params[..., :rank].flatten(0, 1)
        ddt_flat = draw_dt.flatten(0, 1)
        dparams[..., :rank] = matmul(ddt_flat, dt_weight).view(rows, tokens, rank)
        dparams_flat = dparams.flatten(0, 1)
        du += matmul(dparams_flat, x_weight).view_as(du)

        dkernel, dconv_bias = u.new_empty(rows, *kernel.shape), u.new_empty(rows, channels)
        over_rows(convolve_backward, arrays(xz, du, dxz, dkernel, dconv_bias), arrays(kernel, conv_bias))
        return (
            dxz,
            dkernel.sum(dim=0).t().unsqueeze(1),
            dconv_bias.sum(dim=0),
            weight_gradient(dparams_flat, u.flatten(0, 1)),
            weight_gradient(ddt_flat, low),
            ddt_flat.sum(dim=0),
            (dA.sum(dim=0) * A).t(),
            dD.sum(dim=0),
        )
