"""Dark Key-Door: a key and a door for it, hidden in a room of SIDE x SIDE cells (Laskin et al. 2022).

An episode holds ten inner episodes, one after the other, of at most SIDE x SIDE steps, with the same key and
the same door; the agent is not reset between them. Reward 1 for reaching the key, and 1 for reaching the door
with it, which ends the inner episode. The agent sees where it stands, and neither the key, nor the door, nor
whether it has the key. Rewards are paid at once, for they are what is learnt from. Key, door and starts are
drawn anew in each episode; an inner episode begins in any cell but the key's.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from lram.envs.domains.memory.family import Family, MemoryOptions
from lram.envs.domains.memory.layout import ASKED, BLOCK, FIRST, MARK, SECOND, WIDTH
from lram.envs.session import Action, Observation, Step
from lram.envs.simulator import SimulatorSession, vector_spec

INNER_EPISODES = 10
MOVES = ((-1, 0), (1, 0), (0, 1), (0, -1), (0, 0))
"""Change of (row, column) by action: up, down, right, left, stay. Walls hold back."""
_PIXELS = 8


class KeyDoorSession(SimulatorSession):
    """One room in each episode.

    Observation (22): ``ASKED`` always; ``MARK`` where an inner episode begins; row and column. The last step
    of an inner episode is answered with the first observation of the next one (at the end of the episode:
    with where the agent stands). Success: the door was reached with the key.
    """

    def __init__(self, name: str, side: int, options: MemoryOptions) -> None:
        super().__init__(name, vector_spec(WIDTH, "discrete", len(MOVES)), None)
        self._side, self._options = side, options
        self._rng = np.random.default_rng(0)
        self._key = self._door = self._cell = 0
        self._has_key = False
        self._inner = self._step = 0

    def _begin(self, seed: int) -> Observation:
        self._rng = self._options.generator(seed)
        self._key, self._door = self._rng.permutation(self._side**2)[:2].tolist()
        self._inner = 0
        return self._begin_inner()

    def _begin_inner(self) -> Observation:
        self._step, self._has_key = 0, False
        start = int(self._rng.integers(self._side**2 - 1))
        self._cell = start + (start >= self._key)
        return self._observation(first=True)

    def _advance(self, action: Action) -> Step:
        self._cell = moved(self._cell, int(action), self._side)
        self._step += 1
        opened = self._has_key and self._cell == self._door
        reward = float(opened or (not self._has_key and self._cell == self._key))
        self._has_key = self._has_key or self._cell == self._key
        ends = opened or self._step == self._side**2
        self._inner += ends
        over = self._inner == INNER_EPISODES
        seen = self._begin_inner() if ends and not over else self._observation(first=False)
        return Step(seen, reward, over, False, opened, reward, inner_episode_ends=ends)

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the room: key yellow, door green, agent white; uint8 (8 x side, 8 x side, 3)."""
        image = np.full((_PIXELS * self._side, _PIXELS * self._side, 3), 24, np.uint8)
        for cell, colour in (
            (self._key, (200, 180, 0)),
            (self._door, (0, 160, 0)),
            (self._cell, (255, 255, 255)),
        ):
            row, column = (_PIXELS * place for place in divmod(cell, self._side))
            image[row + 1 : row + 7, column + 1 : column + 7] = colour
        return image

    def _observation(self, *, first: bool) -> Observation:
        row, column = divmod(self._cell, self._side)
        observation = np.zeros(WIDTH, np.float32)
        observation[[ASKED, FIRST + row, SECOND + column]] = 1.0
        observation[MARK] = first
        return observation


def moved(cell: int, action: int, side: int) -> int:
    """Return the cell that ``action`` leads to from ``cell``."""
    (row, column), (down, right) = divmod(cell, side), MOVES[action]
    return side * min(max(row + down, 0), side - 1) + min(max(column + right, 0), side - 1)


@cache
def random_return(side: int) -> float:
    """Return what uniformly random actions earn in an episode in expectation; exact.

    By dynamic programming over the steps that are left. ``with_key[door, cell]`` is the expected return from
    ``cell`` with the key in hand. ``without[key, cell]`` is that without it, in expectation over the door,
    which is any cell but the key's and plays no part before. The start is any cell but the key's.
    """
    cells = side**2
    steps_to = np.zeros((cells, cells))
    for cell in range(cells):
        for action in range(len(MOVES)):
            steps_to[cell, moved(cell, action, side)] += 1 / len(MOVES)
    goals = np.eye(cells)
    with_key, without = np.zeros((cells, cells)), np.zeros((cells, cells))
    for _ in range(cells):
        # with_key[key, key] would be a door on the key's cell, which there is not.
        found = 1.0 + (with_key.sum(axis=0) - np.diag(with_key)) / (cells - 1)
        without = np.where(goals, found, without) @ steps_to.T
        with_key = np.where(goals, 1.0, with_key) @ steps_to.T
    without[goals == 1] = 0.0
    return float(INNER_EPISODES * without.sum() / (cells * (cells - 1)))


def _make(task: str, side: int, options: MemoryOptions) -> SimulatorSession:
    return KeyDoorSession(f"memory/{task}", side, options)


FAMILIES = (
    Family(
        name="keydoor",
        kind="in-context",
        unit="cells on a side",
        theory="two places are enough to keep, and during the search the cells that were tried: both are "
        "lost beyond a window's length",
        trained=(3, 5),
        longer=(7, 9),
        least=2,
        most=BLOCK,
        actions=lambda side: len(MOVES),
        steps=lambda side: INNER_EPISODES * side**2,
        chance=random_return,
        # A path over the key to the door has 4 (SIDE - 1) moves at most, and there are SIDE x SIDE steps.
        optimum=lambda side: 2.0 * INNER_EPISODES,
        greatest=lambda side: 2.0 * INNER_EPISODES,
        chance_of="exact: expected return of uniform actions, by dynamic programming",
        optimum_of="exact: one who knows key and door reaches both in every inner episode; no searcher does "
        "in the first ones",
        make=_make,
    ),
)
