"""Connections that were lost, made again a few times where nothing is lost with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from lram.agents.adapters.served.connection import LostServerError, ServedConnection

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 5.0

_T = TypeVar("_T")


def with_retries(
    ask: Callable[[ServedConnection], _T],
    connection: ServedConnection,
    again: Callable[[], ServedConnection],
    retries: int,
) -> tuple[_T, ServedConnection]:
    """Return what ``ask`` gives on ``connection``, or on a new one where it was lost, and that connection.

    Args:
        ask: May be repeated; raises LostServerError where the connection is gone.
        connection: The first to try.
        again: Makes another one.
        retries: How many others are tried at most, with growing waits in between.

    Raises:
        LostServerError: The last of them was lost, or could not be made.
        AgentError: As ``ask`` and ``again`` raise it; that is not tried again.
    """
    wait_s = 0.0
    for tried in range(retries + 1):
        try:
            if tried:
                time.sleep(wait_s)
                connection = again()
            return ask(connection), connection
        except LostServerError:
            if tried == retries:
                raise
            connection.close()
            wait_s = min(2 * wait_s or _FIRST_WAIT_S, _LONGEST_WAIT_S) if tried else 0.0
    raise AssertionError("there is always a last try")
