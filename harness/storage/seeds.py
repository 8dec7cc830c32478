"""Seeds, derived from what an episode is and never from where or when it runs.

Every agent meets the same initial states in the same run seed, whatever the lane, the worker, the
order and the number of interruptions. What a seed is for is part of its derivation, so that an
agent's random numbers are not those of its simulator.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lram.harness.storage.records import RunPlan

_BOUND = 1 << 31


def derive(*parts: object) -> int:
    """Return a seed (0 <= seed < 2**31) that depends on every part and on their order."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "little") % _BOUND


def simulator_seed(run_seed: int, task_id: str, episode: int) -> int:
    """Return the seed that ``Session.reset`` is given for this episode."""
    return derive("simulator", run_seed, task_id, episode)


def agent_seed(run_seed: int, task_id: str, episode: int, context: int) -> int:
    """Return the seed of an agent's own random numbers in this episode.

    Args:
        run_seed: The run's seed.
        task_id: ``domain/name``.
        episode: Episode number.
        context: How many context resets the episode has had (lives lost in Atari).
    """
    return derive("agent", run_seed, task_id, episode, context)


def collection_seed(run_seed: int, label: str) -> int:
    """Return what an agent's episodes of a collection have instead of the run's seed.

    Training data are thereby not played from the initial states that ``lram eval`` measures on with the
    same seed, and agents do not repeat each other's.
    """
    return derive("collect", run_seed, label)


def evaluation_seed(study_seed: int, training_seed: int) -> int:
    """Return the run seed of the evaluation of a study's cells that were trained with ``training_seed``.

    All levels of one training seed meet the same initial states, so that they are compared in pairs; another
    training seed meets others, so that what a level does to a few initial states counts as noise.
    """
    return derive("evaluation", study_seed, training_seed)


def confirmation_seed(run_seed: int) -> int:
    """Return the run seed of the episodes that a chosen checkpoint is confirmed on.

    They begin otherwise than those that it was chosen by, so that they owe nothing to the choice.
    """
    return derive("confirmation", run_seed)


def own_seeds(plan: RunPlan) -> dict[str, int]:
    """Return by label what agents have instead of the run's seed: those of a collection."""
    labels = [agent.label for agent in plan.agents] if plan.collected else []
    return {label: collection_seed(plan.seed, label) for label in labels}
