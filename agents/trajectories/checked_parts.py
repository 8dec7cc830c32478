"""Parts that are opened for reading, each verified against its checksum before the first number is read.

A part is read whole for that, once in a process and its forks, as long as the file's times and size say that
it is the same file. What a process has verified before it forks, its forks need not verify again, and what
one of them verifies, the others need not: they share the marks.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from lram.agents.api import AgentError
from lram.agents.durable import open_regular
from lram.agents.shown import command
from lram.agents.trajectories.index import fault_of_size
from lram.agents.trajectories.layout import PartLine
from lram.agents.trajectories.listing import check_plain_file
from lram.agents.trajectories.part import open_part

if TYPE_CHECKING:
    from io import BufferedReader

OPEN_PARTS = 64


class CheckedParts:
    """The parts of a store, opened when they are asked for, by each process for itself.

    Args:
        path: Folder of the store.
        lines: Its parts.
        sizes: What their files were when the store was opened, by path in the store.
    """

    def __init__(self, path: Path, lines: Sequence[PartLine], sizes: Mapping[str, os.stat_result]) -> None:
        self._path = path
        self._lines = {line.part: line for line in lines}
        self._numbers = {line.part: number for number, line in enumerate(lines)}
        self._seen = {line.part: _identity(sizes[line.part]) for line in lines}
        # Shared with the processes that are forked from this one.
        self._marks = mmap.mmap(-1, max(1, len(lines)))
        self._forget_files()

    def _forget_files(self) -> None:
        """Begin with no part open: HDF5 files that were opened before a fork must not be used after it."""
        self._process = os.getpid()
        self._files: OrderedDict[str, Any] = OrderedDict()

    def open(self, part: str) -> Any:
        """Return ``part`` as an open h5py.File; AgentError where it is not what was written."""
        if self._process != os.getpid():
            self._forget_files()
        file = self._files.get(part)
        if file is not None:
            self._files.move_to_end(part)
            return file
        self._verify(part)
        # Verified, so not looked through at every opening: a training opens parts again and again.
        file = self._files[part] = open_part(self._path / part, known=True)
        if len(self._files) > OPEN_PARTS:
            self._files.popitem(last=False)[1].close()
        return file

    def _verify(self, part: str) -> None:
        check_plain_file(self._path, part)
        file, number = self._path / part, self._numbers[part]
        try:
            now = file.stat()
            if self._marks[number] and _identity(now) == self._seen[part]:
                return
            # Marked only for the file that the forks know from when the store was opened.
            self._marks[number] = 0
            if wrong := fault_of_part(self._path, self._lines[part]):
                raise AgentError(wrong)
            self._seen[part] = _identity(now)
            self._marks[number] = 1
        except OSError as error:
            raise AgentError(unreadable(file, error)) from error


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def fault_of_part(path: Path, line: PartLine) -> str:
    """Return what is wrong with the file of a part, read whole, as a sentence; empty when nothing is."""
    file = path / line.part
    check_plain_file(path, line.part)
    try:
        with open_regular(file) as handle:
            if wrong := fault_of_size(path, line, {line.part: os.fstat(handle.fileno())}):
                return wrong
            found = sha256_of(handle)
    except OSError as error:
        return unreadable(file, error)
    if found == line.sha256:
        return ""
    return (
        f"{file} is damaged: its checksum is {found[:12]}, the index has {line.sha256[:12]}; put the file "
        f"back from a copy of the store, or continue without it: {command('data', 'rebuild', path)}"
    )


def sha256_of(file: BinaryIO) -> str:
    """Return the SHA-256 of what is left to read of ``file``."""
    return hashlib.file_digest(cast("BufferedReader", file), "sha256").hexdigest()


def unreadable(file: Path, error: OSError) -> str:
    """Return the sentence for a part that the disk does not give."""
    return f"{file} cannot be read ({error.strerror}); put the file back from a copy of the store"
