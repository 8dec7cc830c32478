"""Procgen's sixteen generated games, one level an episode.

With ``num_levels=1`` the whole trajectory depends on the level alone, so an episode's seed chooses the
level, and each episode gets an environment of its own (about a millisecond).

Two limits of the package are told here because a reader of results meets them:

* It starts the next episode by itself and never shows the last frame. The observation of the final step
  is therefore the previous one, again.
* It does not tell why an episode ended. An episode that lasts exactly as long as the game's own time cap
  and is not solved counts as truncated; every other end counts as terminated.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

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
from lram.envs.simulator import SimulatorSession, finite_reward, image_spec

ACTIONS = 15
SEEDS = 2**31 - 1
# Steps after which a game ends by itself: ``timeout`` in procgen/src/game.cpp and src/games/*.cpp of
# openai/procgen 0.10.7.
DEFAULT_TIME_CAP = 1000
TIME_CAPS = {"bigfish": 6000, "bossfight": 4000, "leaper": 500, "maze": 500, "plunder": 4000}


@dataclass(frozen=True)
class ProcgenOptions:
    """What a Procgen protocol sets.

    Attributes:
        first_level: Level of seed 0.
        levels: Seeds map to ``first_level + seed % levels``.
        distribution_mode: ``easy`` or ``hard``.
    """

    first_level: int = 0
    levels: int = 200
    distribution_mode: str = "easy"


class ProcgenSession(SimulatorSession):
    """One game. Made by ``DOMAIN.make``. ``success`` tells whether the level was completed."""

    def __init__(self, game: str, options: ProcgenOptions) -> None:
        self._cap = TIME_CAPS.get(game, DEFAULT_TIME_CAP)
        super().__init__(f"procgen/{game}", image_spec(ACTIONS), limit=self._cap)
        self._game = game
        self._options = options
        self._environment: Any = None
        self._frame = np.zeros((64, 64, 3), np.uint8)

    def _begin(self, seed: int) -> Observation:
        procgen = import_procgen()
        # No worker threads: a process that forks with them running hangs.
        self._environment = procgen.ProcgenGym3Env(
            num=1,
            env_name=self._game,
            distribution_mode=self._options.distribution_mode,
            num_levels=1,
            start_level=self._options.first_level + seed % self._options.levels,
            rand_seed=0,
            num_threads=0,
        )
        _, observation, _ = self._environment.observe()
        self._frame = observation["rgb"][0].copy()
        return self._observation()

    def _advance(self, action: Action) -> Step:
        self._environment.act(np.array([action], np.int32))
        rewards, observation, first = self._environment.observe()
        ended = bool(first[0])
        reward = finite_reward(self._name, rewards[0])
        success = ended and bool(self._environment.get_info()[0]["prev_level_complete"])
        at_cap = self._decisions + 1 >= self._cap
        if not ended:
            self._frame = observation["rgb"][0].copy()
        return Step(
            observation=self._observation(),
            reward=reward,
            terminated=ended and (success or not at_cap),
            truncated=False,  # the base class truncates at the cap what has not terminated
            success=success,
            signal=reward,
        )

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the 64x64 frame enlarged eight times, uint8 (512, 512, 3)."""
        if self._environment is None:
            raise SessionError(f"{self._name}: nothing to render before the first reset")
        return self._frame.repeat(8, axis=0).repeat(8, axis=1)

    def close(self) -> None:
        """Free the simulator; may be called more than once."""
        super().close()
        self._environment = None

    def _observation(self) -> Observation:
        return np.ascontiguousarray(self._frame.transpose(2, 0, 1))


def import_procgen() -> Any:
    """Return the package; what the old ``gym`` under it prints on import is kept off stderr."""
    with contextlib.redirect_stderr(io.StringIO()):
        import procgen
    return procgen


def make(task_name: str, protocol: EvaluationProtocol) -> ProcgenSession:
    """Return a session of the game; SessionError for an unknown one."""
    import_procgen()
    from procgen.env import ENV_NAMES

    # An unknown name would end the whole process: the C++ side does not catch it.
    if task_name not in ENV_NAMES:
        raise SessionError(f"procgen has no game {task_name!r}; it has {', '.join(sorted(ENV_NAMES))}")
    return ProcgenSession(task_name, ProcgenOptions(**protocol.options))


DOMAIN = Domain(
    name="procgen",
    protocols=(
        EvaluationProtocol(
            "lram",
            1,
            "The reference evaluation: easy levels 0 to 199, the ones that models are trained on.",
            {"first_level": 0, "levels": 200},
        ),
        EvaluationProtocol(
            "unseen",
            1,
            "Easy levels from 200 on, which no model trained on the reference data has seen.",
            {"first_level": 200, "levels": SEEDS - 200},
        ),
    ),
    make=make,
    requires=("procgen",),
    install="lram-bench[procgen]",
    packages=("procgen", "procgen-mirror", "gym3", "numpy"),
    interpreter=InterpreterRecipe(
        ("procgen-mirror==0.10.7", "gym3==0.3.3", "gym==0.26.2", "numpy==1.26.4"), pythons=("3.11", "3.12")
    ),
    step_s=0.00004,
    worker_mb=412.0,
    session_mb=1.0,
)
