"""Matrix products on weights that are packed once, by oneDNN.

PyTorch's ``linear`` gives float32 products to MKL, which for few rows reaches a fraction of the
memory's speed on some processors. oneDNN on weights in its own blocked order is close to the limit
(measured on a Zen 5 core, 12.6 M weights: 3 rows 1.5 instead of 4.8 ms, 48 rows 5.7 instead of
14.6 ms). The operators are the ones that PyTorch's own compiler puts in the place of a ``Linear``; a
PyTorch that lacks them uses the plain one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.linear import available


class PackedLinear:
    """``nn.Linear`` for inference, with a copy of the weights as they are now.

    Args:
        weight: (out, in), float32 on the processor.
        bias: (out,) or None.
        rows: About how many rows a product will have; any number is allowed.
        activation: ``none`` or ``gelu``, applied to the result.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int, activation: str = "none") -> None:
        self.weight, self.bias = weight.detach(), None if bias is None else bias.detach().clone()
        self.activation = activation
        self.packed = available("_linear_pointwise")
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, rows)
        else:
            self.weight = self.weight.clone()

    @classmethod
    def of(cls, linear: nn.Linear, rows: int, activation: str = "none") -> PackedLinear:
        """Pack a layer."""
        return cls(linear.weight, linear.bias, rows, activation)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if self.packed:
            algorithm = "none" if self.activation == "gelu" else ""  # of GELU: the exact one
            packed: Tensor = torch.ops.mkldnn._linear_pointwise(
                x, self.weight, self.bias, self.activation, [], algorithm
            )
            return packed
        y = F.linear(x, self.weight, self.bias)
        return F.gelu(y) if self.activation == "gelu" else y

    def add_to(self, base: Tensor, x: Tensor) -> Tensor:
        """Return ``base`` (..., out) plus the product of ``x`` (..., in)."""
        if self.packed:
            summed: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, base, self.weight, self.bias, "add")
            return summed
        return base + F.linear(x, self.weight, self.bias)
