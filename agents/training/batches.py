"""Batches: windows of trajectories as the tensors that a model is trained on.

All windows of a batch are of one domain. They are padded on the right: every model is causal, so no
real token ever sees padding (the reference pads on the left, and its models read the padding).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lram.agents.api import TaskSpec
from lram.agents.model.encoders import IMAGE_SHAPE
from lram.agents.model.tokens import ACTION_DIMS, action_to_classes
from lram.agents.training.sampling import Integers

if TYPE_CHECKING:
    from lram.agents.trajectories.store import TrajectoryStore


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B windows of at most T timesteps; A is 8 for continuous actions and 1 for discrete ones.

    Attributes:
        domain: Of all of them.
        observations: (B, T, state_width) float32, filled up with zeros, or (B, T, 3, 64, 64) uint8.
        returns_to_go: (B, T) float32: from here to the end of the agent's context, undiscounted,
            divided by the task's reward scale.
        rewards: (B, T) float32: what the action of each timestep earned, as agents are shown it, divided
            likewise.
        classes: (B, T, A) int64: of the actions that were taken; a dimension that the task lacks has
            the class of the action 0.0.
        mask: (B, T, A) bool: timestep and dimension are there.
        tasks: (B,) int64: indices into the table of tasks.
        lengths: (B,) int64: timesteps that are there, the first of T.
        starts: (B,) int64: the first timestep's number in its episode.
    """

    domain: str
    observations: Tensor
    returns_to_go: Tensor
    rewards: Tensor
    classes: Tensor
    mask: Tensor
    tasks: Tensor
    lengths: Tensor
    starts: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on ``device``."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, from which copies to a GPU need not be waited for."""
        return self._each(Tensor.pin_memory)

    @property
    def timesteps(self) -> int:
        """Real timesteps in all windows together."""
        return int(self.lengths.sum())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        tensors = (getattr(self, item.name) for item in fields(self)[1:])
        return Batch(self.domain, *map(change, tensors))


@dataclass(frozen=True, slots=True)
class Places:
    """Where n windows of one domain are.

    Attributes:
        domain: Of all of them.
        stores: Which store each is in: (n,).
        numbers: Number of the episode there: (n,).
        tasks: Index of the task in the table of tasks: (n,).
        starts: First timestep: (n,).
        stops: The timestep after the last: (n,).
    """

    domain: str
    stores: Integers
    numbers: Integers
    tasks: Integers
    starts: Integers
    stops: Integers

    def __getitem__(self, rows: slice) -> Places:
        columns = (self.stores, self.numbers, self.tasks, self.starts, self.stops)
        return Places(self.domain, *(column[rows] for column in columns))


def assemble(
    stores: Sequence[TrajectoryStore],
    table: Sequence[TaskSpec],
    places: Places,
    *,
    length: int,
    state_width: int,
) -> Batch:
    """Read windows and return them as a batch, padded to ``length`` timesteps.

    Raises:
        AgentError: An episode cannot be read.
    """
    specs = [table[task] for task in places.tasks.tolist()]
    numbers = (column.tolist() for column in (places.stores, places.numbers, places.starts, places.stops))
    read = [
        stores[store].window(number, start, stop) for store, number, start, stop in zip(*numbers, strict=True)
    ]
    shape, lengths = (len(read), length), places.stops - places.starts
    images, discrete = specs[0].observation == "image", specs[0].action == "discrete"
    seen = np.zeros(
        (*shape, *(IMAGE_SHAPE if images else (state_width,))), np.uint8 if images else np.float32
    )
    returns_to_go, rewards = np.zeros((2, *shape), np.float32)
    actions = np.zeros((*shape, 1 if discrete else ACTION_DIMS), np.int64 if discrete else np.float32)
    for row, (window, steps) in enumerate(zip(read, lengths.tolist(), strict=True)):
        flat = window.observations if images else window.observations.reshape(steps, -1)
        seen[row, :steps, ... if images else slice(flat.shape[1])] = flat
        taken = window.actions.reshape(steps, -1)
        actions[row, :steps, : taken.shape[1]] = taken
        returns_to_go[row, :steps] = window.returns_to_go
        rewards[row, :steps] = window.signals
    scales = np.array([[spec.reward_scale] for spec in specs], np.float32)
    sizes = np.array([1 if discrete else spec.action_size for spec in specs])
    timesteps = np.arange(length) < lengths[:, None]
    mask = timesteps[:, :, None] & (np.arange(actions.shape[-1]) < sizes[:, None])[:, None]
    return Batch(
        domain=places.domain,
        observations=torch.from_numpy(seen),
        returns_to_go=torch.from_numpy(returns_to_go / scales),
        rewards=torch.from_numpy(rewards / scales),
        classes=torch.from_numpy(actions if discrete else action_to_classes(actions)),
        mask=torch.from_numpy(mask),
        tasks=torch.from_numpy(places.tasks),
        lengths=torch.from_numpy(lengths),
        starts=torch.from_numpy(places.starts),
    )
