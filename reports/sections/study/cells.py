"""A study's cells as numbers: what each of them measured, by task and episode where it has those.

Everything is read from the records: evaluations, metrics of trainings, copycat counts and times.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lram.agents.api import AgentError
from lram.agents.training.heldout import recorded_facts
from lram.agents.training.recipe import EARLIER_DEFAULTS
from lram.agents.training.sampling import weightless
from lram.agents.training.sinks import METRICS_FILE, read_metrics
from lram.envs.scores import Normaliser, audit, normalise, normalised_by
from lram.envs.task import Task
from lram.harness.errors import LramError
from lram.harness.storage.records import EpisodeRecord
from lram.harness.storage.run_folder import Run
from lram.harness.studies.folder import CellFolder, StudyFolder
from lram.harness.studies.records import Copies, Times
from lram.harness.studies.study import Axis, Statement, Study
from lram.reports.evidence.collect import collect
from lram.reports.evidence.trainings import card_of
from lram.reports.model.training import HeldOut
from lram.reports.sections.dials.model import known_dial, trained_dials
from lram.reports.sections.study.checks import last_loss
from lram.reports.summary.trainings import held_out
from lram.reports.text import listing

Values = Mapping[str, Mapping[int, float]]
"""By task, by episode. What a cell has one number of has the task ``""`` and the episode 0."""


@dataclass(frozen=True, slots=True)
class StudyMeasure:
    """Something that is measured of every cell, and by which levels are compared.

    Attributes:
        key: Its name for programs.
        name: For people.
        better: Which way is better; None where neither is.
        episodes: Whether it is measured episode by episode, so that it has episode noise.
        ratio: Whether levels are compared by their ratio; the values are then logarithms.
        unit: Of a difference; empty for a pure number.
    """

    key: str
    name: str
    better: Literal["higher", "lower"] | None
    episodes: bool = False
    ratio: bool = False
    unit: str = ""


SCORE = StudyMeasure("score", "normalised score", "higher", episodes=True)
TRAINED = StudyMeasure("score_trained", "score up to the dial trained on", "higher", episodes=True)
BEYOND = StudyMeasure("score_beyond", "score beyond the dial trained on", "higher", episodes=True)
"""The score apart for tasks of a family that was trained on, by the value of their dial
(:class:`lram.envs.task.Dial`); no cell has them where no task has a dial."""

LOSS = StudyMeasure("validation_loss", "validation loss", "lower")
REPEATED = StudyMeasure("repeated_in_play", "repeated actions in play", None, episodes=True)
COPIED = StudyMeasure("repeated_predictions", "predicted repetitions", None)
LATENCY = StudyMeasure("decision_ms", "time of a decision", "lower", ratio=True, unit="ms")
MEASURES = (SCORE, TRAINED, BEYOND, LOSS, COPIED, REPEATED, LATENCY)


@dataclass(frozen=True, slots=True)
class CellValues:
    """What one cell measured.

    Attributes:
        levels: Name of the level of each axis.
        seed: Of the training.
        stage: What is to be done next; empty when the cell is whole.
        parameters: Weights; None before the cell is whole.
        values: By the measure's key; only what is there.
        loss, decision_ms: Validation loss at the end; median time of a decision, of the first batch and
            context.
        diverged: That loss is no finite number; ``loss`` is None then.
        copied, data_copied: Share of predictions, and of the data's own actions, in the same bins as the
            last action: mean over tasks.
        step_ratio: Mean |prediction - last action| over the data's mean |action - last action|.
        load: The machine's load average when the times were taken.
        errored: Episodes without a score, those in ``failed`` included.
        failed: Episodes that failed by the model's own errors.
        uncounted: Why there is no score on a task that such failures left without one, by task; tasks
            without a usable score reference are not in it.
        train_s: Seconds that training took.
        by_task: Mean normalised score by task; without those in ``uncounted``.
        training_tasks: Ids of the tasks that it was trained on; None where that is not recorded.
        simulator_seeds: Of each scored episode, by task and episode.
        reused: Name of the study whose training it is, where that is another one.
        split: What was trained and validated on; None where the checkpoint's card does not tell.
        split_unknown: There is a card, of an earlier version, that does not tell it.
    """

    levels: tuple[str, ...]
    seed: int
    title: str
    key: str
    stage: str
    parameters: int | None
    values: Mapping[str, Values]
    loss: float | None = None
    diverged: bool = False
    decision_ms: float | None = None
    copied: float | None = None
    data_copied: float | None = None
    step_ratio: float | None = None
    load: float | None = None
    errored: int = 0
    failed: int = 0
    uncounted: Mapping[str, str] = field(default_factory=dict)
    train_s: float | None = None
    by_task: Mapping[str, float] = field(default_factory=dict)
    simulator_seeds: Mapping[tuple[str, int], int] = field(default_factory=dict)
    training_tasks: tuple[str, ...] | None = None
    reused: str = ""
    split: HeldOut | None = None
    split_unknown: bool = False

    @property
    def is_evaluated(self) -> bool:
        """Whether all that is left to do is to time its decisions, or nothing."""
        return self.stage in ("", "timing")

    def obstacle(self, measure: StudyMeasure) -> str:
        """Return why the model's own failures leave the cell without a value of ``measure``, else ``""``.

        A cell that is not made yet has no obstacle: nothing is known of it.
        """
        if measure is LOSS:
            return "the validation loss is no finite number" if self.diverged else ""
        within, beyond = by_reach(self.uncounted, self.training_tasks)
        of = {SCORE.key: set(self.uncounted), TRAINED.key: within, BEYOND.key: beyond}.get(measure.key, set())
        without = [task for task in self.uncounted if task in of]
        return f"{listing(without)}: {self.uncounted[without[0]]}" if without else ""


@dataclass(frozen=True, slots=True)
class StudyValues:
    """A study with what its cells measured.

    Attributes:
        incomparable: Why what is measured on held-out windows does not compare between levels; empty where
            it does.
        unscored: Tasks without a usable score reference, which no score rests on.
        earlier_predictions: Predictions that were replaced after the first training.
        own_starts: Each training seed was evaluated on initial states of its own; False: all on the same
        ones.
    """

    path: Path
    study: Study
    cells: tuple[CellValues, ...]
    incomparable: str
    unscored: tuple[str, ...]
    own_starts: bool = True
    earlier_predictions: tuple[tuple[Statement, ...], ...] = ()

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The study's axes; the first level of each is the base."""
        return self.study.axes

    def measured(self, measure: StudyMeasure) -> dict[tuple[tuple[str, ...], int], CellValues]:
        """Return the cells that have values of ``measure``, by levels and seed."""
        return {(cell.levels, cell.seed): cell for cell in self.cells if cell.values.get(measure.key)}


def read_cells(folder: str | Path, normaliser: Normaliser = "paper") -> StudyValues:
    """Read a study's folder, scores by ``normaliser``; LramError where it is none or a record is damaged."""
    opened = StudyFolder(folder)
    incomparable = _incomparable(opened)
    unscored: dict[str, None] = {}
    cells = []
    for cell in opened.cells():
        run = cell.run() if cell.is_trained() else None
        tasks = [normalised_by(normaliser, one.task, one.protocol) for one in run.plan.tasks] if run else []
        unscored.update({task.id: None for task in tasks if audit(task) is not None})
        cells.append(_cell(cell, run, {task.id: task for task in tasks}, comparable=not incomparable))
    plan = opened.plan
    return StudyValues(
        Path(folder),
        plan.study,
        tuple(cells),
        incomparable,
        tuple(unscored),
        plan.own_starts,
        plan.earlier_predictions,
    )


def _cell(cell: CellFolder, run: Run | None, tasks: Mapping[str, Task], *, comparable: bool) -> CellValues:
    done, copies, times = cell.done(), cell.copies(), cell.times()
    values: dict[str, Values] = {}
    by_task: dict[str, float] = {}
    seeds: dict[tuple[str, int], int] = {}
    uncounted: dict[str, str] = {}
    errored = failed = 0
    if run is not None and not run.missing():
        records = run.records()
        scored = [record for record in records if record.status == "scored"]
        errored = len(records) - len(scored)
        played = collect([run]).cells
        counted = [record for one in played.values() for record in one.counted.values()]
        seeds = {(record.task, record.episode): record.seed for record in counted}
        failed = sum(one.failed for one in played.values())
        uncounted = {
            task: one.obstacle
            for (_, task), one in played.items()
            if one.obstacle and audit(tasks[task]) is None
        }
        scores = _by_episode(counted, lambda record: _score(tasks[record.task], record))
        training = run.plan.agents[0].info.training_tasks
        for measure, inside in zip(
            (SCORE, TRAINED, BEYOND), (set(tasks), *by_reach(tasks, training)), strict=True
        ):
            # A failure of the model's own that nothing can stand for would raise the mean by being left out.
            if not inside & uncounted.keys():
                values[measure.key] = {task: found for task, found in scores.items() if task in inside}
        values[REPEATED.key] = _by_episode(scored, _repeated)
        by_task = {task: statistics.fmean(found.values()) for task, found in scores.items()}
    loss = _loss(cell)
    card = card_of(cell.checkpoint) if cell.is_trained() else {}
    split = held_out(recorded_facts(card))
    if loss is not None and math.isfinite(loss) and comparable:
        values[LOSS.key] = {"": {0: loss}}
    copied = data_copied = step_ratio = None
    if copies is not None and copies.tasks:
        copied, data_copied, step_ratio = _shares(copies)
        if comparable:
            values[COPIED.key] = {"": {0: copied}}
    decision = _median(times)
    if decision is not None:
        values[LATENCY.key] = {"": {0: decision}}
    return CellValues(
        levels=cell.entry.levels,
        seed=cell.entry.seed,
        title=cell.entry.title,
        key=cell.entry.key,
        stage=cell.stage(),
        parameters=done.parameters if done else None,
        values={key: found for key, found in values.items() if found},
        loss=loss if loss is None or math.isfinite(loss) else None,
        diverged=loss is not None and not math.isfinite(loss),
        decision_ms=decision,
        copied=copied,
        data_copied=data_copied,
        step_ratio=step_ratio,
        load=times.load if times else None,
        errored=errored,
        failed=failed,
        uncounted=uncounted,
        train_s=done.seconds.get("train") if done else None,
        by_task=by_task,
        simulator_seeds=seeds,
        training_tasks=run.plan.agents[0].info.training_tasks if run is not None else None,
        reused=reused.study if (reused := cell.reused()) is not None else "",
        split=split,
        split_unknown=bool(card) and split is None,
    )


def by_reach(tasks: Iterable[str], training_tasks: Sequence[str] | None) -> tuple[set[str], set[str]]:
    """Return which of ``tasks`` have a dial up to the largest value of their family that was trained on, and
    which have one beyond it; families that were not trained on are in neither.
    """
    within: set[str] = set()
    beyond: set[str] = set()
    for task in tasks:
        dial = known_dial(task)
        trained = trained_dials(training_tasks, task.partition("/")[0], dial.family) if dial else None
        if dial and trained:
            (within if dial.value <= trained[-1] else beyond).add(task)
    return within, beyond


def _by_episode(
    records: list[EpisodeRecord], of: Callable[[EpisodeRecord], float | None]
) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for record in records:
        value = of(record)
        if value is not None:
            found.setdefault(record.task, {})[record.episode] = value
    return found


def _score(task: Task, record: EpisodeRecord) -> float | None:
    return None if record.episode_return is None else normalise(task, record.episode_return)


def _repeated(record: EpisodeRecord) -> float | None:
    if record.repeated is None or record.length is None or record.length < 2:
        return None
    return record.repeated / (record.length - 1)


def _loss(cell: CellFolder) -> float | None:
    """Return the loss of the last validation of a training that has ended; NaN where it was not finite."""
    if not cell.is_trained():
        return None
    file = cell.train / METRICS_FILE
    try:
        return last_loss(file, read_metrics(file))
    except (AgentError, OSError) as error:
        raise LramError(f"the training {cell.train} cannot be read: {error}") from error


def _shares(copies: Copies) -> tuple[float, float, float | None]:
    """Return the shares of repetitions, predicted and of the data, and the ratio of the steps' sizes."""
    predicted = statistics.fmean(task.repeated / task.decisions for task in copies.tasks)
    data = statistics.fmean(task.data_repeated / task.decisions for task in copies.tasks)
    moved = statistics.fmean(task.moved / task.decisions for task in copies.tasks)
    data_moved = statistics.fmean(task.data_moved / task.decisions for task in copies.tasks)
    return predicted, data, moved / data_moved if data_moved else None


def _median(times: Times | None) -> float | None:
    return statistics.median(times.points[0].ms) if times is not None and times.points else None


def _incomparable(study: StudyFolder) -> str:
    """Return why the cells' validation losses are of other windows or targets; empty where they are not."""
    cells = study.plan.cells
    for name, section, field_ in (
        ("windows of different lengths", "sampling", "context"),
        ("different numbers of windows", "validation", "windows"),
        ("different tasks", "data", "tasks"),
        ("trajectories of different policies", "data", "policies"),
        ("different held-out trajectories", "data", "validation_share"),
        ("differently drawn trajectories", "data", "seed"),
        ("held-out trajectories of different kinds (data.validation_unit)", "data", "validation_unit"),
        ("different targets (data.labels)", "data", "labels"),
    ):
        usual = EARLIER_DEFAULTS.get(f"{section}.{field_}")  # a recipe of an earlier version lacks the field
        if len({str(_part(entry.recipe, section).get(field_, usual)) for entry in cells}) > 1:
            return f"levels are validated on {name}"
    # Of a domain of weight 0 nothing is validated on either.
    if len({weightless(_part(_part(entry.recipe, "sampling"), "domain_weights")) for entry in cells}) > 1:
        return "levels are validated on different domains (weights of 0 in sampling.domain_weights)"
    return ""


def _part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = of.get(name)
    return found if isinstance(found, Mapping) else {}
