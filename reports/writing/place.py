"""Where a report is put: built beside its place, moved there whole; what a killed one left is removed.

While a report ``NAME`` is written, the folder ``.NAME.PID.lram-report`` stands beside it. It holds ``new``,
the report on its way, for an instant ``old``, the earlier one, and ``lock``, which its process locks and then
marks. A later report of the same name that finds such a folder with the mark and with a free lock knows that
its process is gone: it puts an earlier report back where that was taken away, and removes the folder. It
touches nothing else.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from lram.agents.durable import Lock, NoLocksError, laid_by_desktop, read_regular
from lram.harness.errors import LramError

_LOCK, _NEW, _OLD = "lock", "new", "old"
_MARK = b"a report of lram-bench is written here; the folder is removed when that ends\n"
_LONGEST = 150  # bytes of a name that another one is made of


def recover(place: Path) -> None:
    """Remove what killed processes left of reports at ``place``, and put back the report that one took away.

    Raises:
        OSError: The folder around it cannot be read.
    """
    pattern = re.compile(rf"\.{re.escape(_stem(place))}\.\d+\.lram-report")
    if not place.parent.is_dir():
        return
    for entry in sorted(place.parent.iterdir()):
        if pattern.fullmatch(entry.name) and _is_ours(entry):
            with suppress(OSError), Lock(entry / _LOCK):  # held: its process is at work
                if (entry / _OLD).is_dir() and not os.path.lexists(place):
                    (entry / _OLD).rename(place)
                _remove(entry)


def replace_report(
    place: Path, contents: Mapping[str, bytes], check: Callable[[Path], None] = lambda former: None
) -> None:
    """Put the files of ``contents``, by path, into the folder ``place``; an earlier report is replaced whole.

    Args:
        place: Absent, or a folder that may be replaced.
        contents: Bytes by path.
        check: Raises where the earlier report, once it is out of the way, holds what must not be removed:
            somebody may have put a file there while the new one was made.

    Raises:
        OSError: They cannot be written; what was at ``place`` is still there, as where ``check`` raises.
    """
    with replacing(place, check) as new:
        for name, content in contents.items():
            file = new / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


@contextmanager
def replacing(place: Path, check: Callable[[Path], None] = lambda former: None) -> Iterator[Path]:
    """Give a new folder to fill, which takes the place of ``place`` when the block ends without an error.

    ``check`` and what is raised: as for :func:`replace_report`.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(place) as scratch:
        (scratch / _NEW).mkdir()
        yield scratch / _NEW
        former = scratch / _OLD
        if place.exists():
            place.rename(former)
        try:
            check(former)
            (scratch / _NEW).rename(place)
        except BaseException:
            if os.path.lexists(former):
                former.rename(place)
            raise


def check_replaceable(
    place: Path, name: Path, marker: str, what: str, known: Callable[[], Collection[str]]
) -> None:
    """Raise LramError where ``place`` holds more than what we wrote there: the swap would take all of it.

    Args:
        place: Absent, or a folder.
        name: What it is called in the error.
        marker: The file that only a folder of this kind has.
        what: Such a folder in a word.
        known: Gives the other files that were written there, by path.

    Raises:
        LramError: It is a file, or holds something else.
        OSError: It cannot be read.
    """
    if not place.exists():
        return
    if not place.is_dir():
        raise LramError(f"{name} is a file; give a folder for the {what}")
    if not any(place.iterdir()):
        return
    if not (place / marker).is_file():
        raise LramError(f"{name} is not empty and not a {what}; give a new or an empty folder")
    own = {marker, *known()}
    for found in files_below(place):
        if (path := found.relative_to(place).as_posix()) not in own:
            raise LramError(f"{name} holds {path}, which no {what} has; give a new or an empty folder")


def files_below(folder: Path) -> Iterator[Path]:
    """Yield what lies in ``folder`` and below, but folders and what macOS lays beside files."""
    for file in sorted(folder.rglob("*")):
        if (file.is_symlink() or not file.is_dir()) and not laid_by_desktop(file.name):
            yield file


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    scratch = place.with_name(f".{_stem(place)}.{os.getpid()}.lram-report")
    scratch.mkdir()
    lock = None
    try:
        with suppress(NoLocksError):  # a lock only lets a later report remove what a killed one leaves
            lock = Lock(scratch / _LOCK)
        (scratch / _LOCK).write_bytes(_MARK)
        yield scratch
    finally:
        _remove(scratch)
        if lock is not None:
            lock.close()


def _stem(place: Path) -> str:
    name = os.fsencode(place.name)
    return place.name if len(name) <= _LONGEST else hashlib.sha256(name).hexdigest()


def _is_ours(folder: Path) -> bool:
    """Return whether a process of ours made ``folder`` and got as far as its mark, or no further."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    inside = {entry.name: entry for entry in folder.iterdir()}
    if not inside.keys() <= {_LOCK, _NEW, _OLD} or any(entry.is_symlink() for entry in inside.values()):
        return False
    try:
        content = read_regular(inside[_LOCK], len(_MARK)) if _LOCK in inside else b""
    except OSError:
        return False
    # Killed before its mark: nothing is in there that could be anybody's. A process that lives is at work.
    began = inside.keys() <= {_LOCK} and not content
    return content == _MARK or (began and not _lives(int(folder.name.split(".")[-2])))


def _lives(pid: int) -> bool:
    """Return whether another process of this number is there: this one has not begun its report yet."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return pid != os.getpid()


def _remove(folder: Path) -> None:
    """Remove ``folder``, its lock last: what is left of a removal that was killed is still known."""
    for name in (_NEW, _OLD):
        shutil.rmtree(folder / name, ignore_errors=True)
    with suppress(OSError):
        (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()
