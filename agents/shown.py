"""Text from a foreign file as a sentence may quote it."""

from __future__ import annotations


def shown(text: str, longest: int = 80) -> str:
    """Return ``text`` on one line: control characters escaped, and at most ``longest`` characters of it."""
    text = text[: longest + 1]
    if not text.isprintable():
        text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return text if len(text) <= longest else text[:longest] + "..."
