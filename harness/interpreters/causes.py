"""Why an install failed, found in what the installer printed."""

from __future__ import annotations

import re

# Tried in this order: a registry that cannot be reached also has "no matching distribution".
_CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"No space left on device|Disk quota exceeded",
        "the disk is full: make room, or set LRAM_HOME to a folder on another one",
    ),
    (
        r"ensurepip is not available|No module named '?(?:ensurepip|venv)\b",
        "this Python cannot make virtual environments: apt-get install python3-venv, or install uv",
    ),
    (
        r"(?s)(?=.*\bevdev\b)(?:.*?(?:input-event-codes\.h|command '[^']*(?:gcc|cc|clang)[^']*' failed"
        r"|unable to execute '|No such file or directory: '[^']*(?:gcc|cc)'))",
        "evdev has no wheel, and to compile it needs a C compiler and the kernel headers: "
        "apt-get install gcc linux-libc-dev python3-dev",
    ),
    (
        r"command '[^']*(?:gcc|cc|clang|g\+\+|c\+\+)[^']*' failed|unable to execute '[^']*(?:gcc|cc|g\+\+)"
        r"|No such file or directory: '[^']*(?:gcc|cc)'",
        "a package without a wheel for this Python and machine needs a C compiler: "
        "apt-get install gcc g++ python3-dev",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|invalid peer certificate",
        "the package registry's certificate is not trusted: tell pip of your own with PIP_CERT",
    ),
    (
        r"Name or service not known|Temporary failure in name resolution|Failed to establish a new connection"
        r"|Network is unreachable|Max retries exceeded|error sending request|dns error|Connection refused"
        r"|Connection timed out|Read timed out|ProxyError|No route to host|Could not connect",
        "the package registry cannot be reached: check the network, or name a mirror with PIP_INDEX_URL",
    ),
)
_NO_MATCH = re.compile(
    r"(?:No matching distribution found for|Could not find a version that satisfies the requirement) "
    r"(?P<name>[^\s(]+)"
)
_UV_NO_MATCH = re.compile(r"(?s)No solution found.*?(?:╰─▶|Because)\s*(?P<why>.+?)(?:\n\s*\n|$)")
_LONGEST = 300


def cause(output: str) -> str:
    """Return one clause that tells why an installer with this ``output`` failed, and what mends it."""
    for pattern, words in _CAUSES:
        if re.search(pattern, output):
            return words
    if match := _NO_MATCH.search(output):
        return f"there is no {match['name']} for this Python and machine: give another Python with --python"
    if match := _UV_NO_MATCH.search(output):
        why = " ".join(match["why"].split()).rstrip(".")
        return f"{why[:_LONGEST]}: give another Python with --python"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:_LONGEST] if lines else "the installer said nothing"
