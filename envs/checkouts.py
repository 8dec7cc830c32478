"""Packages that are used from a checkout: where they lie, and at which commit."""

from __future__ import annotations

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

_SHORT = 7  # digits of a commit that people read
# Variables of git's that tell how to reach repositories and whom to trust. All others, such as the GIT_DIR
# that a hook runs with, could point git elsewhere.
_GIT_KEEPS = (
    "GIT_ALLOW_PROTOCOL",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_KEY_",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_VALUE_",
    "GIT_EXEC_PATH",
    "GIT_HTTP_",
    "GIT_PROXY_",
    "GIT_SSH",
    "GIT_SSL_",
)


def package_folder(module: str) -> Path | None:
    """Return the folder of an importable package, which is not imported; None where there is none."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def commit_of(package: Path) -> str:
    """Return the commit of the checkout that holds ``package``, a folder with an ``__init__.py``.

    ``+changes`` follows where tracked files are changed. Empty where that is not known: no git, no
    checkout, or one that does not hold the package but only lies around it.
    """
    try:
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        commit = _git(package, "rev-parse", "HEAD")
        changed = _git(package, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return commit + ("+changes" if changed else "")


def version_text(package: Path) -> str:
    """Return how a record names the version of ``package``, such as ``1fa36f6 (checkout)``."""
    commit, plus, changes = commit_of(package).partition("+")
    return f"{commit[:_SHORT]}{plus}{changes} (checkout)" if commit else "unknown (checkout)"


def git_environment() -> dict[str, str]:
    """Return the environment variables to run git with: it asks nothing and speaks English."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(_GIT_KEEPS)
    }
    # A repository that is not there makes git ask for a password; nobody would see the question.
    return {**variables, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


def _git(folder: Path, *arguments: str) -> str:
    variables = git_environment()
    variables["GIT_OPTIONAL_LOCKS"] = "0"  # the checkout is somebody's: not even its index is refreshed
    answer = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return answer.stdout.strip()
