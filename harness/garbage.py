"""Python's collector of cycles, switched off in this one place while it would disturb."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_off(*, collect_first: bool = False) -> Iterator[None]:
    """Keep the collector away: while decisions are timed, or while very many objects are made that all stay.

    Within another such block, and where the collector is off anyway, nothing is done.

    Args:
        collect_first: Collect what is garbage now before switching off, so that it is not collected for a
            long time.
    """
    if not gc.isenabled():
        yield
        return
    if collect_first:
        gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
