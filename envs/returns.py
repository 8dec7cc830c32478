"""The least and the greatest return that an episode of a task can have, where its domain tells.

A mean return below the least is not to be had, so intervals end there; and an agent that fails by its own
fault is given the least, the worst that could have come of the episode. Random play on Meta-World, DMControl
and Procgen (docs/explanation/references.md) stayed within these ranges in each of its episodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from lram.envs.errors import SelectionError
from lram.envs.protocol_id import ProtocolId
from lram.envs.registry import load_domain
from lram.envs.session import Domain
from lram.envs.task import Task

UNBOUNDED = (-math.inf, math.inf)

Range = tuple[float, float]


def least_return(task: Task) -> float | None:
    """Return the least return that ``task`` can give under any protocol; None where none is known.

    It is 0 where rewards cannot be negative. Atari and most games of Procgen (fruitbot goes below 0) have
    negative rewards; a domain that is not installed any more promises no bound.
    """
    domain = _domain(task)
    return None if domain is None else _number(domain.least_return, task)


def return_range(task: Task, protocol: str) -> Range:
    """Return the range of one episode's return under ``protocol`` (``domain:name@version``).

    Both ends are known or neither is: where one is not, the range is ``UNBOUNDED``.
    """
    domain, least = _domain(task), least_return(task)
    if domain is None or least is None:
        return UNBOUNDED
    try:
        name = ProtocolId.parse(protocol).name
    except SelectionError:  # a run that was changed by hand is reported all the same
        return UNBOUNDED
    greatest = _number(domain.greatest_return, task, name)
    return UNBOUNDED if greatest is None or greatest < least else (least, greatest)


def _domain(task: Task) -> Domain | None:
    try:
        return load_domain(task.domain)
    except SelectionError:
        return None


def _number(ask: Callable[..., float | None] | None, *arguments: object) -> float | None:
    """Return what a domain answers; None where it does not know this task or protocol of an old run any more.

    Of those that it has, it was seen to answer with numbers (:mod:`lram.envs.announced`).
    """
    if ask is None:
        return None
    try:
        answer = ask(*arguments)
        return float(answer) if answer is not None and math.isfinite(answer) else None
    except Exception:  # a domain of others may raise anything
        return None
