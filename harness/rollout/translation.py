"""Translates between agents and environments: describes tasks, compares sessions, checks actions.

Agents and environments know nothing of each other; what passes between them passes through here.
"""

from __future__ import annotations

import numpy as np

from lram.agents.api import Action, TaskSpec
from lram.envs.session import SessionSpec
from lram.envs.text import printable, type_of
from lram.harness.errors import LramError
from lram.harness.storage.records import PlannedTask

_ACTION_SLACK = 1e-6


def task_spec(planned: PlannedTask) -> TaskSpec:
    """Return the description of a planned task for agents; LramError where the table is not enough."""
    task = planned.task
    if task.action_size is None or (task.observation == "vector" and task.observation_size is None):
        raise LramError(f"the task table does not tell the sizes of {task.id}; it cannot be played yet")
    shape = (3, 64, 64) if task.observation == "image" else (int(task.observation_size or 0),)
    try:
        return TaskSpec(
            id=task.id,
            domain=task.domain,
            observation=task.observation,
            observation_shape=shape,
            action=task.action,
            action_size=task.action_size,
            target_return=task.target_return,
            reward_scale=task.reward_scale,
        )
    except ValueError as error:
        raise LramError(f"the task {printable(task.id)} cannot be played: {error}") from error


def checked_action(spec: TaskSpec, action: object) -> tuple[Action, str]:
    """Return the action as it is sent, and an empty string, or what is wrong with it."""
    try:
        return _checked(spec, action)
    except KeyboardInterrupt:
        raise
    except BaseException:  # an object of the agent's that is a number and cannot be compared, for instance
        return 0, f"gave a {type_of(action)} for {spec.id} that cannot be read"


def _checked(spec: TaskSpec, action: object) -> tuple[Action, str]:
    if spec.action == "discrete":
        if isinstance(action, bool) or not isinstance(action, int | np.integer):
            return 0, f"gave {_shown(action)} for {spec.id}, which needs an integer"
        if not 0 <= action < spec.action_size:
            return 0, f"gave action {action} for {spec.id}, which has actions 0 to {spec.action_size - 1}"
        return int(action), ""
    try:
        vector = np.asarray(action, dtype=np.float32)
    except Exception:  # whatever the agent returned, it is the agent's to fix
        return 0, f"gave {_shown(action)} for {spec.id}, which needs {spec.action_size} numbers"
    if vector.shape != (spec.action_size,):
        return 0, f"gave an action of shape {vector.shape} for {spec.id}, which needs ({spec.action_size},)"
    # One call for the usual case; NaN is in no range.
    if np.maximum.reduce(np.abs(vector)) <= 1:
        return vector.copy(), ""
    if not np.isfinite(vector).all():
        return 0, f"gave an action with NaN or infinity for {spec.id}"
    if np.abs(vector).max() > 1 + _ACTION_SLACK:
        worst = float(vector[np.abs(vector).argmax()])
        return 0, f"gave an action outside [-1, 1] for {spec.id} ({worst:g}); clip it"
    return np.clip(vector, -1.0, 1.0), ""


def _shown(action: object) -> str:
    return printable(repr(action), 60)


def contradiction(planned: TaskSpec, actual: SessionSpec) -> str:
    """Return how a session differs from what the task table promises; empty when it does not."""
    planned_spaces = (
        planned.observation,
        tuple(planned.observation_shape),
        planned.action,
        planned.action_size,
    )
    real = (actual.observation, tuple(actual.observation_shape), actual.action, actual.action_size)
    return "" if planned_spaces == real else f"the session is {real}, the task table says {planned_spaces}"
