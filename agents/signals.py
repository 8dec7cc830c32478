"""The signals that ask a process to end."""

from __future__ import annotations

import signal

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, the usual request of other programs, and the terminal that is gone."""


def heeded() -> list[signal.Signals]:
    """Return those that this process does not ignore, as one under ``nohup`` ignores SIGHUP."""
    return [one for one in ENDING if signal.getsignal(one) != signal.SIG_IGN]
