"""The DeepMind Control suite, with every task's observation laid out in one 204-wide vector.

The layout is the LRAM reference's: each observation key has a fixed slot
(``data/dmc_observation_layout.json``), a shorter value fills its slot from the left, the rest is zero.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
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
from lram.envs.simulator import SimulatorSession, finite_reward, finite_vector, vector_spec
from lram.envs.task import Task

WIDTH = 204
# Bounds of the suite's own tasks are within [-1, 1.1]; lqr's +-1e10 stand for "unbounded", which
# [-1, 1] cannot be mapped to.
WIDEST_BOUND = 1e3


@dataclass(frozen=True)
class DMControlOptions:
    """What a DMControl protocol sets.

    Attributes:
        limit: Decisions after which an episode is truncated.
    """

    limit: int = 1000


@cache
def observation_slots() -> dict[str, slice]:
    """Return where each observation key lies in the 204-wide vector."""
    layout = json.loads((files("lram.envs") / "data/dmc_observation_layout.json").read_text("utf-8"))
    return {row["key"]: slice(row["start"], row["start"] + row["max_dim"]) for row in layout["keys"]}


class DMControlSession(SimulatorSession):
    """One task of the suite. Made by ``DOMAIN.make``; SessionError where the layout cannot hold it."""

    def __init__(self, task_name: str, environment: Any, options: DMControlOptions) -> None:
        name = f"dmcontrol/{task_name}"
        bounds = environment.action_spec()
        if not np.all(np.abs([bounds.minimum, bounds.maximum]) <= WIDEST_BOUND):
            raise SessionError(
                f"{name}: the task's actions are unbounded, so [-1, 1] cannot be mapped to them"
            )
        self._environment = environment
        self._low = np.asarray(bounds.minimum, np.float64)
        self._span = np.asarray(bounds.maximum, np.float64) - self._low
        self._slots = _slots_of(name, environment)
        (action_size,) = bounds.shape
        super().__init__(name, vector_spec(WIDTH, "continuous", action_size), options.limit)

    def _begin(self, seed: int) -> Observation:
        # Same as a new suite.load(..., {"random": seed}), bit for bit: the task's generator is the
        # only source of chance, and reset() starts the physics anew.
        self._environment.task._random = np.random.RandomState(seed)
        return self._observation(self._environment.reset().observation)

    def _advance(self, action: Action) -> Step:
        from dm_control.rl.control import PhysicsError

        native = self._low + (np.asarray(action, np.float64) + 1.0) / 2.0 * self._span
        try:
            timestep = self._environment.step(native)
        except PhysicsError as error:
            raise SessionError(f"{self._name}: the physics diverged ({error})") from error
        reward = finite_reward(self._name, timestep.reward)
        return Step(
            observation=self._observation(timestep.observation),
            reward=reward,
            terminated=bool(timestep.last() and timestep.discount == 0),
            truncated=bool(timestep.last() and timestep.discount != 0),
            success=None,
            signal=reward,
        )

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the task's first camera, uint8 (240, 320, 3). The first call makes a GL context."""
        if self._environment is None:
            raise SessionError(f"{self._name}: this session is closed")
        image: npt.NDArray[np.uint8] = self._environment.physics.render(240, 320, camera_id=0)
        return image

    def close(self) -> None:
        """Free the simulator; may be called more than once."""
        super().close()
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def _observation(self, observation: dict[str, Any]) -> Observation:
        vector = np.zeros(WIDTH)
        for key, value in observation.items():
            vector[self._slots[key]] = np.ravel(value)
        return finite_vector(self._name, vector)


def _slots_of(name: str, environment: Any) -> dict[str, slice]:
    """Return each key's slot at the task's own size; SessionError for a key that does not fit."""
    layout = observation_slots()
    slots = {}
    for key, spec in environment.observation_spec().items():
        size = int(np.prod(spec.shape))
        if key not in layout or layout[key].start + size > layout[key].stop:
            raise SessionError(f"{name}: observation {key!r} of size {size} does not fit the 204-wide layout")
        slots[key] = slice(layout[key].start, layout[key].start + size)
    return slots


def make(task_name: str, protocol: EvaluationProtocol) -> DMControlSession:
    """Return a session of ``domain-task`` (``walker-run``); SessionError for an unknown one."""
    from dm_control import suite

    domain, _, task = task_name.partition("-")
    if (domain, task) not in suite.ALL_TASKS:
        raise SessionError(f"dmcontrol has no task {task_name!r}; names look like 'walker-run'")
    environment = suite.load(domain, task, task_kwargs={"random": 0})
    return DMControlSession(task_name, environment, DMControlOptions(**protocol.options))


PROTOCOLS = (
    EvaluationProtocol(
        "lram",
        1,
        "The reference evaluation: 1000 steps, observations in the 204-wide layout.",
        {"limit": 1000},
    ),
)


def least_return(task: Task) -> float:
    """Return 0: rewards are in [0, 1] (Tassa et al. 2018)."""
    return 0.0


def greatest_return(task: Task, protocol: str) -> float | None:
    """Return 1 for every decision; None for an unknown protocol."""
    return next((float(one.options["limit"]) for one in PROTOCOLS if one.name == protocol), None)


DOMAIN = Domain(
    name="dmcontrol",
    protocols=PROTOCOLS,
    make=make,
    trial_task="cartpole-balance",
    least_return=least_return,
    greatest_return=greatest_return,
    requires=("dm_control", "mujoco"),
    install="lram-bench[dmcontrol]",
    packages=("dm-control", "mujoco", "numpy"),
    renderer=True,
    interpreter=InterpreterRecipe(
        ("dm-control==1.0.28", "mujoco==3.3.0", "numpy==1.26.4"), pythons=("3.11", "3.12")
    ),
    step_s=0.00008,
    worker_mb=145.0,
    session_mb=14.0,
)
