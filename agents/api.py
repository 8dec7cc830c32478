"""The Agent contract: one agent acts for a batch of lanes at once.

A lane holds one episode of any task of any domain. When an episode ends, its lane is given the next
one, so an agent sees lanes at different points of different episodes in one call::

    state = agent.start(lanes=8)
    agent.reset(state, [0, 3], [episode_a, episode_b])   # lanes 0 and 3 begin new episodes
    actions, state = agent.act(state, observations, rewards, [0, 3, 5])

What always holds:

* A lane's actions do not depend on what the other lanes hold, nor on the number of lanes.
* The reward that an action earned is given with the next call for that lane; for the first decision
  after a reset the given reward has no meaning and must not be read.
* ``reset`` also comes in the middle of a game where the protocol says that the context starts anew (a
  life lost in Atari): the lane's episode is the same task, with another seed.
* Everything random is drawn from the episode's ``seed``, so an episode can be run again alone.

An agent whose network reads lanes in passes of a fixed size may tell it by an attribute ``rows``: lanes 0 ..
rows - 1 share a pass, and so on. It is then asked for the lanes of one pass at a time, while simulators
step those of the others. :mod:`lram.agents.acting.padded` makes such an agent of a function that acts for a
batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Observation: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.uint8]
Action: TypeAlias = int | npt.NDArray[np.float32]


class AgentError(RuntimeError):
    """An agent cannot be built or cannot act; the message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What an agent is told of a task.

    Attributes:
        id: ``domain/name``.
        domain: Domain name.
        observation: ``image`` (uint8, 3 x 64 x 64) or ``vector`` (float32).
        observation_shape: Shape of one observation.
        action: ``discrete`` or ``continuous`` (each dimension in [-1, 1]).
        action_size: Number of discrete actions, or of continuous dimensions.
        target_return: Return to ask for, in unscaled reward (None: the task names none).
        reward_scale: Divide rewards and returns-to-go by this.
    """

    id: str
    domain: str
    observation: Literal["image", "vector"]
    observation_shape: tuple[int, ...]
    action: Literal["discrete", "continuous"]
    action_size: int
    target_return: float | None
    reward_scale: float


@dataclass(frozen=True, slots=True)
class Episode:
    """A task to play once, and the seed of everything random the agent does in it."""

    task: TaskSpec
    seed: int


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """What a report says of an agent.

    Attributes:
        kind: ``baseline`` or ``model``.
        description: One line, such as ``xLSTM [7:1], 16M, untrained (random weights, seed 0)``.
        trained: Whether weights were trained; None for agents without weights.
        parameters: Number of weights; None for agents without.
        digest: Hash of configuration and weights; empty where there are none. An agent of a user's own that
            reads weights or tables gives theirs here: a run is not continued with another digest.
        details: Further facts for provenance, plain strings.
        training_tasks: Ids of the tasks that the agent was trained on; None where that is not known, or where
            nothing was trained. Reports tell by it what an agent has seen.
        training_tasks_complete: Whether these are all; False: it may have been trained on others before.
    """

    kind: Literal["baseline", "model"]
    description: str
    trained: bool | None = None
    parameters: int | None = None
    digest: str = ""
    details: tuple[tuple[str, str], ...] = ()
    training_tasks: tuple[str, ...] | None = None
    training_tasks_complete: bool = True


class Agent(Protocol):
    """An agent; the module's text tells the contract. ``state`` is the agent's own business."""

    @property
    def info(self) -> AgentInfo:
        """What a report says of this agent."""
        ...

    def refuses(self, task: TaskSpec) -> str | None:
        """Return None when the agent can play ``task``, otherwise why not, in one sentence."""
        ...

    def start(self, lanes: int) -> Any:
        """Return a state for lanes 0 .. lanes - 1; no lane holds an episode yet."""
        ...

    def reset(self, state: Any, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Make ``lanes`` exactly fresh and give each its episode; other lanes are untouched."""
        ...

    def act(
        self,
        state: Any,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], Any]:
        """Decide for ``lanes`` (distinct, any order); item i of each argument belongs to lanes[i].

        Args:
            state: What ``start`` or the last ``act`` returned.
            observations: One observation a lane, in the shape its task tells.
            rewards: Reward (unscaled, as the agent is meant to see it) of the lane's last action.
            lanes: Which lanes.

        Returns:
            One action a lane (an int, or float32 (action_size,) in [-1, 1]), and the state.
        """
        ...

    def state_bytes(self, state: Any) -> int:
        """Return the bytes that ``state`` holds for all its lanes."""
        ...
