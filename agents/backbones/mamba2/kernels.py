"""What a compiled step of Mamba-2 computes between convolution and memory, as one kernel.

Shapes: R rows times tokens, H heads of P channels, G groups, N numbers a channel.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lram.agents.backbones.kernels.compiler import kernel, softplus


class MambaReadStep:
    """Takes the place of ``Mamba2Mixer._read`` in a step.

    Args:
        dt_bias, A_log, D: The mixer's, (H,).
        key: Groups, and numbers a channel.
        value: Channels of a head.
    """

    def __init__(self, dt_bias: Tensor, A_log: Tensor, D: Tensor, key: tuple[int, int], value: int) -> None:
        self._key, self._value = key, (len(D), value)
        self._weights = (
            dt_bias.detach().float().clone().numpy(),
            A_log.detach().float().exp().numpy(),
            D.detach().float().clone().numpy(),
        )

    def __call__(self, mixed: Tensor, dt: Tensor) -> tuple[Tensor, ...]:
        """mixed (B, k, H P + 2 G N), dt (B, k, H) -> C, B, dt x and log_decay of the memory, and D x."""
        mixed, dt = mixed.contiguous(), dt.contiguous()
        shapes = self._key, self._key, self._value, (self._value[0], 1), self._value
        made = [mixed.new_empty(*mixed.shape[:2], *shape) for shape in shapes]
        flat: list[Any] = [tensor.numpy().reshape(-1, *tensor.shape[2:]) for tensor in made]
        rows = len(flat[0])
        _read(mixed.numpy().reshape(rows, -1), dt.numpy().reshape(rows, -1), *self._weights, *flat)
        return tuple(made)


@kernel
def _read(
    mixed: Any, dt: Any, dt_bias: Any, A: Any, D: Any, C: Any, B: Any, new: Any, log_decay: Any, skip: Any
) -> None:
    """mixed (R, H P + 2 G N), dt (R, H) -> C, B (R, G, N), new, skip (R, H, P), log_decay (R, H, 1).

    dt_bias, A, D (H,).
    """
    rows, heads, width = new.shape
    groups, size = B.shape[1], B.shape[2]
    for row in range(rows):
        for head in range(heads):
            source, target, beside = (
                mixed[row, head * width : (head + 1) * width],
                new[row, head],
                skip[row, head],
            )
            step, straight = softplus(dt[row, head] + dt_bias[head]), D[head]
            log_decay[row, head, 0] = -A[head] * step
            for j in range(width):
                target[j] = step * source[j]
                beside[j] = straight * source[j]
        for group in range(groups):
            start = heads * width + group * size
            source, target = mixed[row, start : start + size], B[row, group]
            for i in range(size):
                target[i] = source[i]
            start += groups * size
            source, target = mixed[row, start : start + size], C[row, group]
            for i in range(size):
                target[i] = source[i]
