"""What lies in the folder of a trajectory store, apart from the parts themselves.

::

    STORE/
        card.json       what the store is: format, version, and who added what with which versions
        index.jsonl     append-only; one line a committed part, with the facts of its episodes
        parts/<domain>/<task>/part-00000.hdf5
        pending.json    only during a commit: which parts it writes, and how long the index was before it
        lock            held while a process writes
        set-aside/      what an interrupted commit left, and what a rebuild did not take; never read

The index names a part only after that is on disk. It is read whole when a store is opened, so that choosing
among millions of decisions touches no HDF5 file. A part that neither the index nor ``pending.json`` names
means that the index lost a line: nothing is read or written then until ``lram data rebuild`` has made the
index anew. Nothing in a store is a link: what a link leads to is not the store's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from lram.agents.api import TaskSpec
from lram.agents.shown import command

FORMAT = "lram-trajectories"
VERSION = 1
CARD_FILE = "card.json"
INDEX_FILE = "index.jsonl"
PARTS_FOLDER = "parts"
PENDING_FILE = "pending.json"
LOCK_FILE = "lock"
ASIDE_FOLDER = "set-aside"
PART_PATH = re.compile(r"parts/(?!\.)[\w.@-]+/(?!\.)[\w.@-]+/part-([0-9]{5,9})\.hdf5")
"""What a part is called in its store; the number counts the parts of all tasks."""


@dataclass(frozen=True, slots=True)
class PartLine:
    """One committed part: a line of the index. Item i of each list is about the part's episode i.

    Attributes:
        part: Its path in the store.
        sha256, bytes: Of its file.
        task: What all of its episodes play.
        protocol: Under what; empty where unknown.
        lengths: Decisions.
        returns, signal_returns: Sums of rewards and of signals.
        success_any, success_last: Solved at any step, and at the last; None without such a notion.
        terminated, truncated: How the episodes ended.
        seeds: Of the simulators, None where unknown.
        policies: Who acted.
        origins: Where each comes from; empty where that is not recorded.
        contexts: Where contexts start, for the episodes that have more than one.
        digests: Of the trajectories (:mod:`lram.agents.trajectories.digests`); empty in lines of earlier
            versions.
    """

    part: str
    sha256: str
    bytes: int
    task: TaskSpec
    protocol: str
    lengths: list[int]
    returns: list[float]
    signal_returns: list[float]
    success_any: list[bool | None]
    success_last: list[bool | None]
    terminated: list[bool]
    truncated: list[bool]
    seeds: list[int | None]
    policies: list[str]
    origins: list[str]
    contexts: dict[int, tuple[int, ...]] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)


def is_store(path: str | Path) -> bool:
    """Return whether ``path`` is a folder with a store's card."""
    return (Path(path) / CARD_FILE).is_file()


def part_path(task: TaskSpec, number: int) -> str:
    """Return where part ``number``, of ``task``, lies in its store."""
    names = (task.domain, task.id.partition("/")[2])
    folders = [re.sub(r"[^\w.@-]|^\.+", "_", name) or "_" for name in names]
    return "/".join([PARTS_FOLDER, *folders, f"part-{number:05d}.hdf5"])


def number_of_part(part: str) -> int:
    """Return the number in the path of a part; -1 where it is none."""
    matched = PART_PATH.fullmatch(part)
    return int(matched[1]) if matched else -1


def rebuild_advice(path: Path) -> str:
    """Return the end of a sentence about a damaged index: what to do."""
    return f"put it back from a copy, or make it anew from the parts: {command('data', 'rebuild', path)}"
