"""From logits to an action, and from an action to the classes that stand for it in later contexts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lram.agents.api import Action, AgentError, TaskSpec
from lram.agents.model.tokens import ACTION_DIMS, DISCRETE_ACTIONS, action_to_classes, classes_to_action

_STILL = np.full(ACTION_DIMS, action_to_classes(0.0), dtype=np.int64)


def choose_action(
    logits: npt.NDArray[np.float32], task: TaskSpec, decode: str
) -> tuple[Action, npt.NDArray[np.int64]]:
    """Take the likeliest class among those that ``task`` has (the first, if several are).

    Args:
        logits: (8, 274).
        task: Tells the number of discrete actions, or of continuous dimensions.
        decode: ``center`` or ``lower``, see :func:`classes_to_action`.

    Returns:
        The action, and the classes (8,) that stand for it as past action; dimensions that the task
        does not have stand as action 0.0.

    Raises:
        AgentError: The logits are not finite.
    """
    if not np.isfinite(logits).all():
        raise AgentError(f"the model's output for {task.id} is not finite; its weights or inputs are not")
    classes = _STILL.copy()
    if task.action == "discrete":
        classes[0] = logits[0, : task.action_size].argmax()
        return int(classes[0]), classes
    size = task.action_size
    classes[:size] = DISCRETE_ACTIONS + logits[:size, DISCRETE_ACTIONS:].argmax(axis=-1)
    return classes_to_action(classes[:size], "lower" if decode == "lower" else "center"), classes


def past_classes(action: Action, task: TaskSpec) -> npt.NDArray[np.int64]:
    """Return the classes (8,) that stand for ``action`` as past action, as :func:`choose_action` has them."""
    classes = _STILL.copy()
    if task.action == "discrete":
        classes[0] = action
    else:
        classes[: task.action_size] = action_to_classes(action)
    return classes
