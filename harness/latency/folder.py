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
from lram.harness.latency import inputs
from lram.harness.latency.checks import check_plan, check_point
from lram.harness.latency.records import SCHEMA, Job, LatencyPlan, LatencyPoint
from lram.harness.storage.record_folder import RecordFolder, RecordWriter
from lram.harness.storage.segments import FolderKind
from lram.harness.timing.inputs import Inputs

PLAN_FILE = "latency.json"
_PARTS = ("records", "provenance")
_KIND = FolderKind(PLAN_FILE, "a sweep", "lram latency --resume", (*_PARTS, "logs"), (inputs.FILE,))


class LatencyRun(RecordFolder[LatencyPlan]):
    """A sweep that exists on disk, for reading."""

    plan_file = PLAN_FILE
    lacks_plan = f"{{path}} holds no latencies: it has no {PLAN_FILE}; 'lram latency' makes it"
    segments = ("records",)

    def __init__(self, path: str | Path) -> None:
        """Read the plan in ``path``; LramError where there is none."""
        super().__init__(path, LatencyPlan, SCHEMA, check_plan)

    def points(self) -> list[LatencyPoint]:
        """Return what was measured, in the order of the plan, each point once."""
        planned = [(job, context) for job in self.plan.jobs() for context in self.plan.contexts]
        return self._planned(
            "records", LatencyPoint, planned, lambda point: (point.job, point.context), check_point
        )

    def missing(self) -> list[tuple[Job, tuple[int, ...]]]:
        """Return the processes that are still to run and the contexts they are to measure, in order."""
        done = {(point.job, point.context) for point in self.points()}
        left = [
            (job, tuple(context for context in self.plan.contexts if (job, context) not in done))
            for job in self.plan.jobs()
        ]
        return [(job, contexts) for job, contexts in left if contexts]


class LatencyWriter(RecordWriter):
    """The one writer of a sweep: holds its lock and appends points to a segment of its own."""

    kind = _KIND
    folder_type = LatencyRun

    def __init__(self, run: LatencyRun, held: Lock | None = None) -> None:
        """Lock ``run``, unless its lock is ``held``; LramError when another process holds it."""
        super().__init__(run, held)
        self.run = run
        (run.path / "logs").mkdir(exist_ok=True)

    @classmethod
    def create(cls, path: str | Path, plan: LatencyPlan, recorded: Inputs) -> LatencyWriter:
        """Make a new sweep in ``path`` (absent, empty, or left so by a killed beginning) and lock it."""
        return cls._begin(path, plan, plan.interpreters, lambda: inputs.write(Path(path), recorded))

    def append(self, point: LatencyPoint) -> None:
        """Write one point; it is on disk when this returns."""
        self._segments.append("records", point)
