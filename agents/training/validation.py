"""Validation: the same held-out windows each time, measured by domain, by task and by place in the window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lram.agents.api import TaskSpec
from lram.agents.training.batches import Batch
from lram.agents.training.distributed import World
from lram.agents.training.metrics import Sums, all_metrics, mean_metrics, pair_values


@torch.no_grad()
def validate(
    predict: Callable[[Batch], Tensor],
    batches: Sequence[Batch],
    tasks: Sequence[TaskSpec],
    context: int,
    world: World,
) -> dict[str, Any]:
    """Measure a model; every process takes its share of the batches, and all return the same.

    Args:
        predict: Returns logits (B, T, 8, 274) of a batch on the world's device.
        batches: What is predicted.
        tasks: Table of the batches' tasks.
        context: Timesteps of a window, at most.
        world: The processes.

    Returns:
        The metrics as mean over the domains, and under ``domains`` and ``tasks`` of each; under
        ``positions`` the mean loss of each domain at the window's first, second, ... timestep.
    """
    by_task = torch.zeros(len(tasks), 4, dtype=torch.float64, device=world.device)
    domains = sorted({task.domain for task in tasks})
    places = {domain: torch.zeros(context, 2, dtype=torch.float64, device=world.device) for domain in domains}
    for number in range(world.rank, len(batches), world.size):
        batch = batches[number].to(world.device)
        values = pair_values(predict(batch), batch).double()  # (4, B, T, A)
        by_task.index_add_(0, batch.tasks, values.sum(dim=(2, 3)).T)
        here = values[:2].sum(dim=(1, 3)).T  # (T, 2)
        places[batch.domain][: len(here)] += here
    rows = world.sum(by_task).tolist()
    sums = {task.id: Sums(*row) for task, row in zip(tasks, rows, strict=True)}
    groups = {domain: Sums() for domain in domains}
    for task in tasks:
        one = sums[task.id]
        groups[task.domain].add((one.pairs, one.loss, one.right, one.error))
    found = all_metrics(groups)
    return {
        **mean_metrics(found),
        "domains": found,
        "tasks": all_metrics(sums),
        "positions": {
            domain: [loss / pairs for pairs, loss in world.sum(places[domain]).tolist() if pairs]
            for domain in domains
        },
    }
