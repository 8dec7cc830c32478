"""Estimates, intervals and tests on numpy: seeded, and at home with ragged data.

The noise that is measured here is episode noise: one checkpoint, fixed tasks, other episodes. It is
not the noise between training runs, which no number of episodes of one checkpoint can show.
"""

from __future__ import annotations

from lram.reports.statistics.aggregates import equal_domain_weights, equal_task_weights, interquartile_mean
from lram.reports.statistics.means import MeanInterval, Moments, mean_interval, shows_noise
from lram.reports.statistics.paired import holm, sign_flip_p
from lram.reports.statistics.rates import rate_interval
from lram.reports.statistics.resampling import centred_interval, resampled_means, task_replicates
from lram.reports.statistics.streams import Array, stream

__all__ = [
    "Array",
    "MeanInterval",
    "Moments",
    "centred_interval",
    "equal_domain_weights",
    "equal_task_weights",
    "holm",
    "interquartile_mean",
    "mean_interval",
    "rate_interval",
    "resampled_means",
    "shows_noise",
    "sign_flip_p",
    "stream",
    "task_replicates",
]
