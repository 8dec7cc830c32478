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

from lram.agents.durable import Lock
from lram.harness.extrapolation.checks import check_loss, check_plan, check_validity
from lram.harness.extrapolation.records import (
    SCHEMA,
    ExtrapolationPlan,
    LossItem,
    LossRecord,
    ValidityRecord,
)
from lram.harness.storage.links import refuse_links
from lram.harness.storage.record_folder import PROVENANCE, RecordFolder, RecordWriter
from lram.harness.storage.run_folder import PLAN_FILE, Run
from lram.harness.storage.segments import FolderKind

MARKER = "extrapolation.json"
SCORES = "scores"
_LOSS, _VALIDITY = "loss", "validity"
_KIND = FolderKind(MARKER, "an extrapolation", "lram extrapolate --resume", (_LOSS, _VALIDITY, PROVENANCE))


class Extrapolation(RecordFolder[ExtrapolationPlan]):
    """An extrapolation that exists on disk, for reading; :class:`Writer` adds to it.

    Attributes:
        path: Its folder.
        plan: What it measures.

    Raises:
        LramError: It is none, or of another version.
    """

    plan_file = MARKER
    lacks_plan = f"{{path}} is no extrapolation: it has no {MARKER}; 'lram extrapolate' makes them"
    segments = (_LOSS, _VALIDITY)

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, ExtrapolationPlan, SCHEMA, check_plan)

    @property
    def scores(self) -> Run | None:
        """The run of its scores; None where nothing is played."""
        folder = self.path / SCORES
        return Run(folder) if (folder / PLAN_FILE).is_file() else None

    def losses(self) -> list[LossRecord]:
        """Return the records of losses in the plan's order, one an item."""
        return self._planned(_LOSS, LossRecord, self.plan.readings(), lambda record: record.item, check_loss)

    def missing_losses(self) -> list[LossItem]:
        """Return what has no record yet, in the plan's order."""
        done = {record.item for record in self.losses()}
        return [item for item in self.plan.readings() if item not in done]

    def validity(self) -> list[ValidityRecord]:
        """Return the records of validity in the order of the agents, one an agent."""
        labels = [agent.label for agent in self.plan.agents]
        return self._planned(_VALIDITY, ValidityRecord, labels, lambda record: record.agent, check_validity)


class Writer(RecordWriter):
    """The one writer of an extrapolation: holds its lock, and appends to segments of its own."""

    kind = _KIND
    folder_type = Extrapolation

    def __init__(self, extrapolation: Extrapolation, held: Lock | None = None) -> None:
        """Lock it, unless its lock is ``held``; LramError when another process holds it."""
        refuse_links(extrapolation.path, (SCORES,))
        super().__init__(extrapolation, held)
        self.of = extrapolation

    @classmethod
    def create(cls, path: str | Path, plan: ExtrapolationPlan) -> Writer:
        """Make a new folder in ``path`` (absent, empty, or left so by a killed beginning) and lock it."""
        return cls._begin(path, plan, {})

    def append(self, record: LossRecord | ValidityRecord) -> None:
        """Write one record; it is on disk when this returns."""
        self._segments.append(_LOSS if isinstance(record, LossRecord) else _VALIDITY, record)
