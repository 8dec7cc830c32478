"""Files of ``torch.save`` and zips that hold them, read without running anything that they hold.

Pickles are read by ``torch.load`` with ``weights_only=True`` alone, which builds tensors and plain containers
and calls nothing else.
"""

from __future__ import annotations

import errno
import pickle
import re
import shutil
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lram.agents.api import AgentError
from lram.agents.shown import shown

SAVE_AGAIN = "save {k: v for k, v in policy.state_dict().items()} with torch.save, or as safetensors"
_SAFE_TORCH = "2.10"  # before it, weights_only=True could be got around
# Trained weights hardly compress; a member that grows more than this is no policy.
_MOST_INFLATION = 4


def unpack(archive: zipfile.ZipFile, name: str, target: Path, label: str) -> None:
    """Write the member ``name`` of ``archive``, which holds weights, as ``target``.

    Raises:
        AgentError: It would grow to more than weights do; ``label`` is what the message calls the archive.
    """
    member = archive.getinfo(name)
    if member.file_size > _MOST_INFLATION * member.compress_size + 2**20:
        raise AgentError(
            f"{label}: {name} would grow from {member.compress_size} to {member.file_size} bytes, as no "
            "weights do; save the agent again"
        )
    with archive.open(member) as packed, target.open("wb") as file:
        shutil.copyfileobj(packed, file, 2**20)


def load_plain(path: Path, label: str) -> Any:
    """Return what a file of ``torch.save`` holds: tensors and plain containers of them.

    Args:
        path: The file.
        label: What messages call it.

    Raises:
        AgentError: It is damaged, of another kind, or a pickle of more than that.
    """
    if torch.__version__ < _SAFE_TORCH:
        raise AgentError(
            f"{label} is a pickle, and torch {torch.__version__} has known holes in reading one "
            "(CVE-2025-32434, CVE-2026-24747); update torch to 2.10 or later, or convert the file to "
            "safetensors elsewhere"
        )
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK":
        _check_archive(path, label)
    elif start[:1] != b"\x80" or tarfile.is_tarfile(path):
        raise AgentError(f"{label} is neither a zip, nor of torch.save, nor safetensors; {SAVE_AGAIN}")
    with damage_reported(label), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=start == b"PK")
        except pickle.UnpicklingError as error:
            raise _refused(label, error) from None


@contextmanager
def damage_reported(label: str) -> Iterator[None]:
    """Turn whatever a damaged file does to its reader into one sentence."""
    try:
        yield
    except AgentError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a full disk is no fault of the file
            raise
        raise AgentError(
            f"{label} is damaged or incomplete ({_first_line(error)}); copy or save it again"
        ) from None


def _check_archive(path: Path, label: str) -> None:
    """Refuse what ``torch.save`` never writes: compressed or overlapping members, and programs."""
    with damage_reported(label), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(Path(member.filename).name == "constants.pkl" for member in members):
        raise AgentError(f"{label} is a TorchScript program, which is not run here; {SAVE_AGAIN}")
    compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if compressed or sum(member.file_size for member in members) > path.stat().st_size:
        raise AgentError(f"{label} was packed by something else than torch.save; {SAVE_AGAIN}")
    with damage_reported(label), zipfile.ZipFile(path) as archive:
        # torch itself does not look at the checksums.
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")


def _refused(label: str, error: pickle.UnpicklingError) -> AgentError:
    text = str(error)
    if needed := re.search(r"GLOBAL (\S+)", text):
        return AgentError(
            f"{label} needs {shown(needed[1])}, and building one could run code, so it is refused: "
            f"{SAVE_AGAIN}"
        )
    reason = text.rpartition("WeightsUnpickler error: ")[2]
    return AgentError(
        f"{label} is damaged, or a pickle of more than plain tensors ({_first_line(reason)}), so it is "
        f"refused: {SAVE_AGAIN}"
    )


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return shown(lines[0], 160) if lines else type(error).__name__
