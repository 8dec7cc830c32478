"""A trajectory: one played episode as arrays, whoever played it and wherever it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite, prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lram.agents.api import AgentError, TaskSpec
from lram.agents.trajectories.layout import part_path

Observations: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.uint8]
Actions: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.float32]
Rewards: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float64]

ACTION_SLACK = 1e-6
"""How far a continuous action may lie outside [-1, 1]: a rounding of float32."""

LONGEST = 1 << 31
"""Decisions of an episode at most: what its length is counted with elsewhere."""

_LONGEST_NAME = 255  # bytes of a file's name

LARGEST_SIZE = 1 << 24
"""Values of an observation, and actions of a task, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """T decisions of one episode of one task.

    Attributes:
        task: What was played.
        observations: (T + 1, ...) in the task's shape, or (T, ...) where the source has no last one;
            float32, or uint8 for images. Action t was taken on observation t.
        actions: (T,) int64, or (T, action_size) float32 in [-1, 1].
        rewards: (T,), of the task itself, unclipped. float32 or float64; both are kept as they are
            (collected ones are float64, so that their sum is the recorded return).
        signals: (T,) float32, the rewards as agents are shown them (Atari: clipped).
        terminated: The task ended the episode.
        truncated: A limit of time ended it. Neither: the source cut it off.
        success: (T,), whether the task was solved at each step; None where the task has no such notion.
        context_starts: Decisions at which the agent's context began anew (Atari: lives); 0 is first.
        seed: What the simulator was reset with, where known.
        policy: Who acted: an agent's specification, or what a data set says.
        protocol: Such as ``metaworld:lram@1``; empty where unknown.
        record: JSON of the episode's record, where there is one.
        origin: Names the episode within its source, such as ``runs/0001|scripted|metaworld/reach-v3|3``
            or a file and its episode; unique in a store where it is not empty, so that a collection
            or an import that was interrupted can continue.
    """

    task: TaskSpec
    observations: Observations
    actions: Actions
    rewards: Rewards
    signals: npt.NDArray[np.float32]
    terminated: bool
    truncated: bool
    success: npt.NDArray[np.bool_] | None = None
    context_starts: tuple[int, ...] = (0,)
    seed: int | None = None
    policy: str = ""
    protocol: str = ""
    record: str = ""
    origin: str = ""

    def frozen(self) -> Trajectory:
        """Return it with arrays that nobody can change: its own, where they are so already, or copies."""
        return replace(
            self,
            observations=_unchanging(self.observations),
            actions=_unchanging(self.actions),
            rewards=_unchanging(self.rewards),
            signals=_unchanging(self.signals),
            success=None if self.success is None else _unchanging(self.success),
        )

    @property
    def length(self) -> int:
        """Number of decisions, T."""
        return len(self.actions)

    @property
    def episode_return(self) -> float:
        """Sum of the rewards, added one after the other in float64, as records have it."""
        return total(self.rewards)

    @property
    def signal_return(self) -> float:
        """Sum of the signals, likewise."""
        return total(self.signals)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        success = 0 if self.success is None else self.success.nbytes
        return (
            self.observations.nbytes
            + self.actions.nbytes
            + self.rewards.nbytes
            + self.signals.nbytes
            + success
        )


def total(values: Rewards) -> float:
    """Return the sum of ``values``, added one after the other in float64; 0.0 for none."""
    return float(np.add.accumulate(values, dtype=np.float64)[-1]) if len(values) else 0.0


def returns_to_go(
    signals: npt.NDArray[np.float32], context_starts: Sequence[int] = (0,)
) -> npt.NDArray[np.float32]:
    """Return, for each decision, the sum of the signals from its own to the end of its context.

    Undiscounted and unscaled; a new context starts a new sum, because an agent's return-to-go does.

    Args:
        signals: (T,).
        context_starts: Decisions at which a context begins; 0 is first.

    Returns:
        (T,) float32, summed in float64.
    """
    result = np.empty(len(signals), dtype=np.float32)
    bounds = [*context_starts, len(signals)]
    for start, stop in pairwise(bounds):
        backwards = np.add.accumulate(signals[start:stop][::-1], dtype=np.float64)
        result[start:stop] = backwards[::-1]
    return result


def check_trajectory(trajectory: Trajectory, where: str = "") -> None:
    """Raise AgentError, in one sentence, for a trajectory that is none of its task's.

    Args:
        trajectory: What to check.
        where: Names it in the sentence, such as a file and its episode (empty: by its task).
    """
    wrong = _problem(trajectory)
    if wrong:
        origin = f" ({trajectory.origin})" if trajectory.origin else ""
        name = where or f"a trajectory of {_cut(trajectory.task.id)}{origin}"
        raise AgentError(f"{name} {wrong}; fix its source or leave it out")


def _problem(t: Trajectory) -> str:
    """Return what is wrong with ``t``, as the end of a sentence; empty when nothing is."""
    if wrong := fault_of_task(t.task):
        return f"has a task that {wrong}"
    if any(len(name.encode()) > _LONGEST_NAME for name in part_path(t.task, 0).split("/")):
        return f"has a task whose name is too long for a folder ({len(t.task.id)} characters)"
    return (
        _wrong_lengths(t)
        or _wrong_observations(t)
        or _wrong_actions(t)
        or _wrong_rewards(t)
        or _wrong_sums(t)
        or _wrong_facts(t)
    )


def fault_of_task(task: TaskSpec) -> str:
    """Return why nothing can be stored of ``task``, as the end of a sentence; empty where it can."""
    if not task.id or not task.domain or not _is_text(task.id) or not _is_text(task.domain):
        return "has no id or no domain that can be written"
    shape = task.observation_shape
    if not shape or min(shape) < 1 or prod(shape) > LARGEST_SIZE:
        return f"has observations of shape {_cut(shape)}"
    if task.observation == "image" and len(shape) != 3:
        return f"has images of shape {_cut(shape)}, which should be colours, height and width"
    if not 1 <= task.action_size <= LARGEST_SIZE:
        return f"has {_cut(task.action_size)} as the size of its actions"
    if not (isfinite(task.reward_scale) and task.reward_scale > 0):
        return f"has the reward scale {task.reward_scale}, which should be above 0"
    if task.target_return is not None and not isfinite(task.target_return):
        return f"has the target return {task.target_return}, which should be finite"
    return ""


def _cut(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_text(text: str) -> bool:
    """Return whether JSON and HDF5 can hold ``text``: no half of a character, no NUL."""
    return "\0" not in text and text.encode("utf-8", "replace").decode() == text


def _wrong_lengths(t: Trajectory) -> str:
    for name in ("observations", "actions", "rewards", "signals"):
        if not getattr(t, name).ndim:
            return f"has {name} without rows"
    length = len(t.actions)
    if not length:
        return "is empty: it has no decision"
    for name, array in (("rewards", t.rewards), ("signals", t.signals), ("successes", t.success)):
        if array is not None and array.shape != (length,):
            return f"has {length} actions and {name} of shape {array.shape}, which should be ({length},)"
    if len(t.observations) not in (length, length + 1):
        return (
            f"has {length} actions and {len(t.observations)} observations, which should be {length + 1} (or "
            f"{length}, without the last one)"
        )
    starts = t.context_starts
    rising = all(one < other for one, other in pairwise(starts))
    if not starts or starts[0] != 0 or starts[-1] >= length or not rising:
        return f"has contexts that start at {_cut(starts)}, which should be 0 and then rise below {length}"
    return ""


def _wrong_observations(t: Trajectory) -> str:
    kind, shape = t.observations.dtype, t.observations.shape[1:]
    needed = np.dtype(np.uint8 if t.task.observation == "image" else np.float32)
    if shape != tuple(t.task.observation_shape) or kind != needed:
        return (
            f"has observations {kind}{shape}, which the task has as {needed}{tuple(t.task.observation_shape)}"
        )
    return _not_finite("observation", t.observations) if kind == np.float32 else ""


def _wrong_actions(t: Trajectory) -> str:
    size = t.task.action_size
    if t.task.action == "discrete":
        if t.actions.shape != (t.length,) or t.actions.dtype != np.int64:
            return f"has actions {t.actions.dtype}{t.actions.shape}, which the task has as int64({t.length},)"
        outside = np.flatnonzero((t.actions < 0) | (t.actions >= size))
        if len(outside):
            first = int(outside[0])
            return f"has action {t.actions[first]} at decision {first}, and the task has 0 to {size - 1}"
        return ""
    if t.actions.shape != (t.length, size) or t.actions.dtype != np.float32:
        given = f"{t.actions.dtype}{t.actions.shape}"
        return f"has actions {given}, which the task has as float32({t.length}, {size})"
    if wrong := _not_finite("action", t.actions):
        return wrong
    beyond = np.abs(t.actions).max(axis=1) > 1 + ACTION_SLACK
    if beyond.any():
        first = int(np.flatnonzero(beyond)[0])
        worst = float(t.actions[first][np.abs(t.actions[first]).argmax()])
        return f"has an action outside [-1, 1] at decision {first} ({worst:g})"
    return ""


def _wrong_rewards(t: Trajectory) -> str:
    if t.rewards.dtype not in (np.float32, np.float64):
        return f"has rewards {t.rewards.dtype}, which should be float32 or float64"
    if t.signals.dtype != np.float32:
        return f"has signals {t.signals.dtype}, which should be float32"
    if t.success is not None and t.success.dtype != np.bool_:
        return f"has successes {t.success.dtype}, which should be bool"
    return _not_finite("reward", t.rewards) or _not_finite("signal", t.signals)


def _wrong_sums(t: Trajectory) -> str:
    """Sums in float64, and returns-to-go in float32: both must be finite where the terms are."""
    with np.errstate(over="ignore", invalid="ignore"):
        if not isfinite(total(t.rewards)):
            return "has rewards whose sum is not finite"
        if not np.isfinite(returns_to_go(t.signals, t.context_starts)).all():
            return "has signals whose sum is too large for float32"
    return ""


def _wrong_facts(t: Trajectory) -> str:
    for name in ("policy", "protocol", "record", "origin"):
        if not _is_text(getattr(t, name)):
            return f"has a {name} that is no text"
    if t.seed is not None and not -(1 << 63) <= t.seed < 1 << 63:
        return f"has the seed {_cut(t.seed)}, which has more than 64 bits"
    return ""


def _not_finite(name: str, values: npt.NDArray[Any]) -> str:
    finite = np.isfinite(values)
    if finite.all():
        return ""
    rows = np.flatnonzero(~finite.reshape(len(values), -1).all(axis=1))
    article = "an" if name[0] in "aeiou" else "a"
    return f"has {article} {name} that is not finite at row {rows[0]} ({len(rows)} rows)"


def _unchanging(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.flags.writeable or array.base is not None:  # the memory below a view may change
        array = array.copy()
        array.flags.writeable = False
    return array
