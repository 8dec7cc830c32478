# mypy: disable-error-code="no-untyped-def"
# Triton compiles no function whose arguments have types.
"""Functions of numbers that kernels share, float32.

Triton's own logarithm is a GPU's short one, whose error near 1 is as large as what is asked for there; and
it has no hyperbolic tangent.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def softplus(x):
    """log(1 + e^x) = max(x, 0) + 2 artanh(s), s = u / (2 + u) <= 1/3 of u = e^-|x|; to 1e-7."""
    u = tl.exp(-tl.abs(x))
    s = u / (2.0 + u)
    t = s * s
    series = 1.0 + t * (1 / 3 + t * (1 / 5 + t * (1 / 7 + t * (1 / 9 + t * (1 / 11 + t * (1 / 13))))))
    return tl.maximum(x, 0.0) + 2.0 * s * series


@triton.jit
def sigmoid(x):
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def tanh(x):
    """(1 - u) / (1 + u) of u = e^-2|x|, with the sign of x."""
    u = tl.exp(-2.0 * tl.abs(x))
    return tl.where(x < 0, -1.0, 1.0) * (1.0 - u) / (1.0 + u)
