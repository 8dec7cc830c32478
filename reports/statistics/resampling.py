"""Bootstrap replicates of task means, on ragged data: what comparisons and studies resample.

Episodes are drawn again within each task, tasks are fixed (Efron 1979, stratified). Each task's replicates
are spread by sqrt(n / (n - 1)) around its mean, because the bootstrap's variance is the plug-in variance;
the replicates of an aggregate are centred on its estimate. Intervals of an agent's own scores do not come
from here (:mod:`lram.reports.statistics.means`): a percentile interval's ends are those of a normal law, so
at few episodes it is too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lram.reports.statistics.means import shows_noise
from lram.reports.statistics.streams import Array


def resampled_means(values: Array, resamples: int, generator: np.random.Generator) -> Array:
    """Return bootstrap replicates of the mean of ``values`` (n,), n >= 2, shape (resamples,).

    The spread around the mean is scaled by sqrt(n / (n - 1)); the module's text tells why.
    """
    n = len(values)
    if n < 2:
        raise ValueError("a single episode says nothing about its own noise")
    mean = values.mean()
    drawn = values.take(generator.integers(0, n, size=(resamples, n))).mean(axis=1)
    scaled: Array = mean + np.sqrt(n / (n - 1)) * (drawn - mean)
    return scaled


def task_replicates(
    tasks: Sequence[Array],
    strata: Sequence[str],
    resamples: int,
    generators: Sequence[np.random.Generator],
    *,
    across: bool,
) -> Array:
    """Return replicates of every task's mean, shape (resamples, tasks).

    A task whose values do not differ shows no noise of its own, be it for having one episode or
    because few episodes happened to end alike. It borrows: its mean plus the mean of as many
    residuals, drawn from those tasks of its stratum (its domain) that do show noise, or, with
    ``across``, from those of all strata where its own has none. Where there is nothing to borrow
    nothing is known of the noise, and the task's replicates are NaN.
    """
    residuals: dict[str, list[Array]] = {}
    for values, stratum in zip(tasks, strata, strict=True):
        if shows_noise(values):
            spread = np.sqrt(len(values) / (len(values) - 1))
            residuals.setdefault(stratum, []).append((values - values.mean()) * spread)
    pools = {stratum: np.concatenate(parts) for stratum, parts in residuals.items()}
    everywhere = np.concatenate(list(pools.values())) if across and pools else None
    columns = np.full((resamples, len(tasks)), np.nan)
    for place, (values, stratum, generator) in enumerate(zip(tasks, strata, generators, strict=True)):
        if shows_noise(values):
            columns[:, place] = resampled_means(values, resamples, generator)
        elif (pool := pools.get(stratum, everywhere)) is not None:
            drawn = generator.choice(pool, size=(resamples, len(values)))
            columns[:, place] = values.mean() + drawn.mean(axis=1)
    return columns


def centred_interval(replicates: Array, estimate: float, level: float) -> tuple[float, float]:
    """Return the central interval holding ``level`` of ``replicates``, moved so that they centre on
    ``estimate``; the module's text tells why.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail]) + (estimate - replicates.mean())
    return float(low), float(high)


def redrawn(episodes: int, resamples: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return which of a task's ``episodes`` each replicate has, (resamples, draws).

    One fewer than there are is drawn (Rao and Wu 1988): then the mean of a replicate has the unbiased
    variance s^2 / n without any scaling, so that the values stay what they are, and any function of them
    has replicates. A single episode is drawn as it is.
    """
    return generator.integers(0, episodes, size=(resamples, max(1, episodes - 1)))
