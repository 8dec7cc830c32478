"""How commands print: aligned text for people, JSON for programs, and nothing that steers a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from lram.harness.words import one_line, visible


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


class VisibleStream:
    """A text stream in which control and format characters of what is written show as their escapes.

    Names, reasons and messages of files and of simulators are printed in many places; what they hold must not
    move a cursor, set a title or turn the direction of writing. A carriage return at the beginning of a
    write is a counter of ours that begins its line again.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # Where rich draws bars of its own, it writes to the stream below (rich.console.Console.file).
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        """Write ``text``; returns its length."""
        head = "\r" if text.startswith("\r") else ""
        shown = head + visible(text[len(head) :])
        encoding = self._stream.encoding or "utf-8"
        try:
            shown.encode(encoding)
        except UnicodeEncodeError:  # a terminal that has no such letter
            shown = shown.encode(encoding, "backslashreplace").decode(encoding)
        self._stream.write(shown)
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def nothing_hidden() -> Iterator[None]:
    """While this lasts, what is printed shows its control characters (:class:`VisibleStream`)."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = VisibleStream(before[0]), VisibleStream(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
