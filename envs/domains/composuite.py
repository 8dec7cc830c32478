"""CompoSuite: 256 manipulation tasks, each a robot, an object, an obstacle and an objective.

The environments are built directly rather than through ``composuite.make``, which compiles each model four
times; they are the same ones (a test compares trajectories).
"""

from __future__ import annotations

import sys

from lram.envs.domains.robosuite.suite import (
    RobosuiteOptions,
    RobosuiteSession,
    robosuite_session,
    shaped_greatest,
    shaped_least,
)
from lram.envs.domains.robosuite.versions import (
    MUJOCO2,
    MUJOCO3,
    PACKAGES,
    PYTHONS,
    REQUIREMENTS,
    check_versions,
    import_quietly,
    import_source,
)
from lram.envs.session import Domain, EvaluationProtocol, InterpreterRecipe, SessionError, SourceTree

ROBOTS = ("IIWA", "Jaco", "Kinova3", "Panda")
OBJECTS = ("Box", "Dumbbell", "Plate", "Hollowbox")
OBSTACLES = ("None", "GoalWall", "ObjectDoor", "ObjectWall")
OBJECTIVES = ("PickPlace", "Push", "Shelf", "Trashcan")
_OPTIONS = {
    "limit": 500,
    "controller": "JOINT_POSITION",
    "observation": (
        "object-state",
        "obstacle-state",
        "goal-state",
        "object_id",
        "robot_id",
        "obstacle_id",
        "subtask_id",
        "robot0_proprio-state",
    ),
}


def make(task_name: str, protocol: EvaluationProtocol) -> RobosuiteSession:
    """Return a session of a task (``IIWA_Box_None_PickPlace``); SessionError for an unknown one."""
    parts = task_name.split("_")
    axes = (ROBOTS, OBJECTS, OBSTACLES, OBJECTIVES)
    if len(parts) != len(axes) or any(part not in axis for part, axis in zip(parts, axes)):
        raise SessionError(f"composuite has no task {task_name!r}; names look like 'IIWA_Box_None_PickPlace'")
    check_versions(DOMAIN, protocol)
    _import_composuite()
    robot, thing, obstacle, objective = parts
    return robosuite_session(
        f"composuite/{task_name}",
        f"{objective}Subtask",
        robot,
        RobosuiteOptions(**protocol.options),
        object_type=thing,
        obstacle=None if obstacle == "None" else obstacle,
        use_task_id_obs=True,
    )


def attributes(task_name: str) -> dict[str, str]:
    """Return what a task is composed of: its robot, object, obstacle and objective."""
    return dict(zip(("robot", "object", "obstacle", "objective"), task_name.split("_")))


def _import_composuite() -> None:
    """Import the package, which registers the environments."""
    # The package's wrapper, which is not used here, derives from the unmaintained gym's. gymnasium serves
    # as well, and asks for neither another installation nor a page of advice on the terminal.
    absent = "gym" not in sys.modules
    if absent:
        sys.modules["gym"] = import_quietly("gymnasium", "run 'lram env install composuite'")
    try:
        import_source(DOMAIN, DOMAIN.sources[0])
    finally:
        if absent:
            del sys.modules["gym"]


DOMAIN = Domain(
    name="composuite",
    protocols=(
        EvaluationProtocol(
            "lram",
            1,
            "The reference evaluation's rules: joint positions, dense rewards, the task's identity seen, "
            "500 steps; on MuJoCo 2.3.2.",
            _OPTIONS,
            MUJOCO2,
        ),
        EvaluationProtocol(
            "mujoco3",
            1,
            "As lram, on MuJoCo 3.3.0 with models corrected to behave as they do on 2.3.2.",
            {**_OPTIONS, "corrections": True},
            MUJOCO3,
        ),
    ),
    make=make,
    attributes=attributes,
    least_return=shaped_least,
    greatest_return=shaped_greatest,
    requires=("robosuite", "mujoco", "gymnasium", "h5py"),
    install="lram-bench[robosuite]",
    packages=PACKAGES,
    renderer=True,
    sources=(
        SourceTree(
            module="composuite",
            url="https://github.com/Lifelong-ML/CompoSuite",
            commit="1fa36f67f31aeccc9ef75748bfc797960e044a86",
            licence="MIT",
        ),
    ),
    interpreter=InterpreterRecipe(
        (
            *REQUIREMENTS,
            "gymnasium==1.1.1",
            "cloudpickle==3.1.2",
            "Farama-Notifications==0.0.4",
            "typing-extensions==4.15.0",
            "h5py==3.14.0",
            "importlib-metadata==8.7.0; python_version < '3.10'",
            "zipp==3.23.0; python_version < '3.10'",
        ),
        PYTHONS,
        resolve=False,
    ),
    start_s=1.0,
    idle_sessions=1,
    step_s=0.0035,
    worker_mb=225.0,
    session_mb=95.0,
)
