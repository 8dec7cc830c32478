"""Ranges of means: an interval ends where the returns of its tasks do (:mod:`lram.envs.returns`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lram.envs.returns import UNBOUNDED, Range
from lram.envs.scores import audit, normalise
from lram.envs.task import Task
from lram.reports.statistics import Array


def within(values: Array, bounds: Range) -> Range:
    """Return ``bounds``, or no bounds where one of ``values`` lies outside: then the rule is another."""
    low, high = bounds
    slack = 1e-6 * (high - low) if math.isfinite(high - low) else 0.0
    return bounds if low - slack <= values.min() and values.max() <= high + slack else UNBOUNDED


def score_range(task: Task, bounds: Range) -> Range:
    """Return the range of the normalised score for returns within ``bounds``."""
    if audit(task) is not None:
        return UNBOUNDED
    ends = [normalise(task, end) for end in bounds]
    assert ends[0] is not None
    assert ends[1] is not None
    return ends[0], ends[1]


def mean_range(ranges: Sequence[Range], weights: Array) -> Range:
    """Return the range of the weighted mean of tasks with ``ranges``; ``weights`` are above 0."""
    lows, highs = zip(*ranges, strict=True)
    return float((weights * lows).sum()), float((weights * highs).sum())
