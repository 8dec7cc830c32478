"""What the recurrence of RWKV-7 reads."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class RecurrenceInputs(NamedTuple):
    """Projected tokens, all (rows, tokens, width).

    Attributes:
        r: Receptance: what reads the matrices.
        k: Key.
        v: Value.
        decay: Raw decay.
        rate: Raw rate of the correction.
        gate: Of the output.
        mixed: The first block's value, and the raw share of it that is mixed in; None in that block.
    """

    r: Tensor
    k: Tensor
    v: Tensor
    decay: Tensor
    rate: Tensor
    gate: Tensor
    mixed: tuple[Tensor, Tensor] | None
