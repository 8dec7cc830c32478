"""What a watch sets out to do: ``watch.json``."""

from __future__ import annotations

from dataclasses import dataclass, field

from lram.agents.compute import Compute

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class WatchPlan:
    """Every checkpoint of a training plays the same tasks from the same starts.

    Attributes:
        training: Folder of the training when the watch began; it may be moved.
        recipe: Digest of its recipe, over the fields that decide numbers.
        updates: Updates that the training is to make.
        tasks: Their ids.
        episodes: Of each checkpoint on each task.
        seed: Names the initial states.
        protocols: By domain, where it is not the domain's default.
        compute, threads: How the checkpoints compute, all alike.
    """

    schema: int
    training: str
    recipe: str
    updates: int
    tasks: tuple[str, ...]
    episodes: int
    seed: int
    protocols: dict[str, str] = field(default_factory=dict)
    compute: Compute = field(default_factory=Compute)
    threads: int = 1
