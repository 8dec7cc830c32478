"""Paths that stay the same place when foreign code changes the working directory.

Agents, simulators' packages and callbacks run in this process, and some change its working directory (Hydra
does). So each path that a caller gives is made absolute where it comes in, before any such code runs.
"""

from __future__ import annotations

import os
from pathlib import Path


def placed(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` from the root, as it is meant now; links and ``..`` in it stay as they are.

    Where the working directory was removed, a relative path is returned as it is: the system's refusal names
    it when it is used.
    """
    try:
        return Path(path).absolute()
    except FileNotFoundError:
        return Path(path)
