"""Estimates and intervals on numpy: seeded, and at home with ragged data.

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
* **Wilson** (1927) score intervals for a rate.
* **Interquartile mean**: ``scipy.stats.trim_mean(values, 0.25)``, which drops int(n / 4) values at
  each end. It is taken over the tasks' mean scores, as the public reference implementation does
  (``custom_eval_callback.py``), not over single episodes.
* **Sign-flip test** (Fisher 1935) for paired differences, and **Holm** (1979) for several tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import product
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_CHUNK = 4_000_000  # cells of a sign-flip block: 32 MB


def stream(seed: int, *names: str) -> np.random.Generator:
    """Return the generator that belongs to ``names``.

    Each agent and task draws from a stream of its own, so its interval does not change when another
    agent or task joins the report.
    """
    digest = hashlib.sha256("\x00".join((str(seed), *names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


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


def wilson_interval(successes: int, trials: int, level: float) -> tuple[float, float]:
    """Return Wilson's score interval for a rate of ``successes`` in ``trials`` >= 1."""
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes in {trials} trials is no rate")
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate, square = successes / trials, z * z
    centre = (rate + square / (2 * trials)) / (1 + square / trials)
    half = z / (1 + square / trials) * np.sqrt(rate * (1 - rate) / trials + square / (4 * trials**2))
    # At the ends the exact bound is 0 or 1; rounding must not step over it.
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == trials else float(centre + half)
    return low, high


def interquartile_mean(scores: Array) -> Array:
    """Return the 25% trimmed mean over the last axis: of (tasks,) or (resamples, tasks)."""
    cut = int(0.25 * scores.shape[-1])
    kept = np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut]
    return np.asarray(kept.mean(axis=-1))


def mean_of_domain_means(domains: Sequence[str]) -> Callable[[Array], Array]:
    """Return the aggregate that weighs each domain equally, and each task equally in its domain.

    The result maps task scores, (tasks,) or (resamples, tasks) in the order of ``domains``, to their
    aggregate over the last axis.
    """
    weights = equal_domain_weights(domains)
    return lambda scores: np.asarray((scores * weights).sum(axis=-1))


def equal_domain_weights(domains: Sequence[str]) -> Array:
    """Return each task's weight in the mean of domain means, shape (tasks,); they sum to 1."""
    names, place, sizes = np.unique(np.asarray(domains), return_inverse=True, return_counts=True)
    return np.asarray(1.0 / (len(names) * sizes[place]), dtype=np.float64)


def sign_flip_p(
    differences: Sequence[Array], weights: Array, resamples: int, generator: np.random.Generator
) -> float:
    """Return the two-sided p-value of a weighted mean of paired differences.

    If the two agents were equally good at every task, each paired difference could as well have had
    the other sign. The statistic is the weighted sum of the tasks' mean differences. All sign
    patterns are tried where there are no more than ``resamples``, otherwise ``resamples`` random
    ones, counting the observed one: p is never 0.

    Args:
        differences: Per task, the differences of its episode pairs, each (n,).
        weights: Per task, its weight in the aggregate.
        resamples: Number of random sign patterns.
        generator: Draws them.
    """
    terms = np.concatenate([w * d / len(d) for w, d in zip(weights, differences, strict=True)])
    observed = abs(terms.sum())
    # Patterns that tie with the observed one must not be lost to rounding.
    bar = observed - 1e-9 * max(observed, float(np.abs(terms).sum()))
    if 2 ** min(len(terms), 40) <= resamples:
        patterns = np.array(list(product((1.0, -1.0), repeat=len(terms))))
        return float(np.mean(np.abs(patterns @ terms) >= bar))
    extreme, block = 0, max(1, _CHUNK // len(terms))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        signs = generator.integers(0, 2, size=(rows, len(terms)), dtype=np.int8).astype(np.float64)
        signs *= 2.0
        signs -= 1.0
        extreme += int(np.count_nonzero(np.abs(signs @ terms) >= bar))
    return (extreme + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the given order."""
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = worst
    return adjusted
