"""The tables of studies: effects, what every combination measured, tasks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from lram.envs.scores import Normaliser
from lram.reports import forms, text
from lram.reports.model import rounded
from lram.reports.sections.study.cells import (
    BEYOND,
    LATENCY,
    LOSS,
    MEASURES,
    REPEATED,
    SCORE,
    TRAINED,
    CellValues,
    StudyMeasure,
    StudyValues,
)
from lram.reports.sections.study.effects import CANNOT_TELL, Effect, Span, measured_mean
from lram.reports.sections.study.prediction import JudgedStatement
from lram.reports.statistics import MOST_SEEDS
from lram.reports.table import EMPTY, Column, Table, TableCell, hidden, normaliser_column, words

NAMES = {measure.key: measure.name for measure in MEASURES}

Made = tuple[StudyValues, Sequence[Effect], str]
"""A study, its effects, and what the ids of its tables begin with."""


def tables(made: Sequence[Made], level: float, normaliser: Normaliser) -> list[Table[Any]]:
    """Return the tables of studies, for people in the order of the page, then for programs."""
    found: list[Table[Any]] = []
    for study, effects, key in made:
        found += [effects_of(study, effects, key, level), _combinations(study, key)]
        if any(cell.by_task for cell in study.cells):
            found.append(_tasks(study, key))
    last = normaliser_column(normaliser)
    every = [(study, effect) for study, effects, _ in made for effect in effects]
    whole: list[Table[Any]] = [
        Table("", "", [*_effect_columns(axes=False), last], every, "study_effects"),
        Table("", "", [*_CELLS, last], [(s, cell) for s, _, _ in made for cell in s.cells], "study_cells"),
        _task_records([study for study, _, _ in made], last),
    ]
    return [*found, *whole]


_Effect = tuple[StudyValues, Effect]


def _effect_columns(*, axes: bool) -> list[Column[_Effect]]:
    """Return what is known of an effect; people see its axis where there are several ``axes``."""

    def ends(key: str, of: Callable[[Effect], Span | None]) -> list[Column[_Effect]]:
        def end(which: str) -> Callable[[_Effect], float | None]:
            return lambda row: None if (span := of(row[1])) is None else getattr(span, which)

        return [hidden(f"{key}low", end("low")), hidden(f"{key}high", end("high"))]

    return [
        hidden("study", lambda row: row[0].study.name),
        words("Axis" if axes else "", "axis", lambda row: row[1].axis),
        words("Measure", "", lambda row: NAMES[row[1].measure]),
        words("Level", "level", lambda row: row[1].level),
        words("against", "base", lambda row: row[1].base),
        hidden("measure", lambda row: row[1].measure),
        hidden("ratio", lambda row: row[1].measure == LATENCY.key),
        words("Verdict", "", lambda row: row[1], _verdict),
        Column("Effect", "", lambda row: row[1], _value),
        hidden("effect", lambda row: row[1].value),
        *ends("", lambda effect: effect.interval),
        *ends("episode_noise_", lambda effect: effect.episode_interval),
        hidden("episode_noise_share", lambda row: row[1].episode_share),
        Column("Base", "", lambda row: row[1], lambda effect: _number(effect, effect.base_value)),
        Column("Level's", "", lambda row: row[1], lambda effect: _number(effect, effect.level_value)),
        Column("p", "p", lambda row: row[1].p, forms.p_values),
        Column("p, Holm", "p_holm", lambda row: row[1].p_holm, forms.p_values),
        Column("Episode noise alone", "", lambda row: row[1], _episode_noise),
        hidden("verdict", lambda row: row[1].verdict),
        hidden("reason", lambda row: row[1].reason),
        Column("Training seeds", "seeds", lambda row: len(row[1].seeds)),
        hidden("seeds_needed", lambda row: row[1].needed),
        hidden("base_value", lambda row: row[1].base_value),
        hidden("level_value", lambda row: row[1].level_value),
        hidden("pairs", lambda row: row[1].pairs),
    ]


def effects_of(study: StudyValues, found: Sequence[Effect], key: str, level: float) -> Table[_Effect]:
    """Return the effects of one study, for people; ``key`` begins the table's id."""
    several = len(study.axes) > 1
    caption = (
        f"{study.study.name}: level minus base (times of a decision: level over base), with {level:.0%} "
        "t intervals over the training seeds, which hold the noise of training and of episodes. Episode "
        "noise alone: a bootstrap interval for these same trained models, and the share of the variance "
        "between seeds that it explains. Holm corrects for all levels and measures together."
    )
    if several:
        caption += (
            " A level's effect is the mean over the levels of the other axes; interactions are not shown."
        )
    rows = [(study, effect) for effect in found]
    return Table(f"{key}-effects", caption, _effect_columns(axes=several), rows)


def _episode_noise(effect: Effect) -> TableCell:
    if not effect.episode_interval:
        return EMPTY
    return TableCell(_span(effect.episode_interval, effect), _share(effect))


def _verdict(effect: Effect) -> TableCell:
    if effect.value is None:
        return TableCell(text.NONE, effect.reason)
    if effect.verdict != CANNOT_TELL:
        return TableCell(effect.verdict)
    if effect.reason:
        return TableCell(CANNOT_TELL, effect.reason)
    if effect.needed is None:
        return TableCell(CANNOT_TELL, f"more than {MOST_SEEDS} seeds would be needed")
    return TableCell(CANNOT_TELL, f"about {effect.needed} seeds would, if this is the effect")


def _value(effect: Effect) -> TableCell:
    if effect.value is None:
        return EMPTY
    flag = ""
    if effect.verdict == CANNOT_TELL and effect.interval is not None and effect.p_holm is not None:
        neutral = 1.0 if effect.measure == LATENCY.key else 0.0
        outside = not effect.interval.low <= neutral <= effect.interval.high
        flag = "not after Holm's correction" if outside else ""
    return TableCell(_form(effect)(effect.value), _span(effect.interval, effect), flag, effect.value)


def _number(effect: Effect, value: float | None) -> TableCell:
    if value is None:
        return EMPTY
    return TableCell(
        f"{text.figures(value)} ms" if effect.measure == LATENCY.key else text.number(value, 3), value=value
    )


def _form(effect: Effect) -> Callable[[float], str]:
    if effect.measure == LATENCY.key:
        return lambda value: f"×{text.number(value, 2)}"
    return lambda value: ("+" if value > 0 else "") + text.number(value, 3)


def _span(span: Span | None, effect: Effect) -> str:
    form = _form(effect)
    return f"[{form(span.low)}, {form(span.high)}]" if span else "no interval"


def _share(effect: Effect) -> str:
    return "" if effect.episode_share is None else f"{text.percent(effect.episode_share)}% of the variance"


_Combination = tuple[tuple[str, ...], list[CellValues]]
"""The levels of a combination, and its cells: one a training seed."""


def _combinations(study: StudyValues, key: str) -> Table[_Combination]:
    def level(place: int) -> Callable[[_Combination], str]:
        return lambda row: row[0][place]

    def mean(
        heading: str,
        of: Callable[[CellValues], float | None],
        form: Callable[[float], str],
        measure: StudyMeasure | None = None,
    ) -> Column[_Combination]:
        """Return a column of means; of ``measure`` there is none where a cell has none by its own fault."""
        fails = (lambda cell: False) if measure is None else (lambda cell: bool(cell.obstacle(measure)))
        return Column(heading, "", lambda row: row[1], _over(of, form, fails))

    def percent(share: float) -> str:
        return text.percent(share, 1)

    columns: list[Column[_Combination]] = [
        *(words(axis.name, "", level(place)) for place, axis in enumerate(study.axes)),
        Column("Cells", "", lambda row: row[1], _counted),
        mean("Score", lambda cell: measured_mean(cell, SCORE), forms.three, SCORE),
        *(
            mean(heading, lambda cell, measure=measure: measured_mean(cell, measure), forms.three, measure)  # type: ignore[misc]
            for heading, measure in (("up to the dial trained on", TRAINED), ("beyond it", BEYOND))
            if study.measured(measure)
        ),
        mean("Validation loss", lambda cell: cell.loss, forms.three, LOSS),
        mean("Predicted repetitions, %", lambda cell: cell.copied, percent),
        mean("of the data, %", lambda cell: cell.data_copied, percent),
        mean("Step, of the data's", lambda cell: cell.step_ratio, forms.two),
        mean("Repeated in play, %", lambda cell: measured_mean(cell, REPEATED), percent),
        mean("ms a decision", lambda cell: cell.decision_ms, text.figures),
        Column("Parameters", "", lambda row: row[1], _parameters),
        mean("Training, s", lambda cell: cell.train_s, forms.decimals(0)),
    ]
    caption = (
        f"{study.study.name}: what every combination measured; mean over its training seeds, and least to "
        "most. Predicted repetitions: held-out decisions whose prediction lies in the same bins as the "
        "data's last action (mean over tasks), beside how often the data repeats itself. Step: mean distance "
        "of the prediction from the last action, over that of the data's action. Repeated in play: actions "
        "of the evaluation in the same bins as the one before. Not comparable: models failed by their own "
        "errors, so that the others' mean would flatter."
    )
    return Table(f"{key}-cells", caption, columns, list(combinations(study).items()))


def _counted(cells: Sequence[CellValues]) -> TableCell:
    made = sum(cell.is_evaluated for cell in cells)
    without = sum(bool(cell.uncounted) for cell in cells)
    flag = f"{without} without a score" if without else ""
    return TableCell(str(made), f"of {len(cells)}" if made < len(cells) else "", flag, made)


def prediction_of(study: StudyValues, found: Sequence[JudgedStatement], key: str) -> Table[JudgedStatement]:
    """Return what the study's file predicted and what became of it; ``key`` begins the table's id."""
    columns = _PREDICTION
    corrected = (
        "the statements and all effects, as the statements replaced others after the first training"
        if study.earlier_predictions
        else "the statements, which were there before the result"
    )
    caption = (
        f"{study.study.name}: what its file predicted, and what became of it. p is of the difference's side "
        f"(of equal: of the margin's), by a t-test over training seeds; Holm corrects for {corrected}."
    )
    if any(one.is_ratio for one in found):
        caption += " Of times of a decision: level over what it is held against (×)."
    return Table(f"{key}-prediction", caption, columns, found, "")


def _difference(row: JudgedStatement) -> TableCell:
    if row.value is None:
        return EMPTY
    form, within = forms.two, row.statement.within
    margin = f", margin {within:g}"
    if row.is_ratio:
        form = _as_ratio
        margin = f", margin {_as_ratio(-within)} to {_as_ratio(within)}"
    span = f"[{form(row.interval.low)}, {form(row.interval.high)}]" if row.interval else "no interval"
    return TableCell(form(row.value), span + margin * (row.statement.says == "equal"), value=row.value)


def _as_ratio(logarithm: float) -> str:
    return f"×{text.number(math.exp(logarithm), 2)}"


def _over(
    of: Callable[[CellValues], float | None],
    form: Callable[[float], str],
    fails: Callable[[CellValues], bool],
) -> Callable[[Sequence[CellValues]], TableCell]:
    """Return the form of cells: the mean over them, and least to most; no mean where one ``fails``."""

    def made(cells: Sequence[CellValues]) -> TableCell:
        if any(map(fails, cells)):
            return TableCell(text.NONE, "not comparable")
        found = [value for cell in cells if (value := of(cell)) is not None]
        if not found:
            return EMPTY
        mean = statistics.fmean(found)
        ends = form(min(found)), form(max(found))
        return TableCell(form(mean), f"{ends[0]} to {ends[1]}" if ends[0] != ends[1] else "", value=mean)

    return made


def _parameters(cells: Sequence[CellValues]) -> TableCell:
    found = {cell.parameters for cell in cells if cell.parameters is not None}
    return TableCell(text.parameters(min(found)), value=min(found)) if found else EMPTY


def _tasks(study: StudyValues, key: str) -> Table[str]:
    def score(cells: Sequence[CellValues]) -> Callable[[str], TableCell]:
        return lambda task: _over(
            lambda cell: cell.by_task.get(task), forms.two, lambda cell: task in cell.uncounted
        )(cells)

    columns: list[Column[str]] = [
        words("Task", "", lambda task: task),
        *(
            Column(", ".join(levels), "", lambda task: task, score(cells))
            for levels, cells in combinations(study).items()
        ),
    ]
    caption = (
        f"{study.study.name}: normalised score by task; mean over the training seeds, and least to most."
    )
    return Table(f"{key}-tasks", caption, columns, tasks_of(study))


def combinations(study: StudyValues) -> dict[tuple[str, ...], list[CellValues]]:
    """Return the cells by their levels, in the order of the plan."""
    grouped: dict[tuple[str, ...], list[CellValues]] = {}
    for cell in study.cells:
        grouped.setdefault(cell.levels, []).append(cell)
    return grouped


def tasks_of(study: StudyValues) -> list[str]:
    """Return the tasks that any cell has a score of."""
    return list(dict.fromkeys(task for cell in study.cells for task in cell.by_task))


_CELLS: list[Column[tuple[StudyValues, CellValues]]] = [
    hidden("study", lambda row: row[0].study.name),
    hidden("cell", lambda row: row[1].title),
    hidden("key", lambda row: row[1].key),
    hidden("seed", lambda row: row[1].seed),
    hidden("levels", lambda row: ", ".join(row[1].levels)),
    hidden("to_do", lambda row: row[1].stage),
    hidden("score", lambda row: _rounded(measured_mean(row[1], SCORE))),
    hidden("validation_loss", lambda row: _rounded(row[1].loss)),
    hidden("repeated_predictions", lambda row: _rounded(row[1].copied)),
    hidden("data_repeated", lambda row: _rounded(row[1].data_copied)),
    hidden("step_ratio", lambda row: _rounded(row[1].step_ratio)),
    hidden("repeated_in_play", lambda row: _rounded(measured_mean(row[1], REPEATED))),
    hidden("decision_ms", lambda row: _rounded(row[1].decision_ms)),
    hidden("load", lambda row: row[1].load),
    hidden("parameters", lambda row: row[1].parameters),
    hidden("train_s", lambda row: row[1].train_s),
    hidden("errored_episodes", lambda row: row[1].errored),
    hidden("score_trained", lambda row: _rounded(measured_mean(row[1], TRAINED))),
    hidden("score_beyond", lambda row: _rounded(measured_mean(row[1], BEYOND))),
]


def cell_records(study: StudyValues) -> list[dict[str, Any]]:
    """Return one record a cell, for ``summary.json``."""
    rows = [(study, cell) for cell in study.cells]
    return list(Table("", "", _CELLS, rows).records())


def _task_records(
    studies: Sequence[StudyValues], last: Column[Any]
) -> Table[tuple[str, CellValues, str, float]]:
    """Return one row a cell and task, for programs."""
    columns: list[Column[tuple[str, CellValues, str, float]]] = [
        hidden("study", lambda row: row[0]),
        hidden("cell", lambda row: row[1].title),
        hidden("seed", lambda row: row[1].seed),
        hidden("levels", lambda row: ", ".join(row[1].levels)),
        hidden("task", lambda row: row[2]),
        hidden("score", lambda row: rounded(row[3])),
        last,
    ]
    rows = [
        (study.study.name, cell, task, score)
        for study in studies
        for cell in study.cells
        for task, score in cell.by_task.items()
    ]
    return Table("", "", columns, rows, "study_tasks")


def _rounded(value: float | None) -> float | None:
    return None if value is None else rounded(value)


_PREDICTION: list[Column[JudgedStatement]] = [
    words("Level", "level", lambda row: row.statement.level),
    words("is", "says", lambda row: row.statement.says),
    words("than, or to", "against", lambda row: row.against),
    words("Measure", "", lambda row: NAMES[row.statement.measure]),
    hidden("measure", lambda row: row.statement.measure),
    hidden("within", lambda row: row.statement.within if row.statement.says == "equal" else None),
    words("Verdict", "", lambda row: TableCell(row.verdict, row.reason), lambda cell: cell),
    hidden("verdict", lambda row: row.verdict),
    hidden("reason", lambda row: row.reason),
    Column("Difference", "", lambda row: row, _difference),
    hidden("difference", lambda row: row.value),
    hidden("low", lambda row: row.interval.low if row.interval else None),
    hidden("high", lambda row: row.interval.high if row.interval else None),
    Column("p", "p", lambda row: row.p, forms.p_values),
    Column("p, Holm", "p_holm", lambda row: row.p_holm, forms.p_values),
    Column("Training seeds", "seeds", lambda row: len(row.seeds)),
    words("Because", "because", lambda row: row.statement.because),
    hidden("scale", lambda row: row.scale),
]


def prediction_rows(made: Sequence[tuple[StudyValues, Sequence[JudgedStatement]]]) -> Table[Any]:
    """Return every statement of every study, for programs."""
    rows = [(study, one) for study, found in made for one in found]
    columns: list[Column[Any]] = [hidden("study", lambda row: row[0].study.name)]
    columns += [
        hidden(column.key, lambda row, column=column: column.value(row[1]))  # type: ignore[misc]
        for column in _PREDICTION
        if column.key
    ]
    return Table("", "", columns, rows, "study_predictions")
