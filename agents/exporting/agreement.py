"""Does an exported folder decide as the agent does? Both are shown the same made-up episodes.

Observations and rewards are random numbers of the task's shapes, the same for both whatever they decide.
What is compared is each decision's action, and the logits of the classes that the task has. Rounding differs,
since the graph reads one row and the agent several, by other kernels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lram.agents.acting.actions import past_classes
from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import Action, AgentError, Episode, Observation, TaskSpec
from lram.agents.exporting.policy import Policy
from lram.agents.model.tokens import DISCRETE_ACTIONS

EPISODES = 5
DECISIONS = 40
"""Of each episode."""

TOLERANCE = 1e-4
"""Largest difference of two logits that passes, as a part of the largest logit of the decision (or of 1)."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was found.

    Attributes:
        episodes: That were played by both.
        decisions: In all of them.
        ties: Actions that differ because two classes' logits are nearer to each other than the tolerance.
        largest_difference: Of two logits, as a part of the largest of their decision (or of 1).
        tolerance: What would have passed.
        step: What computed the agent's step.
    """

    episodes: int
    decisions: int
    ties: int
    largest_difference: float
    tolerance: float
    step: str


def agreement(
    agent: ModelAgent, policy: Policy, task: TaskSpec, *, tolerance: float = TOLERANCE, seed: int = 0
) -> Agreement:
    """Play made-up episodes with both, in turns, and compare every decision.

    Raises:
        AgentError: An action or a logit differs by more; one sentence that says where.
    """
    read: list[Tensor] = []
    listening = _listening(agent, read)
    ties, largest = 0, 0.0
    state = listening.start(1)
    for episode in range(EPISODES):
        listening.reset(state, [0], [Episode(task, seed)])
        policy.reset()
        for place, (seen, reward) in enumerate(made_up(task, DECISIONS, seed + episode)):
            (expected,), state = listening.act(state, [seen], [reward], [0])
            given = policy.act(seen, reward)
            logits = _of_task(read.pop()[0].float().numpy(), task)
            found = policy.logits.reshape(logits.shape)
            scale = max(1.0, float(np.abs(logits).max()))
            difference = float(np.abs(found - logits).max()) / scale
            largest = max(largest, difference)
            where = f"decision {place + 1} of made-up episode {episode + 1}"
            if not difference <= tolerance:
                raise AgentError(
                    f"the exported policy differs from the agent: at {where} a logit by {difference:.2g} of "
                    f"the largest, and {tolerance:g} is allowed; nothing was kept"
                )
            if not np.array_equal(np.asarray(expected), np.asarray(given)):
                ties += _ties(logits, expected, given, task, 2 * tolerance * scale, where)
                listening.took(state, [0], [given])  # both continue from one past
    step = agent.stepper.detail
    return Agreement(EPISODES, EPISODES * DECISIONS, ties, largest, tolerance, step)


def made_up(task: TaskSpec, decisions: int, seed: int) -> Iterator[tuple[Observation, float]]:
    """Yield what an episode shows: an observation, and the reward of the action before it."""
    rng = np.random.default_rng(seed)
    for _ in range(decisions):
        reward = float(rng.normal(scale=abs(task.reward_scale)))
        if task.observation == "image":
            yield rng.integers(0, 256, task.observation_shape, dtype=np.uint8), reward
        else:
            yield rng.standard_normal(task.observation_shape).astype(np.float32), reward


def _listening(agent: ModelAgent, read: list[Tensor]) -> ModelAgent:
    """Return the agent so that the logits that it reads are put into ``read``, too."""
    head = agent.reader.action_head

    def listened(hidden: Tensor) -> Tensor:
        logits = head(hidden)
        read.append(logits)
        return logits

    twin = copy.copy(agent)
    twin.reader = replace(agent.reader, action_head=listened)
    return twin


def _of_task(logits: npt.NDArray[np.float32], task: TaskSpec) -> npt.NDArray[np.float32]:
    """(8, 274) -> those that the task has: (1, actions), or (dimensions, bins)."""
    if task.action == "discrete":
        return logits[:1, : task.action_size]
    return logits[: task.action_size, DISCRETE_ACTIONS:]


def _ties(
    logits: npt.NDArray[np.float32], expected: Action, given: Any, task: TaskSpec, near: float, where: str
) -> int:
    """Return how many numbers of an action differ; AgentError where their logits are not as good as equal."""
    apart = 0
    offset = 0 if task.action == "discrete" else DISCRETE_ACTIONS
    ours, theirs = (past_classes(action, task)[: len(logits)] - offset for action in (expected, given))
    for row, one, other in zip(logits, ours, theirs, strict=True):
        if one == other:
            continue
        apart += 1
        if abs(float(row[one]) - float(row[other])) > near:
            raise AgentError(
                f"the exported policy differs from the agent: at {where} it takes another action; nothing "
                "was kept"
            )
    return max(apart, 1)
