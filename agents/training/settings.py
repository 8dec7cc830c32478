"""``--set section.field=value``: one field of a recipe, as people type it.

A value is what TOML has it. What TOML refuses is read as it is meant: quotes around words, brackets around
a list (``data.tasks=a,b``) and quotes within brackets (``[mlstm,slstm]``) may be left out, ``True`` and
``False`` are TOML's ``true`` and ``false``, and ``None`` is what a recipe calls ``"none"``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from lram.agents.api import AgentError
from lram.agents.shown import shown
from lram.agents.training.layers import before, with_present_name
from lram.agents.training.recipe import is_list, is_text

_WORDS: Mapping[str, Any] = {"True": True, "False": False, "None": "none", "null": "none"}
_PAIRS = {"[": "]", "{": "}"}


def apply_setting(plain: dict[str, Any], setting: str) -> None:
    """Put one ``section.field=value`` into the nested dictionaries of a recipe.

    Raises:
        AgentError: It has no field or no ``=``, a bracket is not closed, or its section is no table.
    """
    path, text = _split(setting)
    value = parse_value(".".join(path), text)
    for depth, part in enumerate(path[:-1]):
        plain = plain.setdefault(part, {})
        if not isinstance(plain, dict):
            raise AgentError(
                f"--set {shown(setting)}: {shown('.'.join(path[: depth + 1]))} has no fields; set it as a "
                "whole"
            )
    plain[path[-1]] = value


def apply_settings(plain: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return a recipe's plain values with ``section.field=value`` settings over them.

    A preset's name means what it means today. A backbone takes the place of another one, and of a preset
    (:func:`lram.agents.training.layers.before`).

    Raises:
        AgentError: As of :func:`apply_setting`.
    """
    named: dict[str, Any] = {}
    for setting in settings:
        apply_setting(named, setting)
    # A name of an earlier version that these values have from a file is not a setting's.
    changed = deepcopy(before(plain, named))
    for setting in settings:
        apply_setting(changed, setting)
    model = named.get("model")
    return with_present_name(changed) if isinstance(model, Mapping) and "preset" in model else changed


def setting_names(settings: Sequence[str]) -> set[str]:
    """Return the dotted names of the fields that settings set."""
    return {".".join(_split(setting)[0]) for setting in settings}


def parse_value(name: str, text: str) -> Any:
    """Return the value of ``text`` for the field of dotted ``name``; AgentError for an open bracket."""
    words = is_text(name)
    if not is_list(name):
        found = _parse(text, words) if not words or text[:1] in ("'", '"') else text
        return found if isinstance(found, str) or not words else text
    if name == "data.stores" and Path(text).exists():  # a folder may have a comma in its name
        return [text]
    value = _parse(text, words)
    if isinstance(value, list):
        return value
    return [_parse(part, words) for part in _parts(text)] if "," in text else [value]


def _split(setting: str) -> tuple[tuple[str, ...], str]:
    name, equals, text = setting.partition("=")
    path = tuple(part.strip() for part in name.strip().split("."))
    if not equals or not all(path):
        raise AgentError(
            f"--set takes section.field=value, not {shown(setting)!r}; for instance optimizer.updates=500"
        )
    return path, text.strip()


def _parse(text: str, words: bool) -> Any:
    """Return the value of ``text``; with ``words``, what is neither quoted nor in brackets is a word."""
    opened = text[:1]
    if opened in _PAIRS and text.count(opened) > text.count(_PAIRS[opened]):
        raise AgentError(
            f"--set: the {opened} of {shown(text)} is not closed; close it, and put the setting in quotes "
            "where the shell would split it"
        )
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        found = {}
    if len(found) == 1 and (isinstance(found["value"], str | list | dict) or not words):
        return found["value"]
    if opened == "[" and text.endswith("]"):
        return [_parse(part, words) for part in _parts(text[1:-1])]
    if opened == "{" and text.endswith("}"):
        entries = [part.partition("=") for part in _parts(text[1:-1])]
        if all(equals for _, equals, _ in entries):
            return {name.strip().strip("\"'"): _parse(value.strip(), words) for name, _, value in entries}
    return text if words else _WORDS.get(text, text)


def _parts(text: str) -> list[str]:
    """Return what stands between the commas of ``text`` that are outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        if letter == "," and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]
