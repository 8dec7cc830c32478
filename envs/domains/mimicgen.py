"""MimicGen's manipulation tasks on four arms, with a reward of 1 when the task is solved.

The rules are the public reference evaluation's (``mimicgen_utils.py``) but for IIWA's gripper: the released
data was made with a Robotiq85 where robosuite's default, and so that evaluation's, is a Robotiq140. The
protocol ``lram-robotiq140`` keeps the latter.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from lram.envs.domains.robosuite.suite import ROBOT, RobosuiteOptions, RobosuiteSession, robosuite_session
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
from lram.envs.registry import benchmark_tasks
from lram.envs.session import Domain, EvaluationProtocol, InterpreterRecipe, SessionError, SourceTree
from lram.envs.task import Task

_OPTIONS = {
    "end_on_success": True,
    "success_reward": True,
    "reward_shaping": False,
    "observation": ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object-state"),
}
_GRIPPERS = {"IIWA": "Robotiq85Gripper"}
# Two of the core tasks were demonstrated with another arm (their environments' default).
_ROBOTS = {"NutAssembly_D0": "Sawyer", "PickPlace_D0": "Sawyer"}


def make(task_name: str, protocol: EvaluationProtocol) -> RobosuiteSession:
    """Return a session of a task (``Stack_D0``, ``Stack_D0-IIWA``); SessionError for an unknown one."""
    tasks = {task.name: task for task in benchmark_tasks() if task.domain == "mimicgen"}
    if task_name not in tasks:
        raise SessionError(f"mimicgen has no task {task_name!r}; 'lram tasks mimicgen' lists them")
    check_versions(DOMAIN, protocol)
    task, environment = tasks[task_name], task_name.partition("-")[0]
    _import_mimicgen(environment)
    options = RobosuiteOptions(**{"limit": task.horizon, **protocol.options})
    return robosuite_session(task.id, environment, attributes(task_name)["robot"], options)


def attributes(task_name: str) -> dict[str, str]:
    """Return a task's robot, and the distribution that it is reset to (``D0`` is the narrowest)."""
    base, _, robot = task_name.partition("-")
    return {"robot": robot or _ROBOTS.get(base, ROBOT), "reset": base.rpartition("_")[2]}


def _least_return(task: Task) -> float:
    return 0.0


def _greatest_return(task: Task, protocol: str) -> float:
    return 1.0  # for success, which ends the episode


def _import_mimicgen(environment: str) -> None:
    """Import the package, which registers the environments that it can."""
    for tree in DOMAIN.sources:
        if tree.needed(environment):
            import_source(DOMAIN, tree)
    registered = import_module("robosuite.environments.base").REGISTERED_ENVS
    if environment not in registered:
        # mimicgen continues without the modules that it cannot import; here the reason comes out.
        modules = import_module("mimicgen.envs.robosuite")
        for module in iter_modules(modules.__path__):
            import_quietly(f"{modules.__name__}.{module.name}", "run 'lram env install mimicgen'")
    if environment not in registered:
        raise SessionError(f"this version of mimicgen has no task {environment}")


DOMAIN = Domain(
    name="mimicgen",
    protocols=(
        EvaluationProtocol(
            "lram",
            1,
            "The reference evaluation's rules: operational-space control, 1 for success, which ends the "
            "episode, 400 to 1000 steps; the data's gripper on IIWA; on MuJoCo 2.3.2.",
            {**_OPTIONS, "grippers": _GRIPPERS},
            MUJOCO2,
        ),
        EvaluationProtocol(
            "mujoco3",
            1,
            "As lram, on MuJoCo 3.3.0 with models corrected to behave as they do on 2.3.2.",
            {**_OPTIONS, "grippers": _GRIPPERS, "corrections": True},
            MUJOCO3,
        ),
        EvaluationProtocol(
            "lram-robotiq140",
            1,
            "As lram, with the Robotiq140 gripper that the reference evaluation has on IIWA.",
            _OPTIONS,
            MUJOCO2,
        ),
    ),
    make=make,
    attributes=attributes,
    least_return=_least_return,
    greatest_return=_greatest_return,
    requires=("robosuite", "mujoco", "six"),
    install="lram-bench[robosuite]",
    packages=PACKAGES,
    renderer=True,
    sources=(
        SourceTree(
            module="mimicgen",
            url="https://github.com/NVlabs/mimicgen",
            commit="72bd767c255545f462e7ccfb2731f2e5d4c1d9bb",
            licence="NVIDIA License: not for commercial use, only for research or evaluation",
        ),
        SourceTree(
            module="robosuite_task_zoo",
            url="https://github.com/ARISE-Initiative/robosuite-task-zoo",
            commit="74eab7f88214c21ca1ae8617c2b2f8d19718a9ed",
            licence="MIT",
            tasks=("Kitchen_*", "HammerCleanup_*"),
        ),
    ),
    interpreter=InterpreterRecipe((*REQUIREMENTS, "six==1.17.0"), PYTHONS, resolve=False),
    start_s=1.0,
    idle_sessions=1,
    step_s=0.008,
    worker_mb=310.0,
    session_mb=95.0,
)
