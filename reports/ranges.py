"""The least and the greatest return that an episode of a task can have, where its domain's rules tell.

An interval of a mean return ends there: a mean below the least return is not to be had. Where the rules tell
nothing, or a recorded return lies outside, there is no range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lram.envs.scores import audit, normalise
from lram.envs.task import Task
from lram.reports.statistics import Array

UNBOUNDED = (-math.inf, math.inf)

Range = tuple[float, float]

# Procgen's games that pay 10 for one goal and nothing else (Cobbe et al. 2020, appendix C).
_ONE_GOAL = frozenset({"coinrun", "heist", "jumper", "leaper", "maze", "ninja"})

_INNER_EPISODES = 10
_DARK_ROOM_STEPS = {"lram": 100, "short": 20}
_META_WORLD_STEPS = {"lram": 200, "full": 500}


def return_range(task: Task, protocol: str) -> Range:
    """Return the range of one episode's return under ``protocol`` (``domain:name@version``).

    ================  ==================================================================
    DMControl         rewards in [0, 1] (Tassa et al. 2018), 1000 decisions
    Meta-World        rewards in [0, 10] (Yu et al. 2020), 200 or 500 decisions
    robosuite,        shaped rewards in [0, 1], 500 decisions
    CompoSuite
    MimicGen          1 for success, which ends the episode
    Procgen           10 for the goal, in the games that have just one
    Dark-Room         ten inner episodes of 1 (sparse), or of 1 a step (dense)
    toy               rewards in [0, 1], in reach and image
    ================  ==================================================================
    """
    name = protocol.partition(":")[2].partition("@")[0]
    greatest: float | None = None
    if task.domain == "dmcontrol":
        greatest = 1000.0 if name == "lram" else None
    elif task.domain == "metaworld":
        greatest = 10.0 * _META_WORLD_STEPS[name] if name in _META_WORLD_STEPS else None
    elif task.domain in ("robosuite", "composuite"):
        greatest = 500.0
    elif task.domain == "mimicgen":
        greatest = 1.0
    elif task.domain == "procgen":
        greatest = 10.0 if task.name in _ONE_GOAL else None
    elif task.domain == "darkroom" and name in _DARK_ROOM_STEPS:
        greatest = float(_INNER_EPISODES)
        if task.name.startswith("dense"):
            greatest *= _DARK_ROOM_STEPS[name]
    elif task.domain == "toy" and task.name in ("reach", "image") and task.horizon is not None:
        greatest = float(task.horizon)
    return UNBOUNDED if greatest is None else (0.0, greatest)


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
