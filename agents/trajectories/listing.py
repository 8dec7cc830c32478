"""What lies in the folder of a store, seen without following a link.

A link in a store would lead readers to files that are not the store's, and writers out of the folder. So
each is refused by its name, wherever it lies.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lram.agents.api import AgentError
from lram.agents.durable import read_regular
from lram.agents.trajectories.layout import (
    ASIDE_FOLDER,
    CARD_FILE,
    INDEX_FILE,
    LOCK_FILE,
    PART_PATH,
    PARTS_FOLDER,
    PENDING_FILE,
    rebuild_advice,
)

LARGEST_INDEX = 4 << 30
"""Bytes of an index that is read: some hundred million episodes."""

_FILES = (CARD_FILE, INDEX_FILE, PENDING_FILE, LOCK_FILE)
_FOLDERS = (PARTS_FOLDER, ASIDE_FOLDER, "runs")


@dataclass(slots=True)
class Listing:
    """What lies among the parts of a store.

    Attributes:
        parts: Regular files that have a part's name, by their path in the store.
        strays: Paths in the store of everything else there that is no folder of parts.
    """

    parts: dict[str, os.stat_result] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)


def list_parts(path: Path) -> Listing:
    """Return what lies among the parts of the store ``path``; AgentError for a link, by its name."""
    found = Listing()
    for name, entry in _under(path, PARTS_FOLDER, 2):
        if PART_PATH.fullmatch(name) and entry.is_file(follow_symlinks=False):
            found.parts[name] = entry.stat(follow_symlinks=False)
        else:
            found.strays.append(name)
    found.strays.sort()
    return found


def _under(path: Path, folder: str, depth: int) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield what lies in ``folder`` of the store, of folders down to ``depth`` what lies in them instead."""
    try:
        if not _is_folder(path, folder):
            return
        with os.scandir(path / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}"
                if entry.is_symlink():
                    raise linked(path, name)
                if depth and entry.is_dir(follow_symlinks=False):
                    yield from _under(path, name, depth - 1)
                else:
                    yield name, entry
    except OSError as error:
        raise AgentError(
            f"{path / folder} cannot be read: {error.strerror}; check who may read it"
        ) from error


def _mode(path: Path, name: str) -> int | None:
    """Return the kind of what ``name`` is in the store, None for nothing; AgentError for a link."""
    try:
        mode = os.lstat(path / name).st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path / name, error) from error
    if stat.S_ISLNK(mode):
        raise linked(path, name)
    return mode


def _is_folder(path: Path, name: str) -> bool:
    """Return whether there is the folder ``name`` in the store; AgentError where it is something else."""
    mode = _mode(path, name)
    if mode is not None and not stat.S_ISDIR(mode):
        raise AgentError(f"{path / name} is no folder, and a store has one there; move it away")
    return mode is not None


def check_plain(path: Path) -> None:
    """Raise AgentError where a file or folder at the top of the store, or one of its runs, is a link or
    something else than it should be.
    """
    for name in _FILES:
        check_plain_file(path, name)
    for name in _FOLDERS:
        if not _is_folder(path, name) or name == PARTS_FOLDER:
            continue
        try:
            with os.scandir(path / name) as entries:
                links = [entry.name for entry in entries if entry.is_symlink()]
        except OSError as error:
            raise unreadable(path / name, error) from error
        if links:
            raise linked(path, f"{name}/{links[0]}")


def check_plain_file(path: Path, name: str) -> None:
    """Raise AgentError where ``name`` in the store is there and no regular file."""
    mode = _mode(path, name)
    if mode is not None and not stat.S_ISREG(mode):
        raise AgentError(f"{path / name} is no regular file, and a store has one there; move it away")


def unreadable(place: Path, error: OSError) -> AgentError:
    """Return the sentence for what the disk does not give."""
    return AgentError(f"{place} cannot be read: {error.strerror}; check the disk, and who may read it")


def read_inside(path: Path, name: str, limit: int = LARGEST_INDEX) -> bytes:
    """Return the content of the store's file ``name``; AgentError where it is a link or cannot be read."""
    check_plain_file(path, name)
    try:
        return read_regular(path / name, limit)
    except OSError as error:
        raise AgentError(f"{path / name} cannot be read: {error.strerror}; {rebuild_advice(path)}") from error


def linked(path: Path, name: str) -> AgentError:
    """Return the sentence for a link in a store."""
    return AgentError(
        f"{path / name} is a link, and nothing in a store may be one: put the files themselves there"
    )
