"""The interpreters that are installed: their folders and their manifests."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from lram.agents.durable import read_regular, sync_folder, write_durably
from lram.harness.data_folder import INTERPRETERS, data_folder
from lram.harness.errors import LramError
from lram.harness.interpreters.locks import locked, refused, shared, unused
from lram.harness.storage.json_files import DAMAGE

MANIFEST = "interpreter.json"
LOG = "install.log"
_VENV = re.compile(r"venv(-[0-9]+)?")


@dataclass(frozen=True, slots=True)
class UsedSource:
    """A package that an interpreter imports from a checkout.

    Attributes:
        module: Import name.
        path: Folder on the interpreter's path, in which the package lies.
        commit: Of the checkout when it was installed, with ``+changes`` where files were changed; empty
            where that could not be found out.
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
        path: The executable; its virtual environment is the one that counts.
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
class InterpreterFolder:
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
        """The virtual environment that counts, or that the first install makes."""
        name = Path(self.interpreter.path).parent.parent.name if self.interpreter is not None else ""
        return self.folder / (name if _VENV.fullmatch(name) else "venv")

    @property
    def python(self) -> Path:
        """The executable of the virtual environment."""
        return self.venv / "bin" / "python"

    @property
    def log(self) -> Path:
        """What the installers said."""
        return self.folder / LOG


def place(domain: str) -> InterpreterFolder:
    """Return the folder of ``domain`` with what is installed in it; LramError for a name of no folder."""
    if domain in ("", "..") or Path(domain).name != domain:
        raise LramError(f"{domain!r} is no name of a domain; 'lram domains' lists them")
    return _place(data_folder() / INTERPRETERS / domain)


def places() -> list[InterpreterFolder]:
    """Return every domain's folder that there is, finished or not, by name."""
    folders = data_folder() / INTERPRETERS
    if not folders.is_dir():
        return []
    return [place(folder.name) for folder in sorted(folders.iterdir()) if folder.is_dir()]


def installed() -> dict[str, Interpreter]:
    """Return the installed interpreters by domain; unfinished ones are not among them."""
    return {one.domain: one.interpreter for one in places() if one.interpreter is not None}


def current(python: str) -> str:
    """Return ``python``, or the executable in its place where its interpreter was installed anew since.

    A run remembers a path, and an install never writes into an environment that a run may use.
    """
    venv = Path(python).parent.parent
    there = _place(venv.parent)
    gone = there.interpreter is not None and _VENV.fullmatch(venv.name) and not os.path.lexists(python)
    return str(there.python) if gone else python


def used(pythons: Iterable[str]) -> AbstractContextManager[None]:
    """Keep the installed interpreters among the executables ``pythons`` from being removed for a while."""
    folders = {Path(python).parent.parent.parent for python in pythons}
    return shared(sorted(folder for folder in folders if (folder / MANIFEST).is_file()))


def commit(where: InterpreterFolder, manifest: Interpreter) -> None:
    """Let the interpreter in ``where`` count as installed, from now on and on disk."""
    write_durably(where.folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))


def remove(domain: str) -> InterpreterFolder:
    """Remove the interpreter of ``domain``, finished or not; return what was there.

    Raises:
        LramError: There is none, it is being installed, a run uses it, or the system refuses.
    """
    there = places()
    found = next((one for one in there if one.domain == domain), None)
    if found is None:
        known = ", ".join(one.domain for one in there) or "none"
        raise LramError(f"the domain {domain} has no interpreter of its own; installed: {known}")
    with locked(found.folder), unused(found.folder):
        try:
            # The manifest goes first, so that what is left never counts.
            (found.folder / MANIFEST).unlink(missing_ok=True)
            sync_folder(found.folder)
            _delete(found.folder.iterdir())
            found.folder.rmdir()
        except OSError as error:
            raise refused(found.folder, error) from error
    return found


def sweep(where: InterpreterFolder, pattern: str = "*") -> None:
    """Delete what does not count, of the entries that match ``pattern``; its lock must be held.

    That is what unfinished installs left, and environments that another has replaced.

    Raises:
        LramError: A run may be using it, or the system refuses; nothing is deleted in the first case.
    """
    counts = {where.venv.name, MANIFEST} if where.interpreter is not None else set()
    extra = [entry for entry in where.folder.glob(pattern) if entry.name not in counts]
    if not extra:
        return
    with unused(where.folder):
        try:
            _delete(extra)
        except OSError as error:
            raise refused(where.folder, error) from error


def vacant_venv(where: InterpreterFolder) -> Path:
    """Return where the next virtual environment goes, ``venv``, ``venv-2`` or so; never one that counts."""
    venv, number = where.folder / "venv", 1
    while os.path.lexists(venv) or (where.interpreter is not None and venv == where.venv):
        number += 1
        venv = where.folder / f"venv-{number}"
    return venv


def _delete(entries: Iterable[Path]) -> None:
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _place(folder: Path) -> InterpreterFolder:
    return InterpreterFolder(folder.name, folder, _manifest(folder))


def _manifest(folder: Path) -> Interpreter | None:
    try:
        return msgspec.json.decode(read_regular(folder / MANIFEST), type=Interpreter)
    except DAMAGE:
        return None
