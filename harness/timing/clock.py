"""The clock: one decision at a time, between two moments at which the device has nothing to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from lram.agents.api import AgentError
from lram.agents.devices import find_device, refusal

Prepare = Callable[[], Callable[[], object]]
"""Makes ready what is not to be timed (inputs, the state taken back), and returns what is."""


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """How a decision is timed.

    Attributes:
        synchronise: Waits until the device has done what was asked of it; called before and after.
        clock: Nanoseconds.
    """

    synchronise: Callable[[], object] = lambda: None
    clock: Callable[[], int] = time.perf_counter_ns

    def time(self, prepare: Prepare) -> int:
        """Return the nanoseconds of one decision."""
        decide = prepare()
        self.synchronise()
        start = self.clock()
        decide()
        self.synchronise()
        return self.clock() - start


def stopwatch(device: str) -> Stopwatch:
    """Return the clock of decisions that are made on ``device``."""
    return Stopwatch(_synchroniser(device))


def _synchroniser(device: str) -> Callable[[], object]:
    import torch

    if torch.device(device).type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def check_device(device: str) -> None:
    """Raise AgentError when decisions cannot be timed on ``device``: it is neither a processor nor CUDA."""
    if find_device(device).type not in ("cpu", "cuda"):
        raise AgentError(refusal(device))
