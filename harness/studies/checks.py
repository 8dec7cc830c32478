"""What the plan and the cells of a study must be to be believed, whoever wrote them."""

from __future__ import annotations

from pathlib import Path

from lram.harness.storage.number_checks import check_numbers, wrong
from lram.harness.storage.seeds import evaluation_seed
from lram.harness.studies.records import Copies, Done, Reused, StudyPlan, Times


def check_plan(file: Path, plan: StudyPlan) -> None:
    """Raise LramError, naming ``file``, where ``plan`` is of no study, or a cell lies outside its folder."""
    check_numbers(plan, file)
    plan.study.check()
    known = [{level.name for level in axis.levels} for axis in plan.study.axes]
    seen = set()
    own_starts = any(cell.evaluation_seed is not None for cell in plan.cells)
    for cell in plan.cells:
        fits = len(cell.levels) == len(known) and all(
            level in levels for level, levels in zip(cell.levels, known, strict=True)
        )
        if not fits or cell.seed not in plan.study.seeds:
            raise wrong(file, f"the cell {cell.title!r} is of no combination of its levels and seeds")
        own = evaluation_seed(plan.study.evaluation.seed, cell.seed) if own_starts else None
        if cell.evaluation_seed != own:
            raise wrong(
                file,
                f"the cell {cell.title!r} has the evaluation seed {cell.evaluation_seed}, which does not "
                "follow from its training seed",
            )
        if cell.folder in ("", ".", "..") or "/" in cell.folder or "\x00" in cell.folder:
            raise wrong(file, f"the cell {cell.title!r} lies in {cell.folder!r}, which is no name")
        if (cell.levels, cell.seed) in seen:
            raise wrong(file, f"the cell {cell.title!r} is there twice")
        seen.add((cell.levels, cell.seed))
        if not all(isinstance(section, dict | str | int | float) for section in cell.recipe.values()):
            raise wrong(file, f"the recipe of the cell {cell.title!r} is none")


def check_times(file: Path, times: Times) -> None:
    """Raise LramError, naming ``file``, where ``times`` cannot have been measured."""
    check_numbers(times, file)
    for point in times.points:
        if not point.ms or min(point.ms) <= 0 or min(point.batch, point.context) < 1:
            raise wrong(file, f"decisions at context {point.context} took no time")


def check_done(file: Path, done: Done) -> None:
    """Raise LramError, naming ``file``, where ``done`` tells of no cell."""
    check_numbers(done, file)
    if done.parameters < 0 or any(seconds < 0 for seconds in done.seconds.values()):
        raise wrong(file, f"it has {done.parameters} parameters, or seconds below 0")


def check_copies(file: Path, copies: Copies) -> None:
    """Raise LramError, naming ``file``, where ``copies`` cannot have been counted."""
    check_numbers(copies, file)
    for task in copies.tasks:
        counts = (task.repeated, task.data_repeated, task.both, task.right, task.right_changes)
        if task.decisions < 1 or not all(0 <= one <= task.decisions for one in counts):
            raise wrong(file, f"of {task.decisions} decisions on {task.task} it counts {counts}")
        if min(task.moved, task.data_moved, task.missed) < 0:
            raise wrong(file, f"the actions on {task.task} moved by less than nothing")


def check_reused(file: Path, reused: Reused) -> None:
    """Raise LramError, naming ``file``, where ``reused`` tells of no training."""
    check_numbers(reused, file)
    if reused.seconds < 0:
        raise wrong(file, f"its training took {reused.seconds} s")
