"""What a family of tasks is: the rule of a game, a dial, and its exact scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lram.envs.simulator import SimulatorSession

Kind = Literal["recall", "tracking", "in-context"]
Questions = Literal["random", "last"]
EpisodeSet = Literal["test", "training", "validation"]

# Part of what each generator is seeded with: the same number under two of these is two episodes that are
# independent of each other.
_STREAMS = {"test": 0x7E57, "training": 0x7241, "validation": 0x7A11}


@dataclass(frozen=True)
class MemoryOptions:
    """What a protocol of the domain sets.

    Attributes:
        questions: Asked at ``random`` times (each step with probability 1/2, and at the last), or at the
            ``last`` step only.
        episodes: From which of three sets, that have no random number in common, seeds draw episodes.
    """

    questions: Questions
    episodes: EpisodeSet

    def generator(self, seed: int) -> np.random.Generator:
        """Return the generator of the episode that ``seed`` names."""
        return np.random.default_rng((_STREAMS[self.episodes], seed))


@dataclass(frozen=True)
class Family:
    """Tasks that differ in one number, the dial: ``NAME-VALUE``.

    Attributes:
        name: Such as ``parity``.
        kind: What is needed: ``recall``, state ``tracking``, or learning ``in-context``.
        unit: What the dial counts.
        theory: What is known of who can solve it, in one sentence.
        trained: Values that the split ``train`` holds.
        longer: Values that the split ``heldout`` holds.
        least, most: Bounds of the dial; between them any value makes a task.
        actions: Number of actions at a value of the dial.
        steps: Decisions of an episode, the most there can be.
        chance: Expected return of uniformly random actions, exact.
        optimum: Expected return of the best that ``optimum_of`` names, exact.
        greatest: Greatest return of an episode.
        chance_of, optimum_of: How the two were found, in a few words.
        make: Builds a session of the task ``memory/NAME-VALUE``.
    """

    name: str
    kind: Kind
    unit: str
    theory: str
    trained: tuple[int, ...]
    longer: tuple[int, ...]
    least: int
    most: int
    actions: Callable[[int], int]
    steps: Callable[[int], int]
    chance: Callable[[int], float]
    optimum: Callable[[int], float]
    greatest: Callable[[int], float]
    chance_of: str
    optimum_of: str
    make: Callable[[str, int, MemoryOptions], SimulatorSession]
