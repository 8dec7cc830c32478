"""The name of such a task: an environment's id, a module before it, and options behind it.

``CartPole-v1``, ``ALE/Pong-v5``, ``my_module:Mine-v0`` (the module is imported first, and registers it), and
``Pendulum-v1?g=9.0&max_episode_steps=50``: options are keyword arguments of ``gymnasium.make``. A value is a
Python literal or, where it is none, a text; ``%2C`` stands for a comma, as in addresses.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from lram.envs.errors import SelectionError
from lram.envs.text import printable

LONGEST_NAME = 200
_ID = re.compile(r"(?:[A-Za-z_][\w.]*:)?(?:[\w:.-]+/)?[\w.-]+", re.ASCII)
_OPTION = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_KEPT = ("render_mode", "disable_env_checker", "id")  # set by the session


@dataclass(frozen=True)
class EnvironmentName:
    """A task's name, taken apart.

    Attributes:
        text: As it was written; the task's name.
        id: What ``gymnasium.make`` is given, with the module where there is one.
        options: Its keyword arguments.
    """

    text: str
    id: str
    options: Mapping[str, Any]


def parse(text: str) -> EnvironmentName:
    """Return the parts of a task's name; SelectionError where it names no environment."""
    shown = printable(repr(text), 100)
    identifier, mark, query = text.partition("?")
    if len(text) > LONGEST_NAME or not text.isprintable():
        raise SelectionError(f"gym:{shown} is longer than {LONGEST_NAME} characters or not printable text")
    if not _ID.fullmatch(identifier):
        raise SelectionError(
            f"{shown} is no id of a Gymnasium environment; write one in full, such as gym:CartPole-v1, "
            "gym:ALE/Pong-v5 or gym:my_module:Mine-v0 (there is no list to match patterns with)"
        )
    options: dict[str, Any] = {}
    for part in query.split("&") if mark else ():
        name, equals, value = part.partition("=")
        if not equals or not _OPTION.fullmatch(name) or name in options:
            raise SelectionError(
                f"the options of gym:{shown} are not name=value, joined by &, each name once; write them as "
                "in gym:Pendulum-v1?g=9.0"
            )
        if name in _KEPT:
            raise SelectionError(f"the option {name} of gym:{shown} is set by lram-bench; leave it out")
        options[name] = _value(unquote(value))
    return EnvironmentName(text, identifier, options)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
