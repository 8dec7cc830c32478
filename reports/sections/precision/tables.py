"""The tables of studies of precisions: scores, actions, costs, tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lram.envs.scores import Normaliser
from lram.harness.studies.precision.records import TaskAgreement
from lram.reports import forms, text
from lram.reports.model import rounded
from lram.reports.sections.precision.model import PrecisionCost, PrecisionFindings, PrecisionResult
from lram.reports.table import Column, Part, Table, TableCell, hidden, normaliser_column, words

Found = tuple[PrecisionFindings, PrecisionResult]
_Cost = tuple[PrecisionFindings, PrecisionResult, PrecisionCost]

_megabytes = forms.numbers(lambda size: text.figures(size / 1e6))


def tables(
    found: Sequence[PrecisionFindings], keys: Sequence[str], normaliser: Normaliser
) -> list[Table[Any]]:
    """Return the tables: for people those of each study, for programs of all together."""
    made: list[Table[Any]] = []
    for study, key in zip(found, keys, strict=True):
        made += [scores(study, key), _actions(study, key), _costs(study, key)]
        made.append(_tasks(study, key))
    rows = [(study, row) for study in found for row in study.rows]
    return [
        *made,
        Table("", "", [*_SCORES, normaliser_column(normaliser), *_METHODS], rows, "precision_scores"),
        _task_records(rows, normaliser),
        Table("", "", _COSTS, [(*one, cost) for one in rows for cost in one[1].costs], "precision_costs"),
    ]


def scores(study: PrecisionFindings, key: str) -> Table[Found]:
    """Return the table of scores and verdicts."""
    base = study.study.precisions[0]
    caption = (
        f"{study.study.name}: normalised scores, and the difference from {base} over episodes that began "
        f"alike, with its {study.level:.0%} interval by sign flips of the pairs. The verdict is by "
        "the p that is "
        "corrected (Holm) for all rows; what a difference that was not shown is smaller than is the "
        "interval's end, for this row alone."
    )
    return Table(f"{key}-scores", caption, _SCORES, [(study, row) for row in study.rows])


_NAMES: list[Column[Any]] = [
    hidden("study", lambda row: row[0].study.name),
    words("Checkpoint", "checkpoint", lambda row: row[1].cell.checkpoint),
    words("Precision", "precision", lambda row: row[1].cell.precision),
]


def _if_any(of: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else of(value)


_PARTS: tuple[Part, ...] = tuple((end, _if_any(of)) for end, of in forms.AGGREGATE)
_SCORE = _PARTS[: len(forms.ENDS)]
"""The value of a score and the ends of its interval, where there is one."""

_SCORES: list[Column[Found]] = [
    *_NAMES,
    hidden("digest", lambda row: row[1].cell.digest),
    hidden("to_do", lambda row: row[1].to_do),
    Column("Score", "score", lambda row: row[1].score, forms.scores, parts=_SCORE),
    Column(
        "Difference",
        "difference",
        lambda row: row[1].comparison.difference if row[1].comparison else None,
        forms.estimates(forms.three),
        parts=forms.ENDS,
    ),
    Column("p", "p", lambda row: row[1].comparison.p if row[1].comparison else None, forms.p_values),
    Column(
        "p, Holm",
        "p_holm",
        lambda row: row[1].comparison.p_holm if row[1].comparison else None,
        forms.p_values,
    ),
    words("Verdict", "", lambda row: row[1].verdict),
    hidden("verdict", lambda row: row[1].word),
    hidden("smaller_than", lambda row: row[1].bound),
    Column("Tasks", "tasks", lambda row: row[1].comparison.tasks if row[1].comparison else None),
    Column("Pairs", "pairs", lambda row: row[1].comparison.episodes if row[1].comparison else None),
]


_METHODS: list[Column[Found]] = [
    hidden("score", lambda row: row[1].score, _PARTS[len(forms.ENDS) :]),
    hidden("difference", lambda row: row[1].comparison and row[1].comparison.difference, forms.METHOD),
]
"""Methods and doubts of the intervals, for programs."""


def _actions(study: PrecisionFindings, key: str) -> Table[Found]:
    percent = forms.percentages(2)
    columns: list[Column[Found]] = [
        *_NAMES,
        Column("Decisions", "", lambda row: sum(task.decisions for task in row[1].actions) or None),
        Column("Equal discrete actions, %", "", lambda row: row[1].share(continuous=False), percent),
        Column("Equal continuous actions, %", "", lambda row: row[1].share(continuous=True), percent),
        Column("Mean difference", "", lambda row: row[1].difference, forms.numbers(forms.decimals(4))),
        Column("Largest", "", lambda row: row[1].largest, forms.numbers(forms.decimals(4))),
    ]
    caption = (
        f"{study.study.name}: actions on the same observations, those that the checkpoint met in "
        f"{study.study.precisions[0]}, with the actions that it took there as the past; every task counts "
        "alike. Continuous actions are equal where all their dimensions are in the same of 256 bins; "
        "differences are of actions in [-1, 1], a bin being 0.0078."
    )
    return Table(f"{key}-actions", caption, columns, [(study, row) for row in study.rows])


_COSTS: list[Column[_Cost]] = [
    *_NAMES,
    Column("Rows", "batch", lambda row: row[2].batch),
    hidden("context", lambda row: row[2].context),
    Column("Weights, MB", "weight_bytes", lambda row: row[2].weight_bytes, _megabytes),
    Column("State, MB", "state_bytes", lambda row: row[2].state_bytes, _megabytes),
    Column("Decision, ms", "decision_ms", lambda row: row[2].ms, forms.numbers(forms.decimals(2))),
    Column("Processor, ms", "cpu_ms", lambda row: row[2].cpu_ms, forms.numbers(forms.decimals(2))),
    Column("of the first's", "cpu_ratio", lambda row: row[2].ratio, forms.numbers(forms.decimals(2))),
    hidden("load", lambda row: row[1].load),
]


def _costs(study: PrecisionFindings, key: str) -> Table[_Cost]:
    caption = (
        f"{study.study.name}: what a decision of all rows costs, observation in and action out, one thread: "
        "medians of decisions that the precisions made in turns, by the clock and in the processor's "
        "time, and "
        f"the latter as a part of {study.study.precisions[0]}'s in the same turn. Weights as the step "
        "reads them."
    )
    rows = [(study, row, cost) for row in study.rows for cost in row.costs]
    return Table(f"{key}-costs", caption, _COSTS, rows)


_TaskRow = tuple[str, str, Sequence[PrecisionResult]]


def _tasks(study: PrecisionFindings, key: str) -> Table[_TaskRow]:
    """Return one row a checkpoint and task, one column a precision: score and share of equal actions."""

    def cell(place: int) -> Callable[[_TaskRow], TableCell]:
        def made(row: _TaskRow) -> TableCell:
            result = row[2][place]
            score = (result.task_scores or {}).get(row[1])
            agreed = next((task for task in result.actions if task.task == row[1]), None)
            small = "" if agreed is None or not place else f"{_percent(agreed)} equal"
            return TableCell(text.NONE if score is None else forms.three(score), small, value=score)

        return made

    checkpoints = dict.fromkeys(row.cell.checkpoint for row in study.rows)
    rows: list[_TaskRow] = []
    for label in checkpoints:
        mine = [row for row in study.rows if row.cell.checkpoint == label]
        rows += [(label, task, mine) for task in _played(mine)]
    columns: list[Column[_TaskRow]] = [
        words("Checkpoint", "", lambda row: row[0]),
        words("Task", "", lambda row: row[1]),
        *(
            Column(precision, "", cell(place), lambda made: made)
            for place, precision in enumerate(study.study.precisions)
        ),
    ]
    caption = (
        f"{study.study.name}: mean normalised score by task, and the share of actions that equal those of "
        f"{study.study.precisions[0]} on the same observations."
    )
    return Table(f"{key}-tasks", caption, columns, rows)


def _percent(agreed: TaskAgreement) -> str:
    return f"{text.percent(agreed.equal / agreed.decisions, 1)}%"


def _played(rows: Sequence[PrecisionResult]) -> list[str]:
    named = [task for row in rows for task in row.task_scores or ()]
    return list(dict.fromkeys([*named, *(task.task for row in rows for task in row.actions)]))


def _task_records(rows: Sequence[Found], normaliser: Normaliser) -> Table[Any]:
    """Return one row a cell and task, for programs."""
    made = []
    for study, row in rows:
        actions = {task.task: task for task in row.actions}
        made += [(study, row, task, actions.get(task)) for task in _played([row])]

    def of(value: Callable[[TaskAgreement], Any]) -> Callable[[Any], Any]:
        return lambda row: None if row[3] is None else value(row[3])

    columns: list[Column[Any]] = [
        *(hidden(column.key, column.value) for column in _NAMES),
        hidden("task", lambda row: row[2]),
        hidden("score", lambda row: (row[1].task_scores or {}).get(row[2])),
        hidden("decisions", of(lambda task: task.decisions)),
        hidden("equal", of(lambda task: task.equal)),
        hidden("continuous", of(lambda task: task.continuous)),
        hidden("mean_difference", of(lambda task: rounded(task.difference / task.decisions))),
        hidden("largest_difference", of(lambda task: rounded(task.largest))),
        normaliser_column(normaliser),
    ]
    return Table("", "", columns, made, "precision_tasks")
