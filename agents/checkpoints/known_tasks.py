"""Which tasks a checkpoint was trained on, as its card tells.

What a model has seen is its own matter, whatever the paper's split says of a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lram.agents.checkpoints.description import section


class KnownTasks(NamedTuple):
    """The tasks of a model's training.

    Attributes:
        tasks: Their ids, sorted; None where nothing tells them.
        complete: Whether they are all; not where the model continued from one whose tasks nobody noted.
    """

    tasks: tuple[str, ...] | None
    complete: bool = True


def known_tasks(card: Mapping[str, Any]) -> KnownTasks:
    """Return what the card of a trained checkpoint tells; whatever is not as it should be tells nothing."""
    last = section(section(card, "data"), "tasks")
    if not last:
        return KnownTasks(None)
    earlier = card.get("earlier_tasks")
    noted = isinstance(earlier, list | tuple) and all(isinstance(task, str) for task in earlier)
    before = set(earlier) if noted and earlier else set()
    complete = not card.get("init_from") or (noted and card.get("earlier_tasks_complete") is True)
    return KnownTasks(tuple(sorted({str(task) for task in last} | before)), complete)
