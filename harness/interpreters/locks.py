"""Locks on an installed interpreter: one for whoever changes it, one that every run on it shares."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from lram.agents import durable
from lram.agents.durable import flock
from lram.harness.errors import LramError


class InterpreterInUseError(LramError):
    """A run uses the interpreter."""


@contextmanager
def locked(folder: Path) -> Iterator[IO[str]]:
    """Hold the lock of a domain's ``folder`` to change it; LramError where another process does.

    A process that is given the file keeps the lock when this one dies: what it still writes must not
    meet the next install.
    """
    file = folder.with_name(f"{folder.name}.lock")
    with _opened(file) as handle:
        try:
            flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB, file)
        except durable.InUseError as error:
            raise LramError(
                f"the interpreter of {folder.name} is being installed or removed by another process; "
                "wait for it to end"
            ) from error
        except OSError as error:
            raise _unlocked(file, error) from error
        yield handle


@contextmanager
def unused(folder: Path) -> Iterator[None]:
    """Keep runs off a domain's ``folder`` for a moment; InterpreterInUseError where one uses it."""
    file = _shared_file(folder)
    with _opened(file) as handle:
        try:
            flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB, file)
        except durable.InUseError as error:
            raise InterpreterInUseError(
                f"the interpreter of {folder.name} is in use by a run; wait for it, or stop it"
            ) from error
        except OSError as error:
            raise _unlocked(file, error) from error
        yield


@contextmanager
def shared(folders: Iterable[Path]) -> Iterator[None]:
    """Keep domains' ``folders`` from being deleted; waits for a deletion that is under way.

    Where nothing can be locked, such as on a read-only disk, nothing is.
    """
    with ExitStack() as stack:
        for folder in folders:
            with suppress(OSError, LramError):
                handle = stack.enter_context(_opened(_shared_file(folder)))
                fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def refused(path: Path, error: OSError) -> LramError:
    """Return what to say when the system lets nothing be written to ``path``."""
    return LramError(f"cannot write to {path}: {error.strerror or error}; make room there, or set LRAM_HOME")


def _unlocked(file: Path, error: OSError) -> LramError:
    return LramError(
        f"cannot lock {file}: {error.strerror or error}; set LRAM_HOME to a folder on a disk of this machine"
    )


def _shared_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.used")


def _opened(file: Path) -> IO[str]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.open("a+")
    except OSError as error:
        raise refused(file, error) from error
