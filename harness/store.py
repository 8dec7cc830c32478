"""A run's folder: written so that nothing is lost, read so that nothing is trusted blindly.

::

    RUN/
        run.json              the plan (written whole or not at all)
        records/0001.jsonl    one line an episode; each session of the run appends to its own segment
        provenance/0001.json  where that segment was made
        logs/0001/            what its workers printed
        lock                  held while a process writes

A line counts when its newline is on disk: a torn last line, the mark of a process killed while
writing, is not read. The last record of a work item wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from lram.agents.durable import write_durably
from lram.harness.errors import LramError
from lram.harness.records import SCHEMA, EpisodeRecord, Measured, Provenance, RunPlan, WorkItem
from lram.harness.segments import SegmentWriter, check_empty, check_layout, read_json, read_records

if TYPE_CHECKING:
    import pandas as pd

PLAN_FILE = "run.json"
_RESUME = "lram resume"


class Run:
    """A run that exists on disk, for reading; :class:`RunWriter` adds to it."""

    def __init__(self, path: str | Path) -> None:
        """Read the plan of the run in ``path``; LramError where there is none."""
        self.path = Path(path)
        plan_file = self.path / PLAN_FILE
        if not plan_file.is_file():
            raise LramError(f"{self.path} is not a run: it has no {PLAN_FILE}; 'lram eval' makes runs")
        self.plan = read_json(plan_file, RunPlan)
        check_layout(plan_file, self.plan.schema, SCHEMA)

    def records(self) -> list[EpisodeRecord]:
        """Return the settled items' records, in plan order, one each."""
        settled = self._settled()
        return [settled[item][0] for item in self.plan.items() if item in settled]

    def missing(self) -> list[WorkItem]:
        """Return the items that have no record yet, in plan order."""
        done = {record.item for record in self.records()}
        return [item for item in self.plan.items() if item not in done]

    def provenance(self) -> list[Provenance]:
        """Return where each segment was made, oldest first."""
        return [read_json(file, Provenance) for file in sorted((self.path / "provenance").glob("*.json"))]

    def origins(self) -> dict[WorkItem, Provenance]:
        """Return where each settled item's record was made; without those of which nothing is known."""
        made = {file.stem: read_json(file, Provenance) for file in (self.path / "provenance").glob("*.json")}
        return {item: made[stem] for item, (_, stem) in self._settled().items() if stem in made}

    def _settled(self) -> dict[WorkItem, tuple[EpisodeRecord, str]]:
        """Return the last record of each item and the number of its segment."""
        latest: dict[WorkItem, tuple[EpisodeRecord, str]] = {}
        for record, segment in read_records(self.path / "records", EpisodeRecord):
            latest[record.item] = (record, segment)
        return latest

    def episodes(self) -> pd.DataFrame:
        """Return one row a record: the fields of EpisodeRecord, its times as ``measured_*``."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for record in self.records():
            row = asdict(record)
            measured = row.pop("measured")
            failure = row.pop("failure") or {"kind": None, "message": None}
            row["failure_kind"], row["failure_message"] = failure["kind"], failure["message"]
            row.update({f"measured_{name}": value for name, value in measured.items()})
            row["domain"] = record.task.partition("/")[0]
            rows.append(row)
        plain = [f.name for f in fields(EpisodeRecord) if f.name not in ("measured", "failure")]
        names = [*plain, "failure_kind", "failure_message", *(f"measured_{f.name}" for f in fields(Measured))]
        return pd.DataFrame(rows, columns=[*names, "domain"])

    def tasks(self) -> pd.DataFrame:
        """Return one row a planned task: its facts and the protocol it runs under."""
        import pandas as pd

        rows = []
        for planned in self.plan.tasks:
            row = asdict(planned.task)
            row["sources"] = dict(planned.task.sources)
            rows.append({"task": planned.task.id, **row, "protocol": planned.protocol})
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


class RunWriter:
    """The one writer of a run: holds its lock and appends records to a segment of its own."""

    def __init__(self, run: Run) -> None:
        """Lock ``run``; LramError when another process holds it. The first record opens a new segment."""
        self.run = run
        self._segments = SegmentWriter(run.path, ("records", "provenance", "logs"), _RESUME)
        self.segment = self._segments.number

    @classmethod
    def create(cls, path: str | Path, plan: RunPlan) -> RunWriter:
        """Make a new run in ``path`` (absent or empty) and lock it."""
        folder = Path(path)
        cls.check_vacant(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "records").mkdir()
            (folder / "provenance").mkdir()
            write_durably(folder / PLAN_FILE, encode(plan))
        except OSError as error:
            raise LramError(f"cannot write to {folder}: {error.strerror}") from error
        return cls(Run(folder))

    @staticmethod
    def check_vacant(path: str | Path) -> None:
        """Raise LramError when a new run cannot go into ``path`` because something is there."""
        check_empty(Path(path), PLAN_FILE, "a run", _RESUME)

    def append(self, record: EpisodeRecord) -> None:
        """Write one record; it is on disk when this returns."""
        self._segments.append("records", record)

    def log_folder(self) -> Path:
        """Return the folder for what this segment's workers print; it exists."""
        return self._segments.folder("logs")

    def write_provenance(self, provenance: Provenance) -> None:
        """Write where this segment is made (again, when more became known)."""
        self._segments.write("provenance", encode(provenance))

    def close(self) -> None:
        """Close the segment and free the lock."""
        self._segments.close()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def encode(value: object) -> bytes:
    """Return ``value`` as indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def load_runs(paths: Sequence[str | Path]) -> list[Run]:
    """Open several runs; LramError for the first that is none."""
    return [Run(path) for path in paths]
