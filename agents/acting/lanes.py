"""What the agent holds for its lanes, and what a pass is given of it: all that is computed on the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from lram.agents.api import AgentError, Observation, TaskSpec
from lram.agents.backbones.states import State
from lram.agents.model.config import ModelConfig
from lram.agents.model.tokens import ACTION_DIMS


@dataclass(slots=True)
class LaneStates:
    """What the agent holds for its lanes: the episode's task, the running sum of rewards, the past.

    Attributes:
        tasks: The lane's task; None before its first episode.
        earned: Sum of the rewards of the episode so far, unscaled, in float64.
        fresh: No decision was made yet, so there is no last reward to read.
        last_classes: Classes of the last action, one a dimension (read with actions in context).
        blocks: Backbone states of ``rows`` rows each; lane i is row i % rows of block i // rows.
    """

    tasks: list[TaskSpec | None]
    earned: npt.NDArray[np.float64]
    fresh: npt.NDArray[np.bool_]
    last_classes: npt.NDArray[np.int64]
    blocks: list[State] = field(repr=False)

    @classmethod
    def empty(cls, lanes: int, blocks: list[State]) -> Self:
        """Return those of ``lanes`` lanes that hold no episode yet."""
        return cls(
            tasks=[None] * lanes,
            earned=np.zeros(lanes),
            fresh=np.ones(lanes, dtype=np.bool_),
            last_classes=np.zeros((lanes, ACTION_DIMS), dtype=np.int64),
            blocks=blocks,
        )

    def begin(self, lane: int, task: TaskSpec) -> None:
        """Give a lane an episode of ``task``, which names the return to ask for."""
        self.tasks[lane], self.earned[lane], self.fresh[lane] = task, 0.0, True

    def task(self, lane: int) -> TaskSpec:
        """Return the task that a lane plays; AgentError where it holds no episode."""
        task = self.tasks[lane]
        if task is None:
            raise AgentError(f"lane {lane} holds no episode; reset it before it acts")
        return task

    def earn(self, rewards: Sequence[float], lanes: Sequence[int]) -> dict[int, float]:
        """Add the rewards of the lanes that have decided before; return those of all by lane.

        Raises:
            AgentError: A lane is named twice.
        """
        given = dict(zip(lanes, rewards, strict=True))
        if len(given) != len(lanes):
            raise AgentError(f"a lane is named twice among {list(lanes)}")
        for lane in lanes:
            if not self.fresh[lane]:
                self.earned[lane] += given[lane]
        return given


def tokens_there(config: ModelConfig, task: TaskSpec, *, fresh: bool) -> npt.NDArray[np.bool_]:
    """Return which tokens of one decision are there, (pass_tokens,).

    Args:
        config: The model's.
        task: The lane's. A discrete action stands in the first of the tokens of an action.
        fresh: No decision was made yet, so that nothing is past.
    """
    there = np.ones(config.pass_tokens, dtype=np.bool_)
    if fresh:
        there[: config.pass_tokens - config.fresh_tokens] = False
    elif config.actions_in_context and task.action == "discrete":
        there[1:ACTION_DIMS] = False
    return there


def return_to_go(
    task: TaskSpec, earned: np.float64 | npt.NDArray[np.float64]
) -> float | np.float64 | npt.NDArray[np.float64]:
    """Return what is asked for yet, scaled; 0 where the task asks for none. ``earned`` is not scaled."""
    if task.target_return is None:  # a model that reads it is not given such a task
        return 0.0
    return (task.target_return - earned) / task.reward_scale


class PassObservations(NamedTuple):
    """What the lanes of a block see.

    Attributes:
        vectors: Observations (rows, state_width), filled up with zeros; those of images are 0.
        images: In the order of their rows.
        places: Rows of the images.
    """

    vectors: npt.NDArray[np.float32]
    images: list[Observation]
    places: list[int]


class PassNumbers(NamedTuple):
    """What a pass of one block is given beside what is seen.

    Attributes:
        returns_to_go, rewards: Scaled (rows,).
        valid: Which tokens are there (rows, pass_tokens); None: all.
        classes: Of the last actions (rows, 8); None without actions in context.
    """

    returns_to_go: npt.NDArray[np.float32]
    rewards: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_] | None
    classes: npt.NDArray[np.int64] | None


@dataclass(frozen=True, slots=True)
class PassLayout:
    """How lanes lie in the passes of a model.

    Attributes:
        config: The model's.
        rows: Rows of a pass: lane i is row i % rows of block i // rows.
    """

    config: ModelConfig
    rows: int

    def by_block(self, lanes: Sequence[int]) -> list[tuple[int, list[int]]]:
        """Return the blocks that hold ``lanes``, and of each the rows, in order."""
        blocks: dict[int, list[int]] = {}
        for lane in lanes:
            blocks.setdefault(lane // self.rows, []).append(lane % self.rows)
        return sorted(blocks.items())

    def seen(
        self, observations: Mapping[int, Observation], state: LaneStates, block: int, rows: Sequence[int]
    ) -> PassObservations:
        """Return what ``rows`` of a block see, of observations by lane.

        Raises:
            AgentError: An observation has not the shape of its task.
        """
        vectors = np.zeros((self.rows, self.config.state_width), dtype=np.float32)
        images, places = [], []
        for row in rows:
            lane = block * self.rows + row
            seen, task = observations[lane], state.task(lane)
            if seen.shape != task.observation_shape:
                raise AgentError(f"{task.id} showed {seen.shape}, not {task.observation_shape}")
            if task.observation == "image":
                images.append(seen)
                places.append(row)
            else:
                vectors[row, : seen.size] = seen.reshape(-1)
        return PassObservations(vectors, images, places)

    def numbers(
        self, rewards: Mapping[int, float], state: LaneStates, block: int, rows: Sequence[int]
    ) -> PassNumbers:
        """Return what ``rows`` of a block are given beside what they see, of last rewards by lane."""
        config = self.config
        returns_to_go = np.zeros(self.rows, dtype=np.float32)
        last_rewards = np.zeros(self.rows, dtype=np.float32)
        classes = np.zeros((self.rows, ACTION_DIMS), dtype=np.int64)
        valid = np.zeros((self.rows, config.pass_tokens), dtype=np.bool_)
        for row in rows:
            lane = block * self.rows + row
            task = state.task(lane)
            fresh = bool(state.fresh[lane])
            returns_to_go[row] = return_to_go(task, state.earned[lane])
            valid[row] = tokens_there(config, task, fresh=fresh)
            if not fresh:
                last_rewards[row] = rewards[lane] / task.reward_scale
                classes[row] = state.last_classes[lane]
        return PassNumbers(
            returns_to_go,
            last_rewards,
            None if valid.all() else valid,
            classes if config.actions_in_context else None,
        )
