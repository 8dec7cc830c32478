"""Standard output and error: nothing that is printed steers a terminal, and a closed one is no error."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from lram.harness.cli.printing.paths import as_typed
from lram.harness.words import visible

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
