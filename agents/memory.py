"""Memory that ran out: how errors tell of it, on processors and GPUs, and what the kernel counts of it."""

from __future__ import annotations

from pathlib import Path

_LACK = ("can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc", "memoryerror")


def is_lack(error: BaseException) -> bool:
    """Return whether ``error`` says that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    try:
        return type(error).__name__ == "OutOfMemoryError" or is_lack_text(str(error))
    except BaseException:  # whatever an agent's own class raises instead of a text
        return False


def is_lack_text(text: str) -> bool:
    """Return whether the words of an error, or of a process that died, say that memory ran out."""
    return any(words in text.lower() for words in _LACK)


_COUNTS = Path("/proc/vmstat")


def kernel_kills() -> int | None:
    """Return how many processes the kernel has killed for lack of memory since it started; None: not counted.

    Those of cgroups are among them. A killer outside the kernel, such as systemd-oomd, is not.
    """
    try:
        lines = _COUNTS.read_text().splitlines()
    except (OSError, ValueError):
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
