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

from pathlib import Path
from types import TracebackType

from lram.agents.durable import Lock
from lram.agents.places import placed
from lram.harness.errors import LramError
from lram.harness.extrapolation.checks import check_loss, check_plan, check_validity
from lram.harness.extrapolation.records import (
    SCHEMA,
    ExtrapolationPlan,
    LossItem,
    LossRecord,
    ValidityRecord,
)
from lram.harness.storage.json_files import check_layout, read_signed
from lram.harness.storage.links import refuse_links
from lram.harness.storage.records import Provenance
from lram.harness.storage.run_folder import PLAN_FILE, Run
from lram.harness.storage.segments import FolderKind, Once, SegmentWriter, read_records, without_checksums
from lram.harness.trust import remember

MARKER = "extrapolation.json"
SCORES = "scores"
_LOSS, _VALIDITY, _PROVENANCE = "loss", "validity", "provenance"
_PARTS = (_LOSS, _VALIDITY, _PROVENANCE)
_KIND = FolderKind(MARKER, "an extrapolation", "lram extrapolate --resume", _PARTS)


class Extrapolation:
    """An extrapolation that exists on disk, for reading; :class:`Writer` adds to it.

    Attributes:
        path: Its folder.
        plan: What it measures.

    Raises:
        LramError: It is none, or of another version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = placed(path)
        file = self.path / MARKER
        if not file.is_file():
            raise LramError(
                f"{self.path} is no extrapolation: it has no {MARKER}; 'lram extrapolate' makes them"
            )
        self.plan, self._signed = read_signed(file, ExtrapolationPlan)
        check_layout(file, self.plan.schema, SCHEMA)
        check_plan(file, self.plan)

    @property
    def scores(self) -> Run | None:
        """The run of its scores; None where nothing is played."""
        folder = self.path / SCORES
        return Run(folder) if (folder / PLAN_FILE).is_file() else None

    def losses(self) -> list[LossRecord]:
        """Return the records of losses in the plan's order, one an item."""
        readings = self.plan.readings()
        check = Once(set(readings), lambda record: record.item)
        latest = {record.item: record for record, _ in read_records(self.path / _LOSS, LossRecord, check)}
        for record in latest.values():
            check_loss(self.path / _LOSS, record)
        return [latest[item] for item in readings if item in latest]

    def missing_losses(self) -> list[LossItem]:
        """Return what has no record yet, in the plan's order."""
        done = {record.item for record in self.losses()}
        return [item for item in self.plan.readings() if item not in done]

    def validity(self) -> list[ValidityRecord]:
        """Return the records of validity in the order of the agents, one an agent."""
        check = Once({agent.label for agent in self.plan.agents}, lambda record: record.agent)
        found = read_records(self.path / _VALIDITY, ValidityRecord, check)
        latest = {record.agent: record for record, _ in found}
        for record in latest.values():
            check_validity(self.path / _VALIDITY, record)
        return [latest[agent.label] for agent in self.plan.agents if agent.label in latest]

    def without_checksums(self) -> list[str]:
        """Return which of plan and segments carry no checksum, as those of earlier versions do not."""
        parts = [file for part in (_LOSS, _VALIDITY) for file in without_checksums(self.path / part)]
        return [*([] if self._signed else [MARKER]), *(f"{file.parent.name}/{file.name}" for file in parts)]

    def __repr__(self) -> str:
        return f"Extrapolation({str(self.path)!r})"


class Writer:
    """The one writer of an extrapolation: holds its lock, and appends to segments of its own."""

    def __init__(self, extrapolation: Extrapolation, held: Lock | None = None) -> None:
        """Lock it, unless its lock is ``held``; LramError when another process holds it."""
        self.of = extrapolation
        path = extrapolation.path
        refuse_links(path, (SCORES,))
        self._segments = SegmentWriter(path, _PARTS, f"{_KIND.resume} {path}", held)

    @classmethod
    def create(cls, path: str | Path, plan: ExtrapolationPlan) -> Writer:
        """Make a new folder in ``path`` (absent, empty, or left so by a killed beginning) and lock it."""
        held = _KIND.begin(Path(path), plan)
        try:
            remember(Path(path) / MARKER, [agent.spec for agent in plan.agents], {})
            return cls(Extrapolation(path), held)
        except BaseException:
            held.close()
            raise

    def append(self, record: LossRecord | ValidityRecord) -> None:
        """Write one record; it is on disk when this returns."""
        self._segments.append(_LOSS if isinstance(record, LossRecord) else _VALIDITY, record)

    def write_provenance(self, provenance: Provenance) -> None:
        """Write where this session is made."""
        self._segments.write(_PROVENANCE, provenance)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._segments.close()


def check_vacant(folder: Path) -> None:
    """Raise LramError when a new extrapolation cannot go into ``folder`` because something is there."""
    _KIND.check_vacant(folder)
