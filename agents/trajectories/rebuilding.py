"""The index of a store made anew from its parts: each holds all that its line says."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from lram.agents.api import AgentError
from lram.agents.durable import open_regular
from lram.agents.trajectories.card import DamagedCardError, encode_card, new_card, read_card
from lram.agents.trajectories.checked_parts import sha256_of
from lram.agents.trajectories.folder import StoreFolder
from lram.agents.trajectories.hdf5 import DAMAGE, attribute, read_array
from lram.agents.trajectories.index import decode_line, encode_line
from lram.agents.trajectories.layout import (
    CARD_FILE,
    FORMAT,
    INDEX_FILE,
    PARTS_FOLDER,
    PENDING_FILE,
    VERSION,
    PartLine,
    number_of_part,
)
from lram.agents.trajectories.listing import list_parts, read_inside
from lram.agents.trajectories.part import line_of, open_part, read_episode, read_task, words
from lram.agents.trajectories.trajectory import Trajectory, check_trajectory, returns_to_go

COMMAND = "lram data rebuild"
_SHA256 = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_LIKE = 2  # hexadecimal digits of a checksum that damage to the index may have changed


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild has made.

    Attributes:
        parts, episodes, steps: Of the new index.
        by_content: Parts of which the old index had no checksum, so that only their content was checked.
        copies: What other parts hold already, one sentence each; moved to ``set-aside/``.
        damaged: What could not be taken, one sentence each; moved to ``set-aside/``.
        kept: Where the old index, and an old card, lie.
    """

    parts: int = 0
    episodes: int = 0
    steps: int = 0
    by_content: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def rebuild(path: Path) -> Rebuilt:
    """Make the index of the store ``path`` anew from its parts, and its card where that is lost.

    The old index is kept beside the new one. Parts that are damaged or hold what other parts hold are moved
    to ``set-aside/``; nothing is deleted.

    Raises:
        AgentError: There is no store, another process writes to it, or none of its parts can be read.
    """
    if not (path / PARTS_FOLDER).is_dir() and not (path / CARD_FILE).is_file():
        raise AgentError(f"{path} is no trajectory store: it has neither {CARD_FILE} nor {PARTS_FOLDER}/")
    try:
        folder = StoreFolder(path, COMMAND)
        try:
            return _rebuilt(path, folder)
        finally:
            folder.close()
    except OSError as error:
        raise AgentError(
            f"cannot write to {path}: {error.strerror or error}; make room, then '{COMMAND} {path}'"
        ) from error


def _rebuilt(path: Path, folder: StoreFolder) -> Rebuilt:
    result = Rebuilt()
    card_lost = _card_is_lost(path)
    old = read_inside(path, INDEX_FILE) if (path / INDEX_FILE).exists() else b""
    lines, left = _taken(path, _Old(old), result)
    if result.damaged and not lines:
        raise AgentError(f"no part of {path} can be taken: {result.damaged[0]}")
    if old:
        result.kept.append(_copy_beside(folder, old))
    if card_lost:
        if (path / CARD_FILE).exists():
            result.kept.append(folder.set_aside(CARD_FILE))
        said = {"added": datetime.now(UTC).isoformat(timespec="seconds"), "made_by": COMMAND}
        note = {"note": "the card was lost or damaged: what was said of earlier additions is not known"}
        folder.replace(CARD_FILE, encode_card({**new_card(), "additions": [{**said, **note}]}))
    folder.replace(INDEX_FILE, b"".join(encode_line(line) for line in lines))
    for part in left:
        folder.set_aside(part)
    if folder.exists(PENDING_FILE):
        folder.set_aside(PENDING_FILE)
    result.parts = len(lines)
    result.episodes = sum(len(line.lengths) for line in lines)
    result.steps = sum(sum(line.lengths) for line in lines)
    return result


def _card_is_lost(path: Path) -> bool:
    try:
        read_card(path)
    except DamagedCardError:
        return True
    return False


def _copy_beside(folder: StoreFolder, content: bytes) -> str:
    number = 1
    while folder.exists(name := f"{INDEX_FILE}.before-rebuild-{number}"):
        number += 1
    folder.create(name, content)
    return name


class _Old:
    """What the old index, however damaged, says of a part."""

    def __init__(self, content: bytes) -> None:
        self._checksums = {found.decode() for found in _SHA256.findall(content)}
        self._lines: dict[str, PartLine] = {}
        for text in content.split(b"\n"):
            try:
                line, _ = decode_line(text)
            except ValueError:
                continue
            self._lines.setdefault(line.part, line)

    def names(self, part: str) -> bool:
        return part in self._lines

    def knows(self, part: str, sha256: str) -> bool | None:
        """Return whether ``sha256`` is the part's checksum; None where the index does not tell."""
        if sha256 in self._checksums:
            return True
        if any(_differences(sha256, one) <= _LIKE for one in self._checksums):
            return True
        return False if part in self._lines else None


def _differences(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def _taken(path: Path, old: _Old, result: Rebuilt) -> tuple[list[PartLine], list[str]]:
    """Return the lines of the parts that are taken, in the order of their numbers, and the other parts."""
    lines: list[PartLine] = []
    left: list[str] = []
    holders: dict[str, str] = {}
    # Of a part and its copy, the one is taken that the old index names.
    order = sorted(list_parts(path).parts, key=lambda part: (not old.names(part), number_of_part(part), part))
    for part in order:
        try:
            line = _line(path, part)
            known = old.knows(part, line.sha256)
            if known is False:
                raise AgentError(f"{path / part} is damaged: it has another checksum than the old index has")
        except AgentError as error:
            result.damaged.append(str(error))
            left.append(part)
            continue
        names = [*(origin for origin in line.origins if origin), line.sha256]
        there = [name for name in names if name in holders]
        if there:
            result.copies.append(_said_of_copy(path, part, names, holders))
            left.append(part)
            continue
        if known is None:
            result.by_content.append(part)
        holders |= dict.fromkeys(names, part)
        lines.append(line)
    return sorted(lines, key=lambda line: (number_of_part(line.part), line.part)), left


def _said_of_copy(path: Path, part: str, names: Sequence[str], holders: dict[str, str]) -> str:
    other = next(holders[name] for name in names if name in holders)
    new = sum(name not in holders for name in names[:-1])
    more = f", and {new} that no other part has: 'lram data import' of the file takes them" if new else ""
    return f"{path / part} holds episodes that {other} holds{more}"


def _line(path: Path, part: str) -> PartLine:
    """Return the line of a part, after reading all of it; AgentError where it cannot be taken."""
    file = path / part
    open_part(file).close()  # what is none is not read to its end: a file of holes has any length
    try:
        with open_regular(file) as handle:
            size = os.fstat(handle.fileno()).st_size
            sha256 = sha256_of(handle)
    except OSError as error:
        raise AgentError(f"{file} cannot be read ({error.strerror})") from error
    with open_part(file) as opened:
        try:
            group = list(_episodes(opened, file))
        except AgentError:
            raise
        except DAMAGE as error:
            raise AgentError(f"{file} cannot be read ({words(error)})") from error
    return line_of(part, sha256, size, group)


def _episodes(opened: object, file: Path) -> Iterator[Trajectory]:
    task = read_task(opened)
    made = attribute(opened, "format"), attribute(opened, "version")
    if made != (FORMAT, VERSION):
        raise ValueError(f"it is of the format {made[0]} {made[1]}")
    count = int(attribute(opened, "total_episodes", 0))
    if not 0 < count == len(opened):  # type: ignore[arg-type]  # an h5py.File
        raise ValueError(f"it does not hold its {count} episodes alone")
    for number in range(count):
        trajectory = read_episode(opened, number, task)
        where = f"{file}, episode {number}"
        check_trajectory(trajectory, where)
        stored = read_array(opened, f"episode_{number}/infos/returns_to_go")
        if not np.array_equal(stored, returns_to_go(trajectory.signals, trajectory.context_starts)):
            raise ValueError(f"episode {number} has returns-to-go that are not the sums of its signals")
        yield trajectory
