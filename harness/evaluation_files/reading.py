"""Evaluation files, read: which argument is one, what it says, and where its folders are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lram.agents.adapters import with_absolute_file
from lram.agents.factory import names_agent
from lram.agents.own_code import named_module
from lram.agents.spec import parse_agent
from lram.harness.domain_files import with_absolute_files
from lram.harness.errors import LramError
from lram.harness.evaluation_files.content import EvaluationFile
from lram.harness.interpreters.choosing import MAIN
from lram.harness.plan import split_label
from lram.harness.strict_toml import converted, read_toml

ENDING = ".toml"


def evaluation_file(agents: Sequence[str]) -> Path | None:
    """Return the evaluation file that the agents of a command line are; None where they are agents.

    A checkpoint's folder, or an agent, may have a name that ends in ``.toml``: only a regular file is one.

    Raises:
        LramError: A file stands beside agents or another file, or is not there.
    """
    files = [text for text in agents if text.endswith(ENDING) and _is_file(text)]
    if not files:
        _refuse_absent(agents)
        return None
    if len(agents) > 1:
        raise LramError(
            f"{files[0]} is an evaluation file, which names its agents itself; give it alone, or write "
            f"the other agents ({', '.join(text for text in agents if text != files[0]) or files[0]}) into it"
        )
    return Path(files[0])


def read_evaluation(file: Path) -> EvaluationFile:
    """Read an evaluation file; paths in it are relative to its folder, and absolute in what is returned.

    Raises:
        LramError: One sentence that says what is wrong, and where.
    """
    # As the command line gave it: the folder that a link lies in, not that of what it leads to.
    folder = file.absolute().parent
    return located(converted(read_toml(file, "an evaluation"), EvaluationFile, str(file)), folder)


def located(asked: EvaluationFile, folder: Path) -> EvaluationFile:
    """Return ``asked`` with its paths, which are relative to ``folder``, made absolute."""
    agents = asked.agents
    python = {domain: _python(text, folder) for domain, text in asked.machine.python.items()}
    return replace(
        asked,
        tasks=with_absolute_files(asked.tasks, folder),
        exclude=with_absolute_files(asked.exclude, folder),
        agents={label: _spec(spec, folder) for label, spec in agents.items()}
        if isinstance(agents, Mapping)
        else tuple(_agent(text, folder) for text in agents),
        machine=replace(asked.machine, python=python),
    )


def _agent(text: str, folder: Path) -> str:
    label, spec = "", text
    if not _is_there(text, folder):  # a folder there may have a = in its name
        label, spec = split_label(text)
    place = _spec(spec, folder)
    return text if place == spec else f"{label}={place}" if label else place


def _spec(spec: str, folder: Path) -> str:
    """Return what builds an agent, a folder or file (also with context or noise) as its absolute path."""
    if names_agent(spec) or named_module(spec):
        return with_absolute_file(spec, str(folder.absolute()))
    path = Path(spec).expanduser() if spec.startswith("~/") else Path(spec)
    there = _is_there(str(path), folder)
    # What is not there stays a path of this file; one of the working directory must not replace it.
    if there or os.sep in spec or _is_folder(Path(spec)):
        return str((folder / path).resolve())
    return spec


def _is_there(spec: str, folder: Path) -> bool:
    """Return whether ``spec``, perhaps without context or noise, is a folder in ``folder``."""
    return any(_is_folder(folder / head) for head in parse_agent(spec).heads if head)


def _python(text: str, folder: Path) -> str:
    path = Path(text).expanduser()
    if text == MAIN or not (os.sep in text or _is_folder(folder / path)):
        return text  # a command, which is looked for as a shell does
    return str(folder / path)


def _refuse_absent(agents: Sequence[str]) -> None:
    if len(agents) == 1 and agents[0].endswith(ENDING) and not names_agent(agents[0]):
        label, spec = split_label(agents[0])
        if not label and not Path(spec).exists() and not named_module(spec):
            raise LramError(
                f"there is no evaluation file {spec}, and no agent of that name; give a file, a checkpoint's "
                "folder or an agent ('lram agents' lists them)"
            )


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
