"""Effects of a study's levels: paired over training seeds, tasks and episodes, with both kinds of noise.

For a level and its axis's base level, and every seed and combination of the other axes' levels, the
difference (level minus base) is the mean over tasks of the mean over the episodes that began alike. Its
mean over the combinations is the seed's difference; the effect is the mean over the seeds that have all of
the combinations: without one of them, a seed's mean would be about other levels.

Where the model of a cell has no value by its own fault (NaN on a task without a known least return, a
validation loss that is no finite number), its level is not compared in that measure: what is left of it
would flatter.

* **Training-seed noise**: a t interval over the seeds' differences. It holds the noise of training and of
  the evaluation's episodes together, and is what an effect is judged by: two trainings by one recipe
  differ too.
* **Episode noise**: a bootstrap of the paired episodes within each task and cell, the trained models being
  what they are. It tells how much of the interval more episodes could take away.
* **Several levels and measures**: Holm's correction over all levels of all axes and all measures that are
  shown, so that a study without any effect says better or worse of anything in one of twenty.
* **Cannot tell** is said where the corrected p is not below 1 - level, with the seeds that would show an
  effect of the observed size and spread four times in five, at the strictest of Holm's steps. That is a
  guess from few seeds, not a promise. Fewer than ``LEAST_SEEDS`` seeds are not tested: their spread is that
  of one pair of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

import numpy as np

from lram.reports import text
from lram.reports.model import rounded
from lram.reports.samples import Resampling
from lram.reports.sections.study.cells import MEASURES, CellValues, StudyMeasure, StudyValues
from lram.reports.statistics import (
    Array,
    centred_interval,
    equal_domain_weights,
    holm,
    over_seeds,
    seeds_needed,
    stream,
    task_replicates,
    untested,
)

_T = TypeVar("_T")

CANNOT_TELL = "cannot tell"
NOTHING = "nothing to compare"


@dataclass(frozen=True, slots=True)
class Span:
    """An interval at the report's level."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Effect:
    """What one level changes of one measure, against its axis's base level.

    Attributes:
        axis, level, base: Names.
        measure: What is compared.
        value: Mean over the seeds of the differences; of a ratio, the ratio. None without any seed, and where
            a cell has no value by its own fault.
        seeds: The seeds' own differences (or ratios), by seed.
        interval: Over training seeds; None for fewer than two seeds or where they do not differ.
        episode_interval: Of the episode noise alone; None where the measure has none.
        episode_share: Share of the variance between the seeds' differences that episode noise explains.
        p, p_holm: Two-sided t-test over the seeds, and corrected for all levels and measures of the study;
            None below ``LEAST_SEEDS`` seeds, and where the seeds do not differ.
        verdict: ``better``, ``worse``, ``higher``, ``lower`` or ``cannot tell``.
        reason: Why it was not tested, such as ``2 seeds``, or has no value; empty where it was.
        needed: Seeds that would tell, by the observed effect and spread; None where unknown or too many.
        base_value, level_value: Means of both over the cells that were paired.
        pairs: Pairs of episodes (or of cells) behind it.
        incomplete: Training seeds that were left out, as they have some of the other axes' combinations only.
    """

    axis: str
    level: str
    base: str
    measure: str
    value: float | None
    seeds: tuple[tuple[int, float], ...] = ()
    interval: Span | None = None
    episode_interval: Span | None = None
    episode_share: float | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: str = CANNOT_TELL
    reason: str = ""
    needed: int | None = None
    base_value: float | None = None
    level_value: float | None = None
    pairs: int = 0
    incomplete: tuple[int, ...] = ()


def effects(study: StudyValues, how: Resampling) -> tuple[Effect, ...]:
    """Return the effect of every non-base level on every measure that any cell has, axis by axis."""
    found: list[Effect] = []
    for measure in MEASURES:
        if not study.measured(measure):
            continue
        found += [
            level_effect(study, place, level.name, measure, how)
            for place, axis in enumerate(study.axes)
            for level in axis.levels[1:]
        ]
    return tuple(_judged(found, how.level))


@dataclass(frozen=True, slots=True)
class _Pair:
    """A cell and its partner that differs in one level: the difference by task, in episodes."""

    seed: int
    tasks: tuple[str, ...]
    differences: tuple[Array, ...]
    base: float
    level: float

    @property
    def weights(self) -> Array:
        return equal_domain_weights([task.partition("/")[0] for task in self.tasks])

    @property
    def mean(self) -> float:
        return float((self.weights * [one.mean() for one in self.differences]).sum())


def level_effect(
    study: StudyValues, place: int, level: str, measure: StudyMeasure, how: Resampling, base: str = ""
) -> Effect:
    """Return what ``level`` of the axis at ``place`` changes against ``base`` (empty: its first level);
    without a correction and a verdict.
    """
    axis = study.axes[place]
    base = base or axis.levels[0].name
    empty = Effect(axis.name, level, base, measure.key, None)
    if why := obstacle(study, place, (level, base), measure):
        return replace(empty, reason=why)
    cells = study.measured(measure)
    paired: dict[int, dict[tuple[str, ...], _Pair]] = {}
    for (levels, seed), cell in sorted(cells.items(), key=lambda item: (item[0][1], item[0][0])):
        partner = cells.get(((*levels[:place], base, *levels[place + 1 :]), seed))
        if levels[place] == level and partner is not None:
            pair = _pair(cell, partner, measure)
            if pair is not None:
                paired.setdefault(seed, {})[_besides(levels, place)] = pair
    pairs, why = whole_seeds(study, place, paired)
    empty = replace(empty, reason=why, incomplete=tuple(seed for seed in paired if seed not in pairs))
    if not pairs:
        return empty
    by_seed = {seed: float(np.mean([pair.mean for pair in found])) for seed, found in pairs.items()}
    values = np.array(list(by_seed.values()))
    mean = float(values.mean())
    out = math.exp if measure.ratio else float
    interval, p = over_seeds(values, how.level)
    replicates = _replicates(pairs, (axis.name, level, measure.key), how) if measure.episodes else None
    flat = [pair for found in pairs.values() for pair in found]
    effect = replace(
        empty,
        value=rounded(out(mean)),
        seeds=tuple((seed, rounded(out(value))) for seed, value in by_seed.items()),
        interval=None if interval is None else Span(*(rounded(out(end)) for end in interval)),
        p=None if p is None else rounded(p),
        reason=untested(len(values)) if p is None else "",
        base_value=rounded(out(float(np.mean([pair.base for pair in flat])))),
        level_value=rounded(out(float(np.mean([pair.level for pair in flat])))),
        pairs=sum(len(one) for pair in flat for one in pair.differences),
    )
    if replicates is None:
        return effect
    low, high = centred_interval(replicates.mean(axis=0), mean, how.level)
    spread = float(values.var(ddof=1)) if len(values) > 1 else 0.0
    share = float(replicates.var(axis=1).mean()) / spread if spread else None
    return replace(
        effect,
        episode_interval=Span(rounded(low), rounded(high)),
        episode_share=None if share is None else rounded(min(share, 1.0)),
    )


def obstacle(study: StudyValues, place: int, levels: Sequence[str], measure: StudyMeasure) -> str:
    """Return why ``levels`` of the axis at ``place`` are not to be compared in ``measure``; empty where they
    are: a cell of theirs has no value by its own fault.
    """
    found = [
        (cell, why)
        for cell in study.cells
        if cell.levels[place] in levels and (why := cell.obstacle(measure))
    ]
    if not found:
        return ""
    more = f", and {text.count(len(found) - 1, 'more cell')}" if len(found) > 1 else ""
    return f"not comparable: {found[0][0].title} ({found[0][1]}){more}"


def whole_seeds(
    study: StudyValues, place: int, found: Mapping[int, Mapping[tuple[str, ...], _T]]
) -> tuple[dict[int, list[_T]], str]:
    """Return what was found for the seeds that have every combination of the other axes' levels.

    Args:
        study: Its axes.
        place: Of the axis whose levels are compared.
        found: By seed, then by the levels of the other axes.

    Returns:
        By seed; and, where there is none, why.
    """
    others = list(product(*_besides([[level.name for level in axis.levels] for axis in study.axes], place)))
    whole = {seed: list(one.values()) for seed, one in found.items() if len(one) == len(others)}
    if whole:
        return whole, ""
    absent = [levels for levels in others if not any(levels in one for one in found.values())]
    if len(absent) == len(others):
        return {}, NOTHING
    if not absent:
        return {}, "no training seed has every combination with the other axes' levels"
    return {}, f"no training seed has a pair with {text.listing([', '.join(one) for one in absent], 3)}"


def _besides(of_axes: Sequence[_T], place: int) -> tuple[_T, ...]:
    """Return what is of the other axes."""
    return (*of_axes[:place], *of_axes[place + 1 :])


def _pair(cell: CellValues, partner: CellValues, measure: StudyMeasure) -> _Pair | None:
    """Return what two cells have in common; episodes count where both began in the same state."""
    mine, theirs = cell.values[measure.key], partner.values[measure.key]
    tasks, differences, base, level = [], [], [], []
    for task in mine:
        shared = [
            episode
            for episode in mine[task]
            if episode in theirs.get(task, {})
            and cell.simulator_seeds.get((task, episode)) == partner.simulator_seeds.get((task, episode))
        ]
        if shared:
            one = np.array([mine[task][episode] for episode in shared])
            other = np.array([theirs[task][episode] for episode in shared])
            if measure.ratio:
                one, other = np.log(one), np.log(other)
            tasks.append(task)
            differences.append(one - other)
            base.append(other.mean())
            level.append(one.mean())
    if not tasks:
        return None
    weights = equal_domain_weights([task.partition("/")[0] for task in tasks])
    return _Pair(
        cell.seed,
        tuple(tasks),
        tuple(differences),
        float((weights * base).sum()),
        float((weights * level).sum()),
    )


def measured_mean(cell: CellValues, measure: StudyMeasure) -> float | None:
    """Return the mean of domain means of the tasks' means over episodes; None where there are none."""
    found = cell.values.get(measure.key)
    if not found:
        return None
    means = [float(np.mean(list(episodes.values()))) for episodes in found.values()]
    weights = equal_domain_weights([task.partition("/")[0] for task in found])
    return float((weights * means).sum())


def _replicates(pairs: dict[int, list[_Pair]], names: Sequence[str], how: Resampling) -> Array | None:
    """Return bootstrap replicates of every seed's difference, (seeds, resamples); None without noise."""
    rows = []
    for seed, found in pairs.items():
        columns = []
        for number, pair in enumerate(found):
            generators = [stream(how.seed, *names, str(seed), str(number), task) for task in pair.tasks]
            domains = [task.partition("/")[0] for task in pair.tasks]
            drawn = task_replicates(pair.differences, domains, how.resamples, generators, across=True)
            if np.isnan(drawn[0]).any():
                return None
            columns.append((drawn * pair.weights).sum(axis=1))
        rows.append(np.mean(columns, axis=0))
    return np.array(rows)


def _judged(found: Sequence[Effect], level: float) -> list[Effect]:
    """Return the effects of a study with corrected p-values and verdicts."""
    by_key = {measure.key: measure for measure in MEASURES}
    # A level that cannot be tested yet counts among the tests all the same.
    corrected = holm([1.0 if effect.p is None else effect.p for effect in found])
    judged = []
    for effect, p in zip(found, corrected, strict=True):
        if effect.p is None or effect.value is None:
            judged.append(effect)
            continue
        measure = by_key[effect.measure]
        if p < 1 - level:
            up = effect.value > (1.0 if measure.ratio else 0.0)
            judged.append(replace(effect, p_holm=rounded(p), verdict=_word(measure, up)))
        else:
            differences = [value for _, value in effect.seeds]
            values = np.log(differences) if measure.ratio else np.array(differences)
            needed = seeds_needed(values, (1 - level) / len(found))
            judged.append(replace(effect, p_holm=rounded(p), needed=needed))
    return judged


def _word(measure: StudyMeasure, up: bool) -> str:
    if measure.better is None:
        return "higher" if up else "lower"
    return "better" if up == (measure.better == "higher") else "worse"
