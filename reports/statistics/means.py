"""Intervals of means over tasks, on ragged data.

The noise that is measured here is episode noise: one checkpoint, fixed tasks, other episodes. It is
not the noise between training runs, which no number of episodes of one checkpoint can show.

* **Bootstrap** (Efron 1979), stratified: episodes are drawn again within each task, tasks are fixed.
  Intervals are percentile intervals of the replicates. The percentile interval of a mean of n values
  is too narrow by about sqrt((n - 1) / n) (the bootstrap's variance is the plug-in variance), which
  at 3 episodes a task gives 87% where 95% is promised; so each task's replicates are spread by
  sqrt(n / (n - 1)) around its mean. The replicates of an aggregate are then centred on its estimate.
  For a mean over tasks this changes nothing. A trimmed mean is not linear in the noisy task means: the
  bootstrap adds their noise a second time, and over hundreds of tasks the plain percentile interval
  can lie wholly beside its own estimate. Simulated (lognormal task scores, noise 0.3, 400 tasks, 3
  episodes), the plain interval held the estimator's expectation 73 times in 100, the centred one 95.
  So an interval tells what another evaluation with as many episodes would give. It does not remove
  the shift that few noisy episodes give a trimmed mean itself: compare at equal numbers of episodes.
* **Borrowed noise**: episodes that all end alike do not show that a task has no noise. A binary game
  that is won nine times in ten is won three times of three in 73 of 100 evaluations, and the
  bootstrap of three equal returns has no width. Such a task borrows residuals as a task with one
  episode does, in differences of paired episodes too, so that these agree with the sign-flip test.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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


def shows_noise(values: Array) -> bool:
    """Return whether ``values`` (n,) differ, by more than rounding; one value cannot."""
    return bool(np.ptp(values) > 1e-9 * np.abs(values).max())


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
