"""Text from a foreign file, and command lines, as a sentence may quote them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from lram.agents.own_modules import search_path_prefix


def shown(text: str, longest: int = 80) -> str:
    """Return ``text`` on one line: control characters escaped, and at most ``longest`` characters of it."""
    text = text[: longest + 1]
    if not text.isprintable():
        text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return text if len(text) <= longest else text[:longest] + "..."


def few(names: Iterable[str], most: int = 5, between: str = ", ") -> str:
    """Return ``a, b and 7 more``: at most ``most`` names, and how many others there are; empty for none."""
    listed = list(names)
    closing = "; and" if between == "; " else " and"
    more = f"{closing} {len(listed) - most:,} more" if len(listed) > most else ""
    return between.join(listed[:most]) + more


def command(*words: object) -> str:
    """Return the command line ``lram WORDS``, quoted as a shell reads it.

    Where it has to find code that this process has found in the working directory, PYTHONPATH stands before
    it.
    """
    return f"{search_path_prefix()}lram {shlex.join(map(str, words))}"
