"""The dial of a task: the number in which it differs from others of its family, if its domain tells one."""

from __future__ import annotations

from lram.envs.errors import SelectionError
from lram.envs.registry import load_domain
from lram.envs.task import Dial


def task_dial(task_id: str) -> Dial | None:
    """Return the dial of the task ``domain/name``; None where it has none, or its domain does not know it.

    Raises:
        SelectionError: The domain is not installed, so that nobody knows.
    """
    domain, _, name = task_id.partition("/")
    ask = load_domain(domain).dial
    if ask is None:
        return None
    try:
        return ask(name)
    except Exception:  # of the names that the domain has, it was seen to take each (lram.envs.announced)
        return None


def domain_is_known(domain: str) -> bool:
    """Return whether the domain of that name is installed."""
    try:
        load_domain(domain)
    except SelectionError:
        return False
    return True
