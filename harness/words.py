"""Words that messages and reports need."""

from __future__ import annotations


def count(items: int, one: str, many: str = "") -> str:
    """Return ``1 task`` or ``3 tasks``."""
    return f"{items} {one if items == 1 else many or one + 's'}"
