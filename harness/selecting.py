"""A selection of tasks, and a word on what its patterns leave out."""

from __future__ import annotations

from collections.abc import Sequence

from lram.envs.registry import left_out, select
from lram.envs.task import Task
from lram.harness.waiting import say


def selected(selection: str | Sequence[str]) -> list[Task]:
    """Return the tasks of a selection; say on standard error which are left out, being made to fail.

    Raises:
        SelectionError: As for :func:`lram.envs.registry.select`.
    """
    tasks = select(selection)
    explain([task.id for task in left_out(selection)])
    return tasks


def explain(faulty: Sequence[str]) -> None:
    """Say which tasks, by their ids, are left out because they are made to fail."""
    if faulty:
        say(
            f"lram: left out, because they are made to fail: {', '.join(faulty)}; to play one, name it "
            "without a pattern"
        )
