"""How the policies of Stable-Baselines3 make an action of a network's answer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lram.agents.adapters.actions import Bounds, Choose, Row, greatest
from lram.agents.api import Action

_LOG_STD = (-20.0, 2.0)
"""Least and greatest logarithm of SAC's standard deviation (stable_baselines3.sac.policies)."""


def explored(share: float) -> Choose:
    """Return DQN's choice: a uniform action with the probability ``share``, else the best."""

    def choose(row: Row, rng: np.random.Generator | None) -> Action:
        if rng is not None and rng.random() < share:
            return int(rng.integers(len(row)))
        return greatest(row, rng)

    return choose


def gaussian(bounds: Bounds, std: npt.NDArray[np.float64] | None) -> Choose:
    """Return PPO's choice: the mean, with noise of ``std`` where something draws, put within the bounds."""

    def choose(row: Row, rng: np.random.Generator | None) -> Action:
        if rng is not None and std is not None:
            row = (row + std * rng.standard_normal(len(row))).astype(np.float32)
        return bounds.to_task(bounds.clip(row))

    return choose


def squashed_gaussian(bounds: Bounds, size: int | None) -> Choose:
    """Return SAC's and TD3's choice.

    Args:
        bounds: Of the policy's own actions.
        size: Of an action, where a row holds means and logarithms of standard deviations before the
            hyperbolic tangent; None: it holds the action in [-1, 1].
    """

    def choose(row: Row, rng: np.random.Generator | None) -> Action:
        if size is not None and rng is not None:
            mean, log_std = row[:size].astype(np.float64), row[size:].astype(np.float64)
            std = np.exp(np.clip(log_std, *_LOG_STD))
            row = np.tanh(mean + std * rng.standard_normal(size)).astype(np.float32)
        return bounds.to_task(bounds.unsquash(row))

    return choose
