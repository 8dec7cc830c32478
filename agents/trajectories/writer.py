"""The one writer of a trajectory store: what it has committed is there, whatever happens next.

A commit notes in ``pending.json`` which parts it writes, writes and synchronises them, appends their lines
to the index, synchronises that, and removes the note. So a kill at any moment costs the trajectories that
were not committed, and nothing else: the next writer finds the note and moves parts without a line to
``set-aside/``. Nothing that this process did not write is deleted; a part that no note explains means that
the index is damaged, and then nothing is written before ``lram data rebuild``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from lram.agents.api import AgentError, TaskSpec
from lram.agents.durable import laid_by_desktop, sync_folder
from lram.agents.places import placed
from lram.agents.shown import command
from lram.agents.trajectories.card import encode_card, new_card, read_card
from lram.agents.trajectories.folder import StoreFolder
from lram.agents.trajectories.index import (
    Index,
    Pending,
    check_parts,
    encode_line,
    encode_pending,
    read_index,
)
from lram.agents.trajectories.layout import (
    CARD_FILE,
    INDEX_FILE,
    LOCK_FILE,
    PARTS_FOLDER,
    PENDING_FILE,
    PartLine,
    is_store,
    number_of_part,
    part_path,
)
from lram.agents.trajectories.listing import check_plain, read_inside, unreadable
from lram.agents.trajectories.part import encode_part, line_of
from lram.agents.trajectories.trajectory import Trajectory, check_trajectory

PART_BYTES = 64 << 20
"""Uncompressed bytes that a writer holds before it commits them."""


def _to_stderr(sentence: str) -> None:
    with suppress(OSError):  # a reader that is gone must not end the writer
        print(f"lram: {sentence}", file=sys.stderr, flush=True)


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
        resume: The command that continues with the store, for sentences; the store's path follows it.
        say: Told in a sentence what was set aside.

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
        resume: str = "",
        say: Callable[[str], None] = _to_stderr,
    ) -> None:
        self.path = placed(path)
        self._part_bytes, self._resume, self._say = part_bytes, resume, say
        self._held: list[Trajectory] = []
        self._held_bytes = 0
        self._held_origins: set[str] = set()
        self._broken = False
        check_writable(self.path, create=create)
        try:
            made = _make_folders(self.path)
            self._folder = StoreFolder(self.path, resume)
            for folder in made:
                sync_folder(folder.parent)
        except OSError as error:
            raise AgentError(f"cannot write to {self.path}: {error.strerror}; give another folder") from error
        try:
            self._open(card or {})
        except BaseException:
            self._folder.close()
            raise

    def _open(self, card: Mapping[str, Any]) -> None:
        try:
            if not is_store(self.path):
                check_writable(self.path)  # again: only now nobody else writes to it
                # A store exists once it has a card, so the card comes last.
                os.close(self._folder.open_index())
                self._folder.replace(CARD_FILE, encode_card(new_card()))
            read_card(self.path)
            index = read_index(self.path)
            check_parts(self.path, index.lines, index.listing.parts)
            self._set_aside(index)
            self._index = self._folder.open_index()
        except OSError as error:
            raise self._refused(error) from error
        try:
            self.committed = {origin for line in index.lines for origin in line.origins if origin}
            self._tasks: dict[str, TaskSpec] = {line.task.id: line.task for line in index.lines}
            self.describe(card)
        except BaseException:
            os.close(self._index)
            raise
        self._next = 1 + max((number_of_part(line.part) for line in index.lines), default=-1)

    def _set_aside(self, index: Index) -> None:
        """Move away what an interrupted commit has left: parts without a line, a line without its end."""
        pending = index.pending
        if pending is None:
            return
        named = {line.part for line in index.lines}
        moved = [
            self._folder.set_aside(part)
            for part in pending.parts
            if part in index.listing.parts and part not in named
        ]
        content = read_inside(self.path, INDEX_FILE)
        if len(content) > index.whole:
            moved.append(self._folder.keep_copy(INDEX_FILE, content))
            handle = self._folder.open_index()
            try:
                os.ftruncate(handle, index.whole)
                os.fsync(handle)
            finally:
                os.close(handle)
        if moved:
            moved.append(self._folder.set_aside(PENDING_FILE))
            self._say(
                f"{self.path}: a commit was interrupted, and what it left was moved to {', '.join(moved)}; "
                "nothing reads it, so it may be removed"
            )

    @property
    def held(self) -> int:
        """Number of trajectories that are not committed yet."""
        return len(self._held)

    def check_place(self) -> None:
        """Raise AgentError where the store was moved or replaced since this writer opened it."""
        self._folder.check_place()

    def describe(self, addition: Mapping[str, Any]) -> None:
        """Make ``addition`` an entry of ``additions`` in the store's card.

        Args:
            addition: ``made_by``, ``license``, ``note`` and whatever else JSON can hold. An entry with the
                same ``name`` is replaced; without a name, one that says the same is not repeated.
        """
        if not addition:
            return
        self._folder.check_place()
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
            self._folder.replace(CARD_FILE, encode_card({**card, "additions": [*others, {**made, **said}]}))
        except OSError as error:
            raise self._refused(error) from error

    def append(self, trajectory: Trajectory) -> bool:
        """Take ``trajectory``; return whether everything up to it is committed now.

        Arrays that somebody may still change are copied: what is committed is what they hold now.

        Raises:
            AgentError: It is none for this store (:meth:`check`), or the disk refuses (:meth:`take`).
        """
        self.check(trajectory)
        return self.take(trajectory)

    def check(self, trajectory: Trajectory) -> None:
        """Raise AgentError where ``trajectory`` is none of its task's, or its origin is in the store."""
        check_trajectory(trajectory)
        known = self._tasks.get(trajectory.task.id, trajectory.task)
        if _form(known) != _form(trajectory.task):
            raise AgentError(
                f"{self.path} has {known.id} as {_form(known)}, and this trajectory has "
                f"{_form(trajectory.task)}; put it into another store"
            )
        origin = trajectory.origin
        if origin and (origin in self.committed or origin in self._held_origins):
            raise AgentError(f"{self.path} has the trajectory {origin} already; leave it out")

    def take(self, trajectory: Trajectory) -> bool:
        """Take ``trajectory``, that :meth:`check` found sound; return whether all is committed now.

        Raises:
            AgentError: The disk refuses.
        """
        self._tasks.setdefault(trajectory.task.id, trajectory.task)
        self._held.append(trajectory.frozen())
        self._held_bytes += trajectory.nbytes
        self._held_origins.add(trajectory.origin)
        if self._held_bytes < self._part_bytes:
            return False
        self.commit()
        return True

    def commit(self) -> None:
        """Write what is held; it is on disk when this returns. AgentError when the disk refuses."""
        if not self._held:
            return
        if self._broken:
            raise self._refused(OSError(errno.EIO, "a commit failed and could not be taken back"))
        self._folder.check_place()
        groups: dict[tuple[TaskSpec, str], list[Trajectory]] = {}
        for trajectory in self._held:
            groups.setdefault((trajectory.task, trajectory.protocol), []).append(trajectory)
        parts = {name: encode_part(group) for name, group in self._named(groups.values())}
        lines = [
            line_of(name, hashlib.sha256(content).hexdigest(), len(content), group)
            for (name, content), group in zip(parts.items(), groups.values(), strict=True)
        ]
        try:
            self._write(parts, lines)
        except OSError as error:
            raise self._refused(error) from error

    def _named(self, groups: Iterable[list[Trajectory]]) -> Iterator[tuple[str, list[Trajectory]]]:
        """Yield each group with the path of its part: of a number that no file has."""
        for group in groups:
            while self._folder.exists(name := part_path(group[0].task, self._next)):
                self._next += 1
            self._next += 1
            yield name, group

    def _write(self, parts: Mapping[str, bytes], lines: Sequence[PartLine]) -> None:
        content = b"".join(map(encode_line, lines))
        end = os.fstat(self._index).st_size
        self._folder.replace(PENDING_FILE, encode_pending(Pending(tuple(parts), end)))
        written: list[str] = []
        begun = False
        try:
            for name, part in parts.items():
                self._folder.create(name, part)
                written.append(name)
            self._folder.check_place()
            begun = True
            if os.write(self._index, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(self._index)
        except BaseException as error:
            # What is taken back may be committed later; what cannot be, the note explains to the next writer.
            if not begun or (isinstance(error, OSError) and self._take_back(end)):
                self._remove(written, parts)
            else:
                self._broken = True
                self._forget_held()
            raise
        self.committed |= self._held_origins - {""}
        self._forget_held()
        with suppress(OSError):  # the note is harmless where its parts have their lines
            self._folder.remove_own(PENDING_FILE)

    def _take_back(self, end: int) -> bool:
        """Cut the index to where it ended before; return whether that worked."""
        try:
            os.ftruncate(self._index, end)
            os.fsync(self._index)
        except OSError:
            return False
        return True

    def _remove(self, own: Sequence[str], parts: Iterable[str]) -> None:
        """Remove the files that this commit has made, and the note unless it still has one to explain."""
        try:
            for name in own:
                self._folder.remove_own(name)
            if any(map(self._folder.exists, parts)):
                self._broken = True
            else:
                self._folder.remove_own(PENDING_FILE)
        except OSError:
            self._broken = True

    def _forget_held(self) -> None:
        self._held, self._held_bytes, self._held_origins = [], 0, set()

    def _refused(self, error: OSError) -> AgentError:
        again = f"'{self._resume} {shlex.quote(str(self.path))}'"
        then = again if self._resume else "run the same command again"
        return AgentError(f"cannot write to {self.path}: {error.strerror or error}; make room, then {then}")

    def close(self) -> None:
        """Commit what is held and free the lock."""
        try:
            self.commit()
        finally:
            self._free()

    def _free(self) -> None:
        os.close(self._index)
        self._folder.close()

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
    try:
        _check_writable(Path(path), create)
    except OSError as error:
        raise unreadable(Path(path), error) from error


def _check_writable(path: Path, create: bool) -> None:
    if path.is_dir():
        check_plain(path)
    if is_store(path) or not create:
        read_card(path)
        return
    if (path / PARTS_FOLDER).exists():
        raise AgentError(
            f"{path} has parts of a trajectory store and no {CARD_FILE}; put that back from a copy, or make "
            f"it anew: {command('data', 'rebuild', path)}"
        )
    # A process killed while it made the store leaves an index, a lock, and perhaps half a card.
    started = {LOCK_FILE, INDEX_FILE}
    if path.exists() and (
        not path.is_dir()
        or any(file.name not in started and not _is_scratch(file) for file in _own(path))
        or ((path / INDEX_FILE).exists() and (path / INDEX_FILE).stat().st_size)
    ):
        raise AgentError(f"{path} exists and is no trajectory store; give a new folder")


def _own(path: Path) -> Iterator[Path]:
    return (file for file in path.iterdir() if not laid_by_desktop(file.name))


def _make_folders(path: Path) -> list[Path]:
    """Make the folder; return those that were not there."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return missing


def _is_scratch(file: Path) -> bool:
    return file.name.startswith(f".{CARD_FILE}.")


def _own_version() -> str:
    try:
        return version("lram-bench")
    except PackageNotFoundError:
        return ""


def _form(task: TaskSpec) -> TaskSpec:
    """Return what of ``task`` decides the arrays; target return and scale may change with the table."""
    return replace(task, target_return=None, reward_scale=1.0)
