"""What returns of a Gymnasium task stand for, from a user's file, ``scores.toml``.

It lies where ``LRAM_SCORES`` says, else in ``$LRAM_HOME``, or ``lram-bench`` in the folder for users' data::

    ["Pendulum-v1"]
    random = -1223.0       # mean return of random play: score 0
    reference = -150.0     # of the reference: score 1
    source = "uniform actions, 100 episodes; SAC of ..."
    target_return = -150.0 # what agents that are conditioned on returns are asked for
    reward_scale = 1.0     # rewards are divided by it before a model reads them

Everything is optional. A task is found by its name as it was written, options included; a task without
references has returns only, and reports name and count it.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from lram.envs.errors import SelectionError

VARIABLE = "LRAM_SCORES"
FILE = "scores.toml"
_LARGEST = 1 << 20


@dataclass(frozen=True)
class References:
    """What the file says of a task: the fields of :class:`lram.envs.task.Task` that no environment tells."""

    random: float | None = None
    reference: float | None = None
    source: str = ""
    target_return: float | None = None
    reward_scale: float = 1.0


def place() -> Path:
    """Return where the file lies, or would."""
    if told := os.environ.get(VARIABLE):
        return Path(told)
    if own := os.environ.get("LRAM_HOME"):
        return Path(own).expanduser() / FILE
    # The folder where lram keeps its interpreters, too; relative paths are ignored, as XDG has it.
    shared = Path(os.environ.get("XDG_DATA_HOME", ""))
    base = shared if shared.is_absolute() else Path.home() / ".local" / "share"
    return base / "lram-bench" / FILE


def references_of(name: str) -> References:
    """Return what the file says of the task of that name; nothing where there is no file or no such entry.

    Raises:
        SelectionError: The file cannot be read, or an entry is none; one sentence.
    """
    path = place()
    tables = _tables(path)
    entry = tables.get(name, {})
    known = {field.name for field in fields(References)}
    if not isinstance(entry, dict):
        raise SelectionError(f'{path}: {name!r} is no table; write ["{name}"] and its numbers below')
    if unknown := sorted(entry.keys() - known):
        raise SelectionError(
            f"{path}: {name!r} has no field {unknown[0]!r}; there are {', '.join(sorted(known))}"
        )
    for field, value in entry.items():
        if field == "source":
            right = isinstance(value, str) and len(value) <= 500 and value.isprintable()
        else:
            right = type(value) in (int, float) and math.isfinite(value)
        if not right or (field == "reward_scale" and value <= 0):
            wants = {"source": "a line of text", "reward_scale": "a number above 0"}
            raise SelectionError(
                f"{path}: {field} of {name!r} is {value!r:.60}; give {wants.get(field, 'a finite number')}"
            )
    numbers: dict[str, Any] = {
        field: value if field == "source" else float(value) for field, value in entry.items()
    }
    if numbers and not numbers.get("source"):
        numbers["source"] = f"{path.name} of the user"
    return References(**numbers)


def _tables(path: Path) -> dict[str, Any]:
    # Python 3.11 has it. A worker, whose Python may be older, imports this module and reads no file.
    tomllib: Any = import_module("tomllib")
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except FileNotFoundError as error:
        if os.environ.get(VARIABLE):
            raise SelectionError(
                f"{VARIABLE} names {path}, which is not there; correct or unset it"
            ) from error
        return {}
    except OSError as error:
        raise SelectionError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(text) > _LARGEST:
        raise SelectionError(f"{path} is larger than {_LARGEST} bytes, and no file of scores")
    try:
        tables: dict[str, Any] = tomllib.loads(text.decode())
        return tables
    except (ValueError, RecursionError) as error:
        raise SelectionError(f"{path} is no TOML file: {error}") from error
