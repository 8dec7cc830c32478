"""Meta-World's fifty v3 manipulation tasks, with the goal visible and drawn anew in each episode.

The classes are used directly rather than through ``gym.make``, whose environments take a seed only when
they are built and store fifty goals.
"""

from __future__ import annotations

import os
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
from lram.envs.simulator import SimulatorSession, finite_reward, finite_vector, vector_spec
from lram.envs.task import Task

WIDTH = 39  # hand, gripper, two objects; the same of the previous step; the goal
ACTIONS = 4  # hand displacement x, y, z and gripper force
MOST_REWARD = 10.0  # of a decision (Yu et al. 2020); the least is 0


@dataclass(frozen=True)
class MetaWorldOptions:
    """What a Meta-World protocol sets.

    Attributes:
        limit: Decisions after which an episode is truncated; at most 500, the package's own.
    """

    limit: int = 200


class MetaWorldSession(SimulatorSession):
    """One task. Made by ``DOMAIN.make``. Success may come and go: it is reported at each step."""

    def __init__(self, task_name: str, environment: Any, options: MetaWorldOptions) -> None:
        super().__init__(f"metaworld/{task_name}", vector_spec(WIDTH, "continuous", ACTIONS), options.limit)
        self._environment = environment
        environment._partially_observable = False
        # Cached at construction with the goal hidden; step() would clip the goal to zero by it.
        environment.__dict__.pop("sawyer_observation_space", None)
        environment._freeze_rand_vec = False
        environment.seeded_rand_vec = True
        environment._set_task_called = True

    def _begin(self, seed: int) -> Observation:
        # reset(seed=...) is ignored by the package; seed() is what the goal is drawn from.
        self._environment.seed(seed)
        observation, _ = self._environment.reset()
        return finite_vector(self._name, observation)

    def _advance(self, action: Action) -> Step:
        observation, reward, _, truncated, info = self._environment.step(np.asarray(action, np.float64))
        if self._environment._did_see_sim_exception:
            raise SessionError(f"{self._name}: the physics diverged")
        value = finite_reward(self._name, reward)
        return Step(
            observation=finite_vector(self._name, observation),
            reward=value,
            terminated=False,
            truncated=bool(truncated),
            success=bool(info["success"]),
            signal=value,
        )

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the scene, uint8 (480, 480, 3). The first call makes a GL context."""
        if self._environment is None:
            raise SessionError(f"{self._name}: this session is closed")
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            # Without a screen the renderer's first choice fails noisily before it tries this one.
            os.environ.setdefault("MUJOCO_GL", "egl")
        # The corner cameras are mounted upside down.
        return np.ascontiguousarray(self._environment.render()[::-1])

    def close(self) -> None:
        """Free the simulator; may be called more than once."""
        super().close()
        if self._environment is not None:
            self._environment.close()
            self._environment = None


def make(task_name: str, protocol: EvaluationProtocol) -> MetaWorldSession:
    """Return a session of the v3 task (``door-open-v3``); SessionError for an unknown one."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    if task_name not in ALL_V3_ENVIRONMENTS:
        raise SessionError(f"metaworld has no task {task_name!r}; names look like 'door-open-v3'")
    # A camera is named here because it cannot be chosen later; no GL context is made until render().
    environment = ALL_V3_ENVIRONMENTS[task_name](
        render_mode="rgb_array", camera_name="corner2", width=480, height=480
    )
    return MetaWorldSession(task_name, environment, MetaWorldOptions(**protocol.options))


PROTOCOLS = (
    EvaluationProtocol(
        "lram",
        1,
        "The reference evaluation's rules on the v3 tasks: 200 steps, a new visible goal each episode.",
        {"limit": 200},
    ),
    EvaluationProtocol("full", 1, "As lram, with the package's own limit of 500 steps.", {"limit": 500}),
)


def least_return(task: Task) -> float:
    """Return 0: no reward is negative."""
    return 0.0


def greatest_return(task: Task, protocol: str) -> float | None:
    """Return the greatest reward in every decision; None for an unknown protocol."""
    return next((MOST_REWARD * one.options["limit"] for one in PROTOCOLS if one.name == protocol), None)


DOMAIN = Domain(
    name="metaworld",
    protocols=PROTOCOLS,
    make=make,
    trial_task="reach-v3",
    least_return=least_return,
    greatest_return=greatest_return,
    requires=("metaworld", "mujoco"),
    install="lram-bench[metaworld]",
    packages=("metaworld", "mujoco", "gymnasium", "numpy"),
    renderer=True,
    interpreter=InterpreterRecipe(
        # metaworld needs packaging and does not say so
        ("metaworld==3.1.1", "mujoco==3.3.0", "gymnasium==1.4.0", "numpy==1.26.4", "packaging==26.3"),
        pythons=("3.11", "3.12"),
    ),
    step_s=0.0003,
    worker_mb=120.0,
    session_mb=30.0,
)
