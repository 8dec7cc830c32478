"""Whether a domain's simulator is installed, without importing it."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec

from lram.envs.session import Domain

_PROBE = """
import sys
from importlib.util import find_spec
print(*[module for module in sys.argv[1:] if find_spec(module) is None])
"""


def missing_requirements(domain: Domain, python: str | None = None) -> list[str]:
    """Return the import names that ``domain`` needs and that are not there.

    Args:
        domain: The adapter.
        python: Interpreter to look in (None: this one); :func:`runs` tells whether it can be asked.
    """
    if python is None:
        return [name for name in domain.requires if not _present(name)]
    command = [python, "-c", _PROBE, *domain.requires]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()


def runs(python: str) -> bool:
    """Return whether ``python`` is an interpreter that can be run."""
    try:
        subprocess.run([python, "-c", ""], capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _present(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False
