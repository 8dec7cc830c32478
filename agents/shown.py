"""Text from a foreign file as a terminal may have it."""

from __future__ import annotations


def shown(text: str, longest: int = 80) -> str:
    """Return ``text`` printable and short: control characters escaped, at most ``longest`` characters."""
    text = text[: longest + 1]
    text = text if text.isprintable() else text.encode("unicode_escape").decode()
    return text if len(text) <= longest else text[:longest] + "..."
