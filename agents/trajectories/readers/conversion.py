"""From an episode as its file has it to a trajectory of its task: types, widths, ranges."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from lram.agents.api import TaskSpec
from lram.agents.trajectories.readers.source import (
    ActionSpace,
    Array,
    Note,
    Options,
    RawEpisode,
    Shapes,
    SourceError,
    flags,
)
from lram.agents.trajectories.trajectory import ACTION_SLACK, Trajectory, check_trajectory

ROUNDING = 1e-3
"""Actions this far outside [-1, 1] are clipped without being asked: a rounding, not another range."""

MAPPED = "episodes had their actions mapped from the range that the source tells to [-1, 1]"
CLIPPED = "action values outside [-1, 1] were clipped"
RESUMMED = "episodes note another return than the sum of their rewards; the sum counts"


@np.errstate(over="ignore", invalid="ignore")  # what becomes infinite is refused, with its row, by the check
def to_trajectory(
    raw: RawEpisode,
    where: str,
    key: str,
    options: Options,
    spec: Callable[[Shapes], TaskSpec],
    horizon: int | None,
) -> tuple[Trajectory, list[Note]]:
    """Return ``raw`` as a checked trajectory, and what was changed on the way.

    Args:
        raw: The episode.
        where: Names it in a sentence.
        key: Names it within its source; with a hash of its arrays it becomes the ``origin``.
        options: How to read it.
        spec: Gives the task for the shapes that the episode shows.
        horizon: Decisions after which the task is cut off, where known.

    Raises:
        AgentError: It is no episode of its task, in one sentence.
    """
    observations = _observations(raw.observations, where)
    actions = _rows(raw.actions, where, "actions")
    if not len(actions):
        raise SourceError(f"{where} is empty: it has no action; leave it out")
    seen = Shapes(
        "image" if observations.ndim == 4 else "vector",
        observations.shape[1:],
        *_actions_seen(raw, options, where),
        _doubt(raw, options),
    )
    task = raw.task or spec(seen)
    _check_space(raw.space, task, options, where)
    rewards = _rewards(raw.rewards, where)
    signals = rewards.astype(np.float32) if raw.signals is None else _column(raw.signals, np.float32)
    bounds = _bounds(raw.space, options)
    actions, clipped = _fitted_actions(actions, task, bounds, options.clip_actions, where)
    truncated, terminated = raw.truncated, raw.terminated
    if terminated and not raw.kind_of_end_known and horizon is not None and len(actions) >= horizon:
        truncated, terminated = True, False
    trajectory = Trajectory(
        task=task,
        observations=_fitted_width(observations, task),
        actions=actions,
        rewards=rewards,
        signals=signals,
        terminated=terminated,
        truncated=truncated,
        success=_success(raw.success, len(actions), where),
        context_starts=raw.context_starts,
        seed=raw.seed,
        policy=options.policy or raw.policy,
        protocol=raw.protocol,
        record=raw.record,
        origin=raw.origin or f"{key}@{_digest(observations, actions, rewards)}",
    )
    check_trajectory(trajectory, where)
    said = raw.own_notes if raw.environment == task.id else raw.notes
    notes = [*said, *([Note(CLIPPED, clipped)] if clipped else [])]
    if bounds is not None and options.action_bounds is None:
        notes.append(Note(MAPPED))
    if raw.longest is not None and horizon is not None and raw.longest != horizon:
        notes.append(
            Note(
                f"episodes were cut off after {raw.longest} decisions by their metadata, and {task.id} is "
                f"after {horizon}"
            )
        )
    total = trajectory.episode_return
    tolerance = 1e-3 * max(1.0, float(np.abs(rewards).sum()))
    if any(not abs(noted - total) <= tolerance for noted in raw.returns):
        notes.append(Note(RESUMMED))
    return trajectory, notes


def _observations(values: Array, where: str) -> npt.NDArray[np.float32] | npt.NDArray[np.uint8]:
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise SourceError(
            f"{where} has observations of type {values.dtype}, which are no plain numbers; decode them first"
        )
    if values.ndim == 4:
        if values.dtype != np.uint8:
            raise SourceError(f"{where} has images of type {values.dtype}; convert them to uint8, 0 to 255")
        if values.shape[1] != 3 and values.shape[-1] == 3:
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values)
    if values.ndim not in (1, 2):
        raise SourceError(
            f"{where} has observations of shape {values.shape}; a vector or an image of 3 colours a step is "
            "needed"
        )
    return (values[:, None] if values.ndim == 1 else values).astype(np.float32)


def _rows(values: Array, where: str, name: str) -> Array:
    values = np.asarray(values)
    if values.dtype.kind not in "biuf" or values.ndim not in (1, 2):
        raise SourceError(
            f"{where} has {name} of type {values.dtype} and shape {values.shape}; one number or one vector a "
            "step is needed"
        )
    return values


def _actions_seen(
    raw: RawEpisode, options: Options, where: str
) -> tuple[Literal["discrete", "continuous"], int | None]:
    """Return what the source tells, else what the user says, else what the numbers look like."""
    values = np.asarray(raw.actions)
    asked = options.discrete_actions
    if raw.space is not None:
        recorded = (
            f"{raw.space.size} discrete actions" if raw.space.kind == "discrete" else "a Box of actions"
        )
        if asked is not None and (raw.space.kind, raw.space.size) != ("discrete", asked):
            raise SourceError(f"{where} has {recorded} by its metadata; leave out --discrete-actions {asked}")
        if options.continuous_actions and raw.space.kind == "discrete":
            raise SourceError(f"{where} has {recorded} by its metadata; leave out --continuous-actions")
        return raw.space.kind, raw.space.size
    if options.continuous_actions:
        return "continuous", values.shape[1] if values.ndim == 2 else 1
    if asked is not None or (values.dtype.kind in "iub" and (values.ndim == 1 or values.shape[1] == 1)):
        return "discrete", asked
    return "continuous", values.shape[1] if values.ndim == 2 else 1


def _doubt(raw: RawEpisode, options: Options) -> str:
    """Return why actions that count as numbers may be an index; empty where somebody says what they are."""
    stated = options.continuous_actions or options.clip_actions or options.action_bounds is not None
    if raw.space is not None or options.discrete_actions is not None or stated:
        return ""
    values = np.asarray(raw.actions)
    if _one_hot(values):
        return "rows of zeros with a single 1"
    single = _column(values, values.dtype.type)
    if single.ndim == 1 and single.dtype.kind == "f" and np.isfinite(single).all():
        whole = (single == np.rint(single)).all() and single.min() >= 0 and single.max() >= 1
        return f"whole numbers from {single.min():g} to {single.max():g}" if whole else ""
    return ""


def _one_hot(values: Array) -> bool:
    """Return whether every row of (T, 2 or more) has a single 1, and zeros; also all at one place."""
    if values.ndim != 2 or values.shape[1] < 2:
        return False
    ones = values == 1
    return bool((ones.sum(axis=1) == 1).all() and (ones | (values == 0)).all())


def _rewards(values: Array, where: str) -> npt.NDArray[np.float32] | npt.NDArray[np.float64]:
    values = _rows(values, where, "rewards")
    return _column(values, np.float64 if values.dtype == np.float64 else np.float32)


def _column(values: Array, kind: type) -> Array:
    """Return (T,) or (T, 1) values as (T,); another shape as it is, for the check to name."""
    values = np.asarray(values)
    return (values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values).astype(kind)


def _fitted_width(observations: Array, task: TaskSpec) -> Array:
    """Drop the zeros that some sources pad vectors with to the width of a model."""
    if task.observation != "vector" or observations.ndim != 2:
        return observations
    width = task.observation_shape[0]
    return observations if observations[:, width:].any() else observations[:, :width]


def _check_space(space: ActionSpace | None, task: TaskSpec, options: Options, where: str) -> None:
    """Raise SourceError where the source tells other actions than its task has."""
    asked = options.discrete_actions
    if asked is not None and (task.action, task.action_size) != ("discrete", asked):
        takes = f"has {task.action_size} actions" if task.action == "discrete" else "takes a vector"
        raise SourceError(f"{where} is filed under {task.id}, which {takes}; leave out --discrete-actions")
    if options.continuous_actions and task.action == "discrete":
        raise SourceError(
            f"{where} is filed under {task.id}, which takes an index; leave out --continuous-actions"
        )
    if options.action_bounds is not None and task.action == "discrete":
        raise SourceError(
            f"{where} is filed under {task.id}, which takes an index; leave out --action-bounds"
        )
    if space is None:
        return
    other = (
        f"file it under a task of its own: --task mine/{task.id.partition('/')[2]} --reward-scale NUMBER, or "
        "map its actions first"
    )
    if space.kind != task.action:
        takes = "an index" if task.action == "discrete" else "a vector"
        has = "an index" if space.kind == "discrete" else "a Box"
        raise SourceError(
            f"{where} has {has} of actions by its metadata, and {task.id} takes {takes}; {other}"
        )
    if space.kind == "discrete" and space.size != task.action_size:
        raise SourceError(
            f"{where} has {space.size} actions by its metadata, and {task.id} has {task.action_size}; an "
            f"index does not mean the same; {other}"
        )


Bounds: TypeAlias = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _bounds(space: ActionSpace | None, options: Options) -> Bounds | None:
    """Return the range that actions are mapped from; None where it is [-1, 1], or nobody tells another."""
    if isinstance(options.action_bounds, tuple):
        low, high = (np.array([bound]) for bound in options.action_bounds)
        return low, high
    if space is None or not space.low:
        return None
    low, high = np.array(space.low), np.array(space.high)
    return None if (np.abs(low + 1) < ROUNDING).all() and (np.abs(high - 1) < ROUNDING).all() else (low, high)


def _fitted_actions(
    actions: Array, task: TaskSpec, bounds: Bounds | None, clip: bool, where: str
) -> tuple[Array, int]:
    """Return the actions as the task has them, and how many values were clipped."""
    if task.action == "discrete":
        if actions.ndim == 2 and actions.shape[1] == task.action_size and _one_hot(actions):
            return actions.argmax(axis=1), 0
        single = _column(actions, actions.dtype.type)
        whole = single.astype(np.int64) if np.isfinite(single).all() else None
        if whole is None or (single != whole).any():
            raise SourceError(f"{where} has actions that are no whole numbers, and {task.id} takes an index")
        return whole, 0
    actions = actions[:, None] if actions.ndim == 1 else actions
    values = actions.astype(np.float32)
    if not values[:, task.action_size :].any():
        values = values[:, : task.action_size]
    if bounds is not None:
        if len(bounds[0]) not in (1, actions.shape[-1]):
            raise SourceError(
                f"{where} has actions of width {actions.shape[-1]}, by its metadata {len(bounds[0])}; fix it"
            )
        low, high = (bound[: values.shape[1]] for bound in bounds)
        values = ((values.astype(np.float64) - low) / (high - low) * 2 - 1).astype(np.float32)
    beyond = np.abs(values) - 1
    if not clip and (beyond > ROUNDING).any():
        row = int(np.flatnonzero((beyond > ROUNDING).any(axis=1))[0])
        raise SourceError(
            f"{where} has an action outside [-1, 1] at decision {row} "
            f"({_worst(values[row]):g}); map its range with --action-bounds LOW,HIGH or cut it with "
            "--clip-actions"
        )
    clipped = int((beyond > ACTION_SLACK).sum())
    return (np.clip(values, -1, 1) if clipped else values), clipped


def _worst(values: Array) -> float:
    return float(values[np.abs(values).argmax()])


def _success(values: Array | None, length: int, where: str) -> npt.NDArray[np.bool_] | None:
    if values is None:
        return None
    values = flags(values, where, "successes")
    return values[1:] if len(values) == length + 1 else values  # the first is the reset's


def _digest(*arrays: Array) -> str:
    content = hashlib.blake2b(digest_size=6)
    for array in arrays:
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()
