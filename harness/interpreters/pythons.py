"""The Python that an interpreter of a domain's own is made from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lram.envs.availability import OLDEST_PYTHON
from lram.envs.session import InterpreterRecipe
from lram.harness.errors import LramError
from lram.harness.interpreters.choosing import executable

# The installation behind a virtual environment.
_BASE = "import os, sys; print(sys.version_info[:3], os.path.realpath(sys.base_prefix))"


def minor_version(python: str) -> str | None:
    """Return the version of ``python``, such as ``3.11``; None where it cannot be run."""
    return _said(python, "import sys; print('%d.%d' % sys.version_info[:2])")


def _said(python: str, code: str) -> str | None:
    try:
        answer = subprocess.run(
            [python, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def find_python(minor: str) -> str | None:
    """Return a Python of the version ``minor`` on PATH that really runs; None where there is none.

    Pyenv puts a command for each of its Pythons on PATH, most of which only say that they are not chosen:
    the Python behind such a command is found, too.
    """
    return next((python for python in _candidates(minor) if minor_version(python) == minor), None)


def base_python(domain: str, recipe: InterpreterRecipe, requested: str | None, *, uv: bool) -> str:
    """Return what the environment is made from: an executable or, for uv to find, a minor version.

    Args:
        domain: For messages.
        recipe: Names the versions that were proven.
        requested: What the user chose: an executable, or a version such as ``3.11``.
        uv: Whether uv makes the environment; it can find and fetch Pythons itself.

    Raises:
        LramError: There is none, or the one that was chosen is of no use.
    """
    if requested is not None:
        return _checked(requested)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here in recipe.pythons:
        return sys.executable
    for minor in recipe.pythons:
        if (found := find_python(minor)) is not None:
            return found
    if uv:
        return recipe.pythons[0]
    raise LramError(
        f"the domain {domain} needs Python {' or '.join(recipe.pythons)}, and none of them is on PATH "
        f"(this is {here}): install one, give one with --python PATH, or install uv, which fetches them"
    )


def is_made_from(python: str, requested: str) -> bool:
    """Whether the virtual environment of ``python`` is made from what the user calls ``requested``.

    Raises:
        LramError: ``requested`` is of no use.
    """
    if _is_version(requested):
        return minor_version(python) == requested
    return _said(python, _BASE) == _said(_checked(requested), _BASE)


def _checked(requested: str) -> str:
    python = find_python(requested) if _is_version(requested) else executable(requested)
    minor = minor_version(python) if python is not None else None
    if python is None or minor is None:
        raise LramError(f"the Python {requested} cannot be run; give the path of an executable")
    if tuple(map(int, minor.split("."))) < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        raise LramError(f"{requested} is Python {minor}, and a worker needs {oldest} or later; give another")
    return python


def _is_version(requested: str) -> bool:
    major, _, minor = requested.partition(".")
    return major.isdigit() and minor.isdigit()


def _candidates(minor: str) -> Iterator[str]:
    name = f"python{minor}"
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        found = shutil.which(name, path=folder) if folder else None
        if found is None:
            continue
        yield found
        behind = sorted(Path(found).parent.parent.glob(f"versions/{minor}.*/bin/{name}"))
        yield from map(str, reversed(behind))
