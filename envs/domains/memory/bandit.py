"""A bandit with k arms, pulled 100 times: which arm pays best is found out within the episode.

The means are drawn uniformly from [0, 1], anew in each episode. Rewards are paid at once, for they are what
is learnt from; and the last arm and whether it paid are shown as well, for agents that read neither their
actions nor their rewards.
"""

from __future__ import annotations

import numpy as np

from lram.envs.domains.memory.family import Family, MemoryOptions
from lram.envs.domains.memory.layout import ASKED, BLOCK, FIRST, MARK, WIDTH
from lram.envs.session import Action, Observation, Step
from lram.envs.simulator import SimulatorSession, vector_spec

PULLS = 100
MOST_ARMS = 18  # the discrete actions that the models of this project have; the two blocks would hold 20


class BanditSession(SimulatorSession):
    """One bandit in each episode.

    Observation (22): ``ASKED`` always; ``MARK`` where the last pull paid; the last arm one-hot over both
    blocks. Reward: 1 where the pull pays. No success.
    """

    def __init__(self, name: str, arms: int, options: MemoryOptions) -> None:
        super().__init__(name, vector_spec(WIDTH, "discrete", arms), None)
        self._arms, self._options = arms, options
        self._pays = np.zeros((PULLS, arms), np.bool_)
        self._pull = 0

    def _begin(self, seed: int) -> Observation:
        rng = self._options.generator(seed)
        # What an arm would pay at a pull does not depend on the arms pulled before.
        self._pays = rng.random((PULLS, self._arms)) < rng.random(self._arms)
        self._pull = 0
        return self._observation()

    def _advance(self, action: Action) -> Step:
        paid = float(self._pays[self._pull, action])
        self._pull += 1
        seen = self._observation()
        seen[FIRST + int(action)] = 1.0
        seen[MARK] = paid
        return Step(seen, paid, self._pull == PULLS, False, None, paid)

    def _observation(self) -> Observation:
        observation = np.zeros(WIDTH, np.float32)
        observation[ASKED] = 1.0
        return observation


def _make(task: str, arms: int, options: MemoryOptions) -> SimulatorSession:
    return BanditSession(f"memory/{task}", arms, options)


assert MOST_ARMS <= 2 * BLOCK

FAMILIES = (
    Family(
        name="bandit",
        kind="in-context",
        unit="arms",
        theory="each arm's counts of pulls and payments are enough: sums, which any recurrence can hold",
        trained=(2, 5),
        longer=(10, 15),
        least=2,
        most=MOST_ARMS,
        actions=lambda arms: arms,
        steps=lambda arms: PULLS,
        chance=lambda arms: PULLS / 2,
        # The greatest of k independent uniform means has the expectation k / (k + 1).
        optimum=lambda arms: PULLS * arms / (arms + 1),
        greatest=lambda arms: float(PULLS),
        chance_of="exact: a mean is 1/2 in expectation",
        optimum_of="exact: what one who knows the best arm expects, 100 k / (k + 1); no learner reaches it",
        make=_make,
    ),
)
