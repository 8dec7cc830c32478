"""The domain ``gym``: its protocol, and the rows of its tasks, which stand in no table."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lram.envs.domains.gym import names
from lram.envs.session import Domain, EvaluationProtocol, Session
from lram.envs.task import Task


def make(task_name: str, protocol: EvaluationProtocol) -> Session:
    """Return a session of the environment of that name; SelectionError where it cannot be played."""
    from lram.envs.domains.gym import session  # needs Gymnasium

    return session.make(task_name, protocol)


def task(name: str) -> Task:
    """Return the row of the task of that name; SelectionError where it cannot be played."""
    names.parse(name)
    # Only the Python that selects tasks needs it; a worker's may be too old for what it imports.
    probing = import_module("lram.envs.domains.gym.probing")
    found: dict[str, Any] = dict(probing.facts(name))
    entry_point = found.pop("entry_point")
    return Task(
        domain="gym",
        name=name,
        split="extra",
        target_return=None,
        reward_scale=1.0,
        sources=(("environment", f"gymnasium, entry point {entry_point}"),),
        **found,
    )


DOMAIN = Domain(
    name="gym",
    protocols=(
        EvaluationProtocol(
            "area",
            1,
            "The environment as its package registers it, with its own time limit; images as area means of "
            "64x64, other observations as one vector, actions scaled from [-1, 1].",
        ),
    ),
    make=make,
    on_demand=task,
    trial_task="CartPole-v1",
    requires=("gymnasium",),
    install="lram-bench[gym]",
    packages=(
        "gymnasium",
        "numpy",
        "ale-py",
        "box2d",
        "gymnasium-robotics",
        "highway-env",
        "minigrid",
        "mujoco",
        "popgym",
        "pygame",
    ),
    start_s=0.1,
    step_s=0.0003,
    worker_mb=60.0,
    session_mb=10.0,
)
