"""Procgen's sixteen generated games, one level an episode.

With ``num_levels=1`` the whole trajectory depends on the level alone, so an episode's seed chooses the
level, and each episode gets an environment of its own (about a millisecond).

Three limits of the package are described here because a reader of results meets them:

* It starts the next episode by itself and never shows the last frame. The observation of the final step
  is therefore the previous one, again.
* Other numbers are not always other levels: of 1,000 levels from 200 on, 42 of ninja, 27 of maze, 13 of
  coinrun and 1 of leaper are levels below 200 under another number. The protocol ``unseen`` skips those that
  begin with the frame of one.
* It does not tell why an episode ended. An episode that lasts exactly as long as the game's own time cap
  and is not solved counts as truncated; every other end counts as terminated.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from functools import cache
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
from lram.envs.task import Task

ACTIONS = 15
SEEDS = 2**31 - 1
# Steps after which a game ends by itself: ``timeout`` in procgen/src/game.cpp and src/games/*.cpp of
# openai/procgen 0.10.7.
DEFAULT_TIME_CAP = 1000
TIME_CAPS = {"bigfish": 6000, "bossfight": 4000, "leaper": 500, "maze": 500, "plunder": 4000}
# Games that pay 10 for one goal and nothing else (Cobbe et al. 2020, appendix C).
ONE_GOAL = frozenset({"coinrun", "heist", "jumper", "leaper", "maze", "ninja"})
GOAL_REWARD = 10.0


@dataclass(frozen=True)
class ProcgenOptions:
    """What a Procgen protocol sets.

    Attributes:
        first_level: Level of seed 0.
        levels: Seeds map to ``first_level + seed % levels``.
        distribution_mode: ``easy`` or ``hard``.
        apart_from: Levels from ``first_level`` on that begin as one of the levels 0 to ``apart_from`` - 1
            are skipped: the next one that does not takes its place.
    """

    first_level: int = 0
    levels: int = 200
    distribution_mode: str = "easy"
    apart_from: int = 0


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
        options = self._options
        place = seed % options.levels
        excluded = beginnings(self._game, options.distribution_mode, options.apart_from)
        while True:
            level = options.first_level + place
            self._environment, self._frame = begun(self._game, options.distribution_mode, level)
            if self._frame.tobytes() not in excluded:
                return self._observation()
            place = (place + 1) % options.levels

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


def begun(game: str, mode: str, level: int) -> tuple[Any, npt.NDArray[np.uint8]]:
    """Return an environment that plays ``level`` alone, and its first frame, uint8 (64, 64, 3)."""
    environment = import_procgen().ProcgenGym3Env(
        num=1,
        env_name=game,
        distribution_mode=mode,
        num_levels=1,
        start_level=level,
        rand_seed=0,
        num_threads=0,  # a process that forks with worker threads running hangs
    )
    _, observation, _ = environment.observe()
    return environment, observation["rgb"][0].copy()


@cache
def beginnings(game: str, mode: str, levels: int) -> frozenset[bytes]:
    """Return the first frames of the levels 0 to ``levels`` - 1; 200 take a second or two."""
    return frozenset(begun(game, mode, level)[1].tobytes() for level in range(levels))


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


def least_return(task: Task) -> float | None:
    """Return 0 for the games with one goal; None for the others, whose rewards may be negative."""
    return 0.0 if task.name in ONE_GOAL else None


def greatest_return(task: Task, protocol: str) -> float | None:
    """Return what the goal pays in the games that have just one; None for the others."""
    return GOAL_REWARD if task.name in ONE_GOAL else None


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
            2,
            "Easy levels from 200 on, without those that begin as one of the levels 0 to 199, which "
            "models are trained on.",
            {"first_level": 200, "levels": SEEDS - 200, "apart_from": 200},
        ),
    ),
    make=make,
    trial_task="coinrun",
    least_return=least_return,
    greatest_return=greatest_return,
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
