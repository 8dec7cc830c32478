"""Text from a foreign file, and command lines, as a sentence may quote them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

_SEARCHED: set[Path] = set()
"""Folders on PYTHONPATH in which this process has found code that commands have to find again."""


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


def found_code(folder: Path) -> None:
    """Note that a backbone's code was found in ``folder``, where that is on PYTHONPATH."""
    places = [Path(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    if folder in [place.absolute() for place in places]:
        _SEARCHED.add(folder)


def command(*words: object) -> str:
    """Return the command line ``lram WORDS``, quoted as a shell reads it.

    Where it has to find code that this process has found in the working directory, PYTHONPATH stands before
    it: commands search there for what they are given themselves only.
    """
    return f"{_search_path()}lram {shlex.join(map(str, words))}"


def _search_path() -> str:
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return ""
    if here not in _SEARCHED:
        return ""
    places = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    others = [place for place in places if place and Path(place).absolute() != here]
    return f"PYTHONPATH={':'.join(['$PWD', *map(shlex.quote, others)])} "
