"""Text of others made fit for a terminal, a record and a page: one line, printable, bounded."""

from __future__ import annotations

LONGEST = 1000
"""Characters of a simulator's message that reach a record."""

_LOOKED_AT = 8  # times the limit: of a message of megabytes no more is looked at


def printable(text: str, limit: int = LONGEST) -> str:
    r"""Return ``text`` as one line of at most ``limit`` (3 or more) characters that any terminal can show.

    Runs of white space become one space. What is not printable (control characters, and with them the
    sequences that move cursors or set titles, marks that turn the direction of writing, lone surrogates)
    becomes its escape, such as ``\x1b``. What is cut ends in three dots.
    """
    start = text[: _LOOKED_AT * limit]
    line = " ".join(start.split())
    if not line.isprintable():
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    if len(line) <= limit and len(start) == len(text):
        return line
    return line[: limit - 3] + "..."


def message_of(error: BaseException, limit: int = LONGEST) -> str:
    """Return the message of an exception of others as :func:`printable` does, whatever its ``str`` does."""
    try:
        return printable(str(error), limit)
    except BaseException:  # a RecursionError, or whatever its class raises instead of a text
        return "(its message cannot be read)"


def type_of(value: object) -> str:
    """Return the name of a value's class, fit to be shown; a class may have any text for a name."""
    return printable(type(value).__name__, 100)
