"""Machine code kept on disk: read back only where it is whole, and where nobody else could have written it.

Machine code that a bit has flipped in ends the process that runs it, and its files are pickles, which run
what they say. So each file begins with the SHA-256 of its name and content, and a folder or a file that
other users could write is not read. What cannot be read or written costs a compilation, never a run.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from lram.agents.durable import scratch_of

_MAGIC = b"lram-kernel\n"
_HEAD = len(_MAGIC) + hashlib.sha256().digest_size
_LARGEST = 256 << 20


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
