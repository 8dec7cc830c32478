"""Run a study of precisions: evaluate every checkpoint in each, compare actions, then take times.

What a checkpoint plays in the first precision is kept as trajectories: their observations are what the
actions of all precisions are compared on, and what decisions are timed on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lram.agents.api import AgentError
from lram.agents.places import placed
from lram.agents.trajectories import TrajectoryStore
from lram.harness.collection.collect import Notes
from lram.harness.collection.collect import collect as collect_trajectories
from lram.harness.errors import LramError
from lram.harness.evaluation import evaluate, resume
from lram.harness.executors.contract import Executor
from lram.harness.executors.local import LOCAL
from lram.harness.machine import Machine
from lram.harness.plan import labelled_specs, plan_for
from lram.harness.progress import Progress, quiet
from lram.harness.storage.json_files import read_json, write_json
from lram.harness.storage.links import refuse_links
from lram.harness.storage.provenance import collect
from lram.harness.storage.segments import LOCK
from lram.harness.studies.folder import held, left_by_a_beginning
from lram.harness.studies.precision.folder import STUDY_FILE, PrecisionFolder
from lram.harness.studies.precision.records import (
    SCHEMA,
    PrecisionAgreement,
    PrecisionCell,
    PrecisionPlan,
    PrecisionTimes,
)
from lram.harness.studies.precision.study import PrecisionStudy
from lram.harness.studies.preflight import protocols_of, request_of
from lram.harness.trust import Trust
from lram.harness.words import count

if TYPE_CHECKING:
    from lram.agents.acting.model_agent import ModelAgent

Say = Callable[[str], object]
_T = TypeVar("_T")

_COMPUTING = ("torch", "numpy", "lram-bench")


@dataclass(frozen=True, slots=True)
class FailedPrecision:
    """A checkpoint that could not be measured to the end in some precision, and why."""

    title: str
    reason: str


def ablate_precisions(
    study: PrecisionStudy,
    folder: str | Path,
    *,
    workers: int = 1,
    executor: Executor = LOCAL,
    say: Say = lambda line: None,
    progress: Progress = quiet,
) -> tuple[PrecisionFolder, list[FailedPrecision]]:
    """Measure what of ``study`` is not in ``folder`` yet.

    Args:
        study: The study.
        folder: Where; one of the same study is continued.
        workers: Processes of simulators.
        executor: Where episodes are played; actions are compared and decisions timed here.
        say: Told what happens.
        progress: Told of the episodes.

    Returns:
        The study on disk, and what failed.

    Raises:
        LramError, AgentError: The study cannot be run as it is, or ``folder`` holds something else.
        KeyboardInterrupt: What was made is kept.
    """
    machine = Machine(workers=workers)
    machine.check()
    path = placed(folder)
    _check_place(path)
    with held(path / LOCK):
        refuse_links(path, (STUDY_FILE, "cells", "play", "timing"))
        plan = _plan(study, executor, machine)
        opened = _opened(path, plan)
        say(f"{count(len(plan.cells), 'cell')}: {'; '.join(cell.title for cell in plan.cells)}")
        failed: list[FailedPrecision] = []
        run = _Running(opened, machine, executor, say, progress)
        for stage in (run.evaluate, run.compare):
            for cell in plan.cells:
                if not any(cell.title == lost.title for lost in failed):
                    failed += _tried(cell.title, stage, cell)
        for label in opened.checkpoints():
            if not any(cell.title == lost.title for cell in opened.cells(label) for lost in failed):
                failed += _tried(label, run.time, label)
    return opened, failed


def _tried(title: str, work: Callable[[_T], None], of: _T) -> list[FailedPrecision]:
    try:
        work(of)
    except (LramError, AgentError) as error:
        return [FailedPrecision(title, str(error))]
    return []


@dataclass(frozen=True, slots=True)
class _Running:
    """The stages of a study; each does what is not there."""

    of: PrecisionFolder
    machine: Machine
    executor: Executor
    say: Say
    progress: Progress

    def evaluate(self, cell: PrecisionCell) -> None:
        """Play the evaluation of a cell."""
        asked, run = self.of.plan.study.evaluation, self.of.run(cell)
        machine = Machine(workers=self.machine.workers, precision=cell.precision)
        if run is not None:
            if run.missing():
                self.say(f"{cell.title}: evaluation continues")
                trust = Trust(specs=[cell.spec])
                resume(run, machine=machine, executor=self.executor, progress=self.progress, trust=trust)
            return
        self.say(f"{cell.title}: evaluation")
        evaluate(
            {cell.title: cell.spec},
            list(asked.tasks),
            self.of.eval(cell),
            episodes=asked.episodes,
            seed=asked.seed,
            protocols=asked.protocols,
            machine=machine,
            executor=self.executor,
            progress=self.progress,
        )

    def compare(self, cell: PrecisionCell) -> None:
        """Compare the actions of a cell with those that its checkpoint took in the first precision."""
        if self.of.agreement(cell) is not None:
            return
        from lram.harness.studies.precision.agreement import agreement

        store, agent = self._played(cell.checkpoint), _model(cell)
        found = agreement(agent, store, lambda task: self.say(f"{cell.title}: actions on {task}"))
        write_json(self.of.agreement_file(cell), PrecisionAgreement(SCHEMA, cell.title, found))

    def time(self, checkpoint: str) -> None:
        """Time the decisions of a checkpoint in all precisions."""
        if self.of.times(checkpoint) is not None:
            return
        from lram.harness.studies.precision.timing import time_precisions

        study, base = self.of.plan.study, self.of.cells(checkpoint)[0]
        self.say(f"{checkpoint}: times of decisions")
        load = os.getloadavg()[0]
        store = self._played(checkpoint)
        steps, points = time_precisions(base.spec, study.precisions, store, study.timing)
        made = collect({"threads": 1}, {})
        file = self.of.times_file(checkpoint)
        file.parent.mkdir(exist_ok=True)
        write_json(file, PrecisionTimes(SCHEMA, checkpoint, base.digest, steps, round(load, 2), points, made))

    def _played(self, checkpoint: str) -> TrajectoryStore:
        """Return what a checkpoint played in the first precision; it is played as far as it is not there."""
        study, base, store = self.of.plan.study, self.of.cells(checkpoint)[0], self.of.play(checkpoint)
        marker = store.with_name(f"{store.name}.json")
        if not marker.is_file():
            self.say(
                f"{base.title}: {count(study.agreement.episodes, 'episode')} a task to compare actions on"
            )
            store.parent.mkdir(exist_ok=True)
            collect_trajectories(
                {base.title: base.spec},
                list(study.evaluation.tasks),
                store,
                episodes=study.agreement.episodes,
                seed=study.evaluation.seed,
                protocols=study.evaluation.protocols,
                machine=Machine(workers=self.machine.workers, precision=base.precision),
                notes=Notes("played by a study of precisions"),
                executor=self.executor,
                progress=self.progress,
            )
            write_json(marker, {"digest": TrajectoryStore(store).digest})
        opened = TrajectoryStore(store)
        if read_json(marker, dict[str, str]).get("digest") != opened.digest:
            raise LramError(
                f"the trajectories in {store} have changed since they were played; remove {marker}"
            )
        if not len(opened):
            raise LramError(f"{base.title} finished no episode, so there is nothing to compare actions on")
        return opened


def labelled(study: PrecisionStudy) -> dict[str, str]:
    """Return the specification of each checkpoint by its label; LramError where two have one."""
    return {label: str(spec) for label, spec in labelled_specs(list(study.checkpoints)).items()}


def _plan(study: PrecisionStudy, executor: Executor, machine: Machine) -> PrecisionPlan:
    """Return the plan of a study whose names were looked up and whose checkpoints were loaded."""
    from lram.harness.studies.precision.timing import model_agent

    cells: list[PrecisionCell] = []
    for label, spec in labelled(study).items():
        where = str(Path(spec).resolve()) if Path(spec).exists() and os.sep in spec else spec
        digest = model_agent(where, "float32").info.digest
        for precision in study.precisions:
            name = re.sub(r"[^A-Za-z0-9._]+", "-", f"{label}-{precision}").strip("-.")
            taken = [cell.folder for cell in cells]
            folder = name if name not in taken else f"{name}-{len(taken)}"
            cells.append(PrecisionCell(label, where, precision, f"{label}, {precision}", folder, digest))
    with executor.open(machine) as session:
        planned, _ = plan_for(request_of(study.evaluation), session)
    versions = {name: version(name) for name in _COMPUTING}
    return PrecisionPlan(SCHEMA, study, protocols_of(planned), tuple(cells), versions)


def _opened(path: Path, plan: PrecisionPlan) -> PrecisionFolder:
    """Return the study in ``path``, written where it is new; LramError where another one is there."""
    if not os.path.lexists(path / STUDY_FILE):
        write_json(path / STUDY_FILE, plan)
        return PrecisionFolder(path)
    opened = PrecisionFolder(path)
    before = opened.plan
    for what, old, new in (
        ("asks for something else", before.study, plan.study),
        ("has other protocols", before.protocols, plan.protocols),
        ("has other weights of its checkpoints", before.cells, plan.cells),
        ("was made with other versions of PyTorch or NumPy", _numbers(before), _numbers(plan)),
    ):
        if old != new:
            raise LramError(f"the study in {path} {what}; give another folder with -o")
    return opened


def _numbers(plan: PrecisionPlan) -> list[str | None]:
    return [plan.versions.get(name) for name in ("torch", "numpy")]


def _check_place(path: Path) -> None:
    """Raise LramError where ``path`` holds something else than a study of precisions, or than what one that
    was killed before it had its plan has left.
    """
    if path.exists() and not path.is_dir():
        raise LramError(f"{path} is a file; give a folder for the study")
    if not path.is_dir() or os.path.lexists(path / STUDY_FILE):
        return
    if any(not left_by_a_beginning(entry, STUDY_FILE) for entry in path.iterdir()):
        raise LramError(f"{path} holds something else than a study of precisions; give another folder")


def _model(cell: PrecisionCell) -> ModelAgent:
    from lram.harness.studies.precision.timing import model_agent

    return model_agent(cell.spec, cell.precision)
