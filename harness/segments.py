"""Folders that one process at a time adds records to.

::

    FOLDER/
        PLAN.json             what is to be there (written whole or not at all)
        PART/0001.jsonl       one line a record; each session appends to segments of its own number
        PART/0001.json        what that session says of itself
        lock                  held while a process writes

A line counts when its newline is in the file: a torn last line, the mark of a process killed while
writing, is not read.

Every record is given to the operating system at once, so that the end of the process, however it comes,
costs nothing that was appended. That the disk has it is made sure of at most every ``SYNC_S`` seconds, for
all that came meanwhile: a power cut, or a kernel that falls, may cost the records of a burst since then,
never the first of it, and what it leaves is read as after any other end. Who appends now and then has
every record on disk at once.
"""

from __future__ import annotations

import fcntl
import gc
import io
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar

import msgspec

from lram.agents.api import AgentError
from lram.agents.durable import sync_folder, write_durably
from lram.harness.errors import LramError

_T = TypeVar("_T")

SYNC_S = 0.1
"""Seconds of appending after which what was appended is on disk."""

_BLOCK = 4 << 20  # bytes that are read at once


def check_empty(folder: Path, plan_file: str, holding: str, resume: str) -> None:
    """Raise LramError when ``folder`` holds anything; where that is ``plan_file``, name ``resume``."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if (folder / plan_file).is_file():
            raise LramError(f"{folder} holds {holding} already; '{resume} {folder}' goes on with it")
        raise LramError(f"{folder} exists and is not an empty folder; give a new one")


def read_json(file: Path, kind: type[_T]) -> _T:
    """Return what ``file`` holds; LramError when it cannot be read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, AgentError) as error:
        raise LramError(f"{file} cannot be read: {error}") from error


def check_layout(file: Path, found: int, read: int) -> None:
    """Raise LramError when the layout ``found`` in ``file`` is not the one that this version can ``read``."""
    if found != read:
        raise LramError(
            f"{file} has layout {found}, this version reads {read}; use the lram-bench that made it"
        )


def read_records(part: Path, kind: type[_T]) -> Iterator[tuple[_T, str]]:
    """Yield each record of ``part`` with its segment's number, oldest first; LramError at a damaged line."""
    decoder = msgspec.json.Decoder(kind)
    for segment in sorted(part.glob("*.jsonl")):
        stem = segment.stem
        for number, line in enumerate(_whole_lines(segment), start=1):
            try:
                record = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise LramError(f"{segment}, line {number} is damaged ({error}); remove the line") from error
            yield record, stem


def _whole_lines(segment: Path) -> Iterator[bytes]:
    """Yield the lines of ``segment`` that have their newline, reading a block at a time."""
    rest = b""
    with segment.open("rb") as file:
        while block := file.read(_BLOCK):
            whole, newline, tail = block.rpartition(b"\n")
            if newline:
                yield from (rest + whole + newline).splitlines()
                rest = tail
            else:
                rest += block


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep Python's collector of cycles away while very many objects are made that all stay: it would look
    at all of them again and again.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def lock(file: Path, *, wait: bool = False) -> TextIO:
    """Lock ``file`` until what is returned is closed; LramError when another process has it."""
    try:
        handle = file.open("a")
    except OSError as error:
        raise LramError(f"cannot write to {file.parent}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        handle.close()
        raise LramError(
            f"{file.parent} is in use by another process; wait for it to end, or give another folder"
        ) from error
    return handle


class SegmentWriter:
    """Holds a folder's lock and writes the segments of one session; a segment opens with its first record."""

    def __init__(self, path: Path, parts: Sequence[str], resume: str) -> None:
        """Lock ``path``, take the number after those in ``parts``; LramError when another process holds it.

        ``resume`` is the command that goes on with the folder after its disk was full.
        """
        self._path, self._resume = path, resume
        self._lock = lock(path / "lock")
        # A process that was killed before its first record may have left its number on other parts.
        used = [file.stem for part in parts for file in (path / part).glob("*")]
        self.number = max((int(stem) for stem in used if stem.isdigit()), default=0) + 1
        self._files: dict[str, io.FileIO] = {}
        self._unsynced: set[str] = set()
        self._synced = 0.0

    def append(self, part: str, record: object) -> None:
        """Write one record: it is in its file when this returns, and soon on disk (the module's text)."""
        line = msgspec.json.encode(record) + b"\n"
        try:
            if part not in self._files:
                self._files[part] = self._open(part)
            written = self._files[part].write(line)
        except OSError as error:
            raise self._refused(error.strerror or "") from error
        if written != len(line):
            raise self._refused("the disk took part of a record only")
        self._unsynced.add(part)
        self.heartbeat()

    def heartbeat(self) -> None:
        """Make sure of what was appended, where the last time is long enough ago; cheap otherwise."""
        if self._unsynced and time.monotonic() - self._synced >= SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Make sure that all that was appended is on disk."""
        try:
            for part in sorted(self._unsynced):
                os.fdatasync(self._files[part].fileno())
                self._unsynced.discard(part)
        except OSError as error:
            raise self._refused(error.strerror or "") from error
        self._synced = time.monotonic()

    def write(self, part: str, content: bytes) -> None:
        """Write the session's JSON file of ``part`` (again, when more became known)."""
        folder = self._path / part
        try:
            folder.mkdir(exist_ok=True)
            write_durably(folder / f"{self.number:04d}.json", content)
        except OSError as error:
            raise self._refused(error.strerror or "") from error

    def folder(self, part: str) -> Path:
        """Return the session's own folder in ``part``; it exists."""
        folder = self._path / part / f"{self.number:04d}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refused(error.strerror or "") from error
        return folder

    def close(self) -> None:
        """Close the segments and free the lock."""
        try:
            self.sync()
        finally:
            for file in self._files.values():
                file.close()
            self._lock.close()

    def _open(self, part: str) -> io.FileIO:
        folder = self._path / part
        folder.mkdir(exist_ok=True)
        file = io.FileIO(folder / f"{self.number:04d}.jsonl", "x")
        sync_folder(folder)
        return file

    def _refused(self, cause: str) -> LramError:
        path = self._path
        return LramError(f"cannot write to {path}: {cause}; make room, then '{self._resume} {path}'")
