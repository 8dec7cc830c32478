"""Estimates, intervals and tests on numpy: seeded, and at home with ragged data.

The noise that is measured here is episode noise: one checkpoint, fixed tasks, other episodes. It is
not the noise between training runs, which no number of episodes of one checkpoint can show.
"""

from __future__ import annotations

from lram.reports.statistics.aggregates import (
    TaskScores,
    equal_domain_weights,
    equal_task_weights,
    interquartile_mean,
    iqm_of_task_means,
    mean_of_domain_means,
    median_of_task_means,
    optimality_gap,
    probability_of_improvement,
    shortfall,
    win_contributions,
    wins,
)
from lram.reports.statistics.means import MeanInterval, Moments, mean_interval, shows_noise
from lram.reports.statistics.paired import SignFlips, enough_patterns, fewest_pairs, finer_p, holm
from lram.reports.statistics.power import POWER, Reach, reach
from lram.reports.statistics.rates import rate_interval
from lram.reports.statistics.resampling import centred_interval, redrawn, resampled_means, task_replicates
from lram.reports.statistics.seeds import LEAST_SEEDS, MOST_SEEDS, over_seeds, seeds_needed, untested
from lram.reports.statistics.streams import Array, stream
from lram.reports.statistics.unseen import Stakes

__all__ = [
    "LEAST_SEEDS",
    "MOST_SEEDS",
    "POWER",
    "Array",
    "MeanInterval",
    "Moments",
    "Reach",
    "SignFlips",
    "Stakes",
    "TaskScores",
    "centred_interval",
    "enough_patterns",
    "equal_domain_weights",
    "equal_task_weights",
    "fewest_pairs",
    "finer_p",
    "holm",
    "interquartile_mean",
    "iqm_of_task_means",
    "mean_interval",
    "mean_of_domain_means",
    "median_of_task_means",
    "optimality_gap",
    "over_seeds",
    "probability_of_improvement",
    "rate_interval",
    "reach",
    "redrawn",
    "resampled_means",
    "seeds_needed",
    "shortfall",
    "shows_noise",
    "stream",
    "task_replicates",
    "untested",
    "win_contributions",
    "wins",
]
