"""Folders that go to nodes and back: agents' files, and whole folders in pieces."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lram.agents.durable import NoLocksError, flock
from lram.harness.executors.ray.shipping import digest_of, folder_of, read_folder, scratch, unpacked

PIECE_BYTES = 8 << 20
"""Most bytes of a file in one message."""

_FORGET_S = 3600.0


@dataclass(frozen=True, slots=True)
class Shipped:
    """A specification on its way to a node.

    Attributes:
        spec: As the driver's user wrote it.
        folder: The part of it that is a checkpoint's folder; empty where there is none.
        files: SHA-256 over the folder's files.
        name: Of the folder, links followed: it goes into what reports say.
    """

    spec: str
    folder: str = ""
    files: str = ""
    name: str = ""

    def there(self, files: Mapping[str, Mapping[str, bytes]]) -> str:
        """Return what it is called on the node that this runs on; ``files`` are folders by digest."""
        if not self.folder:
            return self.spec
        here = unpacked(lambda: files[self.files], self.files, self.name)
        return str(here) + self.spec.removeprefix(self.folder)


def shipped(
    specs: Mapping[str, str], put: Callable[[object], Any]
) -> tuple[dict[str, Shipped], dict[str, Any]]:
    """Return specifications for nodes, by the same keys, and their folders by digest, as ``put`` names them.

    Raises:
        LramError: A folder cannot be read.
    """
    found, references = {}, {}
    for key, spec in specs.items():
        folder = folder_of(spec)
        if not folder:
            found[key] = Shipped(spec)
            continue
        files = read_folder(folder)
        digest = digest_of(files)
        if digest not in references:
            references[digest] = put(files)
        found[key] = Shipped(spec, folder, digest, Path(folder).resolve().name)
    return found, references


@contextmanager
def room(kind: str) -> Iterator[Path]:
    """Return a new folder on this node for a while; those that were left behind by a power cut go."""
    rooms = scratch() / kind
    rooms.mkdir(exist_ok=True)
    for old in rooms.iterdir():
        if time.time() - old.stat().st_mtime > _FORGET_S and not _in_use(old):
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=rooms))
    try:
        with (folder / "in-use").open("a") as handle:
            with suppress(NoLocksError):  # it is not removed by others then, either
                flock(handle.fileno(), fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def as_others() -> Iterator[int]:
    """Let this process wait its turn as any other for a while, and return how nice it then is.

    Ray makes its processes nice. Only the system's administrator may undo that; others are told.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    if before > 0:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, 0)
    try:
        yield os.getpriority(os.PRIO_PROCESS, 0)
    finally:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


def _in_use(folder: Path) -> bool:
    try:
        with (folder / "in-use").open("a") as handle:
            flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def pieces(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, int, bytes]]:
    """Yield the named files of ``folder`` as name, offset and content; an empty file is one empty piece."""
    for name in names:
        with (folder / name).open("rb") as file:
            place = 0
            while (content := file.read(PIECE_BYTES)) or place == 0:
                yield name, place, content
                place += len(content)
                if len(content) < PIECE_BYTES:
                    break


def put_piece(folder: Path, name: str, place: int, content: bytes) -> None:
    """Write what :func:`pieces` has read; a file's pieces come in order."""
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ValueError(f"{name} leads out of {folder}")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("r+b" if place else "wb") as handle:
        handle.seek(place)
        handle.write(content)


def names_in(folder: Path) -> list[str]:
    """Return the names of the files of ``folder``, without locks and what is being written."""
    return [
        file.relative_to(folder).as_posix()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "lock" and not file.name.startswith(".")
    ]


def sync_tree(folder: Path) -> None:
    """Put all of ``folder`` on disk."""
    for place in [folder, *folder.rglob("*")]:
        with suppress(OSError):
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
