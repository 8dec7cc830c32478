"""The section on precisions: what weights in fewer bytes cost a checkpoint, and what they save."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lram.envs.scores import Normaliser
from lram.harness.studies.precision.folder import STUDY_FILE, PrecisionFolder
from lram.reports import text
from lram.reports.model import Caveat
from lram.reports.samples import Resampling
from lram.reports.section import Section, SectionSettings, SectionSpec
from lram.reports.sections.precision.model import PrecisionFindings, PrecisionResult, read_findings
from lram.reports.sections.precision.tables import scores, tables
from lram.reports.summary.caveats import no_checksums
from lram.reports.table import PrintedTable, Table, distinct_keys

KEY = "precision"
RESAMPLES, LEVEL = 2000, 0.95
BUSY = 1.5
"""Load average of the minute before the times were taken, from which on a reader is warned."""


def section(folders: Sequence[Path], settings: SectionSettings | None = None) -> Section:
    """Return the section on the studies of precisions in ``folders``.

    Raises:
        LramError: One is no such study, or a record in it is damaged.
    """
    settings = settings or SectionSettings()
    normaliser = settings.normaliser
    how = Resampling(settings.seed, RESAMPLES, LEVEL)
    found = [read_findings(folder, how, normaliser) for folder in folders]
    unsigned = [
        f"{folder.name}: {name}" for folder in folders for name in PrecisionFolder(folder).without_checksums()
    ]
    return Section(
        key=KEY,
        title="Precisions",
        lead=[
            line + (text.score_words(normaliser) if place == 0 else "")
            for study in found
            for place, line in enumerate(_lead(study))
        ],
        tables=tables(found, distinct_keys("precision", [one.study.name for one in found]), normaliser),
        summary=[_summary(study, normaliser) for study in found],
        caveats=[
            *no_checksums(unsigned, "precision-no-checksums"),
            *(caveat for study in found for caveat in _caveats(study)),
        ],
        methods=_METHODS,
    )


def scores_table(folder: Path) -> PrintedTable:
    """Return the table of scores and verdicts of the study in ``folder``; raises as :func:`section`."""
    return scores(read_findings(folder, Resampling(0, RESAMPLES, LEVEL)), KEY).printed


_METHODS = (
    (
        "Verdict on a precision",
        "The paired episodes of a checkpoint in a precision and in the first one, which began in the same "
        "states: their difference in the mean of domain means, by sign flips of the pairs. Better or "
        "worse where "
        "the p that Holm's method corrects for all comparisons of the study is below 0.05; else no "
        "difference "
        "was shown, and if there is one, it is smaller than the end of the interval that is further "
        "from 0. It is about these checkpoints: nothing is said of other trainings.",
    ),
    (
        "Agreement of actions",
        "Every precision is shown the stored observations and rewards of episodes that the first one played, "
        "and has taken the actions that were taken there, so that trajectories do not part. The "
        "first one's own share is a check: it decides again what it decided in play.",
    ),
)


def _lead(found: PrecisionFindings) -> list[str]:
    study = found.study
    first = (
        f"{study.name}: {study.question} {text.count(len(study.checkpoints), 'checkpoint')} with weights in "
        f"{text.names(study.precisions)}, {text.count(study.evaluation.episodes, 'episode')} a task; "
        "activations, sums and states are as the precision says, float32 for those of weights alone."
    )
    verdicts = [
        f"{row.cell.checkpoint} in {row.cell.precision}: {row.verdict}"
        for row in found.rows
        if row.comparison
    ]
    shares = [_agreed(row) for row in found.rows if row.actions and not found.base(row)]
    return [
        first,
        f"Scores against {study.precisions[0]}: {'; '.join(verdicts)}."
        if verdicts
        else "No score can be compared yet.",
        *([f"Actions on the same observations: {'; '.join(shares)}."] if shares else []),
    ]


def _agreed(row: PrecisionResult) -> str:
    parts = []
    for kind, continuous in (("discrete", False), ("continuous", True)):
        share = row.share(continuous=continuous)
        if share is not None:
            parts.append(f"{text.percent(share, 1)}% of the {kind} ones equal")
    if row.difference is not None:
        parts.append(f"the continuous ones {text.number(row.difference, 4)} apart in the mean")
    return f"{row.cell.checkpoint} in {row.cell.precision}, {', '.join(parts)}"


def _summary(found: PrecisionFindings, normaliser: Normaliser) -> dict[str, Any]:
    tables_: dict[str, Table[Any]] = {
        table.file: table for table in tables([found], [KEY], normaliser) if table.file
    }
    return {
        "name": found.study.name,
        "question": found.study.question,
        "precisions": list(found.study.precisions),
        "level": found.level,
        "scores": list(tables_["precision_scores"].records()),
        "tasks": list(tables_["precision_tasks"].records()),
        "costs": list(tables_["precision_costs"].records()),
    }


def _caveats(found: PrecisionFindings) -> list[Caveat]:
    name, made = found.study.name, []
    unmade = tuple(f"{row.cell.title}: {row.to_do} is to do" for row in found.rows if row.to_do)
    if unmade:
        made.append(Caveat("precision_unfinished", f"The study {name} is not finished.", unmade))
    failed = tuple(
        f"{row.cell.title} on {task}: {text.count(number, 'episode')}"
        f"{', no score there' if task in row.uncounted else ''}"
        for row in found.rows
        for task, number in row.failed.items()
    )
    if failed:
        text_ = (
            f"Episodes of the study {name} failed by the checkpoint's own errors in a precision. They count "
            "with the least return of the task. Where none is known there is no score, and the two "
            "precisions are not comparable."
        )
        made.append(Caveat("precision_failed", text_, failed))
    errored = tuple(
        f"{row.cell.title}: {text.count(row.errored, 'episode')}" for row in found.rows if row.errored
    )
    if errored:
        text_ = f"Episodes of the study {name} errored; pairs without both scores are left out."
        made.append(Caveat("precision_errored", text_, errored))
    parted = tuple(
        f"{row.cell.title} on {task.task}: {task.decisions - task.equal} of {task.decisions}"
        for row in found.rows
        if found.base(row)
        for task in row.actions
        if task.equal < task.decisions
    )
    if parted:
        text_ = (
            f"In the study {name} a checkpoint decides otherwise in {found.study.precisions[0]} than "
            "it did in play, on the same observations: shares of equal actions say less than they seem to."
        )
        made.append(Caveat("precision_replay", text_, parted))
    busy = tuple(
        dict.fromkeys(row.cell.checkpoint for row in found.rows if row.load is not None and row.load > BUSY)
    )
    if busy:
        text_ = (
            f"The machine was busy in the minute before decisions of the study {name} were timed: go by the "
            "processor's time, and by its ratios."
        )
        made.append(Caveat("precision_load", text_, busy))
    return made


SPEC = SectionSpec(KEY, STUDY_FILE, section)
