"""Run an item of the paper: write what its commands read, then give them one after the other.

::

    FOLDER/
        paper.json     the item, its scale, its commands and how many of them have ended
        study.toml     the study, for items that are one; recipe.toml likewise
        study/ ...     what the commands make: ordinary folders of their kinds
        report/        the report

The commands are those of the command line, so any of them can be given by hand, too. An item that was
interrupted is continued by the same command: steps that have ended are not repeated, and the one that was
interrupted is continued as its command is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from lram.agents.durable import write_durably
from lram.agents.places import placed
from lram.harness.errors import LramError
from lram.harness.paper.planning import PaperChoices, PaperPlan
from lram.harness.storage.json_files import read_json, write_json
from lram.harness.words import command

MARKER = "paper.json"
SCHEMA = 1

Call = Callable[[Sequence[str]], int]
"""Gives one command of the command line, its words without ``lram``; returns its exit code."""

_BEGUN = {
    "latency": ("latency.json", ("latency", "--resume")),
    "extrapolate": ("extrapolation.json", ("extrapolate", "--resume")),
    "train": ("recipe.toml", ("train", "--resume")),
    "eval": ("run.json", ("resume",)),
}
"""By command: the file that its folder has once it was begun, and what continues it. Commands that are not
named are continued by being given again."""


@dataclass(frozen=True, slots=True)
class PaperRecord:
    """``paper.json``.

    Attributes:
        item, scale: What is run.
        version: Of lram-bench, when it was begun.
        steps: The commands, for people.
        ended: So many of them have ended.
    """

    schema: int
    item: str
    scale: str
    version: str
    steps: tuple[str, ...]
    ended: int = 0


def run_item(
    plan: PaperPlan, folder: Path, choices: PaperChoices, call: Call, say: Callable[[str], None]
) -> int:
    """Give the commands of ``plan`` that have not ended yet; return 0, or the code of the one that failed.

    Raises:
        LramError: The folder is another item's, or was begun with other choices.
    """
    path = placed(folder)
    record = _opened(plan, path, choices)
    for name, text in plan.files.items():
        write_durably(path / name, text.encode())
    for number, step in enumerate(plan.steps):
        if number < record.ended:
            continue
        words = _words(step)
        say(f"{number + 1}/{len(plan.steps)}  {command(*words)}")
        code = call(words)
        if code:
            return code
        record = replace(record, ended=number + 1)
        write_json(path / MARKER, record)
    return 0


def _opened(plan: PaperPlan, path: Path, choices: PaperChoices) -> PaperRecord:
    asked = PaperRecord(
        SCHEMA,
        plan.item.key,
        choices.scale,
        version("lram-bench"),
        tuple(command(*step) for step in plan.steps),
    )
    file = path / MARKER
    if not os.path.lexists(file):
        if path.is_dir() and any(path.iterdir()):
            raise LramError(f"{path} has other files and no {MARKER}; name a new folder with -o")
        path.mkdir(parents=True, exist_ok=True)
        write_json(file, asked)
        return asked
    record = read_json(file, PaperRecord)
    if record.schema != SCHEMA:
        raise LramError(
            f"{file} is of layout {record.schema}, this version reads {SCHEMA}; use the other one"
        )
    if (record.item, record.scale) != (asked.item, asked.scale):
        raise LramError(
            f"{path} has {record.item} at --scale {record.scale}, not {asked.item} at --scale {asked.scale}; "
            "name another folder with -o"
        )
    if _decisive(record.steps) != _decisive(asked.steps):
        raise LramError(
            f"{path} was begun with other commands ({'; '.join(record.steps)}); give the options that it was "
            "begun with, or name another folder with -o"
        )
    return record


def _decisive(steps: Sequence[str]) -> list[str]:
    """Return the commands without what follows ``ablate``'s folder: how many jobs, where, and what is reused
    may change.
    """
    return [re.split(" --(?:jobs|backend|reuse) ", step)[0] for step in steps]


def _words(step: Sequence[str]) -> list[str]:
    """Return a command's words, its patterns of folders filled in; of one that was begun, what continues it.

    Raises:
        LramError: A pattern fits no folder.
    """
    words: list[str] = []
    for word in step:
        wild = "*" in word and os.sep in word
        found = sorted(str(one) for one in Path(os.sep).glob(word.lstrip(os.sep))) if wild else []
        if wild and not found:
            raise LramError(f"there is nothing at {word}, which 'lram {step[0]}' was to read")
        words += found if wild else [word]
    begun = _BEGUN.get(step[0])
    if begun is not None and "-o" in step:
        folder = step[step.index("-o") + 1]
        if os.path.lexists(Path(folder) / begun[0]):
            return [*begun[1], folder]
    return words
