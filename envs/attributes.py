"""What sets tasks of a domain apart, for results by group: their splits, robots, objects."""

from __future__ import annotations

from lram.envs.errors import SelectionError
from lram.envs.registry import load_domain
from lram.envs.task import Task


def task_attributes(task: Task) -> dict[str, str]:
    """Return the value of each attribute of ``task``: the groups that it belongs to within its domain.

    Every task has its ``split``; the others are its domain's (:attr:`lram.envs.session.Domain.attributes`).
    A task of an old run has its split only where its domain is not installed any more, or does not know it.
    """
    found: dict[str, str] = {"split": task.split}
    try:
        attributes = load_domain(task.domain).attributes
    except SelectionError:
        return found
    if attributes is None:
        return found
    try:
        own = attributes(task.name)
    except Exception:  # of the names that the domain has, it was seen to take each (lram.envs.announced)
        return found
    found.update((name, value) for name, value in own.items() if value)
    return found
