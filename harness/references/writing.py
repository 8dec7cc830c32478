"""Entries of the user's file of scores, written without touching anything else in it.

The file may hold comments and numbers from elsewhere, so it is edited as text: an entry is replaced line by
line, a new one goes to the end. What comes out is read and compared before it replaces the file.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lram.agents.durable import Lock, write_durably
from lram.envs.score_file import FIELDS, References, key_of, read_tables, read_text
from lram.envs.task import Task
from lram.harness.errors import LramError, as_lram_error

_HEADER = """\
# References of scores, of tasks that have none of their own: docs/how-to/gymnasium.md.
"""
_UNWRITTEN = "{} cannot be written: {}; make room there, or name another file by the variable LRAM_SCORES"
_MEASURED = ("random", "reference")


@as_lram_error()
def check_vacant(path: Path, tasks: list[Task], *, overwrite: bool) -> None:
    """Raise LramError where the file has measured or written references of one of ``tasks`` already."""
    tables = read_tables(path)
    for task in tasks:
        key = key_of(tables, task, path)
        entry = tables.get(key, {}) if key is not None else {}
        if (
            not overwrite
            and isinstance(entry, dict)
            and (there := [one for one in _MEASURED if one in entry])
        ):
            raise LramError(
                f"{path} has {' and '.join(there)} of {task.id} already; leave the task out, or "
                "add --overwrite"
            )


def begin(path: Path) -> None:
    """Make the file where there is none, so that nothing is played for a place that cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_durably(path.resolve(), _HEADER.encode())
    except OSError as error:
        raise LramError(_UNWRITTEN.format(path, error.strerror or error)) from error


@as_lram_error()
def write_entries(path: Path, entries: Mapping[Task, References], *, overwrite: bool) -> None:
    """Put entries into the file, made where there is none; whole or not at all.

    Raises:
        LramError: It has references of one of the tasks already and ``overwrite`` is not set, it is no file
            of scores, is written in a way that this cannot edit, or cannot be written; one sentence.
    """
    path = path.resolve()  # a link stays one
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with Lock(path.with_name(f".{path.name}.lock"), wait=True):
            check_vacant(path, list(entries), overwrite=overwrite)
            before = read_text(path).decode() or _HEADER
            after = before
            for task, entry in entries.items():
                after = _with_entry(path, after, task, entry)
            _check(path, before, after, entries)
            write_durably(path, after.encode())
    except OSError as error:
        raise LramError(_UNWRITTEN.format(path, error.strerror or error)) from error


def _with_entry(path: Path, text: str, task: Task, entry: References) -> str:
    lines = text.splitlines(keepends=True)
    key = key_of(tomllib.loads(text), task, path)
    fields = _fields(entry)
    if key is None:
        gap = "" if not lines or not lines[-1].strip() else "\n"
        ending = "" if not lines or lines[-1].endswith("\n") else "\n"
        return f"{text}{ending}{gap}[{_quoted(task.id)}]\n{fields}"
    start = next((number for number, line in enumerate(lines) if _header(line) == key), None)
    if start is None:
        raise LramError(
            f'{path} has an entry for {task.id} that does not begin with a line ["{key}"]; write it so, or '
            "remove it"
        )
    end = next((n for n in range(start + 1, len(lines)) if lines[n].lstrip().startswith("[")), len(lines))
    kept = [line for line in lines[start + 1 : end] if _field(line) not in FIELDS]
    head = lines[start] if lines[start].endswith("\n") else lines[start] + "\n"
    return "".join([*lines[:start], head, fields, *kept, *lines[end:]])


def _fields(entry: References) -> str:
    """Return an entry's lines, without what it leaves open."""
    filled = {name: value for name, value in asdict(entry).items() if value not in (None, "")}
    return "".join(
        f"{name} = {_quoted(value) if isinstance(value, str) else repr(value)}\n"
        for name, value in filled.items()
    )


def _quoted(text: str) -> str:
    """Return a text as TOML's basic string, whose escapes are JSON's."""
    return json.dumps(text, ensure_ascii=False)


def _header(line: str) -> str | None:
    """Return the key of a table's first line; None for any other line."""
    if not line.lstrip().startswith("["):
        return None
    try:
        keys = list(tomllib.loads(line))
    except tomllib.TOMLDecodeError:
        return None
    return keys[0] if len(keys) == 1 else None


def _field(line: str) -> str:
    """Return the field that a line sets; empty for comments and empty lines."""
    name = line.partition("=")[0].strip()
    return name.strip("\"'") if "=" in line and not name.startswith("#") else ""


def _check(path: Path, before: str, after: str, entries: Mapping[Task, References]) -> None:
    """Raise LramError where editing changed anything else, which odd but right TOML could make it do."""
    old, new = tomllib.loads(before), _parsed(after)
    keys = {key_of(new, task, path): entry for task, entry in entries.items()}
    others = {key: value for key, value in old.items() if key not in keys}
    right = all(new.get(key) == _table(entry) for key, entry in keys.items() if key is not None)
    if not right or None in keys or {key: new[key] for key in new if key not in keys} != others:
        raise LramError(
            f'{path} is written in a way that cannot be edited safely; write its entries as ["TASK"] with a '
            "line for each field, or name another file with LRAM_SCORES"
        )


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


def _table(entry: References) -> dict[str, Any]:
    return {name: value for name, value in asdict(entry).items() if value not in (None, "")}
