"""The interpreters that are installed: their folders, their manifests, and the lock on each."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

from lram.agents.durable import sync_folder, write_durably
from lram.harness.errors import LramError

MANIFEST = "interpreter.json"
LOG = "install.log"


@dataclass(frozen=True, slots=True)
class UsedSource:
    """A package that an interpreter imports from a checkout.

    Attributes:
        module: Import name.
        path: Folder on the interpreter's path, in which the package lies.
        commit: Of the checkout when it was installed, with ``+changes`` where files were changed; empty
            where that could not be told.
        licence: As the domain tells it.
    """

    module: str
    path: str
    commit: str
    licence: str


@dataclass(frozen=True, slots=True)
class Interpreter:
    """One installed interpreter: the manifest.

    Attributes:
        domain: Whose it is.
        python: Version, such as ``3.11.7``.
        path: The executable.
        requirements: What was asked for.
        packages: Version of every distribution that is in it.
        sources: Packages used from checkouts.
        installer: Such as ``pip 25.0`` or ``uv 0.9.1``.
        created: ISO 8601, UTC.
        lram_bench: Version that installed it.
    """

    domain: str
    python: str
    path: str
    requirements: tuple[str, ...]
    packages: dict[str, str]
    sources: tuple[UsedSource, ...]
    installer: str
    created: str
    lram_bench: str


@dataclass(frozen=True, slots=True)
class Place:
    """A domain's folder, whatever it holds.

    Attributes:
        domain: Whose it is.
        folder: The folder.
        interpreter: What is installed in it; None where no install was finished.
    """

    domain: str
    folder: Path
    interpreter: Interpreter | None = field(default=None)

    @property
    def venv(self) -> Path:
        """The virtual environment."""
        return self.folder / "venv"

    @property
    def python(self) -> Path:
        """The executable of the virtual environment."""
        return self.venv / "bin" / "python"

    @property
    def log(self) -> Path:
        """What the installers said."""
        return self.folder / LOG


def data_folder() -> Path:
    """Return the user's data folder, which need not exist."""
    if own := os.environ.get("LRAM_HOME"):
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification has relative paths ignored.
    base = Path(shared) if Path(shared).is_absolute() else Path.home() / ".local" / "share"
    return base / "lram-bench"


def place(domain: str) -> Place:
    """Return the folder of ``domain`` with what is installed in it."""
    folder = data_folder() / "interpreters" / domain
    return Place(domain, folder, _manifest(folder))


def places() -> list[Place]:
    """Return every domain's folder that there is, finished or not, by name."""
    folders = data_folder() / "interpreters"
    if not folders.is_dir():
        return []
    return [place(folder.name) for folder in sorted(folders.iterdir()) if folder.is_dir()]


def installed() -> dict[str, Interpreter]:
    """Return the installed interpreters by domain; unfinished ones are not among them."""
    return {one.domain: one.interpreter for one in places() if one.interpreter is not None}


def commit(where: Place, manifest: Interpreter) -> None:
    """Let the interpreter in ``where`` count as installed, from now on and on disk."""
    write_durably(where.folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))


def remove(domain: str) -> Place:
    """Remove the interpreter of ``domain``, finished or not; return what was there.

    Raises:
        LramError: There is none, it is being installed, or the system refuses.
    """
    found = place(domain)
    if not found.folder.is_dir():
        known = ", ".join(one.domain for one in places()) or "none"
        raise LramError(f"the domain {domain} has no interpreter of its own; installed: {known}")
    with locked(domain):
        clear(found)
        try:
            found.folder.rmdir()
        except OSError as error:
            raise _refused(found.folder, error) from error
    return found


def clear(where: Place) -> None:
    """Empty the folder; the manifest goes first, so that what is left never counts."""
    try:
        if (where.folder / MANIFEST).exists():
            (where.folder / MANIFEST).unlink()
            sync_folder(where.folder)
        for entry in where.folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    except OSError as error:
        raise _refused(where.folder, error) from error


@contextmanager
def locked(domain: str) -> Iterator[IO[str]]:
    """Hold the domain's lock; LramError where another process does.

    A process that is given the file keeps the lock when this one dies: what it still writes must not
    meet the next install.
    """
    file = data_folder() / "interpreters" / f"{domain}.lock"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = file.open("a")
    except OSError as error:
        raise _refused(file, error) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LramError(
                f"the interpreter of {domain} is being installed or removed by another process; "
                "wait for it to end"
            ) from error
        yield handle


def _manifest(folder: Path) -> Interpreter | None:
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Interpreter)
    except (OSError, msgspec.DecodeError):
        return None


def _refused(path: Path, error: OSError) -> LramError:
    return LramError(f"cannot write to {path}: {error.strerror or error}; make room there, or set LRAM_HOME")
