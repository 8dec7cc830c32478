"""Files that are whole and on disk or not there; files that are read without surprises; locks.

What is read may come from anybody: a named pipe would be waited for without end, and a device read without
end, so only regular files are read, and where a size makes sense it is a bound.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

LARGEST_JSON = 256 << 20
"""Bytes of the largest JSON or TOML file that is read whole."""

SCRATCH = ".lram-new"
"""How names of files end that are not whole yet; what ends so may be removed."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_durably(file: Path, content: bytes) -> None:
    """Write ``content`` to ``file`` so that it is on disk, whole, when this returns; OSError otherwise."""
    scratch = scratch_of(file)
    with suppress(FileNotFoundError):
        scratch.unlink()  # of a killed process that had our number
    try:
        with os.fdopen(os.open(scratch, _NEW, 0o666), "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        scratch.replace(file)
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise
    sync_folder(file.parent)


def scratch_of(file: Path) -> Path:
    """Return where this process writes ``file`` before it is whole: a name that nobody else gives."""
    return file.with_name(f".{file.name}.{os.getpid()}{SCRATCH}")


def is_scratch_of(found: str, name: str) -> bool:
    """Return whether a process that was killed while it wrote ``name`` has left ``found``."""
    middle = found.removeprefix(f".{name}.").removesuffix(SCRATCH)
    return found == f".{name}.{middle}{SCRATCH}" and middle.isdecimal()


def sync_folder(folder: Path) -> None:
    """Put the entries of ``folder`` on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish_folder(folder: Path) -> None:
    """Put a folder of files that ``tempfile.mkdtemp`` made on disk, readable for all as other folders are.

    What is left is to rename it, and to put that on disk (:func:`sync_folder` of the folder above).
    """
    folder.chmod(0o755)  # mkdtemp makes it private, and safetensors its file
    for file in folder.iterdir():
        file.chmod(0o644)
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    sync_folder(folder)


def open_regular(file: str | Path) -> BinaryIO:
    """Open ``file`` for reading; OSError also where it is a named pipe, a device or a folder."""
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(number, "it is not a regular file", str(file))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(file: str | Path, limit: int = LARGEST_JSON) -> bytes:
    """Return the content of ``file``; OSError where it is no regular file or longer than ``limit`` bytes."""
    with open_regular(file) as handle:
        size = os.fstat(handle.fileno()).st_size
        # Not limit + 1 at once: so much memory would be asked for, however short the file is. And nothing of
        # what is too long: a file of holes has any length for nothing.
        content = handle.read(size) if size <= limit else b""
        while size <= limit and len(content) <= limit and (more := handle.read(1 << 20)):
            content += more
    if max(size, len(content)) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", str(file))
    return content


class InUseError(OSError):
    """Another process holds the lock."""


class NoLocksError(OSError):
    """The file system has no locks: whether another process writes there is not known."""


_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def flock(handle: int, how: int, file: str | Path = "") -> None:
    """Lock the open file ``handle`` as ``fcntl.flock`` does.

    Args:
        handle: Its descriptor.
        how: Such as ``fcntl.LOCK_EX | fcntl.LOCK_NB``.
        file: Its path, for the error.

    Raises:
        InUseError: Another process holds it.
        NoLocksError: It lies on a file system without locks, as some of clusters are mounted.
        OSError: Something else keeps it from being locked.
    """
    try:
        fcntl.flock(handle, how)
    except BlockingIOError as error:
        raise InUseError(error.errno, "it is in use by another process", str(file)) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        why = (
            f"its file system has no locks ({error.strerror}), which keep two processes from writing at once"
        )
        raise NoLocksError(error.errno, why, str(file)) from error


class Lock:
    """An exclusive lock of a file, which this process holds until :meth:`close`; its forks do not.

    A fork would otherwise hold the lock beyond this process's end, as loaders of data do for seconds.
    """

    def __init__(self, file: str | Path, *, wait: bool = False) -> None:
        """Lock ``file``, made where there is none; InUseError where it is held and ``wait`` is not set.

        OSError also where it is a link: what that leads to is not to be made.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._handle = os.open(file, flags, 0o666)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(error.errno, f"{Path(file).name} in it is a link", str(file)) from error
            raise
        try:
            flock(self._handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), file)
        except BaseException:
            os.close(self._handle)
            raise
        _HELD.add(self)

    def close(self) -> None:
        """Free the lock."""
        if self in _HELD:
            # Said aloud, because a fork that has just begun may not have closed its copy yet.
            fcntl.flock(self._handle, fcntl.LOCK_UN)
            self._let_go()

    def _let_go(self) -> None:
        _HELD.discard(self)
        os.close(self._handle)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_HELD: set[Lock] = set()


def _forget_locks() -> None:
    for held in list(_HELD):
        held._let_go()


os.register_at_fork(after_in_child=_forget_locks)


def laid_by_desktop(name: str) -> bool:
    """Return whether macOS lays files of that name beside others, which are no part of anything of ours."""
    return name.startswith("._") or name == ".DS_Store"
