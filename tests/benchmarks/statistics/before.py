"""The intervals that reports had before, as a baseline: a percentile bootstrap, pooled Wilson intervals."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from lram.reports.statistics import interquartile_mean, shows_noise

Array = npt.NDArray[np.float64]
NOTHING = (np.nan, np.nan)


def replicates(
    tasks: Sequence[Array], strata: Sequence[str], draws: int, rng: np.random.Generator, *, across: bool
) -> Array:
    """Return bootstrap replicates of the task means, (draws, tasks); NaN where no noise is to be borrowed."""
    residuals: dict[str, list[Array]] = {}
    for values, stratum in zip(tasks, strata, strict=True):
        if shows_noise(values):
            spread = np.sqrt(len(values) / (len(values) - 1))
            residuals.setdefault(stratum, []).append((values - values.mean()) * spread)
    pools = {stratum: np.concatenate(parts) for stratum, parts in residuals.items()}
    everywhere = np.concatenate(list(pools.values())) if across and pools else None
    columns = np.full((draws, len(tasks)), np.nan)
    for place, (values, stratum) in enumerate(zip(tasks, strata, strict=True)):
        n, mean = len(values), values.mean()
        if shows_noise(values):
            drawn = values.take(rng.integers(0, n, size=(draws, n))).mean(axis=1)
            columns[:, place] = mean + np.sqrt(n / (n - 1)) * (drawn - mean)
        elif (pool := pools.get(stratum, everywhere)) is not None:
            columns[:, place] = mean + rng.choice(pool, size=(draws, n)).mean(axis=1)
    return columns


def centred(drawn: Array, estimate: float, level: float) -> tuple[float, float]:
    """Return the central interval of ``drawn``, moved so that they centre on ``estimate``."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) + (estimate - drawn.mean())
    return float(low), float(high)


def mean(
    tasks: Sequence[Array],
    weights: Array,
    strata: Sequence[str],
    level: float,
    draws: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return the former interval of a weighted mean; NaN where there was none."""
    if len(tasks) == 1 and not shows_noise(tasks[0]):
        return NOTHING
    columns = replicates(tasks, strata, draws, rng, across=True)
    if np.isnan(columns[0]).any():
        return NOTHING
    estimate = float(sum(w * values.mean() for w, values in zip(weights, tasks, strict=True)))
    return centred((columns * weights).sum(axis=1), estimate, level)


def rate(tasks: Sequence[Array], level: float, draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the former interval of a mean of task rates."""
    pooled = np.concatenate(tasks)
    if len(tasks) > 1:
        columns = replicates(tasks, ["" for _ in tasks], draws, rng, across=False)
        if not np.isnan(columns[0]).any():
            estimate = float(np.mean([values.mean() for values in tasks]))
            low, high = centred(columns.mean(axis=1), estimate, level)
            return max(low, 0.0), min(high, 1.0)
    return wilson(int(pooled.sum()), len(pooled), level)


def wilson(successes: int, trials: int, level: float) -> tuple[float, float]:
    """Return Wilson's score interval for a rate."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate, square = successes / trials, z * z
    centre = (rate + square / (2 * trials)) / (1 + square / trials)
    half = z / (1 + square / trials) * np.sqrt(rate * (1 - rate) / trials + square / (4 * trials**2))
    low = 0.0 if successes == 0 else float(centre - half)
    return low, 1.0 if successes == trials else float(centre + half)


def iqm(tasks: Sequence[Array], level: float, draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the former interval of the interquartile mean of task means."""
    columns = replicates(tasks, ["" for _ in tasks], draws, rng, across=True)
    estimate = float(interquartile_mean(np.array([values.mean() for values in tasks])))
    return centred(interquartile_mean(columns), estimate, level)
