"""Bounds of a model's numbers: far above what is trained, and so small that no product is beyond 64 bits."""

from __future__ import annotations

from lram.agents.api import AgentError

MOST_SIZE = 1 << 20
MOST_FACTOR = 64
MOST_TOKENS = 1 << 24


def check_limits(name: str, value: float | None, most: int = MOST_SIZE) -> None:
    """Raise AgentError unless ``value`` is above 0 and at most ``most``; None passes."""
    # Not the other way round, which nan would pass.
    if value is not None and not 0 < value <= most:
        raise AgentError(f"the model's {name} must be above 0 and at most {most}, not {number(value)}")


def check_share(name: str, value: float) -> None:
    """Raise AgentError unless ``value`` is 0 or more and below 1."""
    if not 0 <= value < 1:
        raise AgentError(f"the model's {name} must be 0 or more and below 1, not {number(value)}")


def number(value: float) -> str:
    """Return ``value`` for a sentence; Python refuses to write a number of many digits."""
    return str(value) if -1e15 < value < 1e15 or value != value else "a number of many digits"
