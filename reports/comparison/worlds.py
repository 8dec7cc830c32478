"""The rate of the world: what was earned while the world waited does not compare with what was not.

``lram eval --realtime HZ`` lets the world go on while an agent thinks. Its returns are then those of a model
on a machine in a world of that rate, and no better or worse than those at another rate.
"""

from __future__ import annotations

from collections.abc import Iterable

from lram.reports.text import names


def worlds(rates: Iterable[float]) -> str:
    """Return ``worlds that waited and at 15 Hz`` of different rates; empty where all are one.

    Args:
        rates: Steps of an agent's world in a second of its thinking (Hz); 0: it waited.
    """
    found = sorted(set(rates))
    return f"worlds {names([waiting(hz) for hz in found])}" if len(found) > 1 else ""


def waiting(hz: float) -> str:
    """Return what to say of a world of one rate (Hz; 0: it waited), behind the word for it."""
    return f"at {hz:g} Hz" if hz else "that waited"
