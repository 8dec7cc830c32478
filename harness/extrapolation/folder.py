"""An extrapolation's folder.

::

    FOLDER/
        extrapolation.json    the plan
        scores/               a run: the agents with their contexts, as 'lram eval' plays them
        loss/0001.jsonl       one line an agent, stretch of a trajectory and reading
        validity/0001.jsonl   one line an agent
        provenance/0001.json  where each session was made
        lock                  held while a process writes

Each session appends to segments of its own; a line counts when its newline is on disk.
"""

from __future__ import annotations

import fcntl
import io
import os
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from lram.agents.api import AgentError
from lram.agents.durable import sync_folder, write_durably
from lram.harness.errors import LramError
from lram.harness.extrapolation.records import (
    SCHEMA,
    ExtrapolationPlan,
    LossItem,
    LossRecord,
    ValidityRecord,
)
from lram.harness.records import Provenance
from lram.harness.store import PLAN_FILE, Run, encode

MARKER = "extrapolation.json"
SCORES = "scores"
_LOSS, _VALIDITY, _PROVENANCE = "loss", "validity", "provenance"

_T = TypeVar("_T")


class Extrapolation:
    """An extrapolation that exists on disk, for reading; :class:`Writer` adds to it.

    Attributes:
        path: Its folder.
        plan: What it measures.

    Raises:
        LramError: It is none, or of another version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        file = self.path / MARKER
        if not file.is_file():
            raise LramError(
                f"{self.path} is no extrapolation: it has no {MARKER}; 'lram extrapolate' makes them"
            )
        try:
            self.plan = msgspec.json.decode(file.read_bytes(), type=ExtrapolationPlan)
        except (OSError, msgspec.DecodeError, AgentError) as error:
            raise LramError(f"{file} cannot be read: {error}") from error
        if self.plan.schema != SCHEMA:
            raise LramError(
                f"{file} has layout {self.plan.schema}, this version reads {SCHEMA}; use the lram-bench that "
                "made it"
            )

    @property
    def scores(self) -> Run | None:
        """The run of its scores; None where nothing is played."""
        folder = self.path / SCORES
        return Run(folder) if (folder / PLAN_FILE).is_file() else None

    def losses(self) -> list[LossRecord]:
        """Return the records of losses in the plan's order, one an item."""
        latest = {record.item: record for record in self._read(_LOSS, LossRecord)}
        return [latest[item] for item in self.plan.readings() if item in latest]

    def missing_losses(self) -> list[LossItem]:
        """Return what has no record yet, in the plan's order."""
        done = {record.item for record in self.losses()}
        return [item for item in self.plan.readings() if item not in done]

    def validity(self) -> list[ValidityRecord]:
        """Return the records of validity in the order of the agents, one an agent."""
        latest = {record.agent: record for record in self._read(_VALIDITY, ValidityRecord)}
        return [latest[agent.label] for agent in self.plan.agents if agent.label in latest]

    def _read(self, part: str, kind: type[_T]) -> list[_T]:
        decoder, found = msgspec.json.Decoder(kind), []
        for segment in sorted((self.path / part).glob("*.jsonl")):
            content = segment.read_bytes()
            for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
                try:
                    found.append(decoder.decode(line))
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise LramError(
                        f"{segment}, line {number} is damaged ({error}); remove the line"
                    ) from error
        return found

    def __repr__(self) -> str:
        return f"Extrapolation({str(self.path)!r})"


class Writer:
    """The one writer of an extrapolation: holds its lock, and appends to segments of its own."""

    def __init__(self, extrapolation: Extrapolation) -> None:
        """Lock it; LramError when another process holds it."""
        self.of = extrapolation
        path = extrapolation.path
        try:
            self._lock = (path / "lock").open("a")
        except OSError as error:
            raise LramError(f"cannot write to {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise LramError(f"{path} is in use by another process; wait for it to end") from error
        used = [file.stem for part in (_LOSS, _VALIDITY, _PROVENANCE) for file in (path / part).glob("*")]
        self._segment = max((int(stem) for stem in used if stem.isdigit()), default=0) + 1
        self._files: dict[str, io.FileIO] = {}

    @classmethod
    def create(cls, path: str | Path, plan: ExtrapolationPlan) -> Writer:
        """Make a new folder in ``path`` (absent or empty) and lock it."""
        folder = Path(path)
        check_vacant(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_durably(folder / MARKER, encode(plan))
        except OSError as error:
            raise LramError(f"cannot write to {folder}: {error.strerror}") from error
        return cls(Extrapolation(folder))

    def append(self, record: LossRecord | ValidityRecord) -> None:
        """Write one record; it is on disk when this returns."""
        part = _LOSS if isinstance(record, LossRecord) else _VALIDITY
        line = msgspec.json.encode(record) + b"\n"
        try:
            file = self._files.get(part) or self._open(part)
            written = file.write(line)
            os.fdatasync(file.fileno())
        except OSError as error:
            raise self._full(error.strerror or "") from error
        if written != len(line):
            raise self._full("the disk took part of a record only")

    def write_provenance(self, provenance: Provenance) -> None:
        """Write where this session is made."""
        folder = self.of.path / _PROVENANCE
        try:
            folder.mkdir(exist_ok=True)
            write_durably(folder / f"{self._segment:04d}.json", encode(provenance))
        except OSError as error:
            raise self._full(error.strerror or "") from error

    def _open(self, part: str) -> io.FileIO:
        folder = self.of.path / part
        folder.mkdir(exist_ok=True)
        file = self._files[part] = io.FileIO(folder / f"{self._segment:04d}.jsonl", "x")
        sync_folder(folder)
        return file

    def _full(self, cause: str) -> LramError:
        path = self.of.path
        return LramError(
            f"cannot write to {path}: {cause}; make room, then 'lram extrapolate --resume {path}'"
        )

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        self._lock.close()


def check_vacant(folder: Path) -> None:
    """Raise LramError when a new extrapolation cannot go into ``folder`` because something is there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if (folder / MARKER).is_file():
            raise LramError(
                f"{folder} holds an extrapolation already; 'lram extrapolate --resume {folder}' goes on "
                "with it"
            )
        raise LramError(f"{folder} exists and is not an empty folder; give a new one")
