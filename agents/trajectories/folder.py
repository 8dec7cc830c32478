"""The folder of a store while a process writes to it: held open, so that it stays the same folder.

Every file is opened from the folder that was locked, not by its path: where the folder is moved meanwhile,
nothing is written to the old place. No link is followed, and no file that is there is written over, but for
the store's own card and index.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lram.agents.api import AgentError
from lram.agents.durable import SCRATCH, InUseError, Lock
from lram.agents.trajectories.layout import ASIDE_FOLDER, INDEX_FILE, LOCK_FILE
from lram.agents.trajectories.listing import check_plain, unreadable

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class StoreFolder:
    """A store's folder, locked, for writing; OSError from its methods where the disk refuses.

    Args:
        path: The folder, which exists.
        resume: The command that continues with the store, for sentences.

    Attributes:
        path: The folder.

    Raises:
        AgentError: Another process has it, or something in it is a link.
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path, resume: str) -> None:
        self.path = path
        self._resume = resume
        # Made absolute, because the process may change its working directory.
        self._place = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link to the store
        check_plain(path)
        self._handle = os.open(path, _FOLDER & ~os.O_NOFOLLOW)
        self._aside = ""
        try:
            self._lock = Lock(path / LOCK_FILE)
        except InUseError as error:
            os.close(self._handle)
            raise AgentError(
                f"{path} is in use by another process; wait for it to end, or give another folder"
            ) from error
        except OSError:
            os.close(self._handle)
            raise
        try:
            self.check_place()
        except AgentError:
            self.close()
            raise

    def check_place(self) -> None:
        """Raise AgentError where the path leads to another folder than the one that was opened."""
        held = os.fstat(self._handle)
        try:
            there = self._place.stat()
        except (FileNotFoundError, NotADirectoryError):
            there = None
        except OSError as error:
            raise unreadable(self.path, error) from error
        if there is not None and (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino):
            return
        now = ""
        with suppress(OSError):
            now = str(Path(f"/proc/self/fd/{self._handle}").readlink())
        found = now and not now.endswith(" (deleted)")
        there_now = f"{now}: '{self._resume} {shlex.quote(now)}' continues there"
        raise AgentError(
            f"{self.path} was moved or replaced while this process wrote to it; what is committed is in "
            + (there_now if found else "the folder that was moved")
        )

    def exists(self, name: str) -> bool:
        """Return whether there is anything at the path ``name`` in the store."""
        return os.path.lexists(self.path / name)

    def create(self, name: str, content: bytes) -> None:
        """Make the file ``name``, a path in the store, so that it is on disk; OSError where one is there."""
        self.check_place()
        with self._folder_of(name, make=True) as (folder, last):
            handle = os.open(last, _FILE | os.O_EXCL, 0o666, dir_fd=folder)
            try:
                _write(handle, content)
                os.fsync(folder)
            except BaseException:
                os.unlink(last, dir_fd=folder)
                raise

    def replace(self, name: str, content: bytes) -> None:
        """Write the file ``name`` at the top of the store, so that it is on disk and whole or as before."""
        self.check_place()
        scratch = f".{name}{SCRATCH}"
        try:
            _write(os.open(scratch, _FILE | os.O_TRUNC, 0o666, dir_fd=self._handle), content)
            os.rename(scratch, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        except OSError:
            with suppress(OSError):
                os.unlink(scratch, dir_fd=self._handle)
            raise
        os.fsync(self._handle)

    def remove_own(self, name: str) -> None:
        """Remove the file ``name``, which this process has made."""
        with self._folder_of(name) as (folder, last), suppress(FileNotFoundError):
            os.unlink(last, dir_fd=folder)

    def set_aside(self, name: str) -> str:
        """Move the file ``name`` to the same place under ``set-aside/N/``; return its new path."""
        self.check_place()
        self._aside = self._aside or self._new_aside()
        moved = f"{self._aside}/{name}"
        with self._folder_of(name) as (folder, last), self._folder_of(moved, make=True) as (other, _):
            os.rename(last, last, src_dir_fd=folder, dst_dir_fd=other)
            os.fsync(other)
            os.fsync(folder)
        return moved

    def keep_copy(self, name: str, content: bytes) -> str:
        """Write ``content``, of the file ``name`` before a change, under ``set-aside/N/``; return where."""
        self._aside = self._aside or self._new_aside()
        copy = f"{self._aside}/{name}"
        self.create(copy, content)
        return copy

    def _new_aside(self) -> str:
        number = 1
        while self.exists(f"{ASIDE_FOLDER}/{number:04d}"):
            number += 1
        return f"{ASIDE_FOLDER}/{number:04d}"

    def open_index(self) -> int:
        """Return a handle that appends to the index, which is made where there is none."""
        self.check_place()
        return os.open(INDEX_FILE, _FILE | os.O_APPEND, 0o666, dir_fd=self._handle)

    def close(self) -> None:
        """Free the lock."""
        self._lock.close()
        os.close(self._handle)

    @contextmanager
    def _folder_of(self, name: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder that holds ``name`` without following a link; yield it with the last name."""
        *above, last = name.split("/")
        folder = os.dup(self._handle)
        try:
            for one in above:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(one, dir_fd=folder)
                        os.fsync(folder)
                inner = os.open(one, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder, last
        finally:
            os.close(folder)


def _write(handle: int, content: bytes) -> None:
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
