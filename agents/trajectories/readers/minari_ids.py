"""Minari data sets by their ids, such as ``D4RL/door/human-v2``, from the folder where Minari keeps them.

Minari keeps data sets in ``$MINARI_DATASETS_PATH``, else in ``~/.minari/datasets``. Nothing is downloaded.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lram.agents.api import AgentError
from lram.agents.calls import is_literal
from lram.agents.shown import shown
from lram.agents.trajectories.readers.facts import VIEW_ONLY, unusual_wrappers
from lram.agents.trajectories.readers.source import json_of

SCHEME = "minari:"
VARIABLE = "MINARI_DATASETS_PATH"
METADATA = Path("data") / "metadata.json"

_ID = re.compile(r"(?:[-\w]+/)*[-\w]+", re.ASCII)
_ENVIRONMENT = re.compile(r"(?:[\w.-]+/)?[\w.-]+", re.ASCII)
_OPTION = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_WORD = re.compile(r"[\w.-]+", re.ASCII)
_LONGEST_NAME = 200
_DEEPEST = 6


def datasets_folder() -> Path:
    """Return where Minari keeps data sets."""
    variable = os.environ.get(VARIABLE)
    return Path(variable) if variable else Path.home() / ".minari" / "datasets"


def dataset_folder(name: str) -> Path:
    """Return the folder of the data set with the id ``name``.

    Raises:
        AgentError: It is not on this machine, or in a format that is not read; one sentence.
    """
    root = datasets_folder()
    folder = root / name
    if not _ID.fullmatch(name):
        raise AgentError(
            f"minari:{shown(name, 100)} is no id of a Minari data set; write one such as "
            "minari:D4RL/door/human-v2"
        )
    if not (folder / METADATA).is_file():
        close = difflib.get_close_matches(name, list(_ids(root, root, 0)), n=3, cutoff=0.6)
        near = f" (did you mean {' or '.join(f'minari:{one}' for one in close)}?)" if close else ""
        raise AgentError(
            f"there is no Minari data set {name} in {root}{near}; nothing is downloaded here, so fetch it "
            f"with Minari: minari download {name}"
        )
    metadata = json_of(folder / METADATA)
    kind = metadata.get("data_format", "hdf5") if isinstance(metadata, dict) else "hdf5"
    if kind != "hdf5":
        raise AgentError(
            f"{folder} has its episodes in Minari's format {shown(str(kind), 40)}, and hdf5 is read; create "
            "the data set again with data_format='hdf5'"
        )
    return folder


def _ids(root: Path, folder: Path, depth: int) -> Iterator[str]:
    """Yield the ids of what is there."""
    if (folder / METADATA).is_file():
        yield folder.relative_to(root).as_posix()
    elif depth < _DEEPEST and folder.is_dir():
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and _ID.fullmatch(inner.name):
                yield from _ids(root, inner, depth + 1)


def environment_id(metadata: Mapping[str, Any]) -> str:
    """Return the id that the task of a data set's environment has here; empty where it has none.

    Such a task is ``gym/ID?OPTION=VALUE``: what ``gymnasium.make`` is given. The limit of time is no part of
    it, and neither is how the environment is shown to people. One that other wrappers change is no such task.
    Metadata may be a stranger's: ids that name a module, which would be imported, and options that are more
    than numbers and words, such as files, make no such task either.

    Args:
        metadata: The metadata, JSON texts in it decoded.
    """
    spec = metadata.get("env_spec")
    if not isinstance(spec, dict) or unusual_wrappers(spec):
        return ""
    name, options = spec.get("id"), spec.get("kwargs") or {}
    if not isinstance(name, str) or not _ENVIRONMENT.fullmatch(name) or not isinstance(options, dict):
        return ""
    given = {key: value for key, value in options.items() if key not in VIEW_ONLY}
    if not all(_OPTION.fullmatch(key) and _plain(value) for key, value in given.items()):
        return ""
    pairs = [f"{key}={value if _is_word(value) else quote(repr(value))}" for key, value in given.items()]
    found = f"gym/{name}" + (f"?{'&'.join(pairs)}" if pairs else "")
    return found if len(found) <= _LONGEST_NAME else ""


def _plain(value: object) -> bool:
    text = isinstance(value, str) and _WORD.fullmatch(value) is not None
    return text or value is None or isinstance(value, bool | int | float)


def _is_word(value: object) -> bool:
    """Return whether a text means itself in a task's name; ``"3"`` would mean the number."""
    return isinstance(value, str) and not is_literal(value)
