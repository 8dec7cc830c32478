"""What is measured of predictions: sums that add up over micro-batches, processes and interruptions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lram.agents.model.tokens import BINS, DISCRETE_ACTIONS
from lram.agents.training.batches import Batch

SUMS = ("pairs", "loss", "right", "error")
"""Pairs of (timestep, dimension) that are there; over them the sums of cross-entropies, of likeliest
classes (of all 274) that are the action's, and of action errors."""


@torch.no_grad()
def pair_values(logits: Tensor, batch: Batch) -> Tensor:
    """Return what each pair adds to the sums of ``SUMS``: (4, B, T, A) float32, zero where masked.

    The action error is measured as agents act, by the likeliest class of the kind that the task has. It
    is |decoded - taken| where both are decoded bins (an action's own place in its bin is not known), and
    0 or 1 for discrete actions (likeliest of the 18, not only of those that the task has).

    Args:
        logits: (B, T, 8, 274).
        batch: What was predicted.
    """
    logits = logits[:, :, : batch.classes.shape[-1]].float()
    flat, classes = logits.flatten(0, -2), batch.classes.flatten()
    losses = F.cross_entropy(flat, classes, reduction="none").view(batch.classes.shape)
    right, error = _judge(logits, batch.classes)
    values = torch.stack([torch.ones_like(losses), losses, right, error])
    return values.masked_fill(~batch.mask, 0.0)


@torch.no_grad()
def batch_sums(logits: Tensor, batch: Batch, loss: Tensor) -> Tensor:
    """Return the sums of ``SUMS`` over a batch whose mean cross-entropy is ``loss``: (4,) float64."""
    right, error = _judge(logits[:, :, : batch.classes.shape[-1]], batch.classes)
    values = torch.stack([torch.ones_like(right), right, error]).masked_fill(~batch.mask, 0.0)
    pairs, right, error = values.flatten(1).double().sum(dim=1)
    return torch.stack([pairs, loss.double() * pairs, right, error])


def _judge(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return whether the likeliest class is right, and the action error: both like ``classes``, float32."""
    right = (logits.argmax(dim=-1) == classes).float()
    if classes.shape[-1] == 1:
        return right, (logits[..., :DISCRETE_ACTIONS].argmax(dim=-1) != classes).float()
    bins = logits[..., DISCRETE_ACTIONS:].argmax(dim=-1) + DISCRETE_ACTIONS
    return right, (bins - classes).abs() * (2 / BINS)


@dataclass(slots=True)
class Sums:
    """Running sums of one group, such as a domain."""

    pairs: float = 0.0
    loss: float = 0.0
    right: float = 0.0
    error: float = 0.0

    def add(self, values: Iterable[float]) -> None:
        """Add the values of ``SUMS``, in that order."""
        for name, value in zip(SUMS, values, strict=True):
            setattr(self, name, getattr(self, name) + value)

    def metrics(self) -> dict[str, float]:
        """Return the means: loss, perplexity = e^loss, top1 and action_error."""
        loss = self.loss / self.pairs
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "top1": self.right / self.pairs,
            "action_error": self.error / self.pairs,
        }


def all_metrics(sums: Mapping[str, Sums]) -> dict[str, dict[str, float]]:
    """Return the metrics of every group that has pairs."""
    return {name: one.metrics() for name, one in sums.items() if one.pairs}


def mean_metrics(groups: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over groups, each alike, as training weights the domains; e^(mean loss)."""
    if not groups:
        return {}
    names = next(iter(groups.values()))
    mean = {name: math.fsum(one[name] for one in groups.values()) / len(groups) for name in names}
    return {**mean, "perplexity": math.exp(min(mean["loss"], 700.0))}


@dataclass(slots=True)
class Meter:
    """The metrics of the updates since the last line.

    Attributes:
        updates: So many.
        domains: Sums by domain.
        loss: Sum of the updates' losses, each the mean over its micro-batches, as it is minimised.
        gradient_norm: Sum of the gradients' norms before clipping.
        timesteps: Real timesteps that were trained on, by all processes.
        tokens: Tokens that the backbone read, without padding, likewise.
        seconds: How long the updates took.
        waited: How much of that was waiting for data.
    """

    updates: int
    domains: dict[str, Sums]
    loss: float
    gradient_norm: float
    timesteps: int
    tokens: int
    seconds: float
    waited: float

    @classmethod
    def empty(cls) -> Meter:
        """Return one that has seen nothing."""
        return cls(0, {}, 0.0, 0.0, 0, 0, 0.0, 0.0)

    def line(self) -> dict[str, Any]:
        """Return what goes into a line of metrics."""
        return {
            "loss": self.loss / self.updates,
            "gradient_norm": self.gradient_norm / self.updates,
            "domains": all_metrics(dict(sorted(self.domains.items()))),
        }
