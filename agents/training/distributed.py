"""Several processes that train one model, as ``torchrun`` starts them; one process is the plain case."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lram.agents.devices import find_device
from lram.agents.model.network import ActionModel


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run.

    Attributes:
        rank: Which this is; 0 writes.
        size: How many there are.
        device: Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def writes(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes; every one must call this."""
        if self.size > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def wrap(self, model: ActionModel) -> nn.Module:
        """Return what to call for training: gradients are averaged over the processes in ``backward``."""
        if self.size == 1:
            return model
        # A micro-batch of vectors does not use the image encoder, nor one of images the state encoder.
        return DistributedDataParallel(model, find_unused_parameters=True)

    def accumulating(self, model: nn.Module, more: bool) -> AbstractContextManager[None]:
        """Return a context in which ``backward`` keeps its gradients to itself if ``more`` come."""
        if more and isinstance(model, DistributedDataParallel):
            waiting: AbstractContextManager[None] = model.no_sync()
            return waiting
        return nullcontext()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that torchrun has started, or be alone; AgentError for a device not there.

    Args:
        device: As torch names it. A plain ``cuda`` is each process' own GPU of its machine.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    where = find_device(f"cuda:{local}" if device == "cuda" and size > 1 else device)
    if size == 1:
        yield World(0, 1, where)
        return
    if where.type == "cuda":
        torch.cuda.set_device(where)
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    try:
        yield World(rank, size, where)
    finally:
        dist.destroy_process_group()
