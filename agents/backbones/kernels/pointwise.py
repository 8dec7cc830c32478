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


@kernel
def gated_rms_norm_sequences(
    x: Any, gate: Any, y: Any, weight: Any, groups: int, gate_first: bool, eps: float
) -> None:
    """:func:`gated_rms_norm` of x, gate (B, S, D) -> y (B, S, D)."""
    for row in range(len(x)):
        gated_rms_norm(x[row], gate[row], weight, groups, gate_first, eps, y[row])


@kernel
def gated_rms_norm_backward(
    x: Any,
    gate: Any,
    dy: Any,
    dx: Any,
    dgate: Any,
    dweight: Any,
    weight: Any,
    groups: int,
    gate_first: bool,
    eps: float,
) -> None:
    """dy (B, S, D) -> dx, dgate (B, S, D), dweight (B, D) of each row."""
    rows, tokens, width = x.shape
    own = width // groups
    # Of a group: SiLU of the gate and its slope; what is normalised; the slope of the norm, times the weight.
    opened, slope = np.empty(own, np.float32), np.empty(own, np.float32)
    u, g = np.empty(own, np.float32), np.empty(own, np.float32)
    for row in range(rows):
        dweight[row] = _ZERO
        for token in range(tokens):
            for group in range(groups):
                part = slice(group * own, (group + 1) * own)
                source, opening, factors = x[row, token, part], gate[row, token, part], weight[part]
                given, for_x, for_gate = dy[row, token, part], dx[row, token, part], dgate[row, token, part]
                for_weight, total, along = dweight[row, part], _ZERO, _ZERO
                for i in range(own):
                    s = sigmoid(opening[i])
                    opened[i] = opening[i] * s
                    slope[i] = s * (_ONE + opening[i] * (_ONE - s))
                    u[i] = source[i] * opened[i] if gate_first else source[i]
                    g[i] = given[i] * factors[i] if gate_first else given[i] * factors[i] * opened[i]
                    total += u[i] * u[i]
                    along += g[i] * u[i]
                scale = _ONE / np.sqrt(total / np.float32(own) + np.float32(eps))
                along *= scale * scale / np.float32(own)
                if gate_first:
                    for i in range(own):
                        du = scale * (g[i] - along * u[i])
                        for_weight[i] += given[i] * scale * u[i]
                        for_x[i] = du * opened[i]
                        for_gate[i] = du * source[i] * slope[i]
                else:
                    for i in range(own):
                        normed = scale * u[i]
                        for_weight[i] += given[i] * opened[i] * normed
                        for_x[i] = scale * (g[i] - along * u[i])
                        for_gate[i] = given[i] * normed * factors[i] * slope[i]


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
