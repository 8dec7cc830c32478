"""Dark-Room: find a goal that is not shown, and find it again, episode after episode in one context.

The room has 10 x 10 cells. A task is a goal and a way of paying; the agent sees where it stands, never
the goal. What the harness calls an episode holds several inner episodes here, one after the other, and
the agent is not reset between them, so that what it found out in one can serve the next. An
agent that learns in its context scores more in the later inner episodes than in the first.

* ``sparse-00`` .. ``sparse-99``: reward 1 for reaching the goal, which ends the inner episode.
* ``dense-00`` .. ``dense-99``: reward 1 for every step that ends on the goal.

The number is a place in the 100 cells as ``numpy.random.RandomState(43).permutation`` orders them; 00 to
79 are for training, 80 to 99 are held out. Rooms, rewards, actions, the limit of 100 steps and the order
of goals follow the LRAM reference implementation (its ``minihack_utils.py``), which plays them in
MiniHack; the idea is Laskin et al.'s (2022, arXiv 2210.14215). Ours differs: an inner episode begins in a
cell that is drawn anew, never the goal's (there, data with a fixed start were used), and its first
observation is marked. Rows and columns are shown one-hot instead of as two numbers, so that a goal that
was held out needs no interpolation between numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from lram.envs.session import (
    Action,
    Domain,
    EvaluationProtocol,
    InterpreterRecipe,
    Observation,
    SessionError,
    Step,
)
from lram.envs.simulator import SimulatorSession, vector_spec
from lram.envs.task import Task

SIDE = 10
CELLS = SIDE * SIDE
MOVES = ((-1, 0), (1, 0), (0, 1), (0, -1), (0, 0))
"""Change of (row, column) by action: up, down, right, left, stay. Walls hold back."""
TRAINING_GOALS = 80
KINDS = ("sparse", "dense")
OBSERVATION_SIZE = 2 * SIDE + 1

_ORDER = tuple(int(cell) for cell in np.random.RandomState(43).permutation(CELLS))


@dataclass(frozen=True)
class InnerEpisodes:
    """What a protocol sets: inner episodes of an episode, and steps of an inner episode at most."""

    episodes: int
    steps: int


class DarkRoomSession(SimulatorSession):
    """One room with one goal.

    Observation (21): the row one-hot, the column one-hot, and 1 where an inner episode begins. The last
    step of an inner episode is answered with the first observation of the next one (at the end of the
    episode: with where the agent stands). Success: on the goal after the step.

    Args:
        name: ``sparse-NN`` or ``dense-NN``.
        inner: Inner episodes and their steps.
    """

    def __init__(self, name: str, inner: InnerEpisodes) -> None:
        super().__init__(f"darkroom/{name}", vector_spec(OBSERVATION_SIZE, "discrete", len(MOVES)), None)
        kind, _, number = name.partition("-")
        self._sparse = kind == "sparse"
        self._goal = goal_cell(int(number))
        self._inner = inner
        self._rng = np.random.default_rng(0)
        self._cell = 0
        self._episode = 0
        self._step = 0

    def _begin(self, seed: int) -> Observation:
        self._rng = np.random.default_rng(seed)
        self._episode = 0
        return self._begin_inner()

    def _begin_inner(self) -> Observation:
        self._step = 0
        self._cell = int(self._rng.choice(_starts(self._goal)))
        return self._observation(first=True)

    def _advance(self, action: Action) -> Step:
        self._cell = moved(self._cell, int(action))
        self._step += 1
        there = self._cell == self._goal
        inner_episode_ends = self._step == self._inner.steps or (there and self._sparse)
        self._episode += inner_episode_ends
        over = self._episode == self._inner.episodes
        seen = self._begin_inner() if inner_episode_ends and not over else self._observation(first=False)
        # The number of inner episodes is the protocol's limit, so the end is never the task's own.
        return Step(
            seen, float(there), False, over, there, float(there), inner_episode_ends=inner_episode_ends
        )

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the room with the goal in green and the agent in white, uint8 (80, 80, 3)."""
        image = np.full((8 * SIDE, 8 * SIDE, 3), 24, np.uint8)
        for cell, colour in ((self._goal, (0, 160, 0)), (self._cell, (255, 255, 255))):
            row, column = divmod(cell, SIDE)
            image[8 * row + 1 : 8 * row + 7, 8 * column + 1 : 8 * column + 7] = colour
        return image

    def _observation(self, *, first: bool) -> Observation:
        row, column = divmod(self._cell, SIDE)
        observation = np.zeros(OBSERVATION_SIZE, np.float32)
        observation[[row, SIDE + column]] = 1.0
        observation[-1] = first
        return observation


def goal_cell(number: int) -> int:
    """Return the cell of goal ``number`` (0 to 99): 10 x row + column."""
    return _ORDER[number]


def moved(cell: int, action: int) -> int:
    """Return the cell that ``action`` leads to from ``cell``."""
    (row, column), (down, right) = divmod(cell, SIDE), MOVES[action]
    return SIDE * min(max(row + down, 0), SIDE - 1) + min(max(column + right, 0), SIDE - 1)


def distance(first: int, second: int) -> int:
    """Return the number of moves from one cell to another."""
    return abs(first // SIDE - second // SIDE) + abs(first % SIDE - second % SIDE)


@lru_cache(maxsize=CELLS)
def _starts(goal: int) -> npt.NDArray[np.int64]:
    return np.delete(np.arange(CELLS), goal)


@cache
def random_returns(kind: str, inner: InnerEpisodes) -> tuple[float, ...]:
    """Return what uniformly random actions earn in an episode in expectation, by goal number; exact.

    By dynamic programming over the steps that are left: ``worth[goal, cell]`` is the expected return of an
    inner episode from ``cell``, and the expectation over its start is the mean over all other cells.
    """
    steps_to = np.zeros((CELLS, CELLS))
    for cell in range(CELLS):
        for action in range(len(MOVES)):
            steps_to[cell, moved(cell, action)] += 1 / len(MOVES)
    goals = np.eye(CELLS)
    worth = np.zeros((CELLS, CELLS))
    for _ in range(inner.steps):
        after = np.where(goals, 1.0, worth) if kind == "sparse" else worth + goals
        worth = after @ steps_to.T
    worth[goals == 1] = 0.0
    means = inner.episodes * worth.sum(axis=1) / (CELLS - 1)
    return tuple(float(means[goal_cell(number)]) for number in range(CELLS))


@cache
def shortest_returns(kind: str, inner: InnerEpisodes) -> tuple[float, ...]:
    """Return what an agent that knows the goal earns in an episode in expectation, by goal number; exact.

    It takes a shortest path of d moves. Sparse, that pays 1 if d is within the steps; dense, it is on the
    goal after step d and stays.
    """
    returns = []
    for number in range(CELLS):
        goal = goal_cell(number)
        left = [inner.steps - distance(int(cell), goal) + 1 for cell in _starts(goal)]
        earned = [float(max(steps, 0) if kind == "dense" else steps > 0) for steps in left]
        returns.append(inner.episodes * sum(earned) / len(earned))
    return tuple(returns)


def inner_episodes_of(protocol: EvaluationProtocol) -> InnerEpisodes:
    """Return what ``protocol`` sets."""
    return InnerEpisodes(protocol.options["episodes"], protocol.options["steps"])


def under(task: Task, protocol: EvaluationProtocol) -> Task:
    """Return the task's row with horizon, target and score references as they are under ``protocol``."""
    kind, _, number = task.name.partition("-")
    inner = inner_episodes_of(protocol)
    best = round(shortest_returns(kind, inner)[int(number)], 6)
    return replace(
        task,
        horizon=inner.episodes * inner.steps,
        target_return=best,
        score_random=round(random_returns(kind, inner)[int(number)], 6),
        score_reference=best,
    )


def attributes(task_name: str) -> dict[str, str]:
    """Return a task's way of paying."""
    return {"reward": task_name.partition("-")[0]}


def least_return(task: Task) -> float:
    """Return 0: no reward is negative."""
    return 0.0


def greatest_return(task: Task, protocol: str) -> float | None:
    """Return 1 for each inner episode (sparse) or each step (dense); None for an unknown protocol."""
    inner = next((inner_episodes_of(one) for one in PROTOCOLS if one.name == protocol), None)
    if inner is None:
        return None
    return float(inner.episodes * inner.steps if task.name.startswith("dense") else inner.episodes)


def make(task_name: str, protocol: EvaluationProtocol) -> DarkRoomSession:
    """Return a session of the task; SessionError for an unknown one."""
    if task_name not in _names():
        raise SessionError(
            f"darkroom has no task {task_name!r}; it has sparse-00 to sparse-99, dense-00 to dense-99"
        )
    return DarkRoomSession(task_name, inner_episodes_of(protocol))


def _names() -> Mapping[str, None]:
    return {f"{kind}-{number:02d}": None for kind in KINDS for number in range(CELLS)}


PROTOCOLS = (
    EvaluationProtocol(
        "lram",
        1,
        "Trials of ten inner episodes of at most 100 steps, as long as the reference's.",
        {"episodes": 10, "steps": 100},
    ),
    EvaluationProtocol(
        "short",
        1,
        "Trials of ten inner episodes of at most 20 steps: small enough to train for on a processor.",
        {"episodes": 10, "steps": 20},
    ),
)


def _tasks() -> tuple[Task, ...]:
    sources = (
        ("score_random", "exact: expected return of uniform actions, by dynamic programming"),
        ("score_reference", "exact: expected return of shortest paths by an agent that knows the goal"),
    )
    rows = []
    for name in _names():
        row = Task(
            domain="darkroom",
            name=name,
            split="train" if int(name[-2:]) < TRAINING_GOALS else "heldout",
            horizon=None,
            observation="vector",
            observation_size=OBSERVATION_SIZE,
            action="discrete",
            action_size=len(MOVES),
            target_return=None,
            reward_scale=1.0,
            sources=sources,
        )
        rows.append(under(row, PROTOCOLS[0]))
    return tuple(rows)


DOMAIN = Domain(
    name="darkroom",
    protocols=PROTOCOLS,
    make=make,
    attributes=attributes,
    least_return=least_return,
    greatest_return=greatest_return,
    packages=("numpy",),
    interpreter=InterpreterRecipe(("numpy==1.26.4",), pythons=("3.11", "3.12", "3.10", "3.9")),
    tasks=_tasks(),
    under=under,
    step_s=0.00001,
    worker_mb=39.0,
    session_mb=0.1,
)
