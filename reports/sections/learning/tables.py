"""The tables of learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lram.envs.scores import Normaliser
from lram.reports import forms, text
from lram.reports.model import Aggregate
from lram.reports.sections.learning.model import LEVEL, BestCheckpoint, LearningCurve, LearningPoint
from lram.reports.table import Column, Table, hidden, normaliser_column, words

MOST_DOMAINS = 6
"""Domains that have columns of their own for people; programs read all."""

ALL = "all"
"""What the mean of domain means is called where domains are."""


@dataclass(frozen=True, slots=True)
class _Row:
    curve: LearningCurve
    point: LearningPoint


@dataclass(frozen=True, slots=True)
class _Score:
    curve: LearningCurve
    point: LearningPoint
    domain: str
    score: Aggregate


@dataclass(frozen=True, slots=True)
class _Best:
    curve: LearningCurve
    best: BestCheckpoint


def tables(curves: Sequence[LearningCurve], normaliser: Normaliser) -> list[Table[Any]]:
    """Return every table, in the order of the page."""
    found: list[Table[Any]] = [_points(curves), _scores(curves, normaliser)]
    chosen = [_Best(curve, curve.best) for curve in curves if curve.best is not None]
    return [_best(chosen, normaliser), *found] if chosen else found


def _points(curves: Sequence[LearningCurve]) -> Table[_Row]:
    domains = list(dict.fromkeys(name for curve in curves for name in curve.domains))
    columns: list[Column[_Row]] = [
        words("Training", "", lambda row: row.curve.name),
        Column("Update", "", lambda row: row.point.update),
        Column("Score", "", lambda row: row.point.score, forms.scores),
    ]
    if 1 < len(domains) <= MOST_DOMAINS:
        columns += [_domain(name) for name in domains]
    columns.append(
        Column("Episodes", "", lambda row: f"{row.point.scored} of {row.point.planned}"),
    )
    rows = [_Row(curve, point) for curve in curves for point in curve.points]
    caption = (
        "Every checkpoint that was scored: the mean of domain means of the normalised "
        f"score{' and the mean of each domain' if len(columns) > 4 else ''}, with {LEVEL:.0%} intervals of "
        "the noise between episodes. The checkpoints of a training played from the same starts."
    )
    return Table("learning-points", caption, columns, rows)


def _domain(name: str) -> Column[_Row]:
    def of(row: _Row) -> Aggregate | None:
        return dict(zip(row.curve.domains, row.point.domains, strict=True)).get(name)

    return Column(name, "", of, forms.scores)


def _scores(curves: Sequence[LearningCurve], normaliser: Normaliser) -> Table[_Score]:
    """Return one row a checkpoint and domain, for programs."""
    columns: list[Column[_Score]] = [
        hidden("training", lambda row: row.curve.name),
        hidden("update", lambda row: row.point.update),
        hidden("domain", lambda row: row.domain),
        hidden("score", lambda row: row.score.estimate, forms.INTERVAL),
        hidden("tasks", lambda row: row.score.rests_on.tasks),
        hidden("of_tasks", lambda row: row.score.rests_on.of_tasks),
        hidden("episodes", lambda row: row.score.rests_on.episodes),
        hidden("digest", lambda row: row.point.digest),
        normaliser_column(normaliser),
    ]
    rows = [
        _Score(curve, point, name, score)
        for curve in curves
        for point in curve.points
        for name, score in ((ALL, point.score), *zip(curve.domains, point.domains, strict=True))
    ]
    return Table("", "", columns, rows, "learning_points")


def _best(rows: Sequence[_Best], normaliser: Normaliser) -> Table[_Best]:
    columns: list[Column[_Best]] = [
        words("Training", "training", lambda row: row.curve.name),
        Column("Best update", "update", lambda row: row.best.update),
        Column("Checkpoints", "checkpoints", lambda row: row.best.among),
        Column("Score that chose", "score", lambda row: row.best.score, forms.numbers(forms.three)),
        Column("Corrected", "corrected", lambda row: row.best.corrected, forms.numbers(forms.three)),
        Column("Same choice", "agreement", lambda row: row.best.agreement, forms.numbers(_share)),
        Column("Confirmed", "", lambda row: row.best.confirmed and row.best.confirmed.score, forms.scores),
        Column("Confirmed on", "", _confirmed_on),
        hidden(
            "confirmed", lambda row: row.best.confirmed and row.best.confirmed.score.estimate, forms.INTERVAL
        ),
        hidden("tasks", lambda row: row.best.tasks),
        Column("Episodes", "episodes", lambda row: row.best.episodes),
        hidden(
            "confirmed_episodes",
            lambda row: row.best.confirmed and row.best.confirmed.score.rests_on.episodes,
        ),
        normaliser_column(normaliser),
        hidden("confirmed_scored", lambda row: row.best.confirmed and row.best.confirmed.scored),
        hidden("confirmed_planned", lambda row: row.best.confirmed and row.best.confirmed.planned),
    ]
    caption = (
        "The best checkpoint of each training. Its score on the episodes that chose it is too high on "
        "average, the more so the more checkpoints there are. Corrected: by sample splitting, the best by "
        "one half of the starts is scored on the other half, both ways, averaged over random halves; it "
        "has no interval. Same choice: the share of halves that choose the same checkpoint. Confirmed: "
        f"played anew from other starts (lram watch --confirm), with its {LEVEL:.0%} interval: the number "
        "to publish, once every planned episode counts."
    )
    return Table("learning-best", caption, columns, rows, "learning_best")


def _confirmed_on(row: _Best) -> str:
    found = row.best.confirmed
    return "" if found is None else f"{found.scored} of {text.count(found.planned, 'episode')}"


def _share(value: float) -> str:
    return f"{text.percent(value)}%"
