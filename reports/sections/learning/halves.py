"""What the best of several checkpoints is worth, corrected for having been picked.

The checkpoint with the highest mean is partly the best and partly the luckiest, so its mean on the episodes
that picked it is too high on average. *Sample splitting* takes the luck out: the starts are split at random
into two halves; the best by one half is scored on the other, and the other way round; that is averaged over
many splits. The halves are of different episodes, so in each split a checkpoint is scored by episodes that
did not pick it: the expectation is the true score of what half of the episodes pick. All of the episodes pick
no worse as a rule, so the corrected value is, if anything, too low. (As in cross-validation,
Stone 1974. Double Q-learning takes the bias of a maximum out in the same way: van Hasselt 2010.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lram.reports.statistics import Array

SPLITS = 1000


@dataclass(frozen=True, slots=True)
class Picked:
    """The best of several checkpoints.

    Attributes:
        place: Of the best by all episodes; of equals the first.
        score: Its mean on them, which is too high on average.
        corrected: What sample splitting says of it; None where a task has a single episode.
        agreement: The share of halves that pick the same one; None likewise.
    """

    place: int
    score: float
    corrected: float | None
    agreement: float | None


def pick(
    values: Sequence[Array], weights: Array, generator: np.random.Generator, splits: int = SPLITS
) -> Picked:
    """Return the best checkpoint.

    Args:
        values: Of each task the scores (checkpoints, episodes); the episodes of all checkpoints began
            alike, in the same order.
        weights: Of the tasks, (tasks,).
        generator: Splits.
        splits: How many.
    """
    means = sum(weight * one.mean(axis=1) for weight, one in zip(weights, values, strict=True))
    place = _best(np.asarray(means)[None])[0]
    score = float(np.asarray(means)[place])
    if any(one.shape[1] < 2 for one in values):
        return Picked(int(place), score, None, None)
    first, second = _half_means(values, weights, generator, splits)
    by_first, by_second, rows = _best(first), _best(second), np.arange(splits)
    corrected = (second[rows, by_first] + first[rows, by_second]) / 2
    agreement = np.concatenate((by_first == place, by_second == place)).mean()
    return Picked(int(place), score, float(corrected.mean()), float(agreement))


def _half_means(
    values: Sequence[Array], weights: Array, generator: np.random.Generator, splits: int
) -> tuple[Array, Array]:
    """Return the weighted means (splits, checkpoints) on the two halves of each split."""
    checkpoints = values[0].shape[0]
    first, second = np.zeros((splits, checkpoints)), np.zeros((splits, checkpoints))
    for weight, one in zip(weights, values, strict=True):
        episodes = one.shape[1]
        # Of an odd number the larger half is now the one, now the other.
        sizes = episodes // 2 + (
            generator.integers(0, 2, splits) if episodes % 2 else np.zeros(splits, np.int64)
        )
        ranks = generator.random((splits, episodes)).argsort(axis=1).argsort(axis=1)
        inside = (ranks < sizes[:, None]).astype(np.float64)
        first += weight * (inside @ one.T) / sizes[:, None]
        second += weight * ((1 - inside) @ one.T) / (episodes - sizes)[:, None]
    return first, second


def _best(means: Array) -> Array:
    """Return the first of the best of each row; what differs in its last digits only is equal."""
    highest = means.max(axis=1, keepdims=True)
    found: Array = np.argmax(means >= highest - 1e-12 * np.maximum(1.0, abs(highest)), axis=1)
    return found
