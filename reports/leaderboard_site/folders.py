"""The folders of a leaderboard: publications, whose every file is compared, and plain runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lram.harness.errors import LramError
from lram.harness.storage.run_folder import PLAN_FILE, Run
from lram.reports.publishing import read_publication
from lram.reports.publishing.manifest import MANIFEST


@dataclass(frozen=True, slots=True)
class BoardFolder:
    """One folder that entries come from.

    Attributes:
        name: By which readers know it; no two have the same.
        runs: The runs in it.
        published: Whether it is a publication, and not a plain run.
    """

    name: str
    runs: tuple[Run, ...]
    published: bool


def read_folders(paths: Sequence[str | Path]) -> list[BoardFolder]:
    """Return the folders, each once, in the order in which they are named.

    Raises:
        LramError: None is named; or one is neither a publication nor a run, is damaged or was changed.
    """
    found: dict[Path, BoardFolder] = {}
    for path in map(Path, paths):
        here = path.resolve()
        if here in found:
            continue
        name = unused(here.name or "folder", (folder.name for folder in found.values()))
        if (path / MANIFEST).is_file():
            found[here] = BoardFolder(name, read_publication(path).runs, True)
        elif (path / PLAN_FILE).is_file():
            found[here] = BoardFolder(name, (Run(path),), False)
        else:
            raise LramError(
                f"{path} is no publication and no run: it has neither {MANIFEST} nor {PLAN_FILE}; give "
                "folders of 'lram publish' or of 'lram eval'"
            )
    if not found:
        raise LramError("there is no folder for the leaderboard; name at least one publication or run")
    return list(found.values())


def unused(name: str, used: Iterable[str]) -> str:
    """Return ``name``, with a number where one of ``used`` is the same but for upper and lower case."""
    taken = {one.casefold() for one in used}
    number, wanted = 1, name
    while wanted.casefold() in taken:
        number += 1
        wanted = f"{name}-{number}"
    return wanted
