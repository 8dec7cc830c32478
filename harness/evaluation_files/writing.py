"""Evaluation files, written: read back, one is the same evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lram.agents.training.recipe_text import render_key, render_value
from lram.harness.evaluation_files.content import EvaluationFile


def render_evaluation(asked: EvaluationFile) -> str:
    """Return the evaluation as TOML; of the machine, what is not as usual."""
    plain = evaluation_to_dict(asked)
    tables = [name for name, value in plain.items() if isinstance(value, Mapping)]
    blocks = ["".join(_line(name, value) for name, value in plain.items() if name not in tables)]
    blocks += [
        f"[{name}]\n" + "".join(_line(key, value) for key, value in plain[name].items())
        for name in tables
        if plain[name]
    ]
    return "\n".join(blocks)


def evaluation_to_dict(asked: EvaluationFile) -> dict[str, Any]:
    """Return the evaluation as plain values, as TOML has them; of the machine, what is not as usual."""
    plain = {one.name: _plain(getattr(asked, one.name)) for one in fields(asked) if one.name != "machine"}
    machine = {one.name: _plain(getattr(asked.machine, one.name)) for one in fields(asked.machine)}
    return {**plain, "machine": {name: value for name, value in machine.items() if value not in (None, {})}}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _line(name: str, value: Any) -> str:
    return f"{render_key(name)} = {render_value(value)}\n"
