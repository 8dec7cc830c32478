"""JSON files that are whole, carry their checksum, and are refused in one sentence where they are not."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from lram.agents.checksums import ChecksumError, sign_file, verify_file
from lram.agents.durable import read_regular, write_durably
from lram.agents.shown import shown
from lram.harness.errors import LramError

_T = TypeVar("_T")

DAMAGE: type[Exception] = Exception
"""What reading raises where content is not what it should be: decoders, and checks of what they decoded."""


def read_json(file: Path, kind: type[_T]) -> _T:
    """Return what ``file`` holds; LramError when it cannot be read, or is not what its checksum says."""
    return read_signed(file, kind)[0]


def read_signed(file: Path, kind: type[_T]) -> tuple[_T, bool]:
    """Return what ``file`` holds and whether it carries a checksum, as files of earlier versions do not.

    Raises:
        LramError: It cannot be read, or is not what its checksum says.
    """
    try:
        content = read_regular(file)
        signed = verify_file(content)
        return msgspec.json.decode(content, type=kind), signed
    except OSError as error:
        raise LramError(f"{file} cannot be read: {error.strerror}") from error
    except ChecksumError as error:
        raise LramError(
            f"{file} is damaged: {error}; put it back from a copy (what was measured is not edited by hand)"
        ) from error
    except DAMAGE as error:
        raise LramError(f"{file} cannot be read: {clause(error)}; put it back from a copy") from error


def files_in(folder: Path, pattern: str) -> list[Path]:
    """Return the files of ``folder`` that match ``pattern``, by name, without hidden ones: an editor's lock
    (``.#NAME``), and what macOS lays beside each file of a disk that is not its own (``._NAME``).
    """
    return sorted(file for file in folder.glob(pattern) if not file.name.startswith("."))


def encode(value: object) -> bytes:
    """Return ``value`` as indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def write_json(file: Path, value: object) -> None:
    """Write ``value``, an object, with its checksum; it is on disk, whole, when this returns; OSError."""
    write_durably(file, sign_file(encode(value)))


def clause(error: Exception) -> str:
    """Return what ``error`` says of damaged content, for a sentence."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return shown(" ".join(str(error).split()), 300)


def check_layout(file: Path, found: int, read: int) -> None:
    """Raise LramError when the layout ``found`` in ``file`` is not the one that this version can ``read``."""
    if found != read:
        raise LramError(
            f"{file} has layout {found}, this version reads {read}; use the lram-bench that made it"
        )
