"""What is installed: versions of distributions and the entry points of a group, read once.

To look through all distributions takes tens of milliseconds, and evaluations and reports ask again and again.
The answers are kept for as long as the places that modules come from, and what lies in them, stay the same.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path

_Places = tuple[tuple[str, int], ...]


def entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of ``group`` that distributions announce."""
    return _entry_points(group, _places())


def version(distribution: str) -> str:
    """Return the version of a distribution; ``PackageNotFoundError`` where it is not installed."""
    return _version(distribution, _places())


def _places() -> _Places:
    """Return where distributions are looked for, with the time at which one last came or went there."""
    return tuple(map(_place, sys.path))


def _place(entry: str) -> tuple[str, int]:
    try:
        place = entry if entry.startswith("/") else str(Path(entry).absolute())
        return place, os.stat(place).st_mtime_ns  # noqa: PTH116 - reports ask for each agent
    except (OSError, ValueError):  # it is no folder, or the working directory was removed
        return entry, 0


@lru_cache(maxsize=32)
def _entry_points(group: str, places: _Places) -> tuple[EntryPoint, ...]:
    return tuple(metadata.entry_points(group=group))


@lru_cache(maxsize=64)
def _version(distribution: str, places: _Places) -> str:
    return metadata.version(distribution)
