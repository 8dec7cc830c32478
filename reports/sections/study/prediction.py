"""What a study's file predicted, held against what was found.

A statement says of a level that it is better, worse, higher, lower than, or equal to, another level or chance
in one measure. Its difference over training seeds is tested as effects are
(:mod:`lram.reports.sections.study.effects`), but as a hypothesis that was named beforehand: Holm's correction
is over the statements only. Where the prediction was replaced after the first training it is not beforehand
any more, and the correction is over all that the study shows as well.

* ``as predicted``: the corrected p is below 1 - level, and the difference is on the side that was said; of
  ``equal``: it is shown to be within the margin.
* ``not as predicted``: likewise, on the other side; of ``equal``: it is shown to be outside of the margin.
* ``cannot tell``: all else, and always below ``LEAST_SEEDS`` training seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import special

from lram.harness.studies.study import CHANCE, Statement
from lram.reports.model import rounded
from lram.reports.samples import Resampling
from lram.reports.sections.study.cells import MEASURES, StudyMeasure, StudyValues
from lram.reports.sections.study.effects import (
    Span,
    level_effect,
    measured_mean,
    obstacle,
    whole_seeds,
)
from lram.reports.statistics import Array, holm, over_seeds, untested

_FEW = 2  # resamples: the episode noise of a statement is not shown

PredictionVerdict = Literal["as predicted", "not as predicted", "cannot tell"]


@dataclass(frozen=True, slots=True)
class JudgedStatement:
    """A statement and what became of it.

    Attributes:
        statement: As the study's file has it.
        against: What it is held against.
        value: Mean difference over the seeds (of a ratio: of its logarithms); None where there is none.
        seeds: The seeds' own differences.
        interval: Over training seeds; None where there is none.
        p, p_holm: Of the statement or its contrary, two-sided, and corrected.
        verdict: What became of it.
        reason: Why it was not tested, or has no value; empty where it was.
    """

    statement: Statement
    against: str
    value: float | None
    seeds: tuple[tuple[int, float], ...]
    interval: Span | None
    p: float | None
    p_holm: float | None
    verdict: PredictionVerdict
    reason: str

    @property
    def is_ratio(self) -> bool:
        """Whether ``value``, ``seeds``, ``interval`` and the statement's margin are logarithms of ratios."""
        return next(one for one in MEASURES if one.key == self.statement.measure).ratio

    @property
    def scale(self) -> str:
        """The same for programs: ``log ratio`` or ``difference``."""
        return "log ratio" if self.is_ratio else "difference"


def judge(study: StudyValues, how: Resampling, others: int = 0) -> tuple[JudgedStatement, ...]:
    """Return every statement of the study's prediction with its verdict.

    Args:
        study: What was measured.
        how: The level.
        others: Tests that the study shows beside; they count where the prediction was replaced.
    """
    found = [_judged(study, statement, how) for statement in study.study.prediction]
    known = [1.0 if one.p is None else one.p for one in found]
    corrected = holm(known + [1.0] * (others if study.earlier_predictions else 0))
    return tuple(_with_verdict(one, p, how.level) for one, p in zip(found, corrected, strict=False))


def _judged(study: StudyValues, statement: Statement, how: Resampling) -> JudgedStatement:
    measure = next(one for one in MEASURES if one.key == statement.measure)
    against = study.study.against(statement)
    seeds, why = _differences(study, statement, against, measure, how)
    empty = JudgedStatement(statement, against, None, (), None, None, None, "cannot tell", why)
    if not seeds:
        return empty
    values = np.array([value for _, value in seeds])
    span, p = over_seeds(values, how.level)
    if statement.says == "equal" and p is not None:
        p = _of_the_margin(values, statement.within)
    return replace(
        empty,
        value=rounded(float(values.mean())),
        seeds=tuple((seed, rounded(value)) for seed, value in seeds),
        interval=None if span is None else Span(rounded(span[0]), rounded(span[1])),
        p=None if p is None else rounded(p),
        reason=untested(len(values)) if p is None else "",
    )


def _differences(
    study: StudyValues, statement: Statement, against: str, measure: StudyMeasure, how: Resampling
) -> tuple[list[tuple[int, float]], str]:
    """Return by seed how much the statement's level is above what it is held against, or why none is."""
    place = study.study.axis_of(statement)
    if against != CHANCE or against in [level.name for level in study.axes[place].levels]:
        effect = level_effect(study, place, statement.level, measure, replace(how, resamples=_FEW), against)
        return [
            (seed, math.log(value) if measure.ratio else value) for seed, value in effect.seeds
        ], effect.reason
    if why := obstacle(study, place, (statement.level,), measure):
        return [], why
    found: dict[int, dict[tuple[str, ...], float]] = {}
    for (levels, seed), cell in sorted(study.measured(measure).items(), key=lambda item: item[0][1]):
        mean = measured_mean(cell, measure)
        if levels[place] == statement.level and mean is not None:
            found.setdefault(seed, {})[(*levels[:place], *levels[place + 1 :])] = mean
    by_seed, why = whole_seeds(study, place, found)
    return [(seed, float(np.mean(values))) for seed, values in by_seed.items()], why


def _of_the_margin(values: Array, within: float) -> float:
    """Return the p of the mean's being on the side of the margin that it was seen on, in or out; "
    "two-sided."""
    n = len(values)
    error = float(values.std(ddof=1)) / math.sqrt(n)
    return float(min(1.0, 2 * special.stdtr(n - 1, -abs(within - abs(float(values.mean()))) / error)))


def _with_verdict(one: JudgedStatement, p: float, level: float) -> JudgedStatement:
    if one.p is None or one.value is None:
        return one
    judged = replace(one, p_holm=rounded(p))
    if p >= 1 - level:
        return judged
    return replace(judged, verdict="as predicted" if _fits(one) else "not as predicted")


def _fits(one: JudgedStatement) -> bool:
    assert one.value is not None
    says = one.statement.says
    if says == "equal":
        return abs(one.value) < one.statement.within
    measure = next(measure for measure in MEASURES if measure.key == one.statement.measure)
    up = says in ("better", "higher")
    if says in ("better", "worse") and measure.better == "lower":
        up = not up
    return (one.value > 0) == up


def sentence(found: Sequence[JudgedStatement], *, replaced: bool = False) -> str:
    """Return how many statements became what; empty without a prediction.

    Args:
        found: The statements.
        replaced: They took the place of others after the first training.
    """
    if not found:
        return ""
    counts = {
        verdict: sum(one.verdict == verdict for one in found)
        for verdict in ("as predicted", "not as predicted", "cannot tell")
    }
    tally = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    when = "replaced others after the first training" if replaced else "were written before the result"
    return f"Of {len(found)} statements that {when}: {tally}."
