"""Scores against the dial by level: the mean of its trainings' curves, and where each training fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lram.harness.studies.folder import StudyFolder
from lram.reports import forms, text
from lram.reports.model import Caveat, ConfidenceInterval, Estimate, rounded
from lram.reports.sections.dials.failing import HALF
from lram.reports.sections.dials.model import DialFamily, families_of, trained_dials
from lram.reports.sections.dials.tables import BEYOND, dials_words
from lram.reports.sections.study.cells import CellValues, StudyValues
from lram.reports.sections.study.tables import combinations
from lram.reports.statistics import over_seeds
from lram.reports.table import Column, Table, hidden, words

if TYPE_CHECKING:
    from lram.reports.drawing import Drawing  # loads matplotlib, which is not needed for tables


@dataclass(frozen=True, slots=True)
class LevelCurve:
    """A combination of levels on a family of tasks.

    Attributes:
        levels: Name of the level of each axis.
        family: Index of the family.
        trained: Values of the dial that were trained on; None where that is not recorded.
        points: Value of the dial, and the mean over training seeds with its t interval.
        by_seed: Mean score by training seed and value of the dial.
    """

    levels: tuple[str, ...]
    family: int
    trained: tuple[int, ...] | None
    points: tuple[tuple[int, Estimate], ...]
    by_seed: tuple[tuple[int, tuple[tuple[int, float], ...]], ...]

    @property
    def name(self) -> str:
        """For people."""
        return ", ".join(self.levels)

    def mean(self, *, beyond: bool) -> Estimate | None:
        """Return the mean over the values beyond the largest that was trained on, or up to it, over seeds."""
        if not self.trained:
            return None
        most = self.trained[-1]
        seeds = [[s for dial, s in curve if (dial > most) == beyond] for _, curve in self.by_seed]
        return _over([float(np.mean(scores)) for scores in seeds if scores])

    def fails_at(self) -> tuple[int | None, ...]:
        """Return by training seed the smallest value with a mean score below one half; None: at none."""
        return tuple(next((dial for dial, s in curve if s < HALF), None) for _, curve in self.by_seed)


@dataclass(frozen=True, slots=True)
class LevelCurves:
    """All of a study."""

    families: tuple[DialFamily, ...]
    curves: tuple[LevelCurve, ...]


def level_curves(study: StudyValues) -> LevelCurves | None:
    """Return the curves of a study; None where its tasks have no dial, or nothing was evaluated yet."""
    planned: dict[str, Any] = {}
    for cell in StudyFolder(study.path).cells():
        if run := cell.run():
            planned |= {one.task.id: one for one in run.plan.tasks}
    families = families_of(list(planned.values()))
    curves = [
        curve
        for index, family in enumerate(families)
        for levels, cells in combinations(study).items()
        if (curve := _curve(levels, cells, index, family)) is not None
    ]
    return LevelCurves(families, tuple(curves)) if curves else None


def _curve(
    levels: tuple[str, ...], cells: Sequence[CellValues], index: int, family: DialFamily
) -> LevelCurve | None:
    by_task = dict(zip(family.tasks, family.dials, strict=True))
    by_seed = {
        cell.seed: tuple((dial, cell.by_task[task]) for task, dial in by_task.items() if task in cell.by_task)
        for cell in cells
    }
    by_seed = {seed: curve for seed, curve in by_seed.items() if curve}
    if not by_seed:
        return None
    recorded = next((c.training_tasks for c in cells if c.training_tasks is not None), None)
    points = [
        (dial, estimate)
        for dial in family.dials
        if (estimate := _over([s for curve in by_seed.values() for d, s in curve if d == dial])) is not None
    ]
    return LevelCurve(
        levels,
        index,
        trained_dials(recorded, family.domain, family.family),
        tuple(points),
        tuple(sorted(by_seed.items())),
    )


def _over(seeds: Sequence[float], level: float = 0.95) -> Estimate | None:
    """Return the mean over training seeds with its t interval; without one below three seeds."""
    if not seeds:
        return None
    values = np.array(seeds)
    span, p = over_seeds(values, level)
    value = rounded(float(values.mean()))
    if span is None or p is None:
        return Estimate(value, None, "seeds do not differ" if len(seeds) > 2 else f"{len(seeds)} seeds")
    return Estimate(value, ConfidenceInterval(rounded(span[0]), rounded(span[1]), "t"))


def dial_drawings(study: StudyValues, found: LevelCurves, key: str, level: float) -> list[Drawing]:
    """Return one figure for each domain."""
    from lram.reports.sections.dials.figures import DialLine, draw

    places = {levels: place for place, levels in enumerate(combinations(study))}
    lines = [
        DialLine(curve.name, places[curve.levels], curve.family, curve.trained, curve.points)
        for curve in found.curves
    ]
    return [
        draw(
            f"{key}-dials-{domain}",
            f"{study.study.name}: score against the dial, {domain}",
            f"Mean normalised score over the training seeds; bars are {level:.0%} t intervals over them, "
            f"where "
            "there are three or more.",
            found.families,
            lines,
            domain,
        )
        for domain in dict.fromkeys(family.domain for family in found.families)
    ]


def dial_table(study: StudyValues, found: LevelCurves, key: str) -> Table[LevelCurve]:
    """Return what every level remembers or tracks, for people."""
    columns: list[Column[LevelCurve]] = [
        hidden("study", lambda curve: study.study.name),
        words("Family", "family", lambda curve: found.families[curve.family].family),
        words("Level", "levels", lambda curve: curve.name),
        words("Trained on", "", lambda curve: dials_words(curve.trained)),
        Column("Seeds", "seeds", lambda curve: len(curve.by_seed)),
        Column(
            "Up to the trained",
            "score_trained",
            lambda curve: curve.mean(beyond=False),
            forms.estimates(forms.two),
            parts=forms.ENDS,
        ),
        Column(
            "Beyond",
            "score_beyond",
            lambda curve: curve.mean(beyond=True),
            forms.estimates(forms.two),
            parts=forms.ENDS,
        ),
        words("Fails at, by seed", "fails_at", _failing),
    ]
    caption = (
        f"{study.study.name}: what every level remembers or tracks. Mean normalised score over the values "
        f"of the "
        "dial up to the largest that was trained on, and beyond it, with t intervals over training seeds; "
        "and for "
        f"each training seed the smallest value with a mean score below {HALF:g} (beyond: at none measured "
        "of that training)."
    )
    return Table(f"{key}-dials", caption, columns, found.curves, "")


def _failing(curve: LevelCurve) -> str:
    largest = [points[-1][0] for _, points in curve.by_seed]
    return ", ".join(
        f"{BEYOND} {last}" if at is None else str(at)
        for at, last in zip(curve.fails_at(), largest, strict=True)
    )


def dial_gaps(study: StudyValues, found: LevelCurves) -> tuple[Caveat, ...]:
    """Return a warning of trainings that have no score at some of the values; none where all have."""
    lacking = []
    for curve in found.curves:
        family = found.families[curve.family]
        for seed, points in curve.by_seed:
            measured = [dial for dial, _ in points]
            if absent := [str(dial) for dial in family.dials if dial not in measured]:
                lacking.append(f"{curve.name}, seed {seed} on {family.family}: {text.names_up_to(absent)}")
    if not lacking:
        return ()
    words_ = (
        f"Trainings of the study {study.study.name} have no score at some values of the dial: their means "
        "and where they fail are of the others, and do not compare with those of trainings that have all."
    )
    return (Caveat("study_dial_gaps", words_, tuple(lacking)),)


def seed_rows(made: Sequence[tuple[StudyValues, LevelCurves]]) -> Table[Any]:
    """Return one row a training, family and value of the dial, for programs."""
    columns: list[Column[Any]] = [
        hidden("study", lambda row: row[0]),
        hidden("levels", lambda row: row[1]),
        hidden("seed", lambda row: row[2]),
        hidden("family", lambda row: row[3]),
        hidden("dial", lambda row: row[4]),
        hidden("trained", lambda row: row[5]),
        hidden("score", lambda row: rounded(row[6])),
    ]
    rows = [
        (
            study.study.name,
            curve.name,
            seed,
            found.families[curve.family].family,
            dial,
            None if curve.trained is None else dial in curve.trained,
            score,
        )
        for study, found in made
        for curve in found.curves
        for seed, scores in curve.by_seed
        for dial, score in scores
    ]
    return Table("", "", columns, rows, "study_dials")
