"""The folder of a study of precisions.

::

    FOLDER/
        precision-study.json            the study, and its cells
        cells/<checkpoint>-<precision>/
            eval/                       a run of lram eval
            agreement.json              its actions beside those that the first precision took
        play/<checkpoint>-<precision>/  trajectories that the first precision played, as lram collect has them
        play/<...>.json                 they are whole
        timing/<...>.json               times of decisions, all precisions in turns
        lock                            held while 'lram ablate' runs

Every file is whole or not there, and what is there is not made again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from lram.harness.errors import LramError
from lram.harness.storage.json_files import read_json
from lram.harness.storage.record_folder import RecordFolder
from lram.harness.storage.run_folder import PLAN_FILE, Run
from lram.harness.studies.precision.records import (
    SCHEMA,
    PrecisionAgreement,
    PrecisionCell,
    PrecisionPlan,
    PrecisionTimes,
    check_agreement,
    check_plan,
    check_times,
)

STUDY_FILE = "precision-study.json"

_T = TypeVar("_T", PrecisionAgreement, PrecisionTimes)


class PrecisionFolder(RecordFolder[PrecisionPlan]):
    """A study of precisions that exists on disk, for reading.

    Attributes:
        path: Its folder.
        plan: The study.
    """

    plan_file = STUDY_FILE
    lacks_plan = f"{{path}} is no study of precisions: it has no {STUDY_FILE}; 'lram ablate' makes them"

    def __init__(self, path: str | Path) -> None:
        """Read the plan in ``path``; LramError where there is none, or of another layout."""
        super().__init__(path, PrecisionPlan, SCHEMA, check_plan)

    def cells(self, checkpoint: str | None = None) -> list[PrecisionCell]:
        """Return the cells of the plan, or those of one checkpoint, made or not."""
        return [cell for cell in self.plan.cells if checkpoint in (None, cell.checkpoint)]

    def checkpoints(self) -> list[str]:
        """Return the labels of the checkpoints."""
        return list(dict.fromkeys(cell.checkpoint for cell in self.plan.cells))

    def folder(self, cell: PrecisionCell) -> Path:
        """Return the folder of a cell."""
        return self.path / "cells" / cell.folder

    def eval(self, cell: PrecisionCell) -> Path:
        """Return the folder of a cell's evaluation."""
        return self.folder(cell) / "eval"

    def agreement_file(self, cell: PrecisionCell) -> Path:
        """Return where a cell's agreement is."""
        return self.folder(cell) / "agreement.json"

    def play(self, checkpoint: str) -> Path:
        """Return the store of what the checkpoint played in the first precision."""
        return self.path / "play" / _base(self, checkpoint).folder

    def times_file(self, checkpoint: str) -> Path:
        """Return where a checkpoint's times are."""
        return self.path / "timing" / f"{_base(self, checkpoint).folder}.json"

    def run(self, cell: PrecisionCell) -> Run | None:
        """Return the evaluation of a cell; None where it was not begun, LramError where it is of another."""
        folder = self.eval(cell)
        if not (folder / PLAN_FILE).is_file():
            return None
        run, asked = Run(folder), self.plan.study.evaluation
        labels = [agent.label for agent in run.plan.agents]
        if labels != [cell.title] or (run.plan.seed, run.plan.episodes) != (asked.seed, asked.episodes):
            raise _of_another(folder, cell.title)
        return run

    def agreement(self, cell: PrecisionCell) -> PrecisionAgreement | None:
        """Return the agreement of a cell; None where it was not made."""
        file = self.agreement_file(cell)
        if not os.path.lexists(file):
            return None
        found = read_json(file, PrecisionAgreement)
        check_agreement(file, found)
        if found.title != cell.title:
            raise _of_another(file, cell.title)
        return found

    def times(self, checkpoint: str) -> PrecisionTimes | None:
        """Return the times of a checkpoint; None where they were not taken."""
        file = self.times_file(checkpoint)
        if not os.path.lexists(file):
            return None
        found = read_json(file, PrecisionTimes)
        check_times(file, found)
        if (found.checkpoint, found.digest) != (checkpoint, _base(self, checkpoint).digest):
            raise _of_another(file, checkpoint)
        return found

    def to_do(self, cell: PrecisionCell) -> str:
        """Return what of a cell is to be done next: eval, agreement, timing, or nothing."""
        run = self.run(cell)
        if run is None or run.missing():
            return "eval"
        if self.agreement(cell) is None:
            return "agreement"
        return "" if self.times(cell.checkpoint) else "timing"

    def without_checksums(self) -> list[str]:
        """Return which of plan and evaluations carry no checksum."""
        runs = [(cell, self.run(cell)) for cell in self.plan.cells]
        evals = [
            f"cells/{cell.folder}/eval/{name}"
            for cell, run in runs
            if run is not None
            for name in run.without_checksums()
        ]
        return [*super().without_checksums(), *evals]


def _base(study: PrecisionFolder, checkpoint: str) -> PrecisionCell:
    return study.cells(checkpoint)[0]


def _of_another(file: Path, title: str) -> LramError:
    return LramError(
        f"{file} is not of {title!r} in this study; put back what was there, or move it away and give "
        "'lram ablate' again"
    )
