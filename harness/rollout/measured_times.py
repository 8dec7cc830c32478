"""How long sessions, steps and passes take, as far as it is known: what the schedule goes by."""

from __future__ import annotations

from dataclasses import dataclass, field

_SHORTEST_S = 1e-9  # a worker may tell of none at all, and others are divided by it
_STRIDE = 1.05  # by which a median that is estimated moves with each value


@dataclass(frozen=True, slots=True)
class MeasuredTimes:
    """Seconds that things take; the mappings change during a rollout.

    A step or a pass is what it typically takes: a single one may wait for a core, or compile something.

    Attributes:
        start: To build a session, by domain.
        step: A simulator's step, by domain.
        decide: An agent's pass over its lanes, by label.
    """

    start: dict[str, float] = field(default_factory=dict)
    step: dict[str, float] = field(default_factory=dict)
    decide: dict[str, float] = field(default_factory=dict)

    def stepped(self, domain: str, seconds: float) -> None:
        """Take note of a simulator's step."""
        follow(self.step, domain, seconds)

    def decided(self, label: str, seconds: float) -> None:
        """Take note of an agent's pass."""
        follow(self.decide, label, seconds)


def follow(medians: dict[str, float], name: str, value: float) -> None:
    """Move the estimate of a median towards ``value``."""
    known = medians.setdefault(name, max(value, _SHORTEST_S))
    medians[name] = max(known * (_STRIDE if value > known else 1 / _STRIDE), _SHORTEST_S)
