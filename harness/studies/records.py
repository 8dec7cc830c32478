"""The records of a study: frozen dataclasses, written as JSON and read back with their types checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lram.harness.storage.records import Provenance
from lram.harness.studies.study import Statement, Study

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class CellEntry:
    """A cell of a plan.

    Attributes:
        levels: Name of the level of each axis, in the order of the axes.
        seed: Of the training.
        title: For people; the label of its model in its evaluation.
        key: SHA-256 of what decides its numbers (:mod:`lram.harness.studies.cells`).
        folder: Name of its folder.
        recipe: What is trained, as plain values.
        evaluation_seed: Run seed of its evaluation, which follows from the training seed; None in studies
            that were begun by earlier versions, whose cells are all evaluated on the study's seed.
        code: SHA-256 of the user's own source behind its numbers, by what it is of: ``module NAME`` of the
            backbone, ``domain NAME`` of a plain file. Empty where there is none, and of a cell that was made
            by an earlier version, which did not note it.
    """

    levels: tuple[str, ...]
    seed: int
    title: str
    key: str
    folder: str
    recipe: Mapping[str, Any]
    evaluation_seed: int | None = None
    code: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """``study.json``: the study as it was asked for last.

    Attributes:
        stores: Digest of each store by its folder.
        protocols: Ids of the evaluation's protocols.
        cells: All levels of one seed before the next seed.
        earlier_predictions: Predictions that were replaced when cells had been trained already, the first one
            first; an empty one where there was none.
    """

    schema: int
    study: Study
    stores: Mapping[str, str]
    protocols: tuple[str, ...]
    cells: tuple[CellEntry, ...]
    earlier_predictions: tuple[tuple[Statement, ...], ...] = ()

    @property
    def own_starts(self) -> bool:
        """Whether each training seed is evaluated on initial states of its own."""
        return all(cell.evaluation_seed is not None for cell in self.cells)


@dataclass(frozen=True, slots=True)
class TaskCopies:
    """Counts over the held-out decisions of a task that have one before them in their window.

    An action is in the same bins as another when all its dimensions are; of discrete actions, when equal.

    Attributes:
        task: ``domain/name``.
        decisions: So many.
        repeated: Predictions in the same bins as the data's last action.
        data_repeated: The data's actions in the same bins as its last one.
        both: Decisions where both are.
        right: Predictions in the same bins as the data's action.
        right_changes: Those of them where the data's action is not a repetition.
        moved: Sum over decisions of the mean |prediction - last action| over the dimensions, as bin
            centres; 0 or 1 for discrete actions.
        data_moved: Likewise |action - last action| of the data.
        missed: Likewise |prediction - action|.
    """

    task: str
    decisions: int
    repeated: int
    data_repeated: int
    both: int
    right: int
    right_changes: int
    moved: float
    data_moved: float
    missed: float


@dataclass(frozen=True, slots=True)
class Copies:
    """``copycat.json``; no tasks where the recipe holds nothing out."""

    schema: int
    tasks: tuple[TaskCopies, ...]
    key: str = ""
    """Of the cell; empty in files of earlier versions."""


@dataclass(frozen=True, slots=True)
class TimedPoint:
    """Decisions of one batch at one context.

    Attributes:
        batch: Lanes that decided at once, each on an episode of its own.
        context: Timesteps that every lane had read before the first of these decisions.
        ms: Milliseconds of each decision of all lanes, in order.
        state_bytes: What the agent held for all lanes.
    """

    batch: int
    context: int
    ms: tuple[float, ...]
    state_bytes: int


@dataclass(frozen=True, slots=True)
class Times:
    """``timing.json``.

    Attributes:
        step: Form of the model's step.
        load: Processes that wanted a core in the minute before (the system's load average).
    """

    schema: int
    step: str
    load: float
    points: tuple[TimedPoint, ...]
    key: str = ""
    """Of the cell; empty in files of earlier versions."""


@dataclass(frozen=True, slots=True)
class Done:
    """``done.json``: the cell is whole.

    Attributes:
        seconds: By stage (train, eval, copycat, timing); of a stage that was interrupted, all its parts.
        parameters: Weights of the model.
        made: Where the last stage was done.
    """

    schema: int
    key: str
    title: str
    parameters: int
    seconds: Mapping[str, float]
    made: Provenance


@dataclass(frozen=True, slots=True)
class Reused:
    """``train/reused.json``: the training was made in another study, of a cell with the same key.

    Attributes:
        key: Of the cell.
        study, cell: Name of that study and title of its cell.
        seconds: The training took there; 0 where that is not known.
    """

    schema: int
    key: str
    study: str
    cell: str
    seconds: float
