"""Normalised scores, and the audit of the references that they rest on.

A normalised score is ``(return - random) / (reference - random)``: 0 is a random policy, 1 the
reference (a human's score for Atari, the training data's for the other domains). The formula and
the references are the public reference implementation's (``hn_scores.py``, ``dn_scores.py``); the
task table names the source of each number.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lram.envs.task import Task

LEAST_RETURNS: Mapping[str, float] = MappingProxyType(
    {
        "dmcontrol": 0.0,  # rewards of the suite lie in [0, 1] (Tassa et al. 2018, section 2)
        "composuite": 0.0,  # stages of reaching, lifting and placing, each from 0 up (Mendez et al. 2022)
        "mimicgen": 0.0,  # 1 when the task is solved, else 0
        "darkroom": 0.0,  # 1 on the goal, else 0
        "toy": 0.0,  # 0 to 2 a decision
    }
)
"""The least return that any policy can have, by domain, where rewards cannot be negative.

Atari, Procgen (fruitbot) and robosuite's own tasks have negative rewards or promise no bound, and nor does
Meta-World.
"""


def least_return(task: Task) -> float | None:
    """Return the least return that ``task`` can give; None where none is known."""
    return LEAST_RETURNS.get(task.domain)


def audit(task: Task) -> str | None:
    """Return why ``task``'s reference cannot carry a score, in words; None when it can."""
    if task.score_random is None or task.score_reference is None:
        return "no score reference"
    if task.score_reference <= task.score_random:
        return f"reference {task.score_reference:g} is not above the random policy's {task.score_random:g}"
    return None


def normalise(task: Task, value: float) -> float | None:
    """Return the normalised score of the return ``value``; None where the audit forbids one."""
    if audit(task) is not None:
        return None
    assert task.score_random is not None
    assert task.score_reference is not None
    return (value - task.score_random) / (task.score_reference - task.score_random)
