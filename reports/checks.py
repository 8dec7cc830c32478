"""Records as reports believe them: what their readers do not look at, for each kind of folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lram.envs.scores import audit
from lram.harness.ablation import checks as of_study
from lram.harness.ablation.folder import STUDY_FILE, CellFolder, StudyFolder
from lram.harness.extrapolation import checks as of_extrapolation
from lram.harness.extrapolation.folder import MARKER, Extrapolation
from lram.harness.latency import checks as of_latency
from lram.harness.latency.folder import PLAN_FILE as LATENCY_FILE
from lram.harness.latency.folder import LatencyRun
from lram.harness.number_checks import LARGEST, LARGEST_INT, check_numbers, wrong
from lram.harness.records import EpisodeRecord
from lram.harness.store import PLAN_FILE, Run

_LEAST_SPREAD = 1e-12
"""Between a task's score references: below, a score is noise of the division."""


def check_run(run: Run) -> None:
    """Raise LramError where the plan of ``run`` holds numbers that nothing can be made of."""
    file = run.path / PLAN_FILE
    check_numbers(run.plan, file)
    for planned in run.plan.tasks:
        task = planned.task
        if audit(task) is None and task.score_random is not None and task.score_reference is not None:
            spread = task.score_reference - task.score_random
            if not spread >= _LEAST_SPREAD:
                raise wrong(file, f"the score references of {task.id} are {spread:g} apart")
    for label in {skip.agent for skip in run.plan.skipped} - {agent.label for agent in run.plan.agents}:
        raise wrong(file, f"{label!r}, which cannot play a task, is none of its agents")
    for name in {skip.task for skip in run.plan.skipped} - {planned.task.id for planned in run.plan.tasks}:
        raise wrong(file, f"{name!r}, which an agent cannot play, is none of its tasks")


def check_record(run: Run, record: EpisodeRecord) -> None:
    """Raise LramError where sums over records like ``record`` would overflow. Cheap: it sees every record."""
    value, measured = record.episode_return, record.measured
    if (
        (value is not None and not -LARGEST <= value <= LARGEST)
        or not 0 <= (record.length or 0) <= LARGEST_INT
        or record.failures > LARGEST_INT
        or measured.held > LARGEST_INT
        or (record.parts and not all(-LARGEST <= part <= LARGEST for part in record.parts))
        or (record.repeated is not None and not 0 <= record.repeated <= LARGEST_INT)
    ):
        raise wrong(run.path / "records", f"the record of {record.item.id} has numbers that no episode gives")


def open_latency(folder: Path) -> LatencyRun:
    """Return the sweep in ``folder``; LramError where there is none, or one that cannot be."""
    run = LatencyRun(folder)
    of_latency.check_plan(run.path / LATENCY_FILE, run.plan)
    for point in run.points():
        of_latency.check_point(run.path / "records", point)
    return run


def open_extrapolation(folder: Path) -> Extrapolation:
    """Return the extrapolation in ``folder``; LramError where there is none, or one that cannot be."""
    found = Extrapolation(folder)
    of_extrapolation.check_plan(found.path / MARKER, found.plan)
    for record in found.losses():
        of_extrapolation.check_loss(found.path / "loss", record)
    for valid in found.validity():
        of_extrapolation.check_validity(found.path / "validity", valid)
    return found


def open_study(folder: str | Path) -> StudyFolder:
    """Return the study in ``folder``; LramError where there is none, or one that cannot be."""
    found = StudyFolder(folder)
    of_study.check_plan(found.path / STUDY_FILE, found.plan)
    return found


def check_cell(cell: CellFolder) -> None:
    """Raise LramError where the files of ``cell`` say what cannot be."""
    of_study.check_cell(cell.path, cell.copies(), cell.times(), cell.done())
    run = cell.run()
    if run is not None:
        check_run(run)
        for record in run.records():
            check_record(run, record)


def last_loss(file: Path, lines: Sequence[dict[str, Any]]) -> float | None:
    """Return the loss of the last validation among ``lines`` of ``file``; NaN where it was not finite.

    None where there was no validation; LramError where a line is none.
    """
    found = [line for line in lines if _kind(file, line) == "validation"]
    if not found:
        return None
    loss = found[-1].get("loss", "missing")  # JSON has no NaN and no infinity: they were written as null
    if loss is None:
        return float("nan")
    if isinstance(loss, bool) or not isinstance(loss, int | float):
        raise wrong(file, f"the loss of the last validation is {str(loss)[:80]!r}")
    check_numbers(loss, file, "loss")
    return float(loss)


def _kind(file: Path, line: dict[str, Any]) -> str:
    kind = line.get("kind")
    if not isinstance(kind, str):
        raise wrong(file, "a line does not say of which kind it is")
    return kind
