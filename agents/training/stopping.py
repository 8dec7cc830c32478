"""Ctrl-C, SIGTERM and SIGHUP while training: asked politely first, so that a state is saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lram.agents.signals import heeded


class StopRequest:
    """Whether somebody has asked to stop."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Take the first Ctrl-C, SIGTERM or SIGHUP as a request; the second interrupts at once.

    Elsewhere than in the main thread signals cannot be taken, and nothing is ever asked.
    """
    request, owner = StopRequest(), os.getpid()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a process that prepares batches; the trainer ends it
            return
        if request.asked:
            raise KeyboardInterrupt
        request.asked = True

    before = {number: signal.signal(number, ask) for number in heeded()}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
