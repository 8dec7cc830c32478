"""What lies in a data set's folder and is not read: named and counted, so that nothing is left out unseen.

Readers take files by their endings and go into folders, not into links to folders. Whatever else is there may
be what the user wanted, under a name that nobody looks at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lram.agents.shown import few
from lram.envs.text import printable

READ = {
    "lram": (".hdf5", ".npz", ".pkl", ".pickle"),
    "composuite": (".hdf5", ".h5"),
    "robomimic": (".hdf5", ".h5"),
    "minari": (".hdf5", ".h5"),
    "rlds": (),
    "lerobot": (".parquet", ".mp4"),
}
"""Endings of the files that hold episodes, by layout; what is wrong with one of them, its reader says."""

BESIDE = frozenset(
    {
        "episode_lengths.json",
        "episode_returns.json",
        "episode_trjids.json",
        "stats.json",
        "info.json",
        "lram.json",
        "metadata.json",
        "namespace_metadata.json",
        "card.json",
        "index.jsonl",
        "pending.json",
        "lock",
        "features.json",
        "dataset_info.json",
    }
)
"""Files that go with episodes, and hold none."""

LINKED = "links to folders, which are not followed"
HIDDEN = "hidden files and folders"
UNLISTED = "folders that cannot be listed"
OTHER = "files with other endings"
_SHARD = re.compile(r".+\.tfrecord-[0-9]{5,}-of-[0-9]{5,}")
"""A file of an RLDS data set."""
_VOCABULARY = re.compile(r".+\.labels\.txt")
"""Names of the classes of a label, beside them."""
_NAMED = 3


@dataclass(frozen=True, slots=True)
class LeftOutFiles:
    """What a reader does not look at, of one kind.

    Attributes:
        why: What they are.
        names: Paths within the source, sorted.
    """

    why: str
    names: tuple[str, ...]

    def describe(self) -> str:
        """Return it in words, with the first names."""
        shown = few((printable(name, 100) for name in self.names), _NAMED)
        return f"{len(self.names)} {self.why} ({shown})"


def skipped(source: Path, layout: str, *, store: bool = False) -> list[LeftOutFiles]:
    """Return what in the folder ``source`` is not read in a layout; nothing for a file.

    Args:
        source: A file or folder.
        layout: One of the readers' formats.
        store: It is one of our own stores, whose index names its parts: only what is there besides counts.
    """
    if not source.is_dir() or store:
        return []
    found: dict[str, list[str]] = {}
    for why, path in _looked_at(source, READ[layout], (_SHARD, _VOCABULARY) if layout == "rlds" else ()):
        found.setdefault(why, []).append(path.relative_to(source).as_posix() or ".")
    order = (UNLISTED, LINKED, HIDDEN, OTHER)
    return [LeftOutFiles(why, tuple(sorted(found[why]))) for why in order if why in found]


def _looked_at(
    source: Path, endings: tuple[str, ...], patterns: tuple[re.Pattern[str], ...]
) -> Iterator[tuple[str, Path]]:
    unlisted: list[OSError] = []
    for place, folders, files in os.walk(source, onerror=unlisted.append):
        here = Path(place)
        for name in list(folders):
            if name.startswith("."):
                yield HIDDEN, here / name
                folders.remove(name)
            elif (here / name).is_symlink():
                yield LINKED, here / name
        for name in files:
            file = here / name
            if name.startswith("."):
                yield HIDDEN, file
            elif not (
                name.endswith(endings) or name in BESIDE or any(one.fullmatch(name) for one in patterns)
            ):
                yield OTHER, file
    for error in unlisted:
        yield UNLISTED, Path(error.filename)
