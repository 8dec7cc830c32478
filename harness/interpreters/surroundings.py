"""The environment variables that an install runs with: where packages come from stays, all else goes.

A user's PYTHONPATH, constraints or ``require-virtualenv`` belong to other environments. The pins of a
domain are complete in themselves, and a constraint on numpy from elsewhere can only make them impossible.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

# Where pip and uv find packages, and how they get there.
_PIP_KEEPS = (
    "CACHE_DIR",
    "CERT",
    "CLIENT_CERT",
    "CONFIG_FILE",
    "DEFAULT_TIMEOUT",
    "EXTRA_INDEX_URL",
    "FIND_LINKS",
    "INDEX_URL",
    "KEYRING_PROVIDER",
    "NO_CACHE_DIR",
    "NO_INDEX",
    "PROXY",
    "RETRIES",
    "TIMEOUT",
    "TRUSTED_HOST",
)
_UV_DROPS = (
    "UV_BREAK_SYSTEM_PACKAGES",
    "UV_BUILD_CONSTRAINT",
    "UV_CONSTRAINT",
    "UV_EXCLUDE",
    "UV_EXCLUDE_NEWER",
    "UV_OVERRIDE",
    "UV_PRERELEASE",
    "UV_PROJECT",
    "UV_PROJECT_ENVIRONMENT",
    "UV_PYTHON",
    "UV_REQUIRE_HASHES",
    "UV_RESOLUTION",
    "UV_SYSTEM_PYTHON",
    "UV_WORKING_DIR",
)
_UV_INDEX_SETTINGS = (
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_NO_INDEX",
)
# The names that uv has for pip's options.
_AS_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}
_SECTIONS = ("global", "install", ":env:")  # a later one counts more


def clean_environment() -> dict[str, str]:
    """Return this process's variables without those that would make an install another one."""
    return {name: value for name, value in os.environ.items() if not _misleads(name)}


def environment_for_uv() -> dict[str, str]:
    """Return :func:`clean_environment` with pip's settings of indexes, which uv does not read.

    Where uv has settings of indexes of its own, nothing is added.
    """
    variables = clean_environment()
    files = (Path("~/.config/uv/uv.toml").expanduser(), Path("/etc/uv/uv.toml"))
    if any(name in variables for name in _UV_INDEX_SETTINGS) or any(file.exists() for file in files):
        return variables
    for key, value in _pip_settings(variables).items():
        if name := _AS_UV.get(key):
            # uv's lists of places to look for wheels have commas, its lists of indexes have spaces.
            text = ",".join(value.split()) if key == "find-links" else " ".join(value.split())
            variables.setdefault(name, text)
    # As pip does: the best version of all indexes, not the first index that has the name.
    variables.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return variables


def _misleads(name: str) -> bool:
    if name.startswith("PIP_"):
        return name.removeprefix("PIP_") not in _PIP_KEEPS
    # Virtual environments and Pythons other than the one that is being made.
    return name.startswith("PYTHON") or name in ("VIRTUAL_ENV", "CONDA_PREFIX", *_UV_DROPS)


def _pip_settings(variables: dict[str, str]) -> dict[str, str]:
    """Return pip's own settings, from its files and variables; empty where there is no pip."""
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"],
            env=variables,
            cwd="/",  # "python -m" would import from the working directory
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    found: dict[tuple[int, str], str] = {}
    for line in answer.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in _SECTIONS:
            found[_SECTIONS.index(section), key] = str(ast.literal_eval(value))
    return {key: value for (_, key), value in sorted(found.items())}
