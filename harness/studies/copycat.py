"""Does a model repeat the last action? Measured on held-out windows, against what the data did.

A model that sees its last action can lower its loss by repeating it, without learning to act: much of
what a policy does next is what it did last (de Haan, Jayaraman and Levine 2019, arXiv 1905.11979). The
model reads the recorded past (teacher forcing) and predicts the next action; counted is how often that
prediction lies in the same bins as the action before, beside how often the data's own next action does.
Actions are those of the recipe's windows: with ``data.labels`` other than ``taken`` the expert's, also as the
action before, which is then not the one that was played.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lram.agents.checkpoints.folder import load_checkpoint
from lram.agents.model.network import ActionModel
from lram.agents.model.tokens import BINS, DISCRETE_ACTIONS
from lram.agents.training.batches import Batch
from lram.agents.training.recipe import Recipe
from lram.agents.training.sources import open_data
from lram.agents.training.trainer import reproducible
from lram.harness.studies.records import TaskCopies


def copycat(checkpoint: str | Path, recipe: Recipe) -> tuple[TaskCopies, ...]:
    """Return the counts of a trained model on its recipe's validation windows, task by task.

    Args:
        checkpoint: Its folder.
        recipe: What it was trained by; empty counts where that holds nothing out.

    Raises:
        AgentError: The checkpoint or the trajectories cannot be read.
    """
    model, meta = load_checkpoint(checkpoint)
    data = open_data(recipe, meta.config.state_width)
    names = [task.id for task in data.windows.tasks]
    with reproducible(recipe.threads), torch.inference_mode():
        found = [counts(predictions(model, batch), batch) for batch in data.validation]
        rows = [batch.tasks for batch in data.validation]
    if not found:
        return ()
    totals = torch.zeros(len(names), len(_COUNTED), dtype=torch.float64)
    totals.index_add_(0, torch.cat(rows), torch.cat(found))
    return tuple(_task(names[place], row) for place, row in enumerate(totals.tolist()) if row[0])


def predictions(model: ActionModel, batch: Batch) -> Tensor:
    """Return the likeliest class of each pair, of those that the task has: like ``batch.classes``.

    Discrete actions: likeliest of the 18, as validation has it, not only of those of the task.
    """
    past = batch.classes if model.config.actions_in_context else None
    logits = model(batch.observations, batch.returns_to_go, batch.rewards, past).logits
    logits = logits[:, :, : batch.classes.shape[-1]]
    if batch.classes.shape[-1] == 1:
        return torch.as_tensor(logits[..., :DISCRETE_ACTIONS].argmax(dim=-1))
    return torch.as_tensor(logits[..., DISCRETE_ACTIONS:].argmax(dim=-1) + DISCRETE_ACTIONS)


_COUNTED = (
    "decisions",
    "repeated",
    "data_repeated",
    "both",
    "right",
    "right_changes",
    "moved",
    "data_moved",
    "missed",
)


def counts(predicted: Tensor, batch: Batch) -> Tensor:
    """Return what each window adds to the counts of :class:`TaskCopies`, in their order: (B, 9) float64.

    Args:
        predicted: (B, T, A) classes.
        batch: What was predicted.
    """
    there = batch.mask[:, 1:]  # (B, T - 1, A); a window is there from its first timestep on
    decided = there.any(dim=-1)
    next_, last, guess = batch.classes[:, 1:], batch.classes[:, :-1], predicted[:, 1:]

    def same(one: Tensor, other: Tensor) -> Tensor:
        return ((one == other) | ~there).all(dim=-1) & decided

    def distance(one: Tensor, other: Tensor) -> Tensor:
        apart = (one != other).double() if there.shape[-1] == 1 else (one - other).abs().double() * (2 / BINS)
        return (apart * there).sum(dim=-1) / there.sum(dim=-1).clamp(min=1)

    repeated, data_repeated, right = same(guess, last), same(next_, last), same(guess, next_)
    columns = (
        decided,
        repeated,
        data_repeated,
        repeated & data_repeated,
        right,
        right & ~data_repeated,
        distance(guess, last),
        distance(next_, last),
        distance(guess, next_),
    )
    return torch.stack([column.double().sum(dim=1) for column in columns], dim=1)


def _task(name: str, row: Sequence[float]) -> TaskCopies:
    whole = [round(value) for value in row[:6]]
    return TaskCopies(name, *whole, *(round(value, 9) for value in row[6:]))
