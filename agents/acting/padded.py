"""Policies of one's own that act for a batch at once, made so that a lane does not feel its neighbours.

A network's pass over n rows is not bit for bit its pass over m rows: matrix products are cut into blocks by
their shape, and sums are taken in another order. The differences are of 1e-8 in a float32 action, and from
there the course of an episode may change, with what happened to share the pass: which simulators were fast.
:func:`fixed_rows` always passes the same number of rows, and :class:`BatchedPolicy` makes a policy that
remembers nothing an Agent (:mod:`lram.agents.api`)::

    def make_agent():
        policy = PPO.load("reach.zip").policy
        return BatchedPolicy(
            lambda seen: policy.predict(seen, deterministic=True)[0],
            observation_shape=(39,),
            action="continuous",
            action_size=4,
            info=AgentInfo("model", "PPO, stable-baselines3", trained=True),
        )
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from lram.agents.api import Action, Agent, AgentError, AgentInfo, Episode, Observation, TaskSpec
from lram.agents.shown import shown

Predict: TypeAlias = Callable[[npt.NDArray[Any]], Any]
"""Maps observations (n, ...) to actions, an array or a tensor (n,) or (n, action_size)."""

Run: TypeAlias = Callable[[list[npt.NDArray[Any]]], Sequence[Any]]
"""Maps arrays (n, ...) to arrays or tensors (n, ...)."""

ROWS = 8
"""Of a pass, by default. With 8 rows most policies computed a row alike wherever it stood; a few
small PyTorch networks (6 inputs, 8 hidden) did not, nor NumPy's OpenBLAS with 16. ``lram check`` tells of a
policy on a machine; one row a pass is exact always."""

_ALIGNED = 64  # bytes: what is computed in vectors may depend on where in memory its input begins


def fixed_rows(predict: Predict, rows: int = ROWS) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    """Return ``predict`` for any number of observations that itself only ever sees ``rows`` of them.

    More observations than that take several passes; where there are fewer, the first one stands in the rows
    that are left, and what comes back for those is dropped. The input of every pass lies at the same place.

    Args:
        predict: Must give one action a row, not change with the order of calls, and draw nothing.
        rows: Of every pass. 1 is exact always and slow; with others a row must not depend on its place
            in the pass either, which 8 kept and 16 did not in one library that was tried.

    Raises:
        ValueError: ``rows`` is below 1.
    """
    passes = fixed_passes(lambda arrays: [predict(arrays[0])], rows)
    return lambda observations: passes([observations])[0]


def fixed_passes(
    run: Run, rows: int = ROWS
) -> Callable[[Sequence[npt.NDArray[Any]]], list[npt.NDArray[Any]]]:
    """Return ``run`` for any number of rows that itself only ever sees ``rows`` of them.

    Args:
        run: Maps arrays (n, ...) to arrays or tensors (n, ...), such as an observation and a network's memory
            to an action and its new memory. The arrays that it is given are used again in the next pass.
        rows: Of every pass.

    Raises:
        ValueError: ``rows`` is below 1.
    """
    if rows < 1:
        raise ValueError(f"rows={rows} must be 1 or more")
    buffers: dict[tuple[tuple[tuple[int, ...], str], ...], list[npt.NDArray[Any]]] = {}

    def run_any(arrays: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        key = tuple((array.shape[1:], array.dtype.str) for array in arrays)
        if key not in buffers:
            buffers[key] = [_aligned((rows, *array.shape[1:]), array.dtype) for array in arrays]
        given = buffers[key]
        found = []
        for first in range(0, len(arrays[0]), rows):
            count = min(rows, len(arrays[0]) - first)
            for buffer, array in zip(given, arrays, strict=True):
                buffer[:count] = array[first : first + count]
                buffer[count:] = array[first]
            answers = [np.asarray(answer) for answer in run(given)]
            for answer in answers:
                if answer.shape[:1] != (rows,):
                    raise AgentError(
                        f"the policy answered {rows} observations with an array of shape {answer.shape}; "
                        "its first dimension must be that of the observations"
                    )
            found.append([answer[:count].copy() for answer in answers])
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    return run_any


class BatchedPolicy(Agent):
    """An agent whose action is a function of the observation, computed for many lanes in one pass.

    Args:
        predict: As for :func:`fixed_rows`; a continuous action must be in [-1, 1] in each dimension.
        observation_shape: Of the tasks that it plays, such as ``(39,)`` or ``(3, 64, 64)``.
        action: Kind of their actions.
        action_size: Number of discrete actions, or of continuous dimensions.
        info: What reports say of it; give ``digest`` a hash of the weights, so that a run is not resumed
            with others.
        rows: Of every pass.

    Raises:
        ValueError: ``rows`` is below 1.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        observation_shape: tuple[int, ...],
        action: Literal["discrete", "continuous"],
        action_size: int,
        info: AgentInfo,
        rows: int = ROWS,
    ) -> None:
        self._predict = fixed_rows(predict, rows)
        self._shape, self._action, self._size = tuple(observation_shape), action, action_size
        self._info = info
        self.rows = rows
        """Lanes 0 .. rows - 1 share a pass, and so on: the harness asks for those of one at a time."""

    @property
    def info(self) -> AgentInfo:
        """What a report says of this agent."""
        return self._info

    def refuses(self, task: TaskSpec) -> str | None:
        """Tell where the task shows or takes something else than the policy knows."""
        known = (self._shape, self._action, self._size)
        asked = (tuple(task.observation_shape), task.action, task.action_size)
        if known == asked:
            return None
        shown, wanted = (
            f"observations {shape}, {size} {kind} actions" for shape, kind, size in (asked, known)
        )
        return f"{task.id} has {shown}, and the policy knows {wanted}"

    def start(self, lanes: int) -> None:
        """Return no state: nothing is remembered of an episode."""

    def reset(self, state: None, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Do nothing: a fresh lane is like any other."""

    def act(
        self,
        state: None,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], None]:
        """Ask the policy, ``rows`` lanes a pass."""
        found = self._predict(np.stack(observations))
        if self._action == "discrete":
            return [whole_action(action) for action in found], None
        return [np.array(action, dtype=np.float32) for action in found], None

    def state_bytes(self, state: None) -> int:
        """Return 0."""
        return 0


def whole_action(value: npt.NDArray[Any] | np.generic) -> int:
    """Return the discrete action that a policy answered; AgentError where that is no whole number."""
    kind = value.dtype.kind
    if value.size != 1 or not (kind in "iub" or (kind == "f" and value.item().is_integer())):
        raise AgentError(
            f"the policy answered the discrete action {shown(str(value), 60)}, which is no whole number; let "
            "it answer the index of an action"
        )
    return int(value.item())


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return an array that begins at a multiple of 64 bytes."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + _ALIGNED, np.uint8)
    first = -memory.ctypes.data % _ALIGNED
    return memory[first : first + size].view(dtype).reshape(shape)
