"""Matrix products on weights that are packed once: in float32 by oneDNN, in fewer bytes by own kernels.

PyTorch's ``linear`` gives float32 products to MKL, which for few rows reaches a fraction of the
memory's speed on some processors. oneDNN on weights in its own blocked order is close to the limit
(measured on a Zen 5 core, 12.6 M weights: 3 rows 1.5 instead of 4.8 ms, 48 rows 5.7 instead of
14.6 ms). The operators are the ones that PyTorch's own compiler puts in the place of a ``Linear``; a
PyTorch that lacks them uses the plain one.

Within :func:`lram.agents.backbones.narrow_weights.weights_kept_as`, weights that were rounded to bfloat16 or
int8 are packed as such (:mod:`lram.agents.backbones.kernels.narrow`; from eight tokens on
:mod:`lram.agents.backbones.kernels.amx`, where the processor has a matrix unit). oneDNN has no product of
float32 activations with them: it would round the activations, too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.api import AgentError
from lram.agents.backbones.linear import available
from lram.agents.backbones.narrow_weights import NarrowMatrix, note_unit, packed_here
from lram.agents.backbones.sequences import in_parts


class PackedLinear:
    """``nn.Linear`` for inference, with a copy of the weights as they are now.

    Args:
        weight: (out, in), float32 on the processor.
        bias: (out,) or None.
        rows: About how many rows a product will have; any number is allowed.
        activation: ``none`` or ``gelu``, applied to the result.
        unit: What multiplies weights of two bytes or one: the processor's ``vectors``, its matrix unit
            (``tiles``), or ``auto``: vectors for few tokens and tiles for many, where there are such.

    Raises:
        AgentError: Tiles are asked for where there are none.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        rows: int,
        activation: str = "none",
        *,
        unit: Literal["auto", "vectors", "tiles"] = "auto",
    ) -> None:
        weight, bias = weight.detach(), None if bias is None else bias.detach().clone()
        narrow = packed_here(weight, _lanes)
        self._product: _Product = (
            _Float32(weight, bias, rows, activation)
            if narrow is None
            else _Narrow(narrow, bias, len(weight), activation, unit)
        )

    @classmethod
    def of(cls, linear: nn.Linear, rows: int, activation: str = "none") -> PackedLinear:
        """Pack a layer."""
        return cls(linear.weight, linear.bias, rows, activation)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return self._product.of(x)

    def add_to(self, base: Tensor, x: Tensor) -> Tensor:
        """Return ``base`` (..., out) plus the product of ``x`` (..., in)."""
        return self._product.added(base, x)


def _lanes() -> int:
    from lram.agents.backbones.kernels.tiles import LANES  # which needs numba

    return LANES


class _Product(ABC):
    """What a :class:`PackedLinear` computes by."""

    @abstractmethod
    def of(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""

    @abstractmethod
    def added(self, base: Tensor, x: Tensor) -> Tensor:
        """Return ``base`` (..., out) plus the product of ``x`` (..., in)."""


class _Float32(_Product):
    """By oneDNN."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int, activation: str) -> None:
        self.bias, self.activation = bias, activation
        self.packed = available("_linear_pointwise")
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        else:
            self.weight = weight.clone()

    def of(self, x: Tensor) -> Tensor:
        if self.packed:
            algorithm = "none" if self.activation == "gelu" else ""  # of GELU: the exact one
            y: Tensor = torch.ops.mkldnn._linear_pointwise(
                x, self.weight, self.bias, self.activation, [], algorithm
            )
            return y
        y = F.linear(x, self.weight, self.bias)
        return F.gelu(y) if self.activation == "gelu" else y

    def added(self, base: Tensor, x: Tensor) -> Tensor:
        if self.packed:
            summed: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, base, self.weight, self.bias, "add")
            return summed
        return base + F.linear(x, self.weight, self.bias)


# Of tokens times numbers of the weights: with fewer, threads take longer to begin than they save.
_WORTH_THREADS = 1 << 23

# Tokens, from which on the matrix unit is faster than vectors (Emerald Rapids core, products of 512 inputs by
# 2,048 outputs and of 1,024 by 512: at 6 tokens 0.9 and 1.2 of the time in bfloat16, 1.1 and 1.2 in int8; at
# 8 tokens 0.5 and 0.9 to 1.0).
_WORTH_TILES = 8

_NO_NUMBER = np.empty(0, np.float32)
_NO_ROW = np.empty((0, 0), np.float32)


class _Narrow(_Product):
    """By kernels on weights of two bytes or one."""

    def __init__(
        self, matrix: NarrowMatrix, bias: Tensor | None, outputs: int, activation: str, unit: str
    ) -> None:
        from lram.agents.backbones.kernels.amx import amx_problem, tile_product
        from lram.agents.backbones.kernels.narrow import narrow_product

        self.matrix, self.outputs, self.activation = matrix, outputs, activation
        self.bias = _NO_NUMBER if bias is None else bias.numpy()
        problem = None if unit == "vectors" else amx_problem()
        if unit == "tiles" and problem is not None:
            raise AgentError(f"products in tiles cannot be computed: {problem}")
        self.few = tile_product if unit == "tiles" else narrow_product
        self.many = narrow_product if unit == "vectors" or problem is not None else tile_product
        if self.many is tile_product:  # whose last bits are others, so records say so
            note_unit(f"AMX from {_WORTH_TILES} tokens" if unit == "auto" else "AMX")

    def of(self, x: Tensor) -> Tensor:
        y = self._sum(x, _NO_ROW)
        return F.gelu(y) if self.activation == "gelu" else y

    def added(self, base: Tensor, x: Tensor) -> Tensor:
        return self._sum(x, base.reshape(-1, self.outputs).numpy())

    def _sum(self, x: Tensor, base: Any) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        y = rows.new_empty(len(rows), self.outputs)
        panels, scale, count = self.matrix
        x_array, y_array = rows.numpy(), y.numpy()
        compute = self.many if len(rows) >= _WORTH_TILES else self.few
        threads = min(torch.get_num_threads(), count // 2) if len(rows) * len(panels) >= _WORTH_THREADS else 1
        if threads <= 1:
            compute(x_array, panels, scale, self.bias, base, y_array, 0, count)
            return y.view(*x.shape[:-1], self.outputs)

        def some(first: int, end: int) -> None:  # in pairs of panels
            last = min(2 * end, count)
            compute(x_array, panels, scale, self.bias, base, y_array, 2 * first, last)

        in_parts(some, -(-count // 2), threads)
        return y.view(*x.shape[:-1], self.outputs)
