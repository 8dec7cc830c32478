"""A decaying number a channel: the next tokens, whole sequences, and backwards.

Shapes: B rows, T tokens, E channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lram.agents.backbones.kernels.compiler import kernel

_ZERO = np.float32(0)


@kernel
def advance(decay: Any, new: Any, valid: Any, h: Any, out: Any) -> None:
    """decay, new (B, T, E), valid (B, T) -> out (B, T, E); h (B, E) in place.

    out is the unchanged h where there is no token.
    """
    rows, tokens, E = new.shape
    for row in range(rows):
        own = h[row]
        for token in range(tokens):
            y = out[row, token]
            if valid[row, token]:
                a, b = decay[row, token], new[row, token]
                for e in range(E):
                    own[e] = a[e] * own[e] + b[e]
            for e in range(E):
                y[e] = own[e]


@kernel
def scan(decay: Any, new: Any, out: Any) -> None:
    """decay, new (B, T, E) -> out (B, T, E), from zero."""
    rows, tokens, E = new.shape
    for row in range(rows):
        first, y = new[row, 0], out[row, 0]
        for e in range(E):
            y[e] = first[e]
        for token in range(1, tokens):
            a, b, before, y = decay[row, token], new[row, token], out[row, token - 1], out[row, token]
            for e in range(E):
                y[e] = a[e] * before[e] + b[e]


@kernel
def scan_backward(decay: Any, out: Any, dout: Any, ddecay: Any, dnew: Any) -> None:
    """dout (B, T, E) -> ddecay, dnew (B, T, E)."""
    rows, tokens, E = out.shape
    for row in range(rows):
        for token in range(tokens - 1, -1, -1):
            slope, target, da = dout[row, token], dnew[row, token], ddecay[row, token]
            if token < tokens - 1:
                a, later = decay[row, token + 1], dnew[row, token + 1]
                for e in range(E):
                    target[e] = slope[e] + a[e] * later[e]
            else:
                for e in range(E):
                    target[e] = slope[e]
            if token > 0:
                before = out[row, token - 1]
                for e in range(E):
                    da[e] = target[e] * before[e]
            else:
                for e in range(E):
                    da[e] = _ZERO
