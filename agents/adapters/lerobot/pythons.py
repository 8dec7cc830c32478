"""Which Python has LeRobot: the one that is named, that of the environment, or this one."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from lram.agents.api import AgentError
from lram.agents.shown import shown

VARIABLE = "LRAM_LEROBOT_PYTHON"
"""Environment variable with the path of a Python that has LeRobot."""

INSTALL = "python3.11 -m venv ~/lerobot && ~/lerobot/bin/pip install lerobot"
"""What makes one."""


def choose_python(given: str) -> str:
    """Return the executable that runs the policy, as an absolute path.

    Args:
        given: Argument of the agent's name; empty: there is none.

    Raises:
        AgentError: It does not exist, or none has LeRobot as far as is known; one sentence.
    """
    if given:
        return _existing(given, "python")
    if named := os.environ.get(VARIABLE, ""):
        return _existing(named, f"the environment variable {VARIABLE}")
    found = find_spec("lerobot") if "lerobot" not in sys.modules else sys.modules["lerobot"].__spec__
    if found is not None and found.origin is not None:  # a mere folder of that name has none
        return sys.executable
    raise AgentError(
        f"LeRobot is not installed here, and wants a Python of its own: {INSTALL}, then set {VARIABLE}="
        "~/lerobot/bin/python, or give (python='~/lerobot/bin/python')"
    )


def _existing(text: str, source: str) -> str:
    try:
        path = Path(text).expanduser()
        if path.is_dir():
            path = path / "bin" / "python"
        absolute, there = path.is_absolute(), path.is_file() and os.access(path, os.X_OK)
    except (OSError, ValueError, RuntimeError):  # no name of a file, or no home
        absolute, there = True, False
    if not absolute:
        raise AgentError(
            f"{source} is {shown(text, 200)!r}, and a run is continued from any folder; give an absolute path"
        )
    if not there:
        raise AgentError(f"{source} names {shown(text, 200)}, which is no program; {INSTALL} makes one")
    # Links stay: the executable of a virtual environment is one, and its own path is what makes it that.
    return str(path)
