"""The DeepMind Control suite, with every task's observation laid out in one 204-wide vector.

The layout is the LRAM reference's: each observation key has a fixed slot
(``data/dmc_observation_layout.json``), a shorter value fills its slot from the left, the rest is zero.

The protocols beside the reference's hide a part of the state: ``positions`` shows 0 for every velocity,
``delay-D`` shows what was D decisions ago, ``dropped-P`` loses P percent of the observations. Shapes, physics
and rewards stay, so any checkpoint plays, and what it loses is due to what it does not see.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.envs.perturbations import PerturbedSession
from lram.envs.session import (
    Action,
    Domain,
    EvaluationProtocol,
    InterpreterRecipe,
    Observation,
    Session,
    SessionError,
    Step,
)
from lram.envs.simulator import SimulatorSession, finite_reward, finite_vector, vector_spec
from lram.envs.task import Task

WIDTH = 204
# Bounds of the suite's own tasks are within [-1, 1.1]; lqr's +-1e10 stand for "unbounded", which
# [-1, 1] cannot be mapped to.
WIDEST_BOUND = 1e3
VELOCITIES = frozenset(("velocity", "com_velocity", "arm_vel", "object_vel", "body_velocities"))
"""Keys of the layout that hold velocities, and nothing else; no other key of the layout holds one."""


@dataclass(frozen=True)
class DMControlOptions:
    """What a DMControl protocol sets.

    Attributes:
        limit: Decisions after which an episode is truncated.
        velocities: Whether they are shown; where not, their entries are 0.
        delay: Decisions by which observations are late.
        dropped: Share of the observations that are lost.
    """

    limit: int = 1000
    velocities: bool = True
    delay: int = 0
    dropped: float = 0.0


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
        self._hidden = frozenset() if options.velocities else VELOCITIES
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
            if key not in self._hidden:
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


def make(task_name: str, protocol: EvaluationProtocol) -> Session:
    """Return a session of ``domain-task`` (``walker-run``); SessionError for an unknown one."""
    from dm_control import suite

    domain, _, task = task_name.partition("-")
    if (domain, task) not in suite.ALL_TASKS:
        raise SessionError(f"dmcontrol has no task {task_name!r}; names look like 'walker-run'")
    environment = suite.load(domain, task, task_kwargs={"random": 0})
    options = DMControlOptions(**protocol.options)
    session = DMControlSession(task_name, environment, options)
    if options.delay or options.dropped:
        return PerturbedSession(session, delay=options.delay, dropped=options.dropped)
    return session


def _perturbed(name: str, summary: str, **options: Any) -> EvaluationProtocol:
    return EvaluationProtocol(
        name, 1, f"As lram, but {summary}.", {"limit": 1000, **options}, perturbs="lram"
    )


PROTOCOLS = (
    EvaluationProtocol(
        "lram",
        1,
        "The reference evaluation: 1000 steps, observations in the 204-wide layout.",
        {"limit": 1000},
    ),
    _perturbed("positions", "velocities are shown as 0", velocities=False),
    _perturbed("delay-1", "each observation is 1 decision late", delay=1),
    *(
        _perturbed(f"delay-{late}", f"each observation is {late} decisions late", delay=late)
        for late in (2, 4, 8)
    ),
    *(
        _perturbed(
            f"dropped-{percent}",
            f"{percent} percent of the observations are lost, and the last one is shown again",
            dropped=percent / 100,
        )
        for percent in (10, 30, 50)
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
