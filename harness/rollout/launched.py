"""Passes that an agent has launched on a device of its own, and what tells of their results.

A GPU computes beside the processor. Whoever waited for its result could begin no episode and launch no pass
meanwhile, although lanes are ready. So a thread for each agent waits, without holding the interpreter, and
wakes the driver through a descriptor that the pool of workers watches beside theirs.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue

from lram.agents.api import PendingActions
from lram.harness.rollout.lane import Lane

_END_S = 10.0  # that a device is waited for at the end


@dataclass(slots=True, eq=False)
class LaunchedPass:
    """A pass whose result an agent still computes.

    Attributes:
        label: The agent's.
        lanes: Whose actions come.
        pending: What the agent gave.
        started: By ``time.perf_counter``.
        ended: When the result was there.
        error: What the agent raised while it was waited for.
    """

    label: str
    lanes: Sequence[Lane]
    pending: PendingActions
    started: float
    ended: float = 0.0
    error: BaseException | None = None


@dataclass(slots=True)
class Overlap:
    """How much was done while passes were computed.

    Attributes:
        passes: That were launched.
        beside: Of them, those that were launched while another one was computed.
        steps: Of simulators that arrived while a pass was computed.
    """

    passes: int = 0
    beside: int = 0
    steps: int = 0

    def __str__(self) -> str:
        return (
            f"{self.passes} passes launched, {self.beside} of them beside another; {self.steps} steps of "
            "simulators arrived while a pass was computed"
        )


class Arrivals:
    """Waits for launched passes, those of one agent in the order in which they were launched.

    Attributes:
        descriptor: Can be read when a result is there, until :meth:`take`.
        computing: Passes whose result was not taken yet.
    """

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.computing = 0
        self._ended: deque[LaunchedPass] = deque()
        self._queues: dict[str, SimpleQueue[LaunchedPass | None]] = {}
        self._threads: list[threading.Thread] = []

    def __bool__(self) -> bool:
        """Whether a result is there."""
        return bool(self._ended)

    def wait_for(self, launched: LaunchedPass) -> None:
        """Let a result be waited for."""
        self.computing += 1
        if launched.label not in self._queues:
            queue = self._queues[launched.label] = SimpleQueue()
            name = f"passes of {launched.label}"
            self._threads.append(threading.Thread(target=self._wait, args=(queue,), name=name, daemon=True))
            self._threads[-1].start()
        self._queues[launched.label].put(launched)

    def take(self) -> list[LaunchedPass]:
        """Return the passes whose results are there."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)
        taken = [self._ended.popleft() for _ in range(len(self._ended))]
        self.computing -= len(taken)
        return taken

    def close(self) -> None:
        """Wait for what is still computed, and end the threads."""
        for queue in self._queues.values():
            queue.put(None)
        end = time.monotonic() + _END_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        if not any(thread.is_alive() for thread in self._threads):
            os.close(self.descriptor)

    def _wait(self, queue: SimpleQueue[LaunchedPass | None]) -> None:
        while (launched := queue.get()) is not None:
            try:
                launched.pending.wait()
            except BaseException as error:  # whatever it was, the driver tells of it
                launched.error = error
            launched.ended = time.perf_counter()
            self._ended.append(launched)
            os.eventfd_write(self.descriptor, 1)
