"""A decision that a GPU still computes: its logits are on their way, and nobody has to wait for them.

A copy to the host waits for all that the GPU has to do before. Into page-locked memory it is asked for and
continues by itself; an event tells when it has arrived. What is allocated and freed meanwhile is no danger:
PyTorch gives memory of a stream to operations that come later on the same stream only, and page-locked memory
again after the copies that use it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lram.agents.api import Action, PendingActions
from lram.agents.transfer import stacked


@dataclass(frozen=True, slots=True)
class Fetching:
    """What is on its way to the host.

    Attributes:
        here: Where it arrives, (n, ...) for n tensors; its numbers count after :meth:`wait`.
        arrived: Happens when it has; None where it was here from the start.
    """

    here: Tensor
    arrived: torch.cuda.Event | None

    def wait(self) -> None:
        """Return when it is here; other threads run meanwhile."""
        if self.arrived is not None:
            self.arrived.synchronize()


def fetch_later(tensors: Sequence[Tensor]) -> Fetching:
    """Ask for float32 copies of ``tensors``, of one shape and on one device, without waiting for them."""
    read = stacked(tensors)
    if read.device.type != "cuda":
        return Fetching(read.clone(), None)  # a later pass may write over what this one gave
    here = torch.empty(read.shape, dtype=read.dtype, pin_memory=True)
    here.copy_(read, non_blocking=True)
    # Whoever waits sleeps: the simulators need the cores.
    arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    arrived.record(torch.cuda.current_stream(read.device))
    return Fetching(here, arrived)


class LaunchedDecision(PendingActions):
    """Logits that are on their way, and what chooses actions by them.

    Args:
        fetching: The logits of each block, (blocks, rows, 8, 274).
        choose: Chooses by them.
    """

    def __init__(self, fetching: Fetching, choose: Callable[[npt.NDArray[np.float32]], list[Action]]) -> None:
        self._fetching, self._choose = fetching, choose

    def wait(self) -> None:
        """See :class:`lram.agents.api.PendingActions`."""
        self._fetching.wait()

    def actions(self) -> list[Action]:
        """See :class:`lram.agents.api.PendingActions`."""
        return self._choose(self._fetching.here.numpy())
