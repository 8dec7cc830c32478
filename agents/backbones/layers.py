"""Pieces that several backbones are made of: masked steps, the causal convolution, a norm."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.gpu import WIDEST_CONVOLUTION, gpu_kernels_for, too_large


def drop(x: Tensor, share: float, training: bool) -> Tensor:
    """Return ``x`` with a share of its numbers zeroed and the others scaled up, in training only."""
    return F.dropout(x, share) if share and training else x


class RootMeanSquareNorm(nn.Module):
    """x / root mean square, times a weight; computed in float32 where types differ."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same."""
        if x.dtype == self.weight.dtype:
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


def keep_valid(valid: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    """Return ``new`` for the rows where ``valid`` (rows,) is true, ``old`` for the others."""
    if valid is None:
        return new
    return torch.where(valid.view(-1, *[1] * (new.dim() - 1)), new, old)


def column(valid: Tensor | None, token: int) -> Tensor | None:
    """Return which rows have the ``token``-th token of a pass: (rows,), or None for all."""
    return None if valid is None else valid[:, token]


def places(valid: Tensor) -> Tensor:
    """Number the valid tokens of each row 0, 1, ..., and the masked ones on from there: (B, k)."""
    # Distinct places for masked tokens too: what they write back never meets another token's slot.
    order = valid.cumsum(1)
    masked = order[:, -1:] + torch.arange(1, valid.shape[1] + 1, device=valid.device) - order
    return torch.where(valid, order, masked) - 1


def order_of(ranks: Tensor) -> Tensor:
    """Return which token has each of the places (B, k) that ``ranks`` gives, as its argsort would.

    Without a sort, since graphs in ONNX have no stable one.
    """
    tokens = torch.arange(ranks.shape[1], device=ranks.device).expand_as(ranks)
    return torch.zeros_like(ranks).scatter(1, ranks, tokens)


def split_last(x: Tensor, parts: int) -> Tensor:
    """Cut the last dimension into equal parts: (..., parts x n) -> (..., parts, n)."""
    return x.reshape(*x.shape[:-1], parts, -1)


def causal_conv(conv: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Convolve each channel of ``x`` (rows, tokens, channels) with its past; ``conv`` pads both ends."""
    y = conv(x.transpose(1, 2))
    return y[..., : x.shape[1]].transpose(1, 2)


def causal_conv_step(
    conv: nn.Conv1d, x: Tensor, past: Tensor, valid: Tensor | None, *, silu: bool = False
) -> tuple[Tensor, Tensor]:
    """Continue :func:`causal_conv` by k tokens.

    Args:
        conv: Its depthwise convolution of width K.
        x: (rows, k, channels).
        past: The last K - 1 valid inputs of each row, newest last: (rows, K - 1, channels).
        valid: (rows, k) or None.
        silu: Whether SiLU follows.

    Returns:
        The outputs (rows, k, channels), and the new past.
    """
    if past.shape[1] and gpu_kernels_for(x.shape[1]):
        from lram.agents.backbones.gpu import convolution

        return convolution.convolve(x, past, conv.weight, conv.bias, valid, silu=silu)
    y, past = _convolve_step(conv, x, past, valid)
    return F.silu(y) if silu else y, past


def _convolve_step(conv: nn.Conv1d, x: Tensor, past: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    kernel = conv.weight[:, 0].T  # (K, channels)
    tokens, kept = x.shape[1], past.shape[1]
    if valid is not None:
        # Valid tokens first, so that each finds its predecessors right before it.
        ranks = places(valid)
        x = x.gather(1, order_of(ranks).unsqueeze(-1).expand_as(x))
    inputs = torch.cat([past, x.to(past.dtype)], dim=1)  # (rows, K - 1 + k, channels)
    # One product a place of the kernel, not a library's convolution: a token's bits then do not
    # depend on how many are read with it.
    products = (inputs[:, place : place + tokens] * kernel[place] for place in range(kept + 1))
    y: Tensor = sum(products, torch.zeros_like(kernel[0]) if conv.bias is None else conv.bias)
    y = y.to(x.dtype)
    if valid is None:
        # A state of the layout that it began with: torch.compile would compile another step for another.
        return y, inputs[:, tokens:].contiguous()
    y = y.gather(1, ranks.unsqueeze(-1).expand_as(y))
    newest = valid.sum(dim=1, keepdim=True) + torch.arange(kept, device=x.device)  # (rows, K - 1)
    return y, inputs.gather(1, newest.unsqueeze(-1).expand(-1, -1, inputs.shape[2]))


def wide_convolution(conv: nn.Conv1d) -> str | None:
    """Return why the GPU kernel of :func:`causal_conv_step` cannot take ``conv``, or None."""
    return too_large("its convolution is over", conv.weight.shape[2], WIDEST_CONVOLUTION)


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), float32, for the few numbers of a head.

    Through float64: PyTorch computes the last numbers of a float32 tensor by other instructions than those
    before them, so that a row's bits would depend on its place among others.
    """
    x = x.double()
    if torch.compiler.is_compiling():  # or exporting: runtimes of ONNX have no softplus in float64
        return torch.where(x > 20, x, x.clamp(max=20).exp().log1p()).float()
    return F.softplus(x).float()


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x), float32, for the few numbers of a head; see :func:`softplus`."""
    return x.double().sigmoid().float()
