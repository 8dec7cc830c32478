"""What returns of a task stand for that has no references of its own, from a user's file, ``scores.toml``.

It lies where ``LRAM_SCORES`` says, else in ``$LRAM_HOME``, or ``lram-bench`` in the folder for users' data::

    ["gym/Pendulum-v1"]
    random = -1223.0       # mean return of random play: score 0
    random_error = 29.0    # its standard error
    reference = -150.0     # of the reference: score 1
    reference_error = 8.0
    source = "uniform actions, 100 episodes; SAC of ..."
    target_return = -150.0 # what agents that are conditioned on returns are asked for
    reward_scale = 1.0     # rewards are divided by it before a model reads them

Everything is optional. A task is found by its id, one of ``gym`` also by its name alone; ``lram reference``
measures entries. What a task's domain tells of it stands: the file says only what is open. A task without
references has returns only, and reports name and count it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from lram.envs.errors import SelectionError
from lram.envs.task import Task

VARIABLE = "LRAM_SCORES"
FILE = "scores.toml"
LARGEST = 1 << 20
LONGEST_SOURCE = 500
_BARE = "gym"  # names of its tasks are keys as they are, too: files of earlier versions have them so


@dataclass(frozen=True)
class References:
    """What the file says of a task: the fields of :class:`lram.envs.task.Task` that nothing else tells.

    Attributes:
        random, reference: Mean returns that are scores of 0 and 1.
        random_error, reference_error: Their standard errors, where they were measured.
        source: Where they come from.
        target_return: What agents that are conditioned on returns are asked for.
        reward_scale: Rewards are divided by it before a model reads them.
    """

    random: float | None = None
    random_error: float | None = None
    reference: float | None = None
    reference_error: float | None = None
    source: str = ""
    target_return: float | None = None
    reward_scale: float = 1.0


FIELDS = tuple(field.name for field in fields(References))


def place() -> Path:
    """Return where the file lies, or would."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen)
    if own := os.environ.get("LRAM_HOME"):
        return Path(own).expanduser() / FILE
    # The folder where lram keeps its interpreters, too; relative paths are ignored, as XDG has it.
    shared = Path(os.environ.get("XDG_DATA_HOME", ""))
    base = shared if shared.is_absolute() else Path.home() / ".local" / "share"
    return base / "lram-bench" / FILE


def completed(tasks: Iterable[Task]) -> list[Task]:
    """Return ``tasks``, with what the file says where a task's own row leaves it open.

    Raises:
        SelectionError: The file cannot be read, or an entry is none; one sentence.
    """
    path, chosen = place(), list(tasks)
    tables = read_tables(path, needed=bool(os.environ.get(VARIABLE))) if chosen else {}
    return [_completed(task, references_in(tables, task, path)) for task in chosen]


def key_of(tables: dict[str, Any], task: Task, path: Path) -> str | None:
    """Return under which key the file has an entry for ``task``; SelectionError where it has two."""
    keys = [task.id, *([f"{_BARE}:{task.name}", task.name] if task.domain == _BARE else [])]
    found = [key for key in keys if key in tables]
    if len(found) > 1:
        raise SelectionError(
            f"{path} has two entries for {task.id}, {found[0]!r} and {found[1]!r}; remove one"
        )
    return found[0] if found else None


def references_in(tables: dict[str, Any], task: Task, path: Path) -> References:
    """Return what the file in ``path``, read as ``tables``, says of ``task``; nothing without an entry.

    Raises:
        SelectionError: There are two entries, or it is none; one sentence.
    """
    name = key_of(tables, task, path)
    if name is None:
        return References()
    entry = tables[name]
    if not isinstance(entry, dict):
        raise SelectionError(f'{path}: {name!r} is no table; write ["{name}"] and its numbers below')
    if unknown := sorted(entry.keys() - set(FIELDS)):
        raise SelectionError(
            f"{path}: {name!r} has no field {unknown[0]!r}; there are {', '.join(sorted(FIELDS))}"
        )
    for field, value in entry.items():
        if field == "source":
            right = isinstance(value, str) and len(value) <= LONGEST_SOURCE and value.isprintable()
        else:
            right = type(value) in (int, float) and math.isfinite(value)
        if not right or (field == "reward_scale" and value <= 0) or (field.endswith("_error") and value < 0):
            wants = {"source": "a line of text", "reward_scale": "a number above 0"}
            wanted = (
                "a number of 0 or more" if field.endswith("_error") else wants.get(field, "a finite number")
            )
            raise SelectionError(f"{path}: {field} of {name!r} is {value!r:.60}; give {wanted}")
    numbers: dict[str, Any] = {
        field: value if field == "source" else float(value) for field, value in entry.items()
    }
    if numbers and not numbers.get("source"):
        numbers["source"] = f"{path.name} of the user"
    return References(**numbers)


def _completed(task: Task, known: References) -> Task:
    open_to = {
        "target_return": known.target_return if task.target_return is None else None,
        "reward_scale": known.reward_scale
        if task.reward_scale == 1.0 and known.reward_scale != 1.0
        else None,
        "score_random": known.random if task.score_random is None else None,
        "score_reference": known.reference if task.score_reference is None else None,
    }
    additions: dict[str, Any] = {name: value for name, value in open_to.items() if value is not None}
    if not additions:
        return task
    before = dict(task.sources)
    what = "score" if "score" not in before else "scores.toml"
    return replace(task, **additions, sources=(*task.sources, (what, known.source)))


def read_tables(path: Path, *, needed: bool = False) -> dict[str, Any]:
    """Return the file's tables; none where there is no file, unless it is ``needed``.

    Raises:
        SelectionError: It cannot be read, or is no TOML; one sentence.
    """
    text = read_text(path, needed=needed)
    # Python 3.11 has it. A worker, whose Python may be older, imports this module and reads no file.
    tomllib: Any = import_module("tomllib")
    try:
        tables: dict[str, Any] = tomllib.loads(text.decode())
        return tables
    except (ValueError, RecursionError) as error:
        raise SelectionError(f"{path} is no TOML file: {error}; correct that place") from error


def read_text(path: Path, *, needed: bool = False) -> bytes:
    """Return the file's content, empty where there is none and it is not ``needed``; SelectionError."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        if needed:
            raise SelectionError(
                f"{VARIABLE} names {path}, which is not there; correct or unset it, or let 'lram reference' "
                "make it"
            ) from error
        return b""
    except OSError as error:
        raise SelectionError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(text) > LARGEST:
        raise SelectionError(f"{path} is larger than {LARGEST} bytes, and no file of scores")
    return text
