"""Words that several messages need."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """Return ``1 task`` or ``2 tasks`` for a ``what`` of ``task``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
