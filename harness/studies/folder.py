"""The folder of a study.

::

    FOLDER/
        study.json             the study as it was asked for last, and its cells
        data/<key8>/           trajectory stores that the study collected; <key8>.json once they are whole
        cells/<name>-<key8>/   one training each
            train/             a run of lram train; with reused.json where another study has made it
            eval/              a run of lram eval
            copycat.json       predictions held against the last action, on held-out windows
            timing.json        times of decisions
            done.json          all of that is there
            log.txt            what its processes said
        lock                   held while 'lram ablate' runs

Every file is whole or not there, and what is there is not made again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from lram.agents.checkpoints.description import CONFIG_FILE
from lram.agents.durable import is_scratch_of, laid_by_desktop, read_regular, write_durably
from lram.harness.errors import LramError
from lram.harness.storage.json_files import DAMAGE, read_json, write_json
from lram.harness.storage.record_folder import RecordFolder
from lram.harness.storage.run_folder import PLAN_FILE, Run
from lram.harness.storage.segments import LOCK, lock
from lram.harness.studies.checks import check_copies, check_done, check_plan, check_reused, check_times
from lram.harness.studies.records import SCHEMA, CellEntry, Copies, Done, Reused, StudyPlan, Times
from lram.harness.studies.study import Evaluation

STUDY_FILE = "study.json"
REUSED_FILE = "reused.json"
SECONDS_FILE = "seconds.json"
STAGES = ("train", "eval", "copycat", "timing")

_T = TypeVar("_T", Copies, Times, Done, Reused)


class StudyFolder(RecordFolder[StudyPlan]):
    """A study that exists on disk, for reading.

    Attributes:
        path: Its folder.
        plan: The study as it was asked for last.
    """

    plan_file = STUDY_FILE
    lacks_plan = f"{{path}} is not a study: it has no {STUDY_FILE}; 'lram ablate' makes studies"

    def __init__(self, path: str | Path) -> None:
        """Read the plan in ``path``; LramError where there is none, or of another layout."""
        super().__init__(path, StudyPlan, SCHEMA, check_plan)

    def without_checksums(self) -> list[str]:
        """Return which of plan and evaluations carry no checksum, as those of earlier versions do not."""
        cells = [(cell, cell.run()) for cell in self.cells()]
        evals = [
            f"cells/{cell.entry.folder}/eval/{name}"
            for cell, run in cells
            if run is not None
            for name in run.without_checksums()
        ]
        return [*super().without_checksums(), *evals]

    def cell(self, folder: str) -> CellFolder:
        """Return the cell in the folder of that name; LramError when the plan has none."""
        for entry in self.plan.cells:
            if entry.folder == folder:
                return CellFolder(self.path, entry, self.plan.study.evaluation)
        raise LramError(f"{self.path} has no cell {folder}")

    def cells(self) -> list[CellFolder]:
        """Return all cells of the plan, made or not."""
        return [CellFolder(self.path, entry, self.plan.study.evaluation) for entry in self.plan.cells]


class CellFolder:
    """A cell of a study, made or not."""

    def __init__(self, study: Path, entry: CellEntry, evaluation: Evaluation | None = None) -> None:
        """Take the folder of the study, the cell, and how it is to be evaluated (None: not checked)."""
        self.entry, self._evaluation = entry, evaluation
        self.path = study / "cells" / entry.folder

    @property
    def train(self) -> Path:
        """Folder of the training."""
        return self.path / "train"

    @property
    def checkpoint(self) -> Path:
        """Folder of the trained model."""
        return self.train / "checkpoint"

    @property
    def eval(self) -> Path:
        """Folder of the evaluation."""
        return self.path / "eval"

    def evaluation_seed(self, evaluation: Evaluation) -> int:
        """Return the run seed of this cell's evaluation."""
        own = self.entry.evaluation_seed
        return evaluation.seed if own is None else own

    def is_trained(self) -> bool:
        """Return whether the final checkpoint is there."""
        return (self.checkpoint / CONFIG_FILE).is_file()

    def run(self) -> Run | None:
        """Return the evaluation; None where it was not begun, LramError where it is of another cell."""
        if not (self.eval / PLAN_FILE).is_file():
            return None
        run = Run(self.eval)
        labels, plan = [agent.label for agent in run.plan.agents], self._evaluation
        if labels != [self.entry.title]:
            raise self._of_another(self.eval, f"plays {', '.join(labels)}")
        if plan is not None and (run.plan.seed, run.plan.episodes) != (
            self.evaluation_seed(plan),
            plan.episodes,
        ):
            raise self._of_another(
                self.eval, f"has seed {run.plan.seed} and {run.plan.episodes} episodes a task"
            )
        return run

    def _of_another(self, file: Path, why: str) -> LramError:
        return LramError(
            f"{file} is not of the cell {self.entry.title!r}: it {why}; put back what was there, or move it "
            "away and give 'lram ablate' again"
        )

    def is_evaluated(self) -> bool:
        """Return whether every planned episode has its record."""
        run = self.run()
        return run is not None and not run.missing()

    def copies(self) -> Copies | None:
        """Return the copycat measure; None where it was not made."""
        return self._read("copycat.json", Copies, check_copies)

    def times(self) -> Times | None:
        """Return the times of decisions; None where they were not taken."""
        return self._read("timing.json", Times, check_times)

    def done(self) -> Done | None:
        """Return how the cell was made; None where it is not whole."""
        return self._read("done.json", Done, check_done)

    def reused(self) -> Reused | None:
        """Return which other study has made the training; None where it was made here, or not yet."""
        return self._read(f"train/{REUSED_FILE}", Reused, check_reused)

    def seconds(self) -> dict[str, float]:
        """Return how long each stage took so far; of another study's training, how long it took there."""
        reused = self.reused()
        found = {"train": reused.seconds} if reused is not None else {}
        with suppress(DAMAGE):  # it says how long things took, no more
            content = read_regular(self.path / SECONDS_FILE)
            found |= msgspec.json.decode(content, type=dict[str, float])
        return found

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Add to what a stage took."""
        before = self.seconds()
        after = {**before, stage: round(before.get(stage, 0.0) + seconds, 1)}
        write_durably(self.path / SECONDS_FILE, msgspec.json.encode(after))

    def stage(self) -> str:
        """Return what is to be done next: train, eval, copycat, timing, or nothing."""
        if self.done() is not None:
            return ""
        if not self.is_trained():
            return "train"
        if not self.is_evaluated():
            return "eval"
        return "timing" if (self.path / "copycat.json").is_file() else "copycat"

    def write(self, name: str, record: Copies | Times | Done) -> None:
        """Write ``copycat.json``, ``timing.json`` or ``done.json``."""
        write_json(self.path / name, record)

    def _read(self, name: str, kind: type[_T], check: Callable[[Path, _T], None]) -> _T | None:
        file = self.path / name
        if not os.path.lexists(file):
            return None
        value = read_json(file, kind)
        check(file, value)
        if value.key not in (self.entry.key, "" if kind in (Copies, Times) else self.entry.key):
            raise self._of_another(file, f"has the key {value.key[:8]!r}")
        return value


def check_place(path: Path) -> None:
    """Raise LramError where ``path`` holds something else than a study, or than what one that was killed
    before it had its plan has left. Whoever else's files are there are not written over.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise LramError(f"{path} is a file; give a folder for the study")
    if os.path.lexists(path / STUDY_FILE):
        StudyFolder(path)
        return
    if any(not left_by_a_beginning(entry, STUDY_FILE, "data") for entry in path.iterdir()):
        raise LramError(f"{path} holds something else than a study; give another folder")


def left_by_a_beginning(entry: Path, plan_file: str, *rooms: str) -> bool:
    """Return whether a study that was killed before it had its plan may have left ``entry``.

    Args:
        entry: What lies in the study's folder.
        plan_file: Name of the plan.
        rooms: Folders that are filled before the plan is there.
    """
    if laid_by_desktop(entry.name):
        return True
    if not (entry.parent / LOCK).is_file() or entry.is_symlink():
        return False
    if entry.name == LOCK:
        return entry.stat().st_size == 0
    return entry.name in rooms if entry.is_dir() else is_scratch_of(entry.name, plan_file)


def write_plan(path: Path, plan: StudyPlan) -> None:
    """Write ``study.json``."""
    write_json(path / STUDY_FILE, plan)


@contextmanager
def held(file: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock; LramError when another process has it and it is not waited for."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with lock(file, wait=wait):
        yield
