"""How Python processes that lram starts begin: they import nothing from the working directory.

``python -m`` and ``python -c`` put the working directory first among the places that modules come from, and
that may be a stranger's folder: a ``typing.py`` in it would run. What a user names as ``module:factory`` is
looked for there by :mod:`lram.agents.factory`, and by nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Read by Python 3.11 and later, which lram itself needs."""

PYTHON = [sys.executable]
"""The beginning of the command line of a new process."""


def child_command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module in a process of its own."""
    return [*PYTHON, "-m", module, *arguments]


def child_environment(defaults: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's variables with :data:`SAFE_PATH`; ``defaults`` where they are not set."""
    return {**(defaults or {}), **os.environ, **SAFE_PATH}
