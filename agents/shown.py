"""Text from a foreign file as a terminal may have it."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return ``text`` with control characters escaped, but for line ends and tabs."""
    return _escaped(text, "\n\t")


def shown(text: str, longest: int = 80) -> str:
    """Return ``text`` on one line: control characters escaped, and at most ``longest`` characters of it."""
    text = _escaped(text[: longest + 1])
    return text if len(text) <= longest else text[:longest] + "..."


def _escaped(text: str, kept: str = "") -> str:
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in kept else one.encode("unicode_escape").decode() for one in text
    )
