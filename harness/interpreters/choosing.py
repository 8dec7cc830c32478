"""Which interpreter plays a domain."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from lram.harness.interpreters.folder import current, place

MAIN = "main"


def resolve(domains: Iterable[str], explicit: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the executable of each domain that is not played in this interpreter.

    What ``explicit`` names counts most, then what is installed for the domain; the rest plays here.

    Args:
        domains: Domain names.
        explicit: By domain: an executable, the folder of a virtual environment, or ``main`` for this
            interpreter.
    """
    chosen = dict(explicit or {})
    found: dict[str, str] = {}
    for name in domains:
        if name in chosen:
            if chosen[name] != MAIN:
                found[name] = executable(chosen[name])
        elif place(name).interpreter is not None:
            found[name] = str(place(name).python)
    return found


def overridden(earlier: Mapping[str, str], explicit: Mapping[str, str] | None) -> dict[str, str]:
    """Return ``earlier`` choices, as :func:`resolve` gave them, with ``explicit`` ones in their place."""
    chosen = dict(explicit or {})
    kept = {name: current(python) for name, python in earlier.items() if name not in chosen}
    return {**kept, **resolve(chosen, chosen)}


def executable(text: str) -> str:
    """Return what a user calls a Python as an absolute path; one that is not there is not looked at."""
    path = Path(text).expanduser()
    if path.is_dir():
        path = path / "bin" / "python"
    elif os.sep not in text:
        path = Path(shutil.which(text) or text)
    # Links stay: the executable of a virtual environment is one, and its own path is what makes it that.
    return current(str(path.absolute()))
