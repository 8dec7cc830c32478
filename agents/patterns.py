"""Shell patterns of names that may hold a pattern's letters themselves, such as ``lab/reach[1]``."""

from __future__ import annotations

from fnmatch import fnmatchcase


def fits(name: str, pattern: str) -> bool:
    """Return whether a pattern is or describes a name."""
    return name == pattern or fnmatchcase(name, pattern)
