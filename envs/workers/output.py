"""What a worker prints, kept in a file of bounded size: its beginning and its end.

The worker writes to a pipe, and the harness reads it whenever it waits for workers. A simulator that prints
faster than that waits at the pipe; it can fill neither the disk nor the memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

HEAD = 1 << 19
"""Bytes of the beginning that are kept."""
TAIL = 1 << 19
"""Bytes of the end that are kept; the file holds at most twice as many for a while."""
_PIPE = 1 << 18  # bytes that a pipe holds; by default 64 KiB
_READS = 8  # of a pipe's content, before others have their turn


class OutputFile:
    """The file that a worker's output ends in, and the pipe that it comes through."""

    def __init__(self, path: Path) -> None:
        """Make the pipe and the file (a file that is there is continued); OSError where that fails."""
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            self._reading, self.writing = os.pipe()
        except OSError:
            os.close(self._file)
            raise
        with contextlib.suppress(OSError):  # a system may allow less
            fcntl.fcntl(self._reading, fcntl.F_SETPIPE_SZ, _PIPE)
        os.set_blocking(self._reading, False)
        self._size = os.lseek(self._file, 0, os.SEEK_END)
        self._head = self._size + HEAD
        self._dropped = 0
        self.ended = False

    def fileno(self) -> int:
        """Return the descriptor to read, for a selector."""
        return self._reading

    def started(self) -> None:
        """Close this process's copy of the end that the worker writes to."""
        os.close(self.writing)
        self.writing = -1

    def drain(self) -> None:
        """Take what is there, but no more than a few pipes hold; ``ended`` tells that no more can come."""
        for _ in range(_READS):
            try:
                content = os.read(self._reading, _PIPE)
            except BlockingIOError:
                return
            except OSError:
                content = b""
            if not content:
                self.ended = True
                return
            # A full disk costs what is printed; whether the run can continue, its records tell.
            with contextlib.suppress(OSError):
                self._write(content)

    def close(self) -> None:
        """Take what is left and close the file and the pipe."""
        self.drain()
        with contextlib.suppress(OSError):
            if self._size > self._head + TAIL:
                self._cut()
        for handle in (self._reading, self.writing, self._file):
            if handle >= 0:
                os.close(handle)
        self._reading = self.writing = self._file = -1

    def _write(self, content: bytes) -> None:
        if self._size + len(content) > self._head + 2 * TAIL:
            self._cut()
        os.pwrite(self._file, content, self._size)
        self._size += len(content)

    def _cut(self) -> None:
        """Drop the middle: the file is the beginning, a note, and the end."""
        keep = min(TAIL, self._size - self._head)
        end = os.pread(self._file, keep, self._size - keep)
        self._dropped += self._size - keep - self._head
        note = f"\n[... of what was printed, about {self._dropped} bytes are not kept here ...]\n".encode()
        os.ftruncate(self._file, self._head)
        os.pwrite(self._file, note + end, self._head)
        self._size = self._head + len(note) + len(end)


class OutputFiles:
    """The output files of a pool: of very many, the first and the last are kept."""

    def __init__(self, folder: Path, first: int = 60, last: int = 40) -> None:
        """Keep the ``first`` and the ``last`` so many files in ``folder``."""
        self._folder, self._first, self._last = folder, first, last
        self._made = 0
        self._closed: list[Path] = []

    def make(self, domain: str) -> OutputFile:
        """Return a new worker's file."""
        self._made += 1
        return OutputFile(self._folder / f"worker-{self._made:03d}-{domain}.log")

    def close(self, file: OutputFile) -> None:
        """Close a worker's file, which counts as one of the last from now on."""
        file.close()
        self._closed.append(file.path)
        if len(self._closed) > self._first + self._last:
            with contextlib.suppress(OSError):
                self._closed.pop(self._first).unlink()
