"""The tables of a study: effects, what every combination measured, tasks; and those for programs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from lram.reports import text
from lram.reports.model import rounded
from lram.reports.sections.study.cells import (
    LATENCY,
    MEASURES,
    REPEATED,
    SCORE,
    CellValues,
    Measure,
    StudyValues,
)
from lram.reports.sections.study.effects import CANNOT_TELL, MOST_SEEDS, Effect, Span
from lram.reports.statistics import equal_domain_weights
from lram.reports.tables import Row
from lram.reports.views import EMPTY, Cell, Table, columns

NAMES = {measure.key: measure.name for measure in MEASURES}


def tables(study: StudyValues, found: Sequence[Effect], key: str, level: float) -> list[Table]:
    """Return the study's tables for people, in the order of the page; ``key`` begins their ids."""
    made = [_effects(study, found, key, level), _combinations(study, key)]
    return [*made, _tasks(study, key)] if any(cell.by_task for cell in study.cells) else made


def _effects(study: StudyValues, found: Sequence[Effect], key: str, level: float) -> Table:
    several = len(study.axes) > 1
    headings = [*(["Axis"] if several else []), "Measure", "Level", "against", "Verdict"]
    words = len(headings)
    headings += ["Effect", "Base", "Level's", "p", "p, Holm", "Episode noise alone", "Training seeds"]
    rows = tuple(
        (
            *([Cell(effect.axis)] if several else []),
            Cell(NAMES[effect.measure]),
            Cell(effect.level),
            Cell(effect.base),
            _verdict(effect),
            _value(effect),
            _number(effect, effect.base_value),
            _number(effect, effect.level_value),
            Cell(text.p_value(effect.p), value=effect.p),
            Cell(text.p_value(effect.p_holm), value=effect.p_holm),
            Cell(_span(effect.episode_interval, effect), _share(effect))
            if effect.episode_interval
            else EMPTY,
            Cell(str(len(effect.seeds)), value=len(effect.seeds)),
        )
        for effect in found
    )
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
    return Table(f"{key}-effects", caption, columns(headings, words=words), rows)


def _verdict(effect: Effect) -> Cell:
    if effect.value is None:
        return Cell(text.NONE, "nothing to compare")
    if effect.verdict != CANNOT_TELL:
        return Cell(effect.verdict)
    if effect.reason:
        return Cell(CANNOT_TELL, effect.reason)
    if effect.needed is None:
        return Cell(CANNOT_TELL, f"more than {MOST_SEEDS} seeds would be needed")
    return Cell(CANNOT_TELL, f"about {effect.needed} seeds would, if this is the effect")


def _value(effect: Effect) -> Cell:
    if effect.value is None:
        return EMPTY
    flag = ""
    if effect.verdict == CANNOT_TELL and effect.interval is not None and effect.p_holm is not None:
        neutral = 1.0 if effect.measure == LATENCY.key else 0.0
        outside = not effect.interval.low <= neutral <= effect.interval.high
        flag = "not after Holm's correction" if outside else ""
    return Cell(_form(effect)(effect.value), _span(effect.interval, effect), flag, effect.value)


def _number(effect: Effect, value: float | None) -> Cell:
    if value is None:
        return EMPTY
    return Cell(
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


def _combinations(study: StudyValues, key: str) -> Table:
    headings = [*(axis.name for axis in study.axes), "Cells", "Score", "Validation loss"]
    headings += ["Predicted repetitions, %", "of the data, %", "Step, of the data's", "Repeated in play, %"]
    headings += ["ms a decision", "Parameters", "Training, s"]
    rows = []
    for levels, cells in combinations(study).items():
        rows.append(
            (
                *(Cell(level) for level in levels),
                _counted(cells),
                _over(cells, lambda cell: measured(cell, SCORE), lambda v: text.number(v, 3)),
                _over(cells, lambda cell: cell.loss, lambda v: text.number(v, 3)),
                _over(cells, lambda cell: cell.copied, lambda v: text.number(100 * v, 1)),
                _over(cells, lambda cell: cell.data_copied, lambda v: text.number(100 * v, 1)),
                _over(cells, lambda cell: cell.step_ratio, lambda v: text.number(v, 2)),
                _over(cells, lambda cell: measured(cell, REPEATED), lambda v: text.number(100 * v, 1)),
                _over(cells, lambda cell: cell.decision_ms, text.figures),
                _parameters(cells),
                _over(cells, lambda cell: cell.train_s, lambda v: text.number(v, 0)),
            )
        )
    caption = (
        f"{study.study.name}: what every combination measured; mean over its training seeds, and least to "
        "most. Predicted repetitions: held-out decisions whose prediction lies in the same bins as the "
        "data's last action (mean over tasks), beside how often the data repeats itself. Step: mean distance "
        "of the prediction from the last action, over that of the data's action. Repeated in play: actions "
        "of the evaluation in the same bins as the one before."
    )
    return Table(f"{key}-cells", caption, columns(headings, words=len(study.axes)), tuple(rows))


def _counted(cells: Sequence[CellValues]) -> Cell:
    made = sum(cell.is_evaluated for cell in cells)
    return Cell(str(made), f"of {len(cells)}" if made < len(cells) else "", value=made)


def _over(
    cells: Sequence[CellValues], of: Callable[[CellValues], float | None], form: Callable[[float], str]
) -> Cell:
    found = [value for cell in cells if (value := of(cell)) is not None]
    if not found:
        return EMPTY
    mean = statistics.fmean(found)
    ends = form(min(found)), form(max(found))
    return Cell(form(mean), f"{ends[0]} to {ends[1]}" if ends[0] != ends[1] else "", value=mean)


def _parameters(cells: Sequence[CellValues]) -> Cell:
    found = {cell.parameters for cell in cells if cell.parameters is not None}
    return Cell(text.parameters(min(found)), value=min(found)) if found else EMPTY


def _tasks(study: StudyValues, key: str) -> Table:
    grouped = combinations(study)
    headings = ["Task", *(", ".join(levels) for levels in grouped)]
    rows = tuple(
        (
            Cell(task),
            *(
                _over(cells, partial(_of_task, task), lambda v: text.number(v, 2))
                for cells in grouped.values()
            ),
        )
        for task in tasks_of(study)
    )
    caption = (
        f"{study.study.name}: normalised score by task; mean over the training seeds, and least to most."
    )
    return Table(f"{key}-tasks", caption, columns(headings), rows)


def _of_task(task: str, cell: CellValues) -> float | None:
    return cell.by_task.get(task)


def combinations(study: StudyValues) -> dict[tuple[str, ...], list[CellValues]]:
    """Return the cells by their levels, in the order of the plan."""
    grouped: dict[tuple[str, ...], list[CellValues]] = {}
    for cell in study.cells:
        grouped.setdefault(cell.levels, []).append(cell)
    return grouped


def tasks_of(study: StudyValues) -> list[str]:
    """Return the tasks that any cell has a score of."""
    return list(dict.fromkeys(task for cell in study.cells for task in cell.by_task))


def measured(cell: CellValues, measure: Measure) -> float | None:
    """Return the mean of domain means of the tasks' means over episodes; None where there are none."""
    found = cell.values.get(measure.key)
    if not found:
        return None
    means = [statistics.fmean(episodes.values()) for episodes in found.values()]
    weights = equal_domain_weights([task.partition("/")[0] for task in found])
    return float((weights * means).sum())


def effect_rows(study: StudyValues, found: Sequence[Effect]) -> Iterator[Row]:
    """Yield one row an effect."""
    for effect in found:
        yield {
            "study": study.study.name,
            "axis": effect.axis,
            "level": effect.level,
            "base": effect.base,
            "measure": effect.measure,
            "ratio": effect.measure == LATENCY.key,
            "effect": effect.value,
            "low": effect.interval.low if effect.interval else None,
            "high": effect.interval.high if effect.interval else None,
            "episode_noise_low": effect.episode_interval.low if effect.episode_interval else None,
            "episode_noise_high": effect.episode_interval.high if effect.episode_interval else None,
            "episode_noise_share": effect.episode_share,
            "p": effect.p,
            "p_holm": effect.p_holm,
            "verdict": effect.verdict,
            "reason": effect.reason,
            "seeds": len(effect.seeds),
            "seeds_needed": effect.needed,
            "base_value": effect.base_value,
            "level_value": effect.level_value,
            "pairs": effect.pairs,
        }


def cell_rows(study: StudyValues) -> Iterator[Row]:
    """Yield one row a cell."""
    for cell in study.cells:
        yield {
            "study": study.study.name,
            "cell": cell.title,
            "key": cell.key,
            "seed": cell.seed,
            "levels": ", ".join(cell.levels),
            "to_do": cell.stage,
            "score": _rounded(measured(cell, SCORE)),
            "validation_loss": _rounded(cell.loss),
            "repeated_predictions": _rounded(cell.copied),
            "data_repeated": _rounded(cell.data_copied),
            "step_ratio": _rounded(cell.step_ratio),
            "repeated_in_play": _rounded(measured(cell, REPEATED)),
            "decision_ms": _rounded(cell.decision_ms),
            "load": cell.load,
            "parameters": cell.parameters,
            "train_s": cell.train_s,
            "errored_episodes": cell.errored,
        }


def task_rows(study: StudyValues) -> Iterator[Row]:
    """Yield one row a cell and task."""
    for cell in study.cells:
        for task, score in cell.by_task.items():
            head: Row = {"study": study.study.name, "cell": cell.title, "seed": cell.seed}
            yield {**head, "levels": ", ".join(cell.levels), "task": task, "score": rounded(score)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else rounded(value)
