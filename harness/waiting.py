"""Messages for somebody who waits: how long it will take, and that work is still in progress."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

LINE_EVERY_S = 10.0
"""Nothing that takes longer than this is silent."""

MEASURING = "time left: measuring"
_RECENT = 50
_TYPICAL = 5.0
_said = time.monotonic()


def duration(seconds: float) -> str:
    """Return ``seconds`` for people: 40 s, 12 min, 1 h 11 min."""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def left(seconds: float | None) -> str:
    """Return how long something takes yet; None: not known yet."""
    return MEASURING if seconds is None else f"about {duration(seconds)} left"


def say(line: str, end: str = "\n") -> None:
    """Print a line on standard error; a reader that is gone must not end the work."""
    global _said
    _said = time.monotonic()
    with suppress(OSError):
        print(line, end=end, file=sys.stderr, flush=True)


class Pace:
    """How long equal pieces of work take, without what only the first one needs, such as compilation.

    A piece that took much longer than is usual (a later compilation, a validation) does not count.
    """

    def __init__(self, *, warm_up: int = 1) -> None:
        """Take how many pieces at the beginning do not count."""
        self._skip = warm_up
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def add(self, seconds: float) -> None:
        """Take note of a piece that took ``seconds``."""
        if self._skip:
            self._skip -= 1
        else:
            self._recent.append(seconds)

    @property
    def seconds(self) -> float | None:
        """What a piece takes; None before two of them were measured."""
        if len(self._recent) < 2:
            return None
        usual = _TYPICAL * statistics.median(self._recent)
        return statistics.fmean([seconds for seconds in self._recent if seconds <= usual])


def remaining(total: int, done: int, active: int, seconds: float) -> float | None:
    """Return the seconds that the rest of ``total`` pieces takes, several of which run at once.

    Args:
        total: All of them.
        done: Those that are finished.
        active: Those that were begun, half of which counts as done.
        seconds: Since the first was begun.

    Returns:
        None before a piece is done.
    """
    if done < 1:
        return None
    ahead = max(total - done, 0)
    begun = min(active, ahead) / 2
    return (ahead - begun) * seconds / (done + begun)


@contextmanager
def still(
    what: str | Callable[[], str], *, quiet: bool = False, every: float = LINE_EVERY_S
) -> Iterator[None]:
    """While this lasts, say on standard error that ``what`` still runs, if nothing else was said for long.

    Args:
        what: Such as ``reading the runs``; or what returns it (empty: nothing is to be said now).
        quiet: Say nothing.
        every: Seconds of silence (:func:`say`) before a line.
    """
    if quiet:
        yield
        return
    ended, began = threading.Event(), time.monotonic()

    def tick() -> None:
        wait = every
        while not ended.wait(wait):
            wait = max(_said, began) + every - time.monotonic()
            if wait > 0:
                continue
            wait = every
            if text := what() if callable(what) else what:
                say(f"{text}: {duration(time.monotonic() - began)} so far")

    thread = threading.Thread(target=tick, name="lram-still", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
