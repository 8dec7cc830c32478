"""The least and the greatest return that an episode of a task can have, where its domain's rules tell.

A mean return below the least is not to be had, so intervals end there; and an agent that fails by its own
fault is given the least, the worst that could have come of the episode. Random play on Meta-World, DMControl
and Procgen (docs/explanation/references.md) stayed within these ranges in each of its episodes.
"""

from __future__ import annotations

import math

from lram.envs.task import Task

UNBOUNDED = (-math.inf, math.inf)

Range = tuple[float, float]

# Procgen's games that pay 10 for one goal and nothing else (Cobbe et al. 2020, appendix C).
_ONE_GOAL = frozenset({"coinrun", "heist", "jumper", "leaper", "maze", "ninja"})

_NEVER_NEGATIVE = frozenset(
    {"dmcontrol", "metaworld", "robosuite", "composuite", "mimicgen", "darkroom", "toy"}
)

_INNER_EPISODES = 10
_DARK_ROOM_STEPS = {"lram": 100, "short": 20}
_META_WORLD_STEPS = {"lram": 200, "full": 500}


def least_return(task: Task) -> float | None:
    """Return the least return that ``task`` can give under any protocol; None where none is known.

    It is 0 where rewards cannot be negative. Atari, most games of Procgen (fruitbot goes below 0) and other
    people's domains have negative rewards, or promise no bound.
    """
    rewarding = task.domain in _NEVER_NEGATIVE or (task.domain == "procgen" and task.name in _ONE_GOAL)
    return 0.0 if rewarding else None


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
