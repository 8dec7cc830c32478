"""Episodes that a model's agent plays for the equivalence checks, while its step is recorded.

See :mod:`lram.agents.checks.stream`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import AgentError, Episode, TaskSpec
from lram.agents.backbones.states import State
from lram.agents.checks.contract import IMAGE_TASK, VECTOR_TASK
from lram.agents.model.tokens import ACTION_DIMS

DECISIONS = 6


@dataclass(slots=True)
class PlayedLane:
    """An episode as it was played: what was shown and earned, done, and made of it at each decision.

    Attributes:
        number: Of the lane.
        task: The episode's task.
        rewards: That followed each decision, unscaled: (T,).
        observations: One a decision.
        actions: One a decision.
        tokens: Those of each decision that were handed to the step unmasked: (tokens, width).
        hidden: The step's output at each decision's last token: (width,).
    """

    number: int
    task: TaskSpec
    rewards: npt.NDArray[np.float64]
    observations: list[Any] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    tokens: list[Tensor] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)


def made_up_lanes(agent: ModelAgent, window: int | None) -> dict[int, TaskSpec]:
    """Return the tasks that are played by the number of their lane, in several blocks of lanes."""
    shape = (min(VECTOR_TASK.observation_shape[0], agent.model.config.state_width),)
    vector = replace(VECTOR_TASK, observation_shape=shape, action_size=ACTION_DIMS)
    rows = agent.rows
    if rows == 1:
        numbers = list(range(6))
    else:
        # Of a window that is recomputed, each pass costs as much as the whole.
        third = 2 * rows if window is None else rows + 4
        numbers = [0, 2, rows - 1, rows, rows + 3, third]
    tasks = [vector, IMAGE_TASK, vector, IMAGE_TASK, vector, vector]
    # So small a target that the first rewards may turn the sign of the return-to-go: with biases of zero,
    # as some models are drawn, the sign is all that the LayerNorm leaves.
    tasks = [replace(task, target_return=task.reward_scale) for task in tasks]
    return {n: task for n, task in zip(numbers, tasks, strict=True) if agent.refuses(task) is None}


def play(agent: ModelAgent, tasks: dict[int, TaskSpec], steps: int, seed: int) -> list[PlayedLane]:
    """Play one episode of ``steps`` decisions in each lane; the agent itself is left as it is.

    Raises:
        AgentError: The agent acts without its step.
    """
    passes: list[tuple[Tensor, Tensor, Tensor]] = []

    def noted(x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        mask = torch.ones(x.shape[:2], dtype=torch.bool) if valid is None else valid.cpu()
        given = x.to("cpu", torch.float32, copy=True)
        y, state = agent.stepper.call(x, state, valid)
        passes.append((given, mask, y[:, -1].to("cpu", torch.float32, copy=True)))
        return y, state

    player = agent.with_stepper(replace(agent.stepper, call=noted))
    rng = np.random.default_rng([seed, 1])
    numbers = list(tasks)
    blocks = sorted({number // agent.rows for number in numbers})
    state = player.start(max(numbers) + 1)
    lanes: list[PlayedLane] = []
    # What is played first must be forgotten at the second reset.
    for length in (max(1, steps // 3), steps):
        player.reset(state, numbers, [Episode(task, seed) for task in tasks.values()])
        lanes = [PlayedLane(n, task, _rewards(task, length, rng)) for n, task in tasks.items()]
        for step in range(length):
            shown = [made_up_observation(lane.task, rng) for lane in lanes]
            # The first has no meaning after a reset.
            rewards = [float(lane.rewards[step - 1]) if step else 1e3 for lane in lanes]
            passes.clear()
            actions, state = player.act(state, shown, rewards, numbers)
            if len(passes) != len(blocks):
                raise AgentError(f"{len(passes)} passes for {len(blocks)} blocks went through agent.stepper")
            for lane, seen, action in zip(lanes, shown, actions, strict=True):
                x, valid, y = passes[blocks.index(lane.number // agent.rows)]
                row = lane.number % agent.rows
                lane.observations.append(seen)
                lane.actions.append(action)
                lane.tokens.append(x[row, valid[row]])
                lane.hidden.append(y[row])
    return lanes


def _rewards(task: TaskSpec, count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Both signs and all sizes: a LayerNorm may hide one of them."""
    return task.reward_scale * rng.choice([-1.0, 1.0], count) * 10 ** rng.uniform(-1, 2, count)


def made_up_observation(task: TaskSpec, rng: np.random.Generator) -> Any:
    """Return what ``task`` may show."""
    if task.observation == "image":
        return rng.integers(0, 256, task.observation_shape, dtype=np.uint8)
    return rng.standard_normal(task.observation_shape).astype(np.float32)
