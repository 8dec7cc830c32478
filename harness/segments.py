"""Folders that one process at a time adds records to.

::

    FOLDER/
        PLAN.json             what is to be there (written whole or not at all)
        PART/0001.jsonl       one line a record; each session appends to segments of its own number
        PART/0001.json        what that session says of itself
        lock                  held while a process writes

A line counts when its newline is on disk: a torn last line, the mark of a process killed while
writing, is not read.
"""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO, TypeVar

import msgspec

from lram.agents.api import AgentError
from lram.agents.durable import sync_folder, write_durably
from lram.harness.errors import LramError

_T = TypeVar("_T")


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
        content = segment.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                record = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise LramError(f"{segment}, line {number} is damaged ({error}); remove the line") from error
            yield record, segment.stem


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

    def append(self, part: str, record: object) -> None:
        """Write one record; it is on disk when this returns."""
        line = msgspec.json.encode(record) + b"\n"
        try:
            if part not in self._files:
                self._files[part] = self._open(part)
            written = self._files[part].write(line)
            os.fdatasync(self._files[part].fileno())
        except OSError as error:
            raise self._refused(error.strerror or "") from error
        if written != len(line):
            raise self._refused("the disk took part of a record only")

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
