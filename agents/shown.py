"""Text from a foreign file, and command lines, as a sentence may quote them."""

from __future__ import annotations

import shlex


def shown(text: str, longest: int = 80) -> str:
    """Return ``text`` on one line: control characters escaped, and at most ``longest`` characters of it."""
    text = text[: longest + 1]
    if not text.isprintable():
        text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return text if len(text) <= longest else text[:longest] + "..."


def command(*words: object) -> str:
    """Return the command line ``lram WORDS``, quoted as a shell reads it."""
    return f"lram {shlex.join(map(str, words))}"
