"""Paths that users give: placed from the root, shown as they were typed, written whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lram.agents.places import placed
from lram.harness.errors import LramError

_typed: dict[str, str] = {}  # what the user wrote, by the path from the root that it means


def placed_argument(value: Any) -> Any:
    """Return an argument of a command with its paths from the root; what is printed shows them as typed."""
    if isinstance(value, list | tuple):
        return type(value)(map(placed_argument, value))
    if not isinstance(value, Path) or value.is_absolute():
        return value
    place = placed(value)
    if place.is_absolute() and value != Path():
        _typed[str(place)] = str(value)
    return place


def as_typed(text: str) -> str:
    """Return ``text`` with the paths that were given to this command as they were typed."""
    for place in sorted(_typed, key=len, reverse=True):
        if place in text:
            # Not within a longer path or an address; what follows is a part of the name or of the path.
            pieces = re.split(rf"(?<![^\s'\"=:,;(\[]){re.escape(place)}", text)
            text = _typed[place].join(pieces)
    return text


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system refuses while ``path`` is written, whole or not at all, into one sentence."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and not os.fsdecode(error.filename).startswith(str(path.parent)):
            raise  # of what is read meanwhile
        raise LramError(
            f"{path} cannot be written ({error.strerror or error}), and nothing of it is left; make room "
            "there or give another place with -o, and repeat the command"
        ) from error
