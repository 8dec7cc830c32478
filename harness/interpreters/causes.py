"""Why an install failed, found in what the installer printed."""

from __future__ import annotations

import re

_NO_COMPILER = (
    r"(?:command|unable to execute) '[^'\n]*(?:cc|clang|\+\+)[^'\n]*'"
    r"|No such file or directory: '[^'\n]*(?:cc|clang|\+\+)'"
)
# Patterns that must all be found, and what they mean. Tried in this order: a registry that cannot be
# reached also has "no matching distribution".
_CAUSES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        (r"No space left on device|Disk quota exceeded",),
        "the disk is full: make room, or set LRAM_HOME to a folder on another one",
    ),
    (
        (r"ensurepip is not available|No module named '?(?:ensurepip|venv)\b",),
        "this Python cannot make virtual environments: apt-get install python3-venv, or install uv",
    ),
    (
        (r"\bevdev\b", rf"input-event-codes\.h|{_NO_COMPILER}"),
        "evdev has no wheel, and to compile it needs a C compiler and the kernel headers: "
        "apt-get install gcc linux-libc-dev python3-dev",
    ),
    (
        (_NO_COMPILER,),
        "a package without a wheel for this Python and machine needs a C compiler: "
        "apt-get install gcc g++ python3-dev",
    ),
    (
        (r"CERTIFICATE_VERIFY_FAILED|invalid peer certificate",),
        "the package registry's certificate is not trusted: tell pip of your own with PIP_CERT",
    ),
    (
        (
            r"Name or service not known|Temporary failure in name resolution|Network is unreachable"
            r"|Failed to establish a new connection|Max retries exceeded|error sending request|dns error"
            r"|Connection refused|Connection timed out|Read timed out|ProxyError|No route to host",
        ),
        "the package registry cannot be reached: check the network, or name a mirror with PIP_INDEX_URL",
    ),
)
_NO_MATCH = re.compile(
    r"(?:No matching distribution found for|Could not find a version that satisfies the requirement) "
    r"(?P<name>[^\s(]+)"
)
_NO_BUILD = re.compile(r"(?:Failed building wheel for|Failed to build) `?(?P<name>[\w.-]+(?:==[\w.]+)?)`?")
_UV_NO_MATCH = re.compile(r"(?s)No solution found.*?(?:╰─▶|Because)\s*(?P<why>.+?)(?:\n\s*\n|$)")
_LONGEST = 300
_OTHER_PYTHON = "give another Python with --python"


def cause(output: str) -> str:
    """Return one clause that tells why an installer with this ``output`` failed, and what fixes it."""
    for patterns, words in _CAUSES:
        if all(re.search(pattern, output) for pattern in patterns):
            return words
    if match := _NO_MATCH.search(output):
        return f"there is no {match['name']} for this Python and machine: {_OTHER_PYTHON}"
    if match := _NO_BUILD.search(output):
        no_wheel = f"{match['name']} has no wheel for this Python and machine, and building it failed"
        return f"{no_wheel}: {_OTHER_PYTHON}"
    if match := _UV_NO_MATCH.search(output):
        why = " ".join(match["why"].split()).rstrip(".")
        return f"{why[:_LONGEST]}: {_OTHER_PYTHON}"
    lines = [line.strip() for line in output.splitlines()]
    said = [line for line in lines if line and not line.startswith(("[notice]", "hint:"))]
    return said[-1][:_LONGEST] if said else "the installer printed nothing"
