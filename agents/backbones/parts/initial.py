"""Initial weights that several kinds share. All draw from torch's global generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def small_init(weight: Tensor, width: int) -> None:
    """Of a projection of tokens (Nguyen and Salazar 2019, arXiv 1910.05895)."""
    nn.init.normal_(weight, std=math.sqrt(2 / (5 * width)))


def wang_init(weight: Tensor, width: int, layers: int) -> None:
    """Of what one of ``layers`` blocks adds (Wang and Komatsuzaki 2021, GPT-J), as in the xlstm package."""
    nn.init.normal_(weight, std=2 / layers / math.sqrt(width))


def step_size_biases(count: int, low: float = 0.001, high: float = 0.1) -> Tensor:
    """Return what softplus maps to step sizes, log-uniformly from ``low`` to ``high`` (Mamba's rule)."""
    dt = torch.exp(torch.rand(count) * (math.log(high) - math.log(low)) + math.log(low)).clamp(min=1e-4)
    return dt + torch.log(-torch.expm1(-dt))
