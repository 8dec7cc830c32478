"""The returns to ask a trained model for: those that its own trajectories reached.

A model is asked for a return and acts towards it. The task table's targets are the best returns of the
reference's data; trajectories of other agents or of other versions of a simulator reach others, and a
return that was never seen asks for nothing that was learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lram.agents.training.selection import Selection, select

if TYPE_CHECKING:
    from lram.agents.trajectories.store import TrajectoryStore


def target_returns(
    stores: Sequence[TrajectoryStore], selection: Selection, *, quantile: float, state_width: int
) -> dict[str, float]:
    """Return a quantile, by task, of the returns of the trajectories that are trained on.

    A return is the sum of the rewards that agents are shown, from where an agent's context begins
    (an episode's start; in Atari also a lost life) to the episode's end or the next such place.

    Args:
        stores: Where the trajectories are.
        selection: Which are used.
        quantile: 0 to 1; 1 is the best return of each task.
        state_width: The widest vector observation that the model reads.
    """
    selected = select(stores, selection, "train", state_width=state_width)
    returns: dict[str, list[float]] = {}
    for domain in selected.domains.values():
        for store, number, task in zip(domain.stores, domain.numbers, domain.tasks, strict=True):
            of_task = returns.setdefault(selected.tasks[int(task)].id, [])
            of_task += _context_returns(stores[int(store)], int(number))
    return {task: round(float(np.quantile(values, quantile)), 6) for task, values in sorted(returns.items())}


def _context_returns(store: TrajectoryStore, number: int) -> list[float]:
    episode = store.episodes[number]
    if len(episode.context_starts) == 1:
        return [episode.signal_return]
    returns = store.trajectory(number)
    ends = [*episode.context_starts[1:], episode.length]
    return [
        float(returns.signals[start:end].sum(dtype=np.float64))
        for start, end in zip(episode.context_starts, ends, strict=True)
    ]
