"""From what a network answers to an action of a task: bounds, and how one action is chosen.

Tasks take continuous actions in [-1, 1]. A policy from outside acts in bounds of its own; they are mapped
linearly, ``low`` to -1 and ``high`` to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lram.agents.api import Action, AgentError

Row: TypeAlias = npt.NDArray[Any]
Choose: TypeAlias = Callable[[Row, "np.random.Generator | None"], Action]
"""Makes an action of what a network answers for one lane; draws from the generator where one is given."""

_ROUNDING = 1e-5
"""Of a width: an action this far outside of its bounds is one on them."""


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Bounds of a policy's own actions.

    Attributes:
        low: Float32, one number a dimension.
        high: Likewise.
    """

    low: Row
    high: Row

    @property
    def plain(self) -> bool:
        """Whether these are the tasks' own."""
        return bool((self.low == -1).all() and (self.high == 1).all())

    def clip(self, action: Row) -> Row:
        """Return ``action`` with what lies outside put on the bounds."""
        inside: Row = np.clip(action, self.low, self.high)
        return inside

    def unsquash(self, action: Row) -> Row:
        """Return what an action in [-1, 1] stands for within the bounds."""
        inside: Row = self.low + (0.5 * (action + 1.0) * (self.high - self.low))
        return inside

    def to_task(self, action: Row) -> npt.NDArray[np.float32]:
        """Return a task's action for one in the policy's own bounds; float32 (size,).

        What lies on the bounds but for rounding is put on them. What lies further outside stays outside of
        [-1, 1], so that the episode says so.
        """
        scaled = action if self.plain else 2.0 * ((action - self.low) / (self.high - self.low)) - 1.0
        near = np.abs(scaled) <= 1 + _ROUNDING
        return np.where(near, np.clip(scaled, -1, 1), scaled).astype(np.float32)

    def describe(self) -> str:
        """Return the bounds in words, such as ``[-2, 2]``."""
        if (self.low == self.low[0]).all() and (self.high == self.high[0]).all():
            return f"[{self.low[0]:g}, {self.high[0]:g}]"
        low, high = (", ".join(f"{one:g}" for one in values) for values in (self.low, self.high))
        return f"[({low}), ({high})]"


def read_bounds(low: object, high: object, size: int, source: str) -> Bounds:
    """Return bounds from numbers, or lists of ``size`` numbers.

    Args:
        low: Lower bound.
        high: Upper bound.
        size: Dimensions of an action.
        source: What the message calls their origin.

    Raises:
        AgentError: They are no finite numbers, too few or many, or ``low`` is not below ``high``.
    """
    sides = []
    for name, value in (("low", low), ("high", high)):
        numbers = (
            list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * size
        )
        if len(numbers) != size or not all(map(_finite, numbers)):
            raise AgentError(
                f"{source}: {name} must be a finite number, or {size} of them in a list, one a dimension of "
                f"the action; it is {str(value)[:100]}"
            )
        sides.append(np.array(numbers, np.float32))
    if not (sides[0] < sides[1]).all():
        raise AgentError(f"{source}: low must be below high in every dimension of the action")
    return Bounds(*sides)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def greatest(row: Row, rng: np.random.Generator | None) -> int:
    """Choose the discrete action with the greatest value; AgentError where it is not finite.

    Some values may be ``-inf``: masked actions.
    """
    _check_greatest(row)
    return int(np.argmax(row))


def drawn(row: Row, rng: np.random.Generator | None) -> int:
    """Draw a discrete action; ``row`` holds the logits. The one with the greatest where nothing draws."""
    if rng is None:
        return greatest(row, rng)
    _check_greatest(row)
    weights = np.exp(np.asarray(row, np.float64) - np.max(row))
    reached = np.cumsum(weights)
    return min(int(np.searchsorted(reached, rng.random() * reached[-1], side="right")), len(row) - 1)


def _check_greatest(row: Row) -> None:
    if not np.isfinite(best := np.max(row)):  # NaN where any value is
        raise AgentError(
            f"the greatest of the network's {len(row)} values of discrete actions is {best}, which chooses "
            "none; check its weights and what it is given"
        )
