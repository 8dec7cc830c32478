"""Normalised scores, and the audit of the references that they rest on.

A normalised score is ``(return - random) / (reference - random)``: 0 is a random policy, 1 the
reference (a human's score for Atari, the training data's for the other domains). The formula and
the references are the public reference implementation's (``hn_scores.py``, ``dn_scores.py``); the
task table names the source of each number.

Another normaliser puts random play as it was measured here (:mod:`lram.envs.random_play`) in the place of
the source's random return; the reference stays. It makes another row of the task, so that everything
that reads rows scores alike.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

from lram.envs.random_play import random_play
from lram.envs.task import Task

Normaliser = Literal["paper", "measured-random"]
"""What stands for 0: the random return of the paper's implementation, or random play as measured here."""

NORMALISERS: tuple[Normaliser, ...] = get_args(Normaliser)

HALF = 0.5
"""From this score of random play on, a task's scores say little of skill, and the task is named."""

_RANDOM = "score_random"


def audit(task: Task) -> str | None:
    """Return why ``task``'s reference cannot carry a score, in words; None when it can."""
    if task.score_reference is None:
        return "no score reference"
    if task.score_random is None:
        return dict(task.sources).get(_RANDOM, "no score reference")
    if task.score_reference <= task.score_random:
        return f"reference {task.score_reference:g} is not above the random policy's {task.score_random:g}"
    return None


def normalise(task: Task, value: float) -> float | None:
    """Return the normalised score of the return ``value``; None where the audit forbids one."""
    if audit(task) is not None:
        return None
    assert task.score_random is not None
    assert task.score_reference is not None
    return scaled(value, task.score_random, task.score_reference)


def scaled(value: float, random: float, reference: float) -> float:
    """Return the normalised score of the return ``value`` by references that carry one."""
    return (value - random) / (reference - random)


def normalised_by(normaliser: Normaliser, task: Task, protocol: str) -> Task:
    """Return the row of ``task`` with the references of ``normaliser``.

    By ``measured-random`` a task has no score, and its audit says why, where random play was not measured
    under ``protocol``, and where the reference is not above the interval of what it earned: the
    denominator could then be 0. A random return that is exact, not measured, stays.

    Args:
        normaliser: Which references.
        task: A row with those of its source.
        protocol: Id of the protocol that it was played under.
    """
    sources = dict(task.sources)
    if normaliser == "paper" or task.score_reference is None or sources.get(_RANDOM, "").startswith("exact"):
        return task
    found = random_play(task.id, protocol)
    if found is None:
        return _row(task, None, f"random play was not measured under {protocol}")
    top = found.mean if found.high is None else found.high
    if task.score_reference <= top:
        return _row(
            task,
            None,
            f"reference {task.score_reference:g} is not above random play as measured: {found.span}",
        )
    return _row(task, found.mean, f"measured: {found.source}")


def _row(task: Task, random: float | None, source: str) -> Task:
    kept = tuple((name, text) for name, text in task.sources if name != _RANDOM)
    return replace(task, score_random=random, sources=(*kept, (_RANDOM, source)))
