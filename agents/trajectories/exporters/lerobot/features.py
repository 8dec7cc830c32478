"""What an episode becomes in a LeRobot data set: features, and a column of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lram.agents.api import AgentError, TaskSpec
from lram.agents.trajectories.readers.lerobot.layout import (
    ACTION,
    DONE,
    EPISODE,
    FRAME,
    IMAGE,
    INDEX,
    INDEX_FEATURES,
    REWARD,
    SIGNAL,
    STATE,
    SUCCESS,
    TASK,
    TIME,
    TRUNCATED,
)
from lram.agents.trajectories.readers.source import Array
from lram.agents.trajectories.trajectory import Trajectory


def common_form(tasks: Sequence[TaskSpec]) -> TaskSpec:
    """Return a task whose shapes are those of all; AgentError where they differ.

    A LeRobot data set has one shape of observations and one of actions.
    """
    first = tasks[0]
    for other in tasks[1:]:
        if _form(other) != _form(first):
            raise AgentError(
                f"a LeRobot data set has one shape of observations and of actions, and {first.id} has "
                f"{_words(first)}, {other.id} {_words(other)}; export them apart with --tasks"
            )
    return first


def _form(task: TaskSpec) -> tuple[object, ...]:
    return task.observation, tuple(task.observation_shape), task.action, task.action_size


def _words(task: TaskSpec) -> str:
    shape = " x ".join(map(str, task.observation_shape))
    actions = f"{task.action_size} actions" if task.action == "discrete" else f"actions of {task.action_size}"
    return f"{task.observation}s of {shape} and {actions}"


def features_of(task: TaskSpec, images: str, *, success: bool, signals: bool) -> dict[str, dict[str, Any]]:
    """Return the features by key, as ``info.json`` has them.

    Args:
        task: One of the shapes.
        images: ``image`` or ``video``.
        success: The episodes tell whether they are solved.
        signals: Agents are shown other rewards than the task's own (Atari), which become a column.
    """
    found: dict[str, dict[str, Any]] = {}
    if task.observation == "image":
        colours, height, width = task.observation_shape
        shape = [height, width, colours]
        found[IMAGE] = {"dtype": images, "shape": shape, "names": ["height", "width", "channels"]}
    else:
        size = task.observation_shape[0]
        found[STATE] = _numbers("float32", size, "state")
    if task.action == "discrete":
        found[ACTION] = _numbers("int64", 1, "action")
    else:
        found[ACTION] = _numbers("float32", task.action_size, "action")
    found[REWARD] = _numbers("float64", 1)  # as collected rewards are, so that their sum is the return
    if signals:
        found[SIGNAL] = _numbers("float32", 1)
    found[DONE] = _numbers("bool", 1)
    found[TRUNCATED] = _numbers("bool", 1)
    if success:
        found[SUCCESS] = _numbers("bool", 1)
    return {**found, **INDEX_FEATURES}


def _numbers(kind: str, size: int, name: str = "") -> dict[str, Any]:
    names = [f"{name}_{place}" for place in range(size)] if name else None
    return {"dtype": kind, "shape": [size], "names": names}


def columns_of(
    trajectory: Trajectory, features: dict[str, dict[str, Any]], fps: int, number: int, first: int, task: int
) -> dict[str, Array]:
    """Return the columns of an episode by key: (T,), (T, n), or (T, 3, H, W) of images.

    Args:
        trajectory: The episode.
        features: Of the data set.
        fps: Frames a second.
        number: Of the episode.
        first: Place of its first row among those of all episodes.
        task: Number of its task.
    """
    length = trajectory.length
    frames = np.arange(length)
    last = frames == length - 1
    actions = trajectory.actions
    observed = trajectory.observations[:length]
    held: dict[str, Array] = {
        IMAGE: observed,
        STATE: observed[:, 0] if observed.shape[1:] == (1,) else observed,
        ACTION: actions[:, 0] if actions.ndim == 2 and actions.shape[1] == 1 else actions,
        REWARD: trajectory.rewards.astype(np.float64),
        SIGNAL: trajectory.signals,
        DONE: last & (trajectory.terminated or trajectory.truncated),
        TRUNCATED: last & trajectory.truncated,
        TIME: (frames / fps).astype(np.float32),
        FRAME: frames,
        EPISODE: np.full(length, number),
        INDEX: first + frames,
        TASK: np.full(length, task),
    }
    if trajectory.success is not None:
        held[SUCCESS] = trajectory.success
    return {key: held[key] for key in features}


def has_own_signals(trajectory: Trajectory) -> bool:
    """Return whether an agent is shown other rewards than the task's own."""
    return not np.array_equal(trajectory.rewards.astype(np.float32), trajectory.signals)
