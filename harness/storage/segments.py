"""Folders that one process at a time adds records to.

::

    FOLDER/
        PLAN.json             what is to be there (written whole or not at all)
        PART/0001.jsonl       one line a record; each session appends to segments of its own number
        PART/0001.json        what that session says of itself
        lock                  held while a process writes

A line counts when its newline is in the file: a torn last line, the mark of a process killed while
writing, is not read. Every line and every JSON file carries its checksum
(:mod:`lram.agents.checksums`), which is verified whenever it is read; in a segment all lines carry one, or
none does, as in those of earlier versions.

Every record is given to the operating system at once, so that the end of the process, however it comes,
costs nothing that was appended. That the disk has it is made sure of at most every ``SYNC_S`` seconds, for
all that came meanwhile: a power cut, or a kernel that falls, may cost the records of a burst since then,
never the first of it, and what it leaves is read as after any other end. Who appends now and then has
every record on disk at once.
"""

from __future__ import annotations

import errno
import io
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lram.agents.checksums import ChecksumError, sign_line, verify_line
from lram.agents.durable import InUseError, Lock, is_scratch_of, laid_by_desktop, open_regular, sync_folder
from lram.agents.shown import shown
from lram.harness.errors import LramError
from lram.harness.storage.json_files import DAMAGE, clause, files_in, write_json
from lram.harness.storage.links import refuse_links

_T = TypeVar("_T")

SYNC_S = 0.1
"""Seconds of appending after which what was appended is on disk."""

LOCK = "lock"
_BLOCK = 4 << 20  # bytes that are read at once
_LONGEST_LINE = 64 << 20  # bytes; beyond it is no record


class WrongRecordError(ValueError):
    """A record contradicts its plan, or another record; the message is a clause."""


class Once:
    """A check of records: what is recorded is planned, and has one result."""

    def __init__(self, planned: set[Any], key: Callable[[Any], Any]) -> None:
        """Check that ``key(record)`` is one of ``planned``, and that no two records of one key differ."""
        self._planned, self._key = planned, key
        self._seen: dict[Any, Any] = {}

    def __call__(self, record: Any) -> None:
        """Raise WrongRecordError where ``record`` cannot be right."""
        key = self._key(record)
        if key not in self._planned:
            raise WrongRecordError(f"the plan has no {key}")
        if self._seen.setdefault(key, record) != record:
            raise WrongRecordError(f"{key} has another result in a line before, and one of them is wrong")


@dataclass(frozen=True, slots=True)
class FolderKind:
    """A kind of folder that has a plan and segments.

    Attributes:
        plan_file: Name of the plan, the file by which the folder is known.
        holding: What such a folder is said to hold, such as ``a run``.
        resume: The command that continues one, which its folder follows.
        rooms: Folders that a process may have made before the plan was there.
        inputs: Files that are written before the plan.
    """

    plan_file: str
    holding: str
    resume: str
    rooms: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()

    def check_vacant(self, folder: Path) -> None:
        """Raise LramError when ``folder`` holds more than a beginning that was killed may have left."""
        try:
            if not folder.exists():
                return
        except OSError as error:  # such as a name that is too long
            raise LramError(
                f"{shown(str(folder), 300)} cannot be made: {error.strerror}; give another folder"
            ) from error
        if (folder / self.plan_file).is_file():
            raise LramError(
                f"{folder} holds {self.holding} already; continue with: {self.continuing(folder)}"
            )
        if not folder.is_dir() or not all(map(self._is_leftover, folder.iterdir())):
            raise LramError(f"{folder} exists and is not an empty folder; give a new one")

    def continuing(self, folder: Path) -> str:
        """Return the command that continues ``folder``."""
        return f"{self.resume} {shlex.quote(str(folder))}"

    def begin(self, folder: Path, plan: object, inputs: Callable[[], None] = lambda: None) -> Lock:
        """Make ``folder`` with its plan, and return its lock.

        Args:
            folder: Absent, or vacant.
            plan: What its plan file is to hold.
            inputs: Writes the files that come before the plan.

        Raises:
            LramError: It is not vacant, another process is at it, or it cannot be written.
        """
        self.check_vacant(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held = lock(folder / LOCK)
            try:
                self.check_vacant(folder)  # another process may have begun here
                inputs()
                write_json(folder / self.plan_file, plan)
            except BaseException:
                held.close()
                raise
        except OSError as error:
            raise LramError(
                f"cannot write to {folder}: {error.strerror}; make room or give another folder, and repeat "
                "the command"
            ) from error
        return held

    def _is_leftover(self, entry: Path) -> bool:
        if laid_by_desktop(entry.name):
            return True
        if entry.is_symlink():
            return False
        files = (self.plan_file, *self.inputs)
        if entry.is_dir():
            return entry.name in self.rooms and not any(entry.iterdir())
        if not (entry.parent / LOCK).is_file():
            return False  # the lock comes first: what lies there without one is a user's
        if entry.name == LOCK:
            return entry.stat().st_size == 0
        return entry.name in self.inputs or any(is_scratch_of(entry.name, name) for name in files)


def read_records(
    part: Path,
    kind: type[_T],
    check: Callable[[_T], None] | None = None,
    *,
    advice: str = "remove the line and resume",
) -> Iterator[tuple[_T, str]]:
    """Yield each record of ``part`` with its segment's number, oldest first.

    Args:
        part: Folder of the segments.
        kind: What a line holds.
        check: Raises WrongRecordError for a record that cannot be right.
        advice: What to do about a damaged line.

    Raises:
        LramError: A segment cannot be read, or a line is damaged or wrong; it is named.
    """
    decoder = msgspec.json.Decoder(kind)
    for segment in files_in(part, "*.jsonl"):
        stem = segment.stem
        signed: bool | None = None
        for number, line in enumerate(_whole_lines(segment), start=1):
            try:
                verified = verify_line(line)
                if verified is not signed:
                    if signed is not None:
                        raise ChecksumError("it and the lines before it do not all carry checksums")
                    signed = verified
                record = decoder.decode(line)
                if check is not None:
                    check(record)
            except WrongRecordError as error:
                raise LramError(f"{segment}, line {number}: {clause(error)}; {advice}") from error
            except DAMAGE as error:
                raise LramError(f"{segment}, line {number} is damaged ({clause(error)}); {advice}") from error
            yield record, stem


def without_checksums(part: Path) -> list[Path]:
    """Return the segments of ``part`` whose lines carry no checksum: those of earlier versions.

    Raises:
        LramError: A segment cannot be read, or its first line is damaged.
    """
    found = []
    for segment in files_in(part, "*.jsonl"):
        first = next(_whole_lines(segment), None)
        try:
            signed = first is None or verify_line(first)
        except ChecksumError as error:
            raise LramError(f"{segment}, line 1 is damaged ({clause(error)})") from error
        if not signed:
            found.append(segment)
    return found


def _whole_lines(segment: Path) -> Iterator[bytes]:
    """Yield the lines of ``segment`` that have their newline, reading a block at a time."""
    rest = b""
    try:
        with open_regular(segment) as file:
            while block := file.read(_BLOCK):
                whole, newline, tail = block.rpartition(b"\n")
                if newline:
                    yield from (rest + whole).split(b"\n")
                    rest = tail
                else:
                    rest += block
                if len(rest) > _LONGEST_LINE:
                    raise LramError(
                        f"{segment} has a line of more than {_LONGEST_LINE} bytes; it is no segment"
                    )
    except OSError as error:
        raise LramError(f"{segment} cannot be read: {error.strerror}") from error


def lock(file: Path, *, wait: bool = False) -> Lock:
    """Lock ``file`` until what is returned is closed; LramError when another process has it."""
    try:
        return Lock(file, wait=wait)
    except InUseError as error:
        raise LramError(
            f"{file.parent} is in use by another process; wait for it to end, or give another folder"
        ) from error
    except OSError as error:
        raise LramError(f"cannot write to {file.parent}: {error.strerror}") from error


class SegmentWriter:
    """Holds a folder's lock and writes the segments of one session; a segment opens with its first record."""

    def __init__(self, path: Path, parts: Sequence[str], resume: str, held: Lock | None = None) -> None:
        """Lock ``path``, take the number after those in ``parts``; LramError when another process holds it.

        Args:
            path: The folder.
            parts: Folders of segments.
            resume: The command that continues after its disk was full.
            held: Its lock, where this process has it already.
        """
        self._path, self._resume = path, resume
        refuse_links(path, (*parts, LOCK))
        self._lock = held or lock(path / LOCK)
        self._here = _identity(path)
        # A process that was killed before its first record may have left its number on other parts.
        used = [file.stem for part in parts for file in (path / part).glob("*")]
        self.number = max((int(stem) for stem in used if stem.isdecimal() and stem.isascii()), default=0) + 1
        self._files: dict[str, io.FileIO] = {}
        self._unsynced: set[str] = set()
        self._synced = 0.0

    def append(self, part: str, record: object) -> None:
        """Write one record: it is in its file when this returns, and soon on disk (the module's text)."""
        line = sign_line(msgspec.json.encode(record)) + b"\n"
        try:
            if part not in self._files:
                self._files[part] = self._open(part)
            _write_whole(self._files[part], line)
        except OSError as error:
            raise self._refused(error.strerror or "") from error
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

    def write(self, part: str, value: object) -> None:
        """Write the session's JSON file of ``part`` (again, when more became known)."""
        folder = self._path / part
        try:
            self._check_here()
            folder.mkdir(exist_ok=True)
            write_json(folder / f"{self.number:04d}.json", value)
        except OSError as error:
            raise self._refused(error.strerror or "") from error

    def folder(self, part: str) -> Path:
        """Return the session's own folder in ``part``; it exists."""
        folder = self._path / part / f"{self.number:04d}"
        try:
            self._check_here()
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
        self._check_here()
        folder = self._path / part
        folder.mkdir(exist_ok=True)
        file = io.FileIO(folder / f"{self.number:04d}.jsonl", "x")
        sync_folder(folder)
        return file

    def _check_here(self) -> None:
        """Raise LramError when another folder, or none, is where this one was: nothing belongs there."""
        if _identity(self._path) != self._here:
            raise LramError(
                f"{self._path} was moved or replaced while it was written to; what was recorded stands where "
                "it is now: resume there"
            )

    def _refused(self, cause: str) -> LramError:
        return LramError(f"cannot write to {self._path}: {cause}; make room, then '{self._resume}'")


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from another one at the same place; None where there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _write_whole(file: io.FileIO, line: bytes) -> None:
    """Append ``line``, or nothing; OSError where the disk does not take all of it."""
    before = file.tell()
    try:
        written = file.write(line)
        if written != len(line):
            raise OSError(errno.ENOSPC, "the disk took part of a record only")
    except OSError:
        # What a later session reads ends with a whole line; a torn one would not count either.
        with suppress(OSError):
            file.truncate(before)
            file.seek(before)
        raise
