"""robosuite 1.4.1: its own manipulation tasks, and the session that CompoSuite and MimicGen play too.

robosuite's own tasks are outside the paper's 469; they serve to try what the two other domains stand on.
"""

from __future__ import annotations

import contextlib
import gc
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.envs.domains.robosuite.models import ModelShelf
from lram.envs.domains.robosuite.versions import (
    MUJOCO2,
    MUJOCO3,
    PACKAGES,
    PYTHONS,
    REQUIREMENTS,
    check_versions,
    import_robosuite,
    load_opengl,
)
from lram.envs.session import (
    Action,
    Domain,
    EvaluationProtocol,
    InterpreterRecipe,
    Observation,
    SessionError,
    SessionSpec,
    Step,
)
from lram.envs.simulator import SimulatorSession, finite_reward, finite_vector, vector_spec
from lram.envs.task import Task

ROBOT = "Panda"  # of a task whose name has none
_VIEW = 480  # pixels, either way, of a rendered image


@dataclass(frozen=True)
class RobosuiteOptions:
    """What a protocol of a robosuite domain sets.

    Attributes:
        limit: Decisions after which an episode is truncated; None: the task's horizon.
        end_on_success: Terminate the episode when the task is solved.
        success_reward: Reward 1 for a step at whose end the task is solved and 0 for others, instead
            of the task's own reward.
        reward_shaping: Whether the task's own reward is the dense one.
        controller: robosuite's name of the default controller that takes the actions.
        observation: robosuite's names of the observation's parts, in order.
        grippers: Gripper by robot, where it is not robosuite's default for it.
        corrections: Correct models for MuJoCo 3.3.0
            (:func:`lram.envs.domains.robosuite.models.corrected`).
        reuse_models: Copy a compiled model where the XML is the same; trajectories are the same without.
    """

    limit: int | None = None
    end_on_success: bool = False
    success_reward: bool = False
    reward_shaping: bool = True
    controller: str = "OSC_POSE"
    observation: tuple[str, ...] = ("object-state", "robot0_proprio-state")
    grippers: Mapping[str, str] = field(default_factory=dict)
    corrections: bool = False
    reuse_models: bool = True


class RobosuiteSession(SimulatorSession):
    """One task, whichever package it comes from. Success may come and go: it is reported at each step."""

    def __init__(self, name: str, build: Callable[[], Any], options: RobosuiteOptions) -> None:
        """Build the environment.

        Args:
            name: ``domain/task``, for error messages.
            build: Makes the robosuite environment (not a wrapper of one), with ``ignore_done``.
            options: The protocol's, with a limit.
        """
        self._options = options
        self._models = ModelShelf(corrections=options.corrections, reuse=options.reuse_models)
        with self._models.used(), _random_state(0):
            self._environment = build()
        super().__init__(name, self._measured_spec(name), options.limit)

    def _measured_spec(self, name: str) -> SessionSpec:
        low, high = self._environment.action_spec
        if not ((low == -1).all() and (high == 1).all()):
            raise SessionError(f"{name}: robosuite takes actions from {low} to {high}, not from -1 to 1")
        width = self._flat(self._environment.observation_spec()).size
        return vector_spec(width, "continuous", low.size)

    def _begin(self, seed: int) -> Observation:
        self._use_renderer()
        with self._models.used(), _random_state(seed):
            return finite_vector(self._name, self._flat(self._environment.reset()))

    def _advance(self, action: Action) -> Step:
        # What some tasks tell here of end and success cannot be relied upon.
        observations, reward, _, _ = self._environment.step(np.asarray(action, np.float64))
        if self._unstable():
            raise SessionError(f"{self._name}: the physics diverged")
        success = bool(self._environment._check_success())
        value = float(success) if self._options.success_reward else finite_reward(self._name, reward)
        return Step(
            observation=finite_vector(self._name, self._flat(observations)),
            reward=value,
            # robosuite's own limit is off, so this is the task's end: CompoSuite's Push ends when the object
            # is lifted, and takes no further step.
            terminated=(success and self._options.end_on_success) or bool(self._environment.done),
            truncated=False,
            success=success,
            signal=value,
        )

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the scene, uint8 (480, 480, 3). The first call of an episode makes a GL context."""
        self._use_renderer()
        simulation = self._environment.sim
        if simulation._render_context_offscreen is None:
            load_opengl(self._name)
            self._add_renderer(simulation)
        image = simulation.render(width=_VIEW, height=_VIEW, camera_name=self._environment.render_camera)
        return np.ascontiguousarray(image[::-1])

    def close(self) -> None:
        """Free the simulator; may be called more than once."""
        super().close()
        if self._environment is not None:
            self._use_renderer()
            with self._models.used():
                self._environment.close()
            self._environment = None
            self._models.clear()
            # An environment's parts hold one another; left to themselves they may stay for long.
            gc.collect()

    def _flat(self, observations: Mapping[str, Any]) -> npt.NDArray[np.float64]:
        return np.concatenate([np.ravel(observations[key]) for key in self._options.observation])

    def _unstable(self) -> bool:
        """Whether MuJoCo met values it cannot integrate; it starts over from the model's defaults then."""
        from mujoco import mjtWarning

        warnings = self._environment.sim.data._data.warning
        kinds = (mjtWarning.mjWARN_BADQPOS, mjtWarning.mjWARN_BADQVEL, mjtWarning.mjWARN_BADQACC)
        return any(warnings[int(kind)].number for kind in kinds)

    def _use_renderer(self) -> None:
        """Turn to this session's GL context, if it has one: another session's may be the current one."""
        if self._environment is None:
            raise SessionError(f"{self._name}: this session is closed")
        simulation = self._environment.sim
        if simulation is not None and simulation._render_context_offscreen is not None:
            simulation._render_context_offscreen.gl_ctx.make_current()

    @staticmethod
    def _add_renderer(simulation: Any) -> None:
        from robosuite.utils.binding_utils import MjRenderContextOffscreen

        # Computing the forces once more would change the last digits of the steps that follow.
        simulation.forward = lambda: None
        try:
            context = MjRenderContextOffscreen(simulation, device_id=-1)
        finally:
            del simulation.forward
        collision_geoms, visual_geoms = 0, 1
        context.vopt.geomgroup[collision_geoms] = 0
        context.vopt.geomgroup[visual_geoms] = 1


def robosuite_session(
    name: str, environment: str, robot: str, options: RobosuiteOptions, **settings: Any
) -> RobosuiteSession:
    """Return a session of a registered robosuite environment.

    Args:
        name: ``domain/task``, for error messages.
        environment: Name that it is registered by, such as ``Lift``.
        robot: Name of the robot, such as ``Panda``.
        options: The protocol's, with a limit.
        settings: Further arguments of the environment's constructor.
    """
    robosuite = import_robosuite(name.partition("/")[0])
    if robot in options.grippers:
        settings["gripper_types"] = options.grippers[robot]

    def build() -> Any:
        return robosuite.make(
            environment,
            robots=robot,
            controller_configs=robosuite.load_controller_config(default_controller=options.controller),
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            reward_shaping=options.reward_shaping,
            ignore_done=True,
            **settings,
        )

    return RobosuiteSession(name, build, options)


@contextlib.contextmanager
def _random_state(seed: int) -> Iterator[None]:
    """Seed the global generators that robosuite draws from, and leave them as they were found."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _tasks() -> tuple[Task, ...]:
    """Return the rows, with widths as measured. No score reference is known for these tasks."""
    widths = {
        "Lift": 42,
        "Stack": 55,
        "Door": 46,
        "NutAssemblySquare": 46,
        "PickPlaceCan": 46,
        "Lift-Sawyer": 42,
        "Lift-IIWA": 50,
        "Lift-UR5e": 47,
        "Lift-Jaco": 50,
        "Lift-Kinova3": 50,
        "Stack-Sawyer": 55,
    }
    return tuple(
        Task(
            domain="robosuite",
            name=name,
            split="extra",
            horizon=500,
            observation="vector",
            observation_size=width,
            action="continuous",
            action_size=7,
            target_return=500.0,
            reward_scale=1.0,
            sources=(("target_return", "upper bound: a shaped reward is at most 1 a step"),),
        )
        for name, width in widths.items()
    )


def make(task_name: str, protocol: EvaluationProtocol) -> RobosuiteSession:
    """Return a session of a task, ``Lift`` (with a Panda) or ``Lift-Sawyer``; SessionError for others."""
    if task_name not in {task.name for task in DOMAIN.tasks}:
        raise SessionError(f"robosuite has no task {task_name!r} here; 'lram tasks robosuite' lists them")
    check_versions(DOMAIN, protocol)
    environment = task_name.partition("-")[0]
    options = RobosuiteOptions(**protocol.options)
    return robosuite_session(f"robosuite/{task_name}", environment, attributes(task_name)["robot"], options)


def attributes(task_name: str) -> dict[str, str]:
    """Return a task's robot."""
    return {"robot": task_name.partition("-")[2] or ROBOT}


def shaped_least(task: Task) -> float:
    """Return the least return of a task with shaped rewards, which are never negative."""
    return 0.0


def shaped_greatest(task: Task, protocol: str) -> float:
    """Return the greatest return of a task with shaped rewards: 1 a decision, and 500 decisions."""
    return 500.0


DOMAIN = Domain(
    name="robosuite",
    protocols=(
        EvaluationProtocol(
            "mujoco2",
            1,
            "Dense rewards, operational-space control at 20 Hz, 500 steps; on MuJoCo 2.3.2.",
            {"limit": 500},
            MUJOCO2,
        ),
        EvaluationProtocol(
            "mujoco3",
            1,
            "As mujoco2, on MuJoCo 3.3.0 with models corrected to behave as they do on 2.3.2.",
            {"limit": 500, "corrections": True},
            MUJOCO3,
        ),
    ),
    make=make,
    trial_task="Lift",
    attributes=attributes,
    least_return=shaped_least,
    greatest_return=shaped_greatest,
    requires=("robosuite", "mujoco"),
    install="lram-bench[robosuite]",
    packages=PACKAGES,
    tasks=_tasks(),
    renderer=True,
    interpreter=InterpreterRecipe(REQUIREMENTS, PYTHONS, resolve=False),
    start_s=1.0,
    idle_sessions=1,
    step_s=0.005,
    worker_mb=480.0,
    session_mb=175.0,
)
