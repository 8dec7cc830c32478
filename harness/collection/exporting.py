"""Exporting a store in the formats of others: which episodes, and with what result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lram.agents.patterns import fits
from lram.agents.trajectories.exporters import Exported, ExportOptions, export_store
from lram.agents.trajectories.store import TrajectoryStore
from lram.envs.text import printable
from lram.harness.errors import LramError


def export_data(
    path: Path,
    folder: Path,
    target: str,
    options: ExportOptions,
    *,
    tasks: Sequence[str] = (),
    limit: int | None = None,
) -> Exported:
    """Write episodes of the store in ``path`` into the new ``folder``.

    Args:
        path: Folder of the store.
        folder: What is made.
        target: One of the exporters' ``TARGETS``.
        options: How.
        tasks: Ids or patterns of tasks in the store, or comma lists of these; none: all.
        limit: At most so many episodes of each task, the first ones.

    Raises:
        LramError, AgentError: The store has no such task or no episode, or it cannot be read or written.
    """
    store = TrajectoryStore(path)
    if folder.resolve().is_relative_to(path.resolve()):
        raise LramError(f"{folder} lies within the store {path}; name a folder outside of it with -o")
    wanted = _named(store, tasks)
    taken: Counter[str] = Counter()
    numbers = []
    for episode in store.episodes:
        if episode.task in wanted and (limit is None or taken[episode.task] < limit):
            taken[episode.task] += 1
            numbers.append(episode.number)
    if not numbers:
        raise LramError(f"{path} has no episode; collect or import some first")
    return export_store(store, numbers, folder, target, options)


def _named(store: TrajectoryStore, tasks: Sequence[str]) -> set[str]:
    """Return the ids of the store that patterns name; LramError for one that names nothing."""
    patterns = [term.strip() for one in tasks for term in one.split(",") if term.strip()]
    if not patterns:
        return set(store.tasks)
    found = set()
    for pattern in patterns:
        named = {task for task in store.tasks if fits(task, pattern) or task.startswith(f"{pattern}/")}
        if not named:
            there = ", ".join(sorted(store.tasks))
            there = there if len(there) <= 200 else f"{there[:197]}..."
            raise LramError(f"{store.path} has no task {printable(pattern, 80)!r}; it has {there}")
        found |= named
    return found
