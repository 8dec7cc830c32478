"""What a compiled step of Gated DeltaNet computes between convolution and memory, as one kernel.

Shapes: R rows times tokens, H heads, G heads of keys, M, N widths of a key and a value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from lram.agents.backbones.gated_deltanet import EPS
from lram.agents.backbones.kernels.compiler import exp, inner_kernel, kernel, sigmoid, softplus

_ZERO, _ONE = np.float32(0), np.float32(1)


class DeltaReadStep:
    """Takes the place of ``GatedDeltaMixer._read`` in a step.

    Args:
        A_log, dt_bias: The mixer's, (H,).
        strongest: The largest rate of a correction.
        key_heads: Heads of keys.
        key, value: Widths of a key and a value.
    """

    def __init__(
        self, A_log: Tensor, dt_bias: Tensor, strongest: float, key_heads: int, key: int, value: int
    ) -> None:
        self._heads, self._key_heads, self._key, self._value = len(A_log), key_heads, key, value
        self._weights = (
            A_log.detach().float().exp().numpy(),
            dt_bias.detach().float().clone().numpy(),
            np.float32(strongest),
            np.float32(EPS),
        )

    def __call__(self, mixed: Tensor, rates: Tensor) -> tuple[Tensor, ...]:
        """mixed (B, k, 2 G M + H N), rates (B, k, 2 H) -> q, k, v, log_decay, a and b of the memory."""
        mixed, rates = mixed.contiguous(), rates.contiguous()
        outer, heads, keys = mixed.shape[:2], self._heads, self._key_heads
        shapes = (keys, self._key), (keys, self._key), (heads, self._value), (heads, 1), (heads, self._key)
        made = [mixed.new_empty(*outer, *shape) for shape in shapes]
        flat: list[Any] = [tensor.numpy().reshape(-1, *tensor.shape[2:]) for tensor in made]
        rows = len(flat[0])
        _read(mixed.numpy().reshape(rows, -1), rates.numpy().reshape(rows, -1), *self._weights, *flat)
        q, k, v, log_decay, b = made
        return q, k, v, log_decay, k, b


@kernel
def _read(
    mixed: Any,
    rates: Any,
    A: Any,
    dt_bias: Any,
    strongest: Any,
    eps: Any,
    q: Any,
    k: Any,
    v: Any,
    log_decay: Any,
    b: Any,
) -> None:
    """mixed (R, 2 G M + H N), rates (R, 2 H) -> q, k (R, G, M), v (R, H, N), log_decay (R, H, 1) and
    b (R, H, M); A, dt_bias (H,).
    """
    rows, key_heads, key = q.shape
    heads, value = v.shape[1], v.shape[2]
    share, keys = heads // key_heads, key_heads * key
    for row in range(rows):
        for head in range(key_heads):
            part = slice(head * key, (head + 1) * key)
            _of_length_one(mixed[row, :keys][part], eps, _ONE / np.sqrt(np.float32(key)), q[row, head])
            _of_length_one(mixed[row, keys : 2 * keys][part], eps, _ONE, k[row, head])
        for head in range(heads):
            rate = strongest * sigmoid(rates[row, head])
            decay = -A[head] * softplus(rates[row, heads + head] + dt_bias[head])
            log_decay[row, head, 0] = decay
            start = 2 * keys + head * value
            source, target = mixed[row, start : start + value], v[row, head]
            for j in range(value):
                target[j] = rate * source[j]
            fix, own, factor = b[row, head], k[row, head // share], -exp(decay) * rate
            for i in range(key):
                fix[i] = factor * own[i]


@inner_kernel
def _of_length_one(x: Any, eps: Any, scale: Any, y: Any) -> None:
    """x (M,) over its length, times ``scale`` -> y (M,)."""
    total = _ZERO
    for i in range(len(x)):
        total += x[i] * x[i]
    factor = scale / np.sqrt(total + eps)
    for i in range(len(x)):
        y[i] = factor * x[i]
