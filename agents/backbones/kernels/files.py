"""Machine code kept on disk: read back only where it is whole, and where nobody else could have written it.

Machine code that a bit has flipped in ends the process that runs it, and its files are pickles, which run
what they say. So each file begins with the SHA-256 of its name and content, and a folder or a file that
other users could write is not read. What cannot be read or written costs a compilation, never a run.

Processes that start together on a fresh machine need the same kernels: one compiles, the others wait for its
file (:func:`compiled_by_one`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from lram.agents.durable import scratch_of

_MAGIC = b"lram-kernel\n"
_HEAD = len(_MAGIC) + hashlib.sha256().digest_size
_LARGEST = 256 << 20

PATIENCE_S = 120.0
"""How long another process may compile a kernel before this one does, too; the largest takes seconds."""

_PAUSE_S = 0.02


def private_folder(folder: Path) -> Path | None:
    """Return ``folder``, made where it is not there; None where it cannot be used, or others can write it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat()
    except OSError:
        return None
    if not stat.S_ISDIR(found.st_mode):
        return None
    if _others_write(found):
        _say(
            f"the folder of compiled kernels {folder} can be written by other users, so it is not used and "
            "every start takes longer; remove it, or make it yours alone"
        )
        return None
    return folder


def read_kernel(file: Path) -> bytes | None:
    """Return what :func:`write_kernel` was given; None where there is nothing that can be trusted.

    A damaged file is removed, and said once.
    """
    try:
        content = _read_private(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        _say(f"the compiled kernel {file} is not used ({error.strerror}) and is compiled again")
        return None
    payload = content[_HEAD:]
    if content[:_HEAD] != _head(file.name, payload):
        _say(f"a compiled kernel in {file.parent} was damaged and is compiled again")
        with suppress(OSError):
            file.unlink()
        return None
    return payload


def write_kernel(file: Path, payload: bytes) -> None:
    """Keep ``payload``, replacing what is there; whole or not at all, and OSError where it cannot be."""
    scratch = scratch_of(file)
    with suppress(FileNotFoundError):
        scratch.unlink()  # of a killed process that had our number
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(_head(file.name, payload))
            opened.write(payload)
        scratch.replace(file)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def compiled_by_one(file: Path) -> Iterator[None]:
    """Make what ``file`` is to hold, or read it: where another process is at it, wait until it has ended.

    A process that waits longer than ``PATIENCE_S``, or can lock nothing, goes ahead.
    """
    lock = file.with_name(f".{file.name}.lock")
    handle = _locked(lock, time.monotonic() + PATIENCE_S)
    try:
        yield
    finally:
        if handle is not None:
            with suppress(OSError):
                lock.unlink()
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_UN)  # a fork may have the handle open for longer
            os.close(handle)


def _locked(lock: Path, until: float) -> int | None:
    """Return an open and locked file; None where there can be none, or not before ``until``."""
    while True:
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), lock.stat()):
                return handle
            # Who had it has removed it: others lock a new file.
        except FileNotFoundError:
            pass
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(handle)
                return None
            time.sleep(_PAUSE_S)
        except OSError:  # a file system without locks
            os.close(handle)
            return None
        os.close(handle)


def _head(name: str, payload: bytes) -> bytes:
    # With the name, so that one kernel's file is not taken for another's.
    return _MAGIC + hashlib.sha256(name.encode() + b"\0" + payload).digest()


def _read_private(file: Path) -> bytes:
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as opened:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
            raise OSError(0, "it is no file of a kernel")
        if _others_write(found):
            raise OSError(0, "other users can write it")
        return opened.read()


def _others_write(found: os.stat_result) -> bool:
    # What the system's administrator has put there is as trustworthy as the system.
    return found.st_uid not in (0, os.geteuid()) or bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


@cache
def _say(sentence: str) -> None:
    with suppress(OSError):
        print(f"lram: {sentence}", file=sys.stderr, flush=True)
