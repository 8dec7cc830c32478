"""A sweep's folder.

::

    FOLDER/
        latency.json          the plan (written whole or not at all)
        inputs.npz            what the agents are shown
        records/0001.jsonl    one line a process and context; each session appends to a segment of its own
        provenance/0001.json  where that segment was made
        logs/                 what processes and workers printed
        lock                  held while a process writes

A line counts when its newline is on disk. Of two lines on one point the last counts.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

from lram.agents.api import AgentError
from lram.agents.durable import sync_folder, write_durably
from lram.harness.errors import LramError
from lram.harness.latency import inputs
from lram.harness.latency.inputs import Inputs
from lram.harness.latency.records import SCHEMA, Job, LatencyPlan, Point
from lram.harness.records import Provenance
from lram.harness.store import encode

PLAN_FILE = "latency.json"


class LatencyRun:
    """A sweep that exists on disk, for reading."""

    def __init__(self, path: str | Path) -> None:
        """Read the plan in ``path``; LramError where there is none."""
        self.path = Path(path)
        file = self.path / PLAN_FILE
        if not file.is_file():
            raise LramError(f"{self.path} holds no latencies: it has no {PLAN_FILE}; 'lram latency' makes it")
        try:
            self.plan = msgspec.json.decode(file.read_bytes(), type=LatencyPlan)
        except (OSError, msgspec.DecodeError, AgentError) as error:
            raise LramError(f"{file} cannot be read: {error}") from error
        if self.plan.schema != SCHEMA:
            raise LramError(
                f"{file} has layout {self.plan.schema}, this version reads {SCHEMA}; "
                "use the lram-bench that made it"
            )

    def points(self) -> list[Point]:
        """Return what was measured, in the order of the plan, each point once."""
        found: dict[tuple[Job, int], Point] = {}
        for segment in sorted((self.path / "records").glob("*.jsonl")):
            content = segment.read_bytes()
            for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
                try:
                    point = msgspec.json.decode(line, type=Point)
                except msgspec.DecodeError as error:
                    raise LramError(
                        f"{segment}, line {number} is damaged ({error}); remove the line"
                    ) from error
                found[point.job, point.context] = point
        planned = [(job, context) for job in self.plan.jobs() for context in self.plan.contexts]
        return [found[key] for key in planned if key in found]

    def missing(self) -> list[tuple[Job, tuple[int, ...]]]:
        """Return the processes that are still to run and the contexts they are to measure, in order."""
        done = {(point.job, point.context) for point in self.points()}
        left = [
            (job, tuple(context for context in self.plan.contexts if (job, context) not in done))
            for job in self.plan.jobs()
        ]
        return [(job, contexts) for job, contexts in left if contexts]

    def provenance(self) -> list[Provenance]:
        """Return where each segment was made, oldest first."""
        files = sorted((self.path / "provenance").glob("*.json"))
        try:
            return [msgspec.json.decode(file.read_bytes(), type=Provenance) for file in files]
        except (OSError, msgspec.DecodeError) as error:
            raise LramError(f"{self.path / 'provenance'} cannot be read: {error}") from error

    def __repr__(self) -> str:
        return f"LatencyRun({str(self.path)!r})"


class LatencyWriter:
    """The one writer of a sweep: holds its lock and appends points to a segment of its own."""

    def __init__(self, run: LatencyRun) -> None:
        """Lock ``run``; LramError when another process holds it."""
        self.run = run
        try:
            self._lock = (run.path / "lock").open("a")
        except OSError as error:
            raise LramError(f"cannot write to {run.path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise LramError(f"{run.path} is in use by another process; wait for it to end") from error
        used = [file.stem for part in ("records", "provenance") for file in (run.path / part).glob("*")]
        self._segment = max((int(stem) for stem in used if stem.isdigit()), default=0) + 1
        (run.path / "logs").mkdir(exist_ok=True)
        self._file = (run.path / "records" / f"{self._segment:04d}.jsonl").open("xb", buffering=0)
        sync_folder(run.path / "records")

    @staticmethod
    def check_vacant(path: str | Path) -> None:
        """Raise LramError when a new sweep cannot go into ``path`` because something is there."""
        folder = Path(path)
        if (folder / PLAN_FILE).is_file():
            raise LramError(
                f"{folder} holds a sweep already; 'lram latency --resume {folder}' goes on with it"
            )
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise LramError(f"{folder} exists and is not an empty folder; give a new one")

    @classmethod
    def create(cls, path: str | Path, plan: LatencyPlan, recorded: Inputs) -> LatencyWriter:
        """Make a new sweep in ``path`` (absent or empty) and lock it."""
        folder = Path(path)
        cls.check_vacant(folder)
        try:
            for part in ("records", "provenance", "logs"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            inputs.write(folder, recorded)
            write_durably(folder / PLAN_FILE, encode(plan))
        except OSError as error:
            raise LramError(f"cannot write to {folder}: {error.strerror}") from error
        return cls(LatencyRun(folder))

    def append(self, point: Point) -> None:
        """Write one point; it is on disk when this returns."""
        line = msgspec.json.encode(point) + b"\n"
        try:
            written = self._file.write(line)
            os.fdatasync(self._file.fileno())
        except OSError as error:
            raise LramError(self._full(error.strerror or "")) from error
        if written != len(line):
            raise LramError(self._full("the disk took part of a record only"))

    def write_provenance(self, provenance: Provenance) -> None:
        """Write where this segment is made."""
        try:
            write_durably(self.run.path / "provenance" / f"{self._segment:04d}.json", encode(provenance))
        except OSError as error:
            raise LramError(self._full(error.strerror or "")) from error

    def _full(self, cause: str) -> str:
        path = self.run.path
        return f"cannot write to {path}: {cause}; make room, then 'lram latency --resume {path}'"

    def close(self) -> None:
        """Close the segment and free the lock."""
        self._file.close()
        self._lock.close()

    def __enter__(self) -> LatencyWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
