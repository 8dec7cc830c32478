"""A tabular learner for Dark-Room: what it does over a trial is the data that in-context learning is from.

It knows how moves go (a table of 100 cells), and nothing of the goal. It takes every cell that it has not
been on for rewarding (optimism in the face of uncertainty: R-max, Brafman and Tennenholtz 2002, here with
a model of moves that is known), and goes to the nearest cell that it takes for rewarding. Exploration ends
by itself: each cell disappoints once. When it has found the goal, it goes there on a shortest path in
every later inner episode, and stays where it may.

Ties go to up, down, right, left, in this order. So it sweeps the room column by column, and everything
that it does follows from what it has seen in the trial. That is on purpose: an agent that takes the
likeliest action can imitate this, while it cannot imitate a learner that explores by chance (whose
likeliest action, the same each time, may lead round in a circle). Data that has random steps too comes
from ``learner~0.1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lram.agents.api import Action, Agent, AgentError, AgentInfo, Episode, Observation, TaskSpec

SIDE = 10
UP, DOWN, RIGHT, LEFT, STAY = range(5)
_MOVES = ((-1, 0), (1, 0), (0, 1), (0, -1), (0, 0))
_TABLE_BYTES = 100


@dataclass(slots=True)
class LearnerLane:
    """What the learner knows in one lane.

    Attributes:
        hoped: Cells that it has not been on.
        goal: Where it was rewarded; None before.
        cell: Where it stood at its last decision.
        reached: Where that led; None before the first.
    """

    hoped: set[int] = field(default_factory=lambda: set(range(SIDE * SIDE)))
    goal: int | None = None
    cell: int = 0
    reached: int | None = None


class LearnerAgent(Agent):
    """Plays Dark-Room as the module's text tells; it learns within a trial and forgets it after."""

    @property
    def info(self) -> AgentInfo:
        """What a report says of this agent."""
        return AgentInfo(
            "baseline", "learner: tabular, optimistic, learns over the inner episodes of a trial"
        )

    def refuses(self, task: TaskSpec) -> str | None:
        """Return None for Dark-Room's tasks."""
        return None if task.domain == "darkroom" else "the learner knows the rooms of darkroom only"

    def start(self, lanes: int) -> dict[int, LearnerLane]:
        """Return a state without trials."""
        return {}

    def reset(self, state: dict[int, LearnerLane], lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Forget everything in ``lanes``; AgentError where ``refuses`` tells why."""
        for lane, episode in zip(lanes, episodes, strict=True):
            if (reason := self.refuses(episode.task)) is not None:
                raise AgentError(reason)
            state[lane] = LearnerLane()

    def act(
        self,
        state: dict[int, LearnerLane],
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], dict[int, LearnerLane]]:
        """Learn from the last step of each lane, and continue."""
        actions: list[Action] = []
        for lane, seen, reward in zip(lanes, observations, rewards, strict=True):
            trial = state[lane]
            if trial.reached is not None and reward > 0:
                trial.goal = trial.reached
            trial.cell = SIDE * int(np.argmax(seen[:SIDE])) + int(np.argmax(seen[SIDE : 2 * SIDE]))
            trial.hoped -= {trial.cell, trial.reached}
            actions.append(_decide(trial))
            trial.reached = _moved(trial.cell, actions[-1])
        return actions, state

    def took(self, state: dict[int, LearnerLane], lanes: Sequence[int], actions: Sequence[Action]) -> None:
        """Take note that ``lanes`` took other actions than those that ``act`` gave last."""
        for lane, action in zip(lanes, actions, strict=True):
            state[lane].reached = _moved(state[lane].cell, action)

    def state_bytes(self, state: dict[int, LearnerLane]) -> int:
        """Return the bytes of the tables."""
        return _TABLE_BYTES * len(state)


def _decide(trial: LearnerLane) -> Action:
    """Return the first move, in the order of the ties, of a shortest path to the nearest hope."""
    hopes = trial.hoped if trial.goal is None else {trial.goal}
    apart = {cell: _distance(trial.cell, cell) for cell in hopes}
    nearest = min(apart.values(), default=0)
    if nearest:
        aims = [cell for cell, moves in apart.items() if moves == nearest]
        for action in (UP, DOWN, RIGHT, LEFT):
            after = _moved(trial.cell, action)
            if any(_distance(after, aim) < nearest for aim in aims):
                return action
    return STAY


def _moved(cell: int, action: Action) -> int:
    row, column = divmod(cell, SIDE)
    down, right = _MOVES[int(action)]
    return SIDE * min(max(row + down, 0), SIDE - 1) + min(max(column + right, 0), SIDE - 1)


def _distance(first: int, second: int) -> int:
    return abs(first // SIDE - second // SIDE) + abs(first % SIDE - second % SIDE)
