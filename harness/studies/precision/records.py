"""The records of a study of precisions: frozen dataclasses, written as JSON, read back with types checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lram.agents.compute import Precision
from lram.harness.storage.number_checks import check_numbers, wrong
from lram.harness.storage.records import Provenance
from lram.harness.studies.precision.study import PrecisionStudy

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class PrecisionCell:
    """One checkpoint in one precision.

    Attributes:
        checkpoint: Its label.
        spec: What names it.
        precision: Of its weights.
        title: For people; the label of the agent in its evaluation.
        folder: Name of its folder.
        digest: Of the checkpoint's weights in float32, before any rounding.
    """

    checkpoint: str
    spec: str
    precision: Precision
    title: str
    folder: str
    digest: str


@dataclass(frozen=True, slots=True)
class PrecisionPlan:
    """``precision-study.json``.

    Attributes:
        protocols: Ids of the evaluation's protocols.
        cells: All precisions of one checkpoint before the next, in the order of the study's.
        versions: Of what computes.
    """

    schema: int
    study: PrecisionStudy
    protocols: tuple[str, ...]
    cells: tuple[PrecisionCell, ...]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TaskAgreement:
    """Actions of one precision beside those that the first one took, on one task.

    Attributes:
        task: ``domain/name``.
        continuous: Whether actions are.
        decisions: So many.
        equal: Of them, with equal actions: in the same bin in all dimensions, where they are continuous.
        difference: Sum over decisions of the mean |difference| over the dimensions, in the units of [-1, 1];
            of discrete actions 0 or 1 each.
        largest: The largest |difference| in any dimension of any decision.
    """

    task: str
    continuous: bool
    decisions: int
    equal: int
    difference: float
    largest: float


@dataclass(frozen=True, slots=True)
class PrecisionAgreement:
    """``agreement.json`` of a cell."""

    schema: int
    title: str
    tasks: tuple[TaskAgreement, ...]


@dataclass(frozen=True, slots=True)
class PrecisionPoint:
    """Decisions of one precision at one batch and context, taken in turns with the others'.

    Attributes:
        batch: Lanes that decided at once.
        context: Timesteps that every lane had read before the first of these decisions.
        ms: Milliseconds of each decision of all lanes, in order.
        cpu_ms: The processor's time of each.
        state_bytes: What the agent held for all lanes.
        weight_bytes: Of the weights, as the step reads them.
    """

    precision: Precision
    batch: int
    context: int
    ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    state_bytes: int
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class PrecisionTimes:
    """``timing/<checkpoint>-<precision>.json``: one checkpoint in all precisions.

    Attributes:
        steps: Form of the step, by precision.
        load: Processes that wanted a core in the minute before.
        made: Where.
    """

    schema: int
    checkpoint: str
    digest: str
    steps: Mapping[str, str]
    load: float
    points: tuple[PrecisionPoint, ...]
    made: Provenance


def check_plan(file: Path, plan: PrecisionPlan) -> None:
    """Raise LramError, naming ``file``, where ``plan`` is of no study."""
    check_numbers(plan, file)
    plan.study.check()
    labels = dict.fromkeys(cell.checkpoint for cell in plan.cells)
    wanted = [(label, precision) for label in labels for precision in plan.study.precisions]
    found = [(cell.checkpoint, cell.precision) for cell in plan.cells]
    if found != wanted or len(labels) != len(plan.study.checkpoints):
        raise wrong(file, "its cells are not those of its checkpoints and precisions")
    folders = [cell.folder for cell in plan.cells]
    if len(set(folders)) < len(folders):
        raise wrong(file, "two cells have one folder")
    for cell in plan.cells:
        if cell.folder in ("", ".", "..") or "/" in cell.folder or "\x00" in cell.folder:
            raise wrong(file, f"the cell {cell.title!r} lies in {cell.folder!r}, which is no name")


def check_agreement(file: Path, found: PrecisionAgreement) -> None:
    """Raise LramError, naming ``file``, where ``found`` cannot have been counted."""
    check_numbers(found, file)
    for task in found.tasks:
        if not 0 <= task.equal <= task.decisions or task.decisions < 1:
            raise wrong(file, f"of {task.decisions} decisions on {task.task} {task.equal} are equal")
        if min(task.difference, task.largest) < 0:
            raise wrong(file, f"the actions on {task.task} differ by less than nothing")


def check_times(file: Path, times: PrecisionTimes) -> None:
    """Raise LramError, naming ``file``, where ``times`` cannot have been measured."""
    check_numbers(times, file)
    for point in times.points:
        if not point.ms or len(point.ms) != len(point.cpu_ms) or min(point.ms) <= 0 or min(point.cpu_ms) < 0:
            raise wrong(file, f"decisions at context {point.context} took no time")
        if min(point.batch, point.context) < 1 or min(point.state_bytes, point.weight_bytes) < 0:
            raise wrong(file, f"decisions of {point.batch} lanes at context {point.context} cannot be")
