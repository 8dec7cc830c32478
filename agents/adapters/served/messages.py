"""Tasks, episodes, agents and actions as plain values of messages, and back; checked where they come in.

Both sides use it: the client of :mod:`lram.agents.adapters.served.lanes`, and the server of ``lram serve``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from lram.agents.api import Action, AgentInfo, Episode, TaskSpec
from lram.agents.shown import shown

KEY = "lram"
"""Of the server's first message, and of every question of this protocol."""

PROTOCOL = 1
"""Version of this protocol."""

MOST_LANES = 4096
"""Of a state."""


class MessageError(ValueError):
    """A message lacks what it must hold; the text tells what."""


def task_message(task: TaskSpec) -> dict[str, Any]:
    """Return ``task`` as a message holds it."""
    return {**asdict(task), "observation_shape": list(task.observation_shape)}


def task_of(message: object) -> TaskSpec:
    """Return the task in ``message``; MessageError where there is none."""
    given = field(message, "task", dict)
    try:
        shape = tuple(field(given, "observation_shape", list))
        return TaskSpec(**{**given, "observation_shape": shape})
    except (TypeError, ValueError) as error:
        raise MessageError(f"the task is none: {shown(str(error), 200)}") from error


def episode_message(episode: Episode) -> dict[str, Any]:
    """Return ``episode`` as a message holds it; a seed may be longer than msgpack's numbers."""
    return {"task": task_message(episode.task), "seed": str(episode.seed)}


def episode_of(message: object) -> Episode:
    """Return the episode in ``message``; MessageError where there is none."""
    seed = field(message, "seed", str)
    if not (seed.isascii() and seed.isdigit() and len(seed) < 64):
        raise MessageError("the seed of an episode is no number")
    try:
        return Episode(task_of(message), int(seed))
    except ValueError as error:
        raise MessageError(shown(str(error), 200)) from error


def info_message(info: AgentInfo) -> dict[str, Any]:
    """Return ``info`` as a message holds it."""
    plain = asdict(info)
    plain["details"] = [list(pair) for pair in info.details]
    plain["training_tasks"] = None if info.training_tasks is None else list(info.training_tasks)
    return plain


def info_of(message: object) -> AgentInfo:
    """Return what ``message`` says of an agent; MessageError where it says nothing of the kind."""
    given = field(message, "agent", dict)
    known = {one.name for one in fields(AgentInfo)}
    try:
        return AgentInfo(**{name: value for name, value in given.items() if name in known})
    except (TypeError, ValueError) as error:
        raise MessageError(f"the agent's facts are wrong: {shown(str(error), 200)}") from error


def field(message: object, name: str, kind: type | tuple[type, ...]) -> Any:
    """Return field ``name`` of ``message``; MessageError where there is none of that kind."""
    if not isinstance(message, Mapping):
        raise MessageError(f"a message is a {type(message).__name__} instead of a dictionary")
    if name not in message:
        raise MessageError(f"a message has no field {name!r}")
    value = message[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise MessageError(f"the field {name!r} of a message is a {type(value).__name__}")
    return value


def numbers_of(message: object, name: str) -> list[int]:
    """Return a list of whole numbers from 0 on, all different; MessageError for anything else."""
    values: list[int] = field(message, name, list)
    if not all(type(value) is int and 0 <= value < MOST_LANES for value in values):
        raise MessageError(f"the field {name!r} of a message holds no lanes")
    if len(set(values)) < len(values):
        raise MessageError(f"the field {name!r} of a message names a lane twice")
    return values


def action_of(value: object, task: TaskSpec) -> Action:
    """Return ``value`` as an action of ``task``; MessageError where it is none."""
    if task.action == "discrete":
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise MessageError(f"an action of {task.id} is a {type(value).__name__}, not a whole number")
        if not 0 <= value < task.action_size:
            raise MessageError(f"an action of {task.id} is {value}, outside 0 to {task.action_size - 1}")
        return int(value)
    if not isinstance(value, np.ndarray) or value.shape != (task.action_size,):
        what = f"of shape {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise MessageError(f"an action of {task.id} is {what}, not of shape ({task.action_size},)")
    if not np.isfinite(value).all():
        raise MessageError(f"an action of {task.id} is not finite")
    return value.astype(np.float32, copy=False)
