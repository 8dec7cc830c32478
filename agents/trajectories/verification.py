"""Whether a store is what it was when it was written: every checksum, every trajectory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lram.agents.api import AgentError
from lram.agents.trajectories.layout import PARTS_FOLDER, PartLine, read_card, read_index
from lram.agents.trajectories.part import open_part, read_episode
from lram.agents.trajectories.trajectory import check_trajectory, returns_to_go


def committed_parts(path: Path) -> list[PartLine]:
    """Return what the index of the store names; AgentError where there is no store or it is damaged."""
    read_card(path)
    return read_index(path)[0]


def faults_of_part(path: Path, line: PartLine) -> Iterator[str]:
    """Yield what is wrong with a part, one sentence each: its file, or its trajectories one by one."""
    file = path / line.part
    try:
        with file.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        yield f"{file} cannot be read ({error.strerror}); put it back from a copy of the store"
        return
    if found != line.sha256:
        yield (
            f"{file} is damaged: its checksum is {found[:12]}, the index has {line.sha256[:12]}; put it back "
            "from a copy of the store"
        )
    try:
        handle = open_part(file)
    except AgentError as error:
        yield str(error)
        return
    with handle:
        for place in range(len(line.lengths)):
            try:
                wrong = _fault(handle, line, place, f"{file}, episode {place}")
            except AgentError as error:
                wrong = str(error)
            if wrong:
                yield wrong


def _fault(handle: object, line: PartLine, place: int, where: str) -> str:
    trajectory = read_episode(handle, place, line.task)
    check_trajectory(trajectory, where)
    facts = {
        "length": (trajectory.length, line.lengths[place]),
        "return": (trajectory.episode_return, line.returns[place]),
        "signal return": (trajectory.signal_return, line.signal_returns[place]),
        "policy": (trajectory.policy, line.policies[place]),
        "origin": (trajectory.origin, line.origins[place]),
        "seed": (trajectory.seed, line.seeds[place]),
    }
    for name, (held, said) in facts.items():
        if held != said:
            return f"{where} has the {name} {held}, the index says {said}; import or collect it again"
    stored = handle[f"episode_{place}/infos/returns_to_go"][()]  # type: ignore[index]  # an h5py.File
    if not np.array_equal(stored, returns_to_go(trajectory.signals, trajectory.context_starts)):
        return f"{where} has returns-to-go that are not the sums of its signals; import or collect it again"
    return ""


def strays(path: Path, lines: list[PartLine]) -> list[Path]:
    """Return the files among the parts that the index does not name; the next writer removes them."""
    named = {path / line.part for line in lines}
    return sorted(file for file in (path / PARTS_FOLDER).rglob("*") if file.is_file() and file not in named)
