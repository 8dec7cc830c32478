"""A sweep's folder.

::

    FOLDER/
        latency.json          the plan (written whole or not at all)
        inputs.npz            what the agents are shown
        records/0001.jsonl    one line a process and context; each session appends to a segment of its own
        provenance/0001.json  where that segment was made
        logs/                 what processes and workers printed
        lock                  held while a process writes

A line counts when its newline is on disk. Points that the plan does not have, and two results of one point,
are refused by name.
"""

from __future__ import annotations

from pathlib import Path

from lram.agents.durable import Lock
from lram.agents.places import placed
from lram.harness.errors import LramError
from lram.harness.latency import inputs
from lram.harness.latency.checks import check_plan, check_point
from lram.harness.latency.records import SCHEMA, Job, LatencyPlan, LatencyPoint
from lram.harness.storage.json_files import check_layout, files_in, read_json, read_signed
from lram.harness.storage.links import refuse_links
from lram.harness.storage.records import Provenance
from lram.harness.storage.segments import FolderKind, Once, SegmentWriter, read_records, without_checksums
from lram.harness.timing.inputs import Inputs
from lram.harness.trust import remember

PLAN_FILE = "latency.json"
_PARTS = ("records", "provenance")
_KIND = FolderKind(PLAN_FILE, "a sweep", "lram latency --resume", (*_PARTS, "logs"), (inputs.FILE,))


class LatencyRun:
    """A sweep that exists on disk, for reading."""

    def __init__(self, path: str | Path) -> None:
        """Read the plan in ``path``; LramError where there is none."""
        self.path = placed(path)
        file = self.path / PLAN_FILE
        if not file.is_file():
            raise LramError(f"{self.path} holds no latencies: it has no {PLAN_FILE}; 'lram latency' makes it")
        self.plan, self._signed = read_signed(file, LatencyPlan)
        check_layout(file, self.plan.schema, SCHEMA)
        check_plan(file, self.plan)

    def points(self) -> list[LatencyPoint]:
        """Return what was measured, in the order of the plan, each point once."""
        planned = [(job, context) for job in self.plan.jobs() for context in self.plan.contexts]
        check = Once(set(planned), lambda point: (point.job, point.context))
        found = {
            (point.job, point.context): point
            for point, _ in read_records(self.path / "records", LatencyPoint, check)
        }
        for point in found.values():
            check_point(self.path / "records", point)
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
        return [read_json(file, Provenance) for file in files_in(self.path / "provenance", "*.json")]

    def without_checksums(self) -> list[str]:
        """Return which of plan and segments carry no checksum, as those of earlier versions do not."""
        plan = [] if self._signed else [PLAN_FILE]
        return [*plan, *(f"records/{file.name}" for file in without_checksums(self.path / "records"))]

    def __repr__(self) -> str:
        return f"LatencyRun({str(self.path)!r})"


class LatencyWriter:
    """The one writer of a sweep: holds its lock and appends points to a segment of its own."""

    def __init__(self, run: LatencyRun, held: Lock | None = None) -> None:
        """Lock ``run``, unless its lock is ``held``; LramError when another process holds it."""
        self.run = run
        refuse_links(run.path, ("logs",))
        self._segments = SegmentWriter(run.path, _PARTS, f"{_KIND.resume} {run.path}", held)
        (run.path / "logs").mkdir(exist_ok=True)

    @staticmethod
    def check_vacant(path: str | Path) -> None:
        """Raise LramError when a new sweep cannot go into ``path`` because something is there."""
        _KIND.check_vacant(Path(path))

    @classmethod
    def create(cls, path: str | Path, plan: LatencyPlan, recorded: Inputs) -> LatencyWriter:
        """Make a new sweep in ``path`` (absent, empty, or left so by a killed beginning) and lock it."""
        folder = Path(path)
        held = _KIND.begin(folder, plan, lambda: inputs.write(folder, recorded))
        try:
            remember(folder / PLAN_FILE, [agent.spec for agent in plan.agents], plan.interpreters)
            return cls(LatencyRun(folder), held)
        except BaseException:
            held.close()
            raise

    def append(self, point: LatencyPoint) -> None:
        """Write one point; it is on disk when this returns."""
        self._segments.append("records", point)

    def write_provenance(self, provenance: Provenance) -> None:
        """Write where this segment is made."""
        self._segments.write("provenance", provenance)

    def close(self) -> None:
        """Close the segment and free the lock."""
        self._segments.close()

    def __enter__(self) -> LatencyWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
