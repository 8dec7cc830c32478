"""``SHA256SUMS``: the checksums of a checkpoint's files, so that a changed weight is noticed when it is read.

The format is that of ``sha256sum``: ``sha256sum -c SHA256SUMS`` in the folder checks them without this code.
They find accidents (a flipped bit, half of a copy, the weights of another model), not forgers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from lram.agents.api import AgentError
from lram.agents.durable import read_regular

SUMS_FILE = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^/\0\n]+)")
_LARGEST = 1 << 16


def file_sum(file: Path) -> str:
    """Return the SHA-256 of a file's content, as hexadecimal digits; OSError where it cannot be read."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def render_sums(sums: Mapping[str, str]) -> bytes:
    """Return the content of ``SHA256SUMS`` for hexadecimal digests by file name."""
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()


def read_sums(folder: Path, names: tuple[str, ...]) -> dict[str, str] | None:
    """Return the digests that ``folder`` tells of the files ``names``; None where it tells none.

    Raises:
        AgentError: ``SHA256SUMS`` cannot be read, or does not name just these files.
    """
    path = folder / SUMS_FILE
    try:
        content = read_regular(path, _LARGEST).decode("ascii")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AgentError(f"{path} cannot be read ({error.strerror}); copy the folder again") from None
    except UnicodeDecodeError:
        raise _malformed(path, "it is not text") from None
    if not content.endswith("\n"):
        raise _malformed(path, "its end is missing")
    found: dict[str, str] = {}
    for number, line in enumerate(content[:-1].split("\n"), 1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] not in names or match[2] in found:
            raise _malformed(path, f"line {number} is not the checksum of one of {', '.join(names)}")
        found[match[2]] = match[1]
    for name in names:
        if name not in found:
            raise _malformed(path, f"the checksum of {name} is missing")
    return found


def check_sum(folder: Path, name: str, digest: str, sums: Mapping[str, str] | None) -> None:
    """Raise AgentError where ``digest``, of what was read of a file, is not the one in ``sums``."""
    if sums is not None and sums[name] != digest:
        raise AgentError(
            f"{folder / name} is not what {SUMS_FILE} says: it was changed or damaged since the checkpoint "
            f"was saved; copy the folder again, or, if you changed it on purpose, remove {folder / SUMS_FILE}"
        )


def _malformed(path: Path, why: str) -> AgentError:
    return AgentError(
        f"{path} is damaged ({why}); copy the folder again, or, if you changed it on purpose, remove {path}"
    )


def files_digest(*paths: str | Path) -> str:
    """Return SHA-256 over the contents of files, in this order: a digest for ``AgentInfo.digest``.

    For weights and tables that an agent of one's own reads: a run is not continued with others. OSError where
    one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        with Path(path).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
