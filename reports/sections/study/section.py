"""The section on studies: which choice of a recipe made the difference, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lram.harness.studies.folder import StudyFolder
from lram.harness.studies.study import Statement
from lram.reports import text
from lram.reports.model import Caveat
from lram.reports.samples import Resampling
from lram.reports.section import Section, SectionSettings, SectionSpec
from lram.reports.sections.study.cells import CellValues, StudyValues, read_cells
from lram.reports.sections.study.curves import (
    StudyCurves,
    curves_table,
    point_rows,
    study_curves,
)
from lram.reports.sections.study.dials import (
    LevelCurves,
    dial_drawings,
    dial_gaps,
    dial_table,
    level_curves,
    seed_rows,
)
from lram.reports.sections.study.effects import CANNOT_TELL, NOTHING, Effect, effects
from lram.reports.sections.study.prediction import JudgedStatement, judge, sentence
from lram.reports.sections.study.tables import (
    NAMES,
    cell_records,
    effects_of,
    prediction_of,
    prediction_rows,
    tables,
)
from lram.reports.statistics import LEAST_SEEDS
from lram.reports.summary.caveats import no_checksums
from lram.reports.table import PrintedTable, Table, distinct_keys

KEY = "study"
RESAMPLES = 2000
LEVEL = 0.95
BUSY = 1.5
"""Load average of the minute before the timing, from which on a reader is warned."""


def section(folders: Sequence[Path], settings: SectionSettings | None = None) -> Section:
    """Return the section on the studies in ``folders``.

    Args:
        folders: Of studies, made or half made.
        settings: Seed of the resampling behind the intervals of the episode noise, and whose references
        scores
            have.

    Raises:
        LramError: One is no study, or a record in it is damaged.
    """
    from lram.reports.sections.study.curve_figure import draw
    from lram.reports.sections.study.figures import drawings  # loads matplotlib: not where tables are printed

    settings = settings or SectionSettings()
    normaliser, how = settings.normaliser, Resampling(settings.seed, RESAMPLES, LEVEL)
    studies = [read_cells(folder, normaliser) for folder in folders]
    unsigned = [
        f"{folder.name}: {name}" for folder in folders for name in StudyFolder(folder).without_checksums()
    ]
    found = [effects(study, how) for study in studies]
    keys = distinct_keys("study", [one.study.name for one in studies])
    both = list(zip(studies, found, keys, strict=True))
    judged = [judge(study, how, len(effect)) for study, effect in zip(studies, found, strict=True)]
    dialled = [level_curves(study) for study in studies]
    drawn = [study_curves(study, how.level) for study in studies]
    return Section(
        key=KEY,
        title="Studies",
        lead=[
            line + (text.score_words(normaliser) if place == 0 else "")
            for (study, effect, _), statements in zip(both, judged, strict=True)
            for place, line in enumerate(_lead(study, effect, statements))
        ],
        tables=[
            *(prediction_of(*one) for one in zip(studies, judged, keys, strict=True) if one[1]),
            *(
                dial_table(study, curves, key)
                for study, curves, key in zip(studies, dialled, keys, strict=True)
                if curves is not None
            ),
            *(
                curves_table(study, points, key)
                for study, points, key in zip(studies, drawn, keys, strict=True)
                if points is not None
            ),
            *tables(both, how.level, normaliser),
            *_for_programs(studies, judged, dialled, drawn),
        ],
        drawings=[
            one
            for (study, effect, key), curves, points in zip(both, dialled, drawn, strict=True)
            for one in (
                *((draw(study.study.name, points, key, how.level),) if points is not None else ()),
                *(dial_drawings(study, curves, key, how.level) if curves is not None else ()),
                *drawings(study, effect, key, how.level),
            )
        ],
        summary=[
            _summary(study, effect, statements)
            for (study, effect, _), statements in zip(both, judged, strict=True)
        ],
        caveats=[
            *no_checksums(unsigned, "study-no-checksums"),
            *(caveat for study, effect, _ in both for caveat in _caveats(study, effect)),
            *(
                caveat
                for study, curves in zip(studies, dialled, strict=True)
                if curves is not None
                for caveat in dial_gaps(study, curves)
            ),
        ],
        methods=_METHODS,
    )


def _for_programs(
    studies: Sequence[StudyValues],
    judged: Sequence[Sequence[JudgedStatement]],
    dialled: Sequence[LevelCurves | None],
    drawn: Sequence[StudyCurves | None],
) -> list[Table[Any]]:
    """Return the tables of predictions, dials and figures' points as CSV files, where there are any."""
    made: list[Table[Any]] = []
    figures = [(study, points) for study, points in zip(studies, drawn, strict=True) if points is not None]
    if figures:
        made.append(point_rows(figures))
    pairs = [(study, curves) for study, curves in zip(studies, dialled, strict=True) if curves is not None]
    if pairs:
        made.append(seed_rows(pairs))
    if any(judged):
        made.append(prediction_rows([pair for pair in zip(studies, judged, strict=True) if pair[1]]))
    return made


def effects_table(folder: Path) -> PrintedTable:
    """Return the table of effects of the study in ``folder``; raises as :func:`section`."""
    study = read_cells(folder)
    found = effects(study, Resampling(0, RESAMPLES, LEVEL))
    return effects_of(study, found, KEY, LEVEL).printed


_METHODS = (
    (
        "Effect of a level",
        "Level minus base, in pairs of the same training seed and the same levels of the other axes; scores "
        "and repetitions in play also by task and by episodes that began in the same state. Only training "
        "seeds that have every combination with the other axes' levels count. A level whose models failed by "
        "their own errors, on tasks without a known least return, is not compared by score.",
    ),
    (
        "Training-seed noise",
        "A t interval over the training seeds' differences. It holds the noise of training and that of the "
        "evaluation's episodes, each training seed having initial states of its own, and verdicts are by it.",
    ),
    (
        "Episode noise",
        "A bootstrap of the paired episodes within each task and trained model; other trainings would differ "
        "by more.",
    ),
    (
        "Verdict",
        "Better or worse (higher or lower, where neither is better) where Holm's corrected p of the t-test "
        "over seeds, for all levels and measures of the study together, is below 0.05; otherwise: cannot "
        f"tell, and always so below {LEAST_SEEDS} training seeds. The seeds that would tell are those at "
        "which four of five studies would, were effect and spread what was observed.",
    ),
    (
        "Prediction",
        "What the study's file said beforehand, as it stands in study.json since the study was started. Each "
        "statement is tested over training seeds as an effect is, of equal whether the mean is within the "
        "margin or "
        "outside of it; Holm corrects for the statements only, as they were named before the result, and for "
        "all effects as well where they were replaced after the first training. As predicted, or not, where "
        "the corrected p is below 0.05; otherwise: cannot tell.",
    ),
    (
        "Copycat measures",
        "Predicted repetitions: on held-out windows, with the recorded past before it, the share of the "
        "model's predictions in the same bins (256 a dimension, all dimensions) as the last action. In play: "
        "the share of its own actions in the same bins as the one before. A policy that rests where it has "
        "arrived repeats itself in play, too, without copying.",
    ),
)


def _lead(
    study: StudyValues, found: Sequence[Effect], statements: Sequence[JudgedStatement] = ()
) -> list[str]:
    """Return what was asked, what was done, and what the score says, in two paragraphs."""
    asked, plan = study.study, study.study.evaluation
    axes = "; ".join(f"{axis.name}: {', '.join(level.name for level in axis.levels)}" for axis in study.axes)
    made = sum(cell.is_evaluated for cell in study.cells)
    tasks = {task for cell in study.cells for task in cell.by_task}
    first = (
        f"{asked.name}: {asked.question} {made} of {text.count(len(study.cells), 'cell')} "
        f"trained and evaluated ({axes}; {text.count(len(asked.seeds), 'training seed')}), each on "
        f"{text.count(len(tasks), 'task')} with {text.count(plan.episodes, 'episode')} a task."
    )
    scored = [effect for effect in found if effect.measure == "score" and effect.reason != NOTHING]
    verdicts = [_sentence(effect) for effect in scored]
    others = [
        f"{effect.level} {effect.verdict} in {NAMES[effect.measure]}"
        for effect in found
        if effect.measure != "score" and effect.verdict != CANNOT_TELL
    ]
    second = " ".join(verdicts) if verdicts else "No score can be compared yet."
    if others:
        second += f" Told apart in other measures: {'; '.join(others)}."
    line = sentence(statements, replaced=bool(study.earlier_predictions))
    predicted = [line] if line else []
    return [first.replace("  ", " "), *predicted, second]


def _sentence(effect: Effect) -> str:
    if effect.value is None:
        return f"Whether {effect.level} scores otherwise than {effect.base} is not known: {effect.reason}."
    span = effect.interval
    ends = f" ({text.number(span.low, 3)} to {text.number(span.high, 3)})" if span else ""
    difference = f"{text.number(effect.value, 3)}{ends}"
    if effect.verdict == CANNOT_TELL:
        why = f" from {effect.reason}" if len(effect.seeds) < LEAST_SEEDS else ""
        return f"Whether {effect.level} scores otherwise than {effect.base} is not known{why}: {difference}."
    return f"{effect.level} scores {effect.verdict} than {effect.base}: {difference}."


def _summary(
    study: StudyValues, found: Sequence[Effect], statements: Sequence[JudgedStatement]
) -> dict[str, Any]:
    predicted = {"prediction": [_plain(one) for one in statements]} if statements else {}
    return {
        "name": study.study.name,
        "question": study.study.question,
        "axes": {axis.name: [level.name for level in axis.levels] for axis in study.axes},
        "seeds": list(study.study.seeds),
        "cells": cell_records(study),
        "effects": [msgspec.to_builtins(effect) for effect in found],
        **predicted,
    }


def _plain(one: JudgedStatement) -> dict[str, Any]:
    return {**msgspec.to_builtins(one), "scale": one.scale}


def _statement(study: StudyValues, one: Statement) -> str:
    joined = "to" if one.says == "equal" else "than"
    return f"{one.level} {one.says} {joined} {study.study.against(one)} in {NAMES[one.measure]}"


def _left_out(found: Sequence[Effect]) -> tuple[str, ...]:
    """Return which training seeds effects do not rest on, as they have some combinations only."""
    measures: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for effect in found:
        if effect.incomplete:
            pair = f"{effect.level} against {effect.base}"
            measures.setdefault((pair, effect.incomplete), []).append(NAMES[effect.measure])
    return tuple(
        f"{pair} ({', '.join(named)}): seed{'s' if len(seeds) > 1 else ''} {text.names(map(str, seeds))}"
        for (pair, seeds), named in measures.items()
    )


def _caveats(study: StudyValues, effects_: Sequence[Effect]) -> list[Caveat]:
    name, cells = study.study.name, study.cells
    found = []
    unmade = tuple(f"{cell.title}: {cell.stage} is to do" for cell in cells if cell.stage)
    if unmade:
        text_ = (
            f"The study {name} is not finished; effects rest on what is there. Where a training or "
            "evaluation failed, its seed is left out, which flatters a level that makes trainings fail."
        )
        found.append(Caveat("study_unfinished", text_, unmade))
    if left_out := _left_out(effects_):
        text_ = (
            f"Effects of the study {name} rest on training seeds that have every combination with the other "
            "axes' levels: a seed without one of them would be about other levels. These seeds are left out."
        )
        found.append(Caveat("study_unbalanced", text_, left_out))
    if len(study.study.seeds) < LEAST_SEEDS:
        count = text.count(len(study.study.seeds), "training seed")
        text_ = (
            f"The study {name} has {count}: it cannot tell an effect from the luck of a training, and says "
            f"better or worse of nothing. That takes {LEAST_SEEDS}."
        )
        found.append(Caveat("study_seeds", text_))
    if not study.own_starts:
        text_ = (
            f"All training seeds of the study {name} were evaluated on the same initial states, as versions "
            "before this one did. What a level does to just those states is common to all seeds, so verdicts "
            "on scores and on repeated actions in play miss that noise: in simulations they called levels "
            "better or worse that are not, far more often than one time in twenty. A study in a new folder "
            "has initial states of its own for each training seed."
        )
        found.append(Caveat("study_shared_starts", text_))
    if study.earlier_predictions:
        first = study.earlier_predictions[0]
        before = "; ".join(_statement(study, one) for one in first) or "nothing was predicted"
        text_ = (
            f"The prediction of the study {name} was replaced after its first training, so it was not "
            f"written "
            f"before the result, and its verdicts are corrected for all effects as well. The first one: "
            f"{before}."
        )
        found.append(Caveat("study_prediction", text_))
    reused = tuple(f"{cell.title}: of the study {cell.reused}" for cell in cells if cell.reused)
    if reused:
        text_ = (
            f"Trainings of the study {name} were made in other studies, of the same recipes, data and "
            "versions, and copied. Effects that these studies report together rest on the same trainings."
        )
        found.append(Caveat("study_reused", text_, reused))
    found += [*_failures(name, cells), *_splits(name, cells)]
    if study.incomparable:
        text_ = (
            f"Validation losses and predicted repetitions of the study {name} do not compare and are left "
            f"out: {study.incomparable}."
        )
        found.append(Caveat("study_losses", text_))
    diverged = tuple(cell.title for cell in cells if cell.diverged)
    if diverged:
        text_ = (
            f"Validation losses of the study {name} are no finite number: their levels are not compared by "
            "it, as the other cells' losses would flatter."
        )
        found.append(Caveat("study_diverged", text_, diverged))
    if study.unscored:
        text_ = f"Tasks of the study {name} without a usable score reference have no part in its scores."
        found.append(Caveat("study_unscored", text_, study.unscored))
    busy = tuple(cell.title for cell in cells if cell.load is not None and cell.load > BUSY)
    if busy:
        text_ = (
            f"The machine was busy in the minute before decisions of the study {name} were timed (with the "
            "study's own trainings, where several ran at a time, or with other programs), so their times may "
            "be off for these cells."
        )
        found.append(Caveat("study_load", text_, busy))
    return found


def _failures(name: str, cells: Sequence[CellValues]) -> Iterator[Caveat]:
    """Yield which cells have episodes without a score, by the model's own errors and by others."""
    failed = tuple(
        f"{cell.title}: {text.count(cell.failed, 'episode')}"
        f"{', no score on ' + text.listing(list(cell.uncounted)) if cell.uncounted else ''}"
        for cell in cells
        if cell.failed
    )
    if failed:
        yield Caveat(
            "study_failed",
            f"Episodes of the study {name} failed by the model's own errors. They count with the least "
            "return of the task. Where none is known the cell has no score, and its level is not compared by "
            "score.",
            failed,
        )
    errored = tuple(cell.title for cell in cells if cell.errored > cell.failed)
    if errored:
        yield Caveat(
            "study_errored",
            f"Episodes of the study {name} errored; pairs without both scores are left out.",
            errored,
        )


def _splits(name: str, cells: Sequence[CellValues]) -> Iterator[Caveat]:
    """Yield which cells were validated on what is not held out, or where that is not known."""
    split = [(cell.title, one) for cell in cells if (one := cell.split) is not None and one.validation]
    of = "validation trajectories"
    not_held_out = "their validation losses and predicted repetitions are not of held-out data."
    copied = {
        title: f"{title}: {one.validation_in_training} of {one.validation} {of}"
        for title, one in split
        if one.validation_in_training
    }
    if copied:
        yield Caveat(
            "study_validated_on_training",
            f"Trainings of the study {name} were validated on trajectories that are also training "
            f"trajectories, step by step: {not_held_out}",
            tuple(copied.values()),
        )
    before = {
        title: f"{title}: {one.validation_in_earlier} of {one.validation} {of}"
        for title, one in split
        if one.validation_in_earlier
    }
    if before:
        yield Caveat(
            "study_validated_on_earlier",
            f"Trainings of the study {name} were validated on trajectories that the checkpoint which they "
            f"began from was trained on: {not_held_out}",
            tuple(before.values()),
        )
    silent = tuple(title for title, one in split if not one.earlier_complete and title not in before)
    if silent:
        yield Caveat(
            "study_earlier_not_compared",
            f"Of trainings of the study {name} that began from a checkpoint it is not recorded, or not in "
            "whole, whether that one was trained on the validation trajectories.",
            silent,
        )
    validated = (cell for cell in cells if cell.loss is not None or cell.diverged)
    unknown = tuple(cell.title for cell in validated if cell.split_unknown)
    if unknown:
        yield Caveat(
            "study_validation_not_compared",
            f"Of trainings of the study {name} it is not recorded whether validation trajectories are also "
            "training trajectories (earlier versions split by episode and did not look).",
            unknown,
        )


SPEC = SectionSpec(KEY, "study.json", section)
