"""Weights of matrix products in fewer bytes: which they are, what they are rounded to, how they are packed.

A model whose precision is ``bfloat16-weights`` or ``int8`` is a float32 model with rounded weights: every
form of its step computes with the same numbers, in float32. The compiled step reads them in two bytes or one,
from which they come back exactly; so it is held to what the plain form computes as closely as with float32
weights, whatever rounding has done to the scores.

int8 is per output: scale x (-127 ... 127). A scale has 17 bits at most, so that its products with integers of
7 bits are float32 numbers, and it is found again in the rounded weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.compute import Narrow

FEWEST = 16
"""A matrix with fewer inputs or outputs stays float32: there is nothing to be gained."""

_SCALE_BITS = 17
_TINIEST = 1e-30  # below, scales would not be normal float32 numbers


@dataclass(slots=True)
class PackedMatrices:
    """What became of the matrices that were packed within :func:`weights_kept_as`.

    Attributes:
        form: What they were to be kept as; None: float32.
        kept: How many are.
        left: How many could not be without loss, and are float32.
        unit: What multiplies many tokens by those that are kept, for people; empty: what multiplies few.
    """

    form: Narrow | None
    kept: int = 0
    left: int = 0
    unit: str = ""

    def __str__(self) -> str:
        if self.form is None:
            return "weights in float32"
        said = f"weights in {self.form.removesuffix('-weights')}"
        if self.left:
            said = f"{said}, but {self.left} of {self.left + self.kept} matrices in float32"
        return f"{said}, {self.unit}" if self.unit else said


_matrices: ContextVar[PackedMatrices | None] = ContextVar("packed_matrices", default=None)


@contextmanager
def weights_kept_as(form: Narrow | None) -> Iterator[PackedMatrices]:
    """Pack the weights of products in this form here, where they can be: they are rounded to it."""
    matrices = PackedMatrices(form)
    token = _matrices.set(matrices)
    try:
        yield matrices
    finally:
        _matrices.reset(token)


def asked_form() -> Narrow | None:
    """Return what :func:`weights_kept_as` says here; None: float32."""
    matrices = _matrices.get()
    return None if matrices is None else matrices.form


def note_unit(unit: str) -> None:
    """Note what multiplies many tokens by a matrix that was packed here (:attr:`PackedMatrices.unit`)."""
    matrices = _matrices.get()
    if matrices is not None:
        matrices.unit = unit


def is_matrix(weight: Tensor) -> bool:
    """Return whether a weight (out, in) is one that is rounded and packed."""
    return weight.dim() == 2 and min(weight.shape) >= FEWEST and weight.dtype == torch.float32


def kept_bytes(weight: Tensor, precision: Narrow | None) -> int:
    """Return the bytes of a weight in memory: a matrix's in this form, any other's as it is."""
    if precision is None or not is_matrix(weight):
        return weight.numel() * weight.element_size()
    return 2 * weight.numel() if precision == "bfloat16-weights" else weight.numel() + 4 * len(weight)


def rounded(weight: Tensor, precision: Narrow) -> Tensor:
    """Return ``weight`` (out, in) float32 rounded to what this form can keep; float32 as well.

    Raises:
        AgentError: It is not finite, or too large for bfloat16.
    """
    if precision == "bfloat16-weights":
        narrow = weight.bfloat16().float()
        if not torch.isfinite(narrow).all():
            raise AgentError(
                "weights that are not finite cannot be kept as bfloat16; use the precision float32"
            )
        return narrow
    scale = int8_scale(weight)
    return _integers(weight, scale) * scale[:, None]


def int8_scale(weight: Tensor) -> Tensor:
    """Return the scale (out,) of each output's weights; 0 where all of them are 0.

    Raises:
        AgentError: They are not finite.
    """
    largest = weight.detach().abs().amax(dim=1).double()
    if not torch.isfinite(largest).all():
        raise AgentError("weights that are not finite cannot be kept as int8; use the precision float32")
    mantissa, exponent = torch.frexp(largest / 127)
    up = torch.ceil(mantissa * 2**_SCALE_BITS) / 2**_SCALE_BITS
    scale = torch.ldexp(up, exponent).float()
    return torch.where(largest < _TINIEST, torch.zeros_like(scale), scale)


def _integers(weight: Tensor, scale: Tensor) -> Tensor:
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    whole = (weight.detach().double() / safe.double()[:, None]).round()
    return torch.where(scale[:, None] > 0, whole, torch.zeros_like(whole)).float()


class NarrowMatrix(NamedTuple):
    """A matrix as :func:`lram.agents.backbones.kernels.narrow.narrow_product` reads it, in numpy arrays.

    Attributes:
        panels: Flat, at a multiple of 64 bytes: for each panel of outputs and each input, its weights;
            outputs beyond the last are 0. Two of bfloat16, of one output and two inputs, are a uint32, the
            first input's in the lower half, as the matrix unit reads them; after the last of an odd number
            is a 0.
        scale: (out,) of int8; else of no number.
        panel_count: Panels.
    """

    panels: Any
    scale: Any
    panel_count: int


def packed_here(weight: Tensor, lanes: Callable[[], int]) -> NarrowMatrix | None:
    """Return ``weight`` (out, in) as :func:`weights_kept_as` says, noting it there; None: in float32.

    Args:
        weight: Float32, on the processor.
        lanes: Tells the numbers of the processor's vectors.
    """
    matrices = _matrices.get()
    if matrices is None or matrices.form is None or not is_matrix(weight):
        return None
    matrix = packed(weight, matrices.form, lanes())
    matrices.kept += matrix is not None
    matrices.left += matrix is None
    return matrix


def packed(weight: Tensor, precision: Narrow, lanes: int) -> NarrowMatrix | None:
    """Return ``weight`` (out, in) in this form, for vectors of ``lanes`` numbers; None: not without loss."""
    weight = weight.detach()
    scale = int8_scale(weight) if precision == "int8" else weight.new_empty(0)
    if not torch.equal(rounded(weight, precision), weight):
        return None
    count = -(-len(weight) // (2 * lanes))
    if precision == "int8":
        filled = weight.new_zeros(count * 2 * lanes, weight.shape[1], dtype=torch.int8)
        filled[: len(weight)] = _integers(weight, scale)
        panels = filled.view(count, 2 * lanes, -1).transpose(1, 2).contiguous().numpy()
    else:
        pairs = -(-weight.shape[1] // 2)
        filled = weight.new_zeros(count * 2 * lanes, 2 * pairs, dtype=torch.bfloat16)
        filled[: len(weight), : weight.shape[1]] = weight
        words = filled.view(torch.int32).view(count, 2 * lanes, pairs)
        panels = words.transpose(1, 2).contiguous().numpy().view("uint32")
    return NarrowMatrix(panels.reshape(-1), scale.numpy(), count)
