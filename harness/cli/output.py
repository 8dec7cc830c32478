"""How commands print: aligned text for people, JSON for programs, and nothing that steers a terminal."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from lram.agents.places import placed
from lram.harness.errors import LramError
from lram.harness.words import one_line, visible

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON."""
    print(visible(json.dumps(value, indent=2, ensure_ascii=False)))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a header, columns aligned; numbers to the right."""
    cells = [[_text(value) for value in row] for row in rows]
    numeric = [
        bool(rows) and all(isinstance(row[column], int | float | None) for row in rows)
        for column in range(len(header))
    ]
    widths = [max(len(line[column]) for line in [list(header), *cells]) for column in range(len(header))]
    for line in [list(header), *cells]:
        parts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        print("  ".join(parts).rstrip())


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else one_line(str(value))


_typed: dict[str, str] = {}  # what the user wrote, by the path from the root that it means


def placed_argument(value: Any) -> Any:
    """Return an argument of a command with its paths from the root; what is printed shows them as typed."""
    if isinstance(value, list | tuple):
        return type(value)(map(placed_argument, value))
    if not isinstance(value, Path) or value.is_absolute():
        return value
    place = placed(value)
    if place.is_absolute() and value != Path():
        _typed[str(place)] = str(value)
    return place


def as_typed(text: str) -> str:
    """Return ``text`` with the paths that were given to this command as they were typed."""
    for place in sorted(_typed, key=len, reverse=True):
        if place in text:
            # Not within a longer path or an address; what follows is a part of the name or of the path.
            pieces = re.split(rf"(?<![^\s'\"=:,;(\[]){re.escape(place)}", text)
            text = _typed[place].join(pieces)
    return text


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system refuses while ``path`` is written, whole or not at all, into one sentence."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and not os.fsdecode(error.filename).startswith(str(path.parent)):
            raise  # of what is read meanwhile
        raise LramError(
            f"{path} cannot be written ({error.strerror or error}), and nothing of it is left; make room "
            "there or give another place with -o, and repeat the command"
        ) from error


class SteadyStream:
    """A text stream that takes whatever is written, so that a command does the same whoever reads.

    A letter that the stream's encoding lacks is written as its escape. Where nobody reads any more (``lram
    tasks | head -1``, a terminal that is gone), the rest leads nowhere. A full disk behind standard output is
    an error, because what is missing there would not be noticed.
    """

    def __init__(self, stream: TextIO, *, needed: bool = False) -> None:
        """Write to ``stream``; ``needed``: OSError where a disk behind it is full."""
        self._stream = stream
        self._needed = needed

    def write(self, text: str) -> int:
        """Write ``text``; returns its length."""
        encoding = self._stream.encoding or "utf-8"
        shown = text
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            shown = text.encode(encoding, "backslashreplace").decode(encoding)
        try:
            self._stream.write(shown)
        except OSError as error:
            self._lost(error)
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand on what was written."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        lead_nowhere(self._stream)
        if self._needed and error.errno in _FULL:
            raise OSError(error.errno, error.strerror, "standard output") from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class VisibleStream(SteadyStream):
    """One in which control and format characters of what is written show as their escapes.

    Names, reasons and messages of files and of simulators are printed in many places; what they hold must not
    move a cursor, set a title or turn the direction of writing. A carriage return at the beginning of a
    write is a counter of ours that begins its line again. Paths that the user gave show as they were typed.
    """

    def __init__(self, stream: TextIO, *, needed: bool = False) -> None:
        super().__init__(stream, needed=needed)
        # Where rich draws bars of its own, it writes to the stream below (rich.console.Console.file).
        self.rich_proxied_file = SteadyStream(stream, needed=needed)

    def write(self, text: str) -> int:
        """Write ``text``; returns its length."""
        head = "\r" if text.startswith("\r") else ""
        super().write(head + visible(as_typed(text[len(head) :])))
        return len(text)


def lead_nowhere(stream: TextIO) -> None:
    """Let ``stream`` accept whatever is written, also what it holds already."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, stream.fileno())
    finally:
        os.close(null)


@contextmanager
def nothing_hidden() -> Iterator[None]:
    """While this lasts, what is printed shows its control characters (:class:`VisibleStream`)."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = VisibleStream(before[0], needed=True), VisibleStream(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
