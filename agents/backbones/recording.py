"""Whether a step is being recorded, so that it must do the same operations whatever its tensors hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_recording: ContextVar[bool] = ContextVar("recording", default=False)


def is_recording() -> bool:
    """Return whether this is inside of :func:`recorded_here`."""
    return _recording.get()


@contextmanager
def recorded_here() -> Iterator[None]:
    """Take ways here that do not depend on numbers: fixed shapes, no question to the host."""
    token = _recording.set(True)
    try:
        yield
    finally:
        _recording.reset(token)
