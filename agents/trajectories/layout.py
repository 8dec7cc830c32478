"""What lies in the folder of a trajectory store, apart from the parts themselves.

::

    STORE/
        card.json       what the store is: format, version, and who added what with which versions
        index.jsonl     append-only; one line a committed part, with the facts of its episodes
        parts/<domain>/<task>/part-00000.hdf5
        lock            held while a process writes

The index is the store: a part that it does not name does not exist, and it names a part only after that
is on disk. It is read whole when a store is opened, so that choosing among millions of decisions touches
no HDF5 file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from lram.agents.api import AgentError, TaskSpec

FORMAT = "lram-trajectories"
VERSION = 1
CARD_FILE = "card.json"
INDEX_FILE = "index.jsonl"
PARTS_FOLDER = "parts"
PART_NAME = re.compile(r"part-(\d+)\.hdf5")


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
        origins: Where each comes from; empty where nothing is told.
        contexts: Where contexts start, for the episodes that have more than one.
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


def is_store(path: str | Path) -> bool:
    """Return whether ``path`` is a folder with a store's card."""
    return (Path(path) / CARD_FILE).is_file()


def read_card(path: Path) -> dict[str, Any]:
    """Return the card of the store in ``path``; AgentError where there is none that can be read."""
    file = path / CARD_FILE
    if not file.is_file():
        raise AgentError(
            f"{path} is not a trajectory store: it has no {CARD_FILE}; 'lram collect' makes stores"
        )
    try:
        card = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AgentError(f"{file} cannot be read: {error}; put the file back from a copy") from error
    if card.get("format") != FORMAT:
        raise AgentError(f"{file} is no card of a trajectory store; 'lram collect' makes stores")
    if card.get("version") != VERSION:
        raise AgentError(
            f"{path} is a trajectory store of version {card.get('version')}, and this lram-bench reads "
            f"version {VERSION}; use the lram-bench that made it"
        )
    return card


def read_index(path: Path) -> tuple[list[PartLine], int]:
    """Return the committed parts of the store in ``path``, and how many bytes of the index they take.

    A last line without its end, the mark of a process killed while writing, does not count.
    """
    file = path / INDEX_FILE
    try:
        content = file.read_bytes()
    except OSError as error:
        raise AgentError(
            f"{file} cannot be read: {error.strerror}; put the file back from a copy of the store"
        ) from error
    whole = content.rfind(b"\n") + 1
    decoder = msgspec.json.Decoder(PartLine)
    lines = []
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        try:
            part = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise AgentError(
                f"{file}, line {number} is damaged ({error}); put the file back from a copy of the store"
            ) from error
        columns = (
            part.lengths,
            part.returns,
            part.signal_returns,
            part.success_any,
            part.success_last,
            part.terminated,
            part.truncated,
            part.seeds,
            part.policies,
            part.origins,
        )
        if len({len(column) for column in columns}) > 1:
            raise AgentError(f"{file}, line {number} is damaged (its columns differ in length); restore it")
        lines.append(part)
    return lines, whole


def part_path(task: TaskSpec, number: int) -> str:
    """Return where part ``number``, of ``task``, lies in its store."""
    folders = [re.sub(r"[^\w.@-]|^\.+", "_", name) for name in (task.domain, task.id.partition("/")[2])]
    return "/".join([PARTS_FOLDER, *folders, f"part-{number:05d}.hdf5"])
