"""A task in words, for policies that read a text."""

from __future__ import annotations

from lram.agents.api import TaskSpec


def prompt_of(task: TaskSpec, given: str = "") -> str:
    """Return ``given``, or the task's name with spaces where there is none."""
    return given or task.id.partition("/")[2].replace("-", " ").replace("_", " ")
