"""Whether a store is what it was when it was written: every checksum, every trajectory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lram.agents.api import AgentError
from lram.agents.trajectories.card import read_card, read_signed_card
from lram.agents.trajectories.checked_parts import fault_of_part
from lram.agents.trajectories.digests import repeats, repeats_words, trajectory_digest
from lram.agents.trajectories.hdf5 import DAMAGE, printable, read_array
from lram.agents.trajectories.index import read_index
from lram.agents.trajectories.layout import CARD_FILE, INDEX_FILE, PartLine, is_store
from lram.agents.trajectories.part import damaged, open_part, read_episode
from lram.agents.trajectories.recorded import checksum_fault
from lram.agents.trajectories.trajectory import Trajectory, check_trajectory, returns_to_go


@dataclass(slots=True)
class Verified:
    """What was found in a store.

    Attributes:
        parts, episodes, steps: What its index names.
        bad: What is wrong, one sentence each.
        unnamed: Files among the parts that are none of the store's.
        pending: Parts of a commit that is under way or was interrupted.
        unsigned: What carries no checksum, because an earlier version wrote it.
        repeats: Tasks that have a trajectory more than once, one sentence each; nothing is wrong with that.
        shared: By path of another store that was verified with it: how many episodes are there, too.
        recorded: Trajectories whose arrays were held against the checksum of the record that they carry.
    """

    parts: int = 0
    episodes: int = 0
    steps: int = 0
    bad: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    unsigned: list[str] = field(default_factory=list)
    repeats: list[str] = field(default_factory=list)
    shared: dict[str, int] = field(default_factory=dict)
    recorded: int = 0


def verified_all(paths: Sequence[Path]) -> list[Verified]:
    """Return what is wrong with each store, and how many of its trajectories are in another, too.

    A trajectory is known by what was read of it, not by what an index says.

    Raises:
        AgentError: One of them is no store.
    """
    held: list[dict[str, list[str]]] = [defaultdict(list) for _ in paths]
    found = [_verified(path, digests) for path, digests in zip(paths, held, strict=True)]
    mine = [[digest for task in digests.values() for digest in task] for digests in held]
    known = [set(digests) for digests in mine]
    for place, one in enumerate(found):
        for other, path in enumerate(paths):
            count = sum(digest in known[other] for digest in mine[place]) if other != place else 0
            if count:
                one.shared[str(path)] = count
    return found


def verified(path: Path) -> Verified:
    """Return what is wrong with the store in ``path``, read whole; AgentError where there is none."""
    return verified_all([path])[0]


def _verified(path: Path, digests: dict[str, list[str]]) -> Verified:
    """Return what is wrong with a store, and add its trajectories to ``digests`` by task."""
    found = Verified()
    if not is_store(path):
        read_card(path)
    try:
        if not read_signed_card(path)[1]:
            found.unsigned.append(CARD_FILE)
    except AgentError as error:
        found.bad.append(str(error))
    try:
        index = read_index(path)
    except AgentError as error:
        found.bad.append(str(error))
        return found
    if index.unsigned:
        found.unsigned.append(f"{index.unsigned} of {len(index.lines)} lines of {INDEX_FILE}")
    found.parts = len(index.lines)
    found.episodes = sum(len(line.lengths) for line in index.lines)
    found.steps = sum(sum(line.lengths) for line in index.lines)
    for line in index.lines:
        found.bad += faults_of_part(path, line, digests[line.task.id], found)
    found.repeats = [repeats_words(*one) for one in repeats(digests)]
    found.unnamed = [str(path / name) for name in index.listing.strays]
    named = {line.part for line in index.lines}
    found.pending = [str(path / name) for name in index.listing.parts if name not in named]
    return found


def faults_of_part(
    path: Path, line: PartLine, digests: list[str], found: Verified | None = None
) -> Iterator[str]:
    """Yield what is wrong with a part, one sentence each: its file, or its trajectories one by one.

    Args:
        path: Folder of the store.
        line: Of the part.
        digests: Those of its trajectories are added.
        found: Where to count what is held against records.
    """
    file = path / line.part
    if wrong := fault_of_part(path, line):
        yield wrong
        if not file.is_file():
            return
    try:
        handle = open_part(file)
    except AgentError as error:
        yield str(error)
        return
    with handle:
        for place in range(len(line.lengths)):
            try:
                wrong = _fault(handle, line, place, f"{file}, episode {place}", digests, found or Verified())
            except AgentError as error:
                wrong = str(error)
            if wrong:
                yield wrong


def _fault(
    handle: object, line: PartLine, place: int, where: str, digests: list[str], found: Verified
) -> str:
    trajectory = read_episode(handle, place, line.task)
    check_trajectory(trajectory, where)
    digests.append(trajectory_digest(trajectory))
    facts = {
        "length": (trajectory.length, line.lengths[place]),
        "return": (trajectory.episode_return, line.returns[place]),
        "signal return": (trajectory.signal_return, line.signal_returns[place]),
        "policy": (trajectory.policy, line.policies[place]),
        "origin": (trajectory.origin, line.origins[place]),
        "seed": (trajectory.seed, line.seeds[place]),
        "protocol": (trajectory.protocol, line.protocol),
        "ends": (
            (trajectory.terminated, trajectory.truncated),
            (line.terminated[place], line.truncated[place]),
        ),
        "contexts": (trajectory.context_starts, line.contexts.get(place, (0,))),
        "digest": (digests[-1], line.digests[place] if line.digests else digests[-1]),
        "successes": (_successes(trajectory), (line.success_any[place], line.success_last[place])),
    }
    for name, (held, said) in facts.items():
        if held != said:
            fault = printable(f"has the {name} {held}, the index says {said}")
            return f"{where} {fault}; import or collect it again"
    if wrong := checksum_fault(trajectory):
        return f"{where} {wrong}; collect it again"
    found.recorded += wrong is not None
    try:
        stored = read_array(handle, f"episode_{place}/infos/returns_to_go")
    except DAMAGE as error:
        raise damaged(where.rpartition(",")[0], place, error) from error
    if not np.array_equal(stored, returns_to_go(trajectory.signals, trajectory.context_starts)):
        return f"{where} has returns-to-go that are not the sums of its signals; import or collect it again"
    return ""


def _successes(t: Trajectory) -> tuple[bool | None, bool | None]:
    return (None, None) if t.success is None else (bool(t.success.any()), bool(t.success[-1]))
