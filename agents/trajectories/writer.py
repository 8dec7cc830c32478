"""The one writer of a trajectory store: what it has committed is there, whatever happens next.

A part is written and synchronised first; then its line is appended to the index and synchronised. A
process that is killed in between leaves a file that the index does not name, and the next writer removes
it. So a kill at any moment costs the trajectories that were not committed, and nothing else.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from lram.agents.api import AgentError, TaskSpec
from lram.agents.durable import sync_folder, write_durably
from lram.agents.trajectories.layout import (
    CARD_FILE,
    FORMAT,
    INDEX_FILE,
    PART_NAME,
    PARTS_FOLDER,
    VERSION,
    PartLine,
    is_store,
    part_path,
    read_card,
    read_index,
)
from lram.agents.trajectories.part import encode_part
from lram.agents.trajectories.trajectory import Trajectory, check_trajectory

PART_BYTES = 64 << 20
"""Uncompressed bytes that a writer holds before it commits them."""


class StoreWriter:
    """Adds trajectories to a store, which it locks; a context manager.

    ::

        with StoreWriter("data/mine", card={"made_by": "my script"}) as writer:
            for trajectory in source:
                if trajectory.origin not in writer.committed:
                    writer.append(trajectory)

    Leaving the ``with`` commits what is held, also when that is left by an exception: each trajectory is
    whole.

    Args:
        path: Folder of the store.
        card: What this writer has to say of what it adds, see :meth:`describe`.
        create: Make the store where there is none.
        part_bytes: Commit when more than this is held.

    Attributes:
        path: Folder of the store.
        committed: Origins of all trajectories of the store that have one.

    Raises:
        AgentError: The folder holds something else, is in use by another process, or is damaged.
    """

    def __init__(
        self,
        path: str | Path,
        card: Mapping[str, Any] | None = None,
        *,
        create: bool = True,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self.path = Path(path)
        self._part_bytes = part_bytes
        self._held: list[Trajectory] = []
        self._held_bytes = 0
        self._held_origins: set[str] = set()
        check_writable(self.path, create=create)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.path)
        except OSError as error:
            raise AgentError(f"cannot write to {self.path}: {error.strerror}; give another folder") from error
        try:
            self._open(card or {})
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self, card: Mapping[str, Any]) -> None:
        try:
            if not is_store(self.path):
                # A store exists once it has a card, so the card comes last.
                (self.path / INDEX_FILE).touch()
                _write_card(self.path, {"format": FORMAT, "version": VERSION, "additions": []})
            read_card(self.path)
            lines, whole = read_index(self.path)
            _remove_uncommitted(self.path, lines, whole)
            self._index = os.open(self.path / INDEX_FILE, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise self._refused(error) from error
        self.committed = {origin for line in lines for origin in line.origins if origin}
        self._tasks: dict[str, TaskSpec] = {line.task.id: line.task for line in lines}
        self.describe(card)
        self._next = 1 + max((int(m[1]) for line in lines if (m := PART_NAME.search(line.part))), default=-1)

    @property
    def held(self) -> int:
        """Number of trajectories that are not committed yet."""
        return len(self._held)

    def describe(self, addition: Mapping[str, Any]) -> None:
        """Make ``addition`` an entry of ``additions`` in the store's card.

        Args:
            addition: ``made_by``, ``license``, ``note`` and whatever else JSON can hold. An entry with the
                same ``name`` is replaced; without a name, one that says the same is not repeated.
        """
        if not addition:
            return
        said = msgspec.to_builtins(dict(addition))
        card = read_card(self.path)
        others = []
        made = {"added": datetime.now(UTC).isoformat(timespec="seconds"), "lram-bench": _own_version()}
        for one in card["additions"]:
            named = "name" in said and one.get("name") == said["name"]
            if named or {name: one[name] for name in one if name not in made} == said:
                made = {name: one[name] for name in made if name in one}
            else:
                others.append(one)
        try:
            _write_card(self.path, {**card, "additions": [*others, {**made, **said}]})
        except OSError as error:
            raise self._refused(error) from error

    def append(self, trajectory: Trajectory) -> bool:
        """Take ``trajectory``; return whether everything up to it is committed now.

        Its arrays must not be changed before they are committed.

        Raises:
            AgentError: It is none of its task's, its origin is in the store already, or the disk refuses.
        """
        check_trajectory(trajectory)
        known = self._tasks.setdefault(trajectory.task.id, trajectory.task)
        if _form(known) != _form(trajectory.task):
            raise AgentError(
                f"{self.path} has {known.id} as {_form(known)}, and this trajectory has "
                f"{_form(trajectory.task)}; put it into another store"
            )
        origin = trajectory.origin
        if origin and (origin in self.committed or origin in self._held_origins):
            raise AgentError(f"{self.path} has the trajectory {origin} already; leave it out")
        self._held.append(trajectory)
        self._held_bytes += trajectory.nbytes
        self._held_origins.add(origin)
        if self._held_bytes < self._part_bytes:
            return False
        self.commit()
        return True

    def commit(self) -> None:
        """Write what is held; it is on disk when this returns. AgentError when the disk refuses."""
        if not self._held:
            return
        groups: dict[tuple[TaskSpec, str], list[Trajectory]] = {}
        for trajectory in self._held:
            groups.setdefault((trajectory.task, trajectory.protocol), []).append(trajectory)
        try:
            lines = [self._write_part(self._next + i, group) for i, group in enumerate(groups.values())]
            self._next += len(lines)
            origins = self._held_origins - {""}
            # Whatever interrupts this, nothing can be committed twice.
            self._held, self._held_bytes, self._held_origins = [], 0, set()
            content = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
            end = os.fstat(self._index).st_size
            if os.write(self._index, content) != len(content):
                os.ftruncate(self._index, end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(self._index)
        except OSError as error:
            raise self._refused(error) from error
        self.committed |= origins

    def _write_part(self, number: int, group: Sequence[Trajectory]) -> PartLine:
        task = group[0].task
        name = part_path(task, number)
        content = encode_part(group)
        file = self.path / name
        missing = [folder for folder in file.parents if not folder.exists()]
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(file, content)
        for folder in missing:
            sync_folder(folder.parent)
        return PartLine(
            part=name,
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
            task=task,
            protocol=group[0].protocol,
            lengths=[t.length for t in group],
            returns=[t.episode_return for t in group],
            signal_returns=[t.signal_return for t in group],
            success_any=[None if t.success is None else bool(t.success.any()) for t in group],
            success_last=[None if t.success is None else bool(t.success[-1]) for t in group],
            terminated=[t.terminated for t in group],
            truncated=[t.truncated for t in group],
            seeds=[t.seed for t in group],
            policies=[t.policy for t in group],
            origins=[t.origin for t in group],
            contexts={i: t.context_starts for i, t in enumerate(group) if len(t.context_starts) > 1},
        )

    def _refused(self, error: OSError) -> AgentError:
        return AgentError(f"cannot write to {self.path}: {error.strerror or error}; make room and go on")

    def close(self) -> None:
        """Commit what is held and free the lock."""
        try:
            self.commit()
        finally:
            self._free()

    def _free(self) -> None:
        os.close(self._index)
        os.close(self._lock)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        # What went wrong first is what there is to tell.
        with suppress(AgentError):
            self.commit()
        self._free()


def check_writable(path: str | Path, *, create: bool = True) -> None:
    """Raise AgentError when ``path`` is no store, and none can be made there."""
    path = Path(path)
    if is_store(path) or not create:
        read_card(path)
        return
    # A process killed while it made the store leaves an index, a lock, and perhaps half a card.
    started = {"lock", INDEX_FILE}
    if path.exists() and (
        not path.is_dir()
        or any(file.name not in started and not _is_scratch(file) for file in path.iterdir())
    ):
        raise AgentError(f"{path} exists and is no trajectory store; give a new folder")


def _locked(path: Path) -> int:
    lock = os.open(path / "lock", os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise AgentError(
            f"{path} is in use by another process; wait for it to end, or give another folder"
        ) from error
    return lock


def _remove_uncommitted(path: Path, lines: Sequence[PartLine], whole: int) -> None:
    """Remove what a process that was killed has left: files without a line, a line without its end."""
    index = path / INDEX_FILE
    if index.stat().st_size > whole:
        os.truncate(index, whole)
    named = {path / line.part for line in lines}
    left = [file for file in (path / PARTS_FOLDER).rglob("*part-*") if file not in named]
    for file in [*left, *(file for file in path.iterdir() if _is_scratch(file))]:
        file.unlink()


def _is_scratch(file: Path) -> bool:
    return file.name.startswith(f".{CARD_FILE}.")


def _write_card(path: Path, card: Mapping[str, Any]) -> None:
    write_durably(path / CARD_FILE, msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")


def _own_version() -> str:
    try:
        return version("lram-bench")
    except PackageNotFoundError:
        return ""


def _form(task: TaskSpec) -> TaskSpec:
    """Return what of ``task`` decides the arrays; target return and scale may change with the table."""
    return replace(task, target_return=None, reward_scale=1.0)
