"""What a model predicts of a trajectory's actions, by timestep: read whole, or within the trained length."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lram.agents.api import TaskSpec
from lram.agents.model.network import ActionModel
from lram.agents.training.batches import Batch, Places, assemble
from lram.agents.training.metrics import pair_values
from lram.agents.trajectories import TrajectoryStore
from lram.harness.extrapolation.records import LossItem, LossRecord, Stretch

_TOKENS = 12_000
"""Read at once, where a stretch is read in windows."""


def measure(
    model: ActionModel,
    stores: Sequence[TrajectoryStore],
    stretch: Stretch,
    item: LossItem,
    trained: int | None,
) -> LossRecord:
    """Read ``stretch`` by ``forward`` and return what was predicted at each of its timesteps.

    Args:
        model: Of the item's agent.
        stores: Of the plan.
        stretch: What is read.
        item: Agent and reading.
        trained: The trained length; needed to read ``within`` it.

    Raises:
        AgentError: The trajectory cannot be read.
    """
    task = stores[stretch.store].tasks[stretch.task]
    if item.reading == "whole":
        values, context = _values(model, stores, task, stretch, [(stretch.start, stretch.stop)])[0], 0
    else:
        assert trained is not None
        values, context = _within(model, stores, task, stretch, trained), trained
    pairs, loss, right, error = values.numpy()
    return LossRecord(
        agent=item.agent,
        stretch=item.stretch,
        reading=item.reading,
        context=context,
        dims=int(pairs[0]),
        loss=tuple(round(value, 5) if math.isfinite(value) else None for value in loss.tolist()),
        right=tuple(int(value) for value in right.tolist()),
        error=tuple(round(value, 7) for value in error.tolist()),
    )


def windows(length: int, context: int) -> list[tuple[int, int]]:
    """Return windows of ``context`` timesteps that begin every half of it, over a stretch of ``length``."""
    hop = max(1, context // 2)
    starts = range(0, max(1, length - context + hop), hop)
    return [(start, min(start + context, length)) for start in starts]


def _within(
    model: ActionModel, stores: Sequence[TrajectoryStore], task: TaskSpec, stretch: Stretch, context: int
) -> Tensor:
    """Return the sums of each timestep, predicted with no more than ``context`` timesteps to read: (4, T)."""
    cuts = windows(stretch.length, context)
    shifted = [(stretch.start + start, stretch.start + stop) for start, stop in cuts]
    group = max(1, _TOKENS // (context * (model.config.pass_tokens)))
    read: list[Tensor] = []
    for first in range(0, len(cuts), group):
        read += _values(model, stores, task, stretch, shifted[first : first + group])
    result = torch.zeros(4, stretch.length, dtype=torch.float64)
    done = 0
    for (start, stop), values in zip(cuts, read, strict=True):
        result[:, done:stop] = values[:, done - start :]
        done = stop
    return result


@torch.inference_mode()
def _values(
    model: ActionModel,
    stores: Sequence[TrajectoryStore],
    task: TaskSpec,
    stretch: Stretch,
    cuts: Sequence[tuple[int, int]],
) -> list[Tensor]:
    """Return (4, timesteps) float64 of each window: pairs, losses, right ones and errors."""
    count = len(cuts)
    starts, stops = np.array(cuts).T
    places = Places(
        domain=task.domain,
        stores=np.full(count, stretch.store),
        numbers=np.full(count, stretch.number),
        tasks=np.zeros(count, np.int64),
        starts=starts,
        stops=stops,
    )
    length = int((stops - starts).max())
    batch = assemble(stores, [task], places, length=length, state_width=model.config.state_width)
    batch = batch.to(model.backbone.device)
    values = pair_values(predict(model, batch), batch).double().sum(dim=3).cpu()  # (4, B, T)
    return [values[:, row, : int(size)] for row, size in enumerate(batch.lengths.tolist())]


def predict(model: ActionModel, batch: Batch) -> Tensor:
    """Return logits (B, T, dims, 274) of ``batch``."""
    actions = batch.classes if model.config.actions_in_context else None
    dims = batch.classes.shape[-1]
    logits: Tensor = model(batch.observations, batch.returns_to_go, batch.rewards, actions, dims).logits
    return logits
