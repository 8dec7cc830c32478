"""Memory that ran out: how errors tell of it, on processors and GPUs."""

from __future__ import annotations

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
