"""Modules of the user's own code: how they are named, and where they are looked for.

An agent is named ``module:factory``, a backbone ``module:SPEC``. What files such a module is, and what they
hold, is a matter of :mod:`lram.agents.own_code`. Imports nothing that is not Python's.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_FOUND: set[Path] = set()
"""Folders on PYTHONPATH in which this process has found code that commands have to find again."""


def is_dotted(text: str) -> bool:
    """Return whether ``text`` can be the name of a module, or of what is in one."""
    return _DOTTED.fullmatch(text) is not None


def split_code(text: str) -> tuple[str, str]:
    """Return the module and the name in it of ``module:name``; both empty where ``text`` is no such name."""
    module, _, name = text.partition(":")
    return (module, name) if is_dotted(module) and is_dotted(name) else ("", "")


def search_first(folder: str | Path) -> None:
    """Find code in ``folder``, before all other places where it is not among them."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def search_working_directory() -> None:
    """Find code in the working directory, in this process and in those that it starts.

    For a command line that names code itself; nothing that was read from a file calls this.
    """
    here = str(Path.cwd())
    search_first(here)
    if here not in (places := _python_path()):
        os.environ["PYTHONPATH"] = os.pathsep.join([*places, here])


def note_found(folder: Path) -> None:
    """Note that a backbone's code was found in ``folder``, where that is on PYTHONPATH."""
    if folder in [Path(place).absolute() for place in _python_path()]:
        _FOUND.add(folder)


def search_path_prefix() -> str:
    """Return what stands before a command so that it finds what this process has found; mostly empty.

    Commands search the working directory for what they are given themselves only.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return ""
    if here not in _FOUND:
        return ""
    others = [place for place in _python_path() if Path(place).absolute() != here]
    return f"PYTHONPATH={':'.join(['$PWD', *map(shlex.quote, others)])} "


def _python_path() -> list[str]:
    return [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
