"""Norms by the root mean square, and gates: what stands between the products of a step.

Every row is computed alike, so its bits do not depend on its place. Shapes: R rows, D width.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lram.agents.backbones.kernels.compiler import elementary, kernel, sigmoid, silu

_ZERO, _ONE = np.float32(0), np.float32(1)
# GELU by tanh (Hendrycks and Gimpel 2016, arXiv 1606.08415): x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)).
_TWICE, _CUBIC = np.float32(2 * math.sqrt(2 / math.pi)), np.float32(0.044715)


@kernel
def rms_norm(x: Any, weight: Any, eps: float, y: Any) -> None:
    """x (R, D), weight (D,) -> y (R, D): x / root of (mean square + eps), times the weight."""
    rows, width = x.shape
    for row in range(rows):
        source, target, total = x[row], y[row], _ZERO
        for i in range(width):
            total += source[i] * source[i]
        scale = _ONE / np.sqrt(total / np.float32(width) + np.float32(eps))
        for i in range(width):
            target[i] = source[i] * scale * weight[i]


@kernel
def gated_rms_norm(x: Any, gate: Any, weight: Any, groups: int, gate_first: bool, eps: float, y: Any) -> None:
    """x, gate (R, D), weight (D,) -> y (R, D): each of ``groups`` normalised, before or after SiLU's gate."""
    rows, width = x.shape
    own = width // groups
    for row in range(rows):
        for group in range(groups):
            part = slice(group * own, (group + 1) * own)
            source, opening, factors, target = x[row, part], gate[row, part], weight[part], y[row, part]
            total = _ZERO
            for i in range(own):
                value = source[i] * silu(opening[i]) if gate_first else source[i]
                target[i] = value
                total += value * value
            scale = _ONE / np.sqrt(total / np.float32(own) + np.float32(eps))
            if gate_first:
                for i in range(own):
                    target[i] *= scale * factors[i]
            else:
                for i in range(own):
                    target[i] *= scale * factors[i] * silu(opening[i])


@elementary
def gelu(x: Any) -> Any:
    """GELU in its approximation by tanh."""
    return x * sigmoid(_TWICE * (x + _CUBIC * x * x * x))


@kernel
def silu_gate(x: Any, y: Any) -> None:
    """x (R, 2 D) -> y (R, D): SiLU of the first half, times the second."""
    rows, width = y.shape
    for row in range(rows):
        first, second, target = x[row, :width], x[row, width:], y[row]
        for i in range(width):
            target[i] = silu(first[i]) * second[i]


@kernel
def gelu_gate(x: Any, y: Any) -> None:
    """x (R, 2 D) -> y (R, D): GELU of the first half, times the second."""
    rows, width = y.shape
    for row in range(rows):
        first, second, target = x[row, :width], x[row, width:], y[row]
        for i in range(width):
            target[i] = gelu(first[i]) * second[i]
