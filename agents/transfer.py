"""What goes to the device that computes and what comes back: page-locked memory, one wait a decision.

A copy from ordinary memory to a GPU waits for all that the GPU has to do. From page-locked memory it is asked
for and continues by itself; PyTorch uses such memory again only after the copies that read it. So nothing
waits before :func:`fetch`, which brings all that a decision gave in one copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def send(given: Tensor, device: torch.device) -> Tensor:
    """Return a copy of ``given``, which is here, on ``device``, which is no processor, without waiting."""
    locked = torch.empty(given.shape, dtype=given.dtype, pin_memory=True)
    locked.copy_(given)
    return locked.to(device, non_blocking=True)


def row_numbers(rows: Sequence[int], device: torch.device) -> Tensor:
    """Return ``rows`` as an index on ``device``, without waiting for it."""
    numbers = torch.tensor(rows, dtype=torch.int64)
    return numbers if device.type == "cpu" else send(numbers, device)


def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Return ``tensors``, of one shape, as one of float32; a single one without a copy where it is that."""
    together = tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(list(tensors))
    return together.float()


def fetch(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return float32 copies of ``tensors``, of one shape and on one device, here: in one copy, waited for."""
    read = stacked(tensors)
    here = torch.empty(read.shape, dtype=read.dtype, pin_memory=True)
    here.copy_(read)
    return list(here.unbind())
