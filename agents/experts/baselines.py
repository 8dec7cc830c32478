"""Agents without weights: random, constant, and scripted ones. They say what a score must beat.

Each is an Agent (:mod:`lram.agents.api`), built without arguments or with plain values.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lram.agents.api import Action, Agent, AgentError, AgentInfo, Episode, Observation, TaskSpec
from lram.agents.experts.heuristics import CONTROLLERS, Controller
from lram.agents.experts.memory import MemoryController, memory_controller
from lram.agents.experts.noise import GENERATOR_BYTES, uniform_action

PROCGEN_NOOP = 4  # of the fifteen: no direction, no button


@dataclass(slots=True)
class RandomState:
    """Each lane's task and generator."""

    lanes: dict[int, tuple[TaskSpec, np.random.Generator]] = field(default_factory=dict)


class RandomAgent(Agent):
    """Plays actions drawn uniformly from what the task has, from the episode's seed."""

    @property
    def info(self) -> AgentInfo:
        """What a report says of this agent."""
        return AgentInfo("baseline", "random: uniform over the task's actions")

    def refuses(self, task: TaskSpec) -> str | None:
        """Return None: every task can be played at random."""
        return None

    def start(self, lanes: int) -> RandomState:
        """Return a state without episodes."""
        return RandomState()

    def reset(self, state: RandomState, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Give each lane its episode and a generator of its own."""
        for lane, episode in zip(lanes, episodes, strict=True):
            state.lanes[lane] = (episode.task, np.random.default_rng(episode.seed))

    def act(
        self,
        state: RandomState,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], RandomState]:
        """Draw one action a lane."""
        return [uniform_action(*state.lanes[lane]) for lane in lanes], state

    def state_bytes(self, state: RandomState) -> int:
        """Return the bytes of the generators."""
        return GENERATOR_BYTES * len(state.lanes)


class ConstantAgent(Agent):
    """Plays the same action always.

    Args:
        value: A discrete action's index, or the number in [-1, 1] that every continuous dimension gets;
            None does nothing: the no-op (0; 4 in Procgen), or zeros.

    Raises:
        AgentError: for a value that is neither.
    """

    def __init__(self, value: float | None = None) -> None:
        if value is not None and not (
            math.isfinite(value) and (abs(value) <= 1 or (value >= 0 and value == int(value)))
        ):
            raise AgentError(f"a constant action is an index or a number in [-1, 1], not {value}")
        self._value = value

    @property
    def info(self) -> AgentInfo:
        """What a report says of this agent."""
        what = "does nothing" if self._value is None else f"always {self._value:g}"
        return AgentInfo("baseline", f"constant: {what}")

    def refuses(self, task: TaskSpec) -> str | None:
        """Tell where the value is no action of the task."""
        if self._value is None:
            return None
        if task.action == "discrete" and self._value not in range(task.action_size):
            return f"{self._value:g} is none of the {task.action_size} actions of {task.id}"
        if task.action == "continuous" and abs(self._value) > 1:
            return f"{self._value:g} is not in [-1, 1], the actions of {task.id}"
        return None

    def start(self, lanes: int) -> dict[int, Action]:
        """Return a state without episodes."""
        return {}

    def reset(self, state: dict[int, Action], lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Give each lane its action; AgentError where ``refuses`` tells why."""
        for lane, episode in zip(lanes, episodes, strict=True):
            if (reason := self.refuses(episode.task)) is not None:
                raise AgentError(reason)
            state[lane] = self._action(episode.task)

    def act(
        self,
        state: dict[int, Action],
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], dict[int, Action]]:
        """Return each lane's action."""
        return [np.copy(a) if isinstance(a := state[lane], np.ndarray) else a for lane in lanes], state

    def state_bytes(self, state: dict[int, Action]) -> int:
        """Return 0: nothing is remembered of an episode."""
        return 0

    def _action(self, task: TaskSpec) -> Action:
        if task.action == "continuous":
            return np.full(task.action_size, self._value or 0.0, np.float32)
        if self._value is None:
            return PROCGEN_NOOP if task.domain == "procgen" else 0
        return int(self._value)


class ScriptedAgent(Agent):
    """Plays the tasks that somebody wrote a controller for.

    Meta-World: the package's own scripted experts, all fifty, which read the goal in the observation.
    ``memory``: the controllers of :mod:`lram.agents.experts.memory`, which remember what they have seen.
    Elsewhere the controllers of :mod:`lram.agents.experts.heuristics`, which lists their scores.
    """

    @property
    def info(self) -> AgentInfo:
        """What a report says of this agent."""
        return AgentInfo(
            "baseline", "scripted: Meta-World's own experts, and heuristics for a few other tasks"
        )

    def refuses(self, task: TaskSpec) -> str | None:
        """Tell where there is no controller for the task."""
        if task.domain == "metaworld":
            if importlib.util.find_spec("metaworld") is None:
                return "the scripted Meta-World experts need the package metaworld, which is not installed"
            if task.id.removeprefix("metaworld/") in _metaworld_experts():
                return None
        if task.id in CONTROLLERS or memory_controller(task) is not None:
            return None
        return f"there is no scripted controller for {task.id}"

    def start(self, lanes: int) -> dict[int, Controller | MemoryController]:
        """Return a state without episodes."""
        return {}

    def reset(
        self,
        state: dict[int, Controller | MemoryController],
        lanes: Sequence[int],
        episodes: Sequence[Episode],
    ) -> None:
        """Give each lane a controller of its own; AgentError where ``refuses`` tells why."""
        for lane, episode in zip(lanes, episodes, strict=True):
            if (reason := self.refuses(episode.task)) is not None:
                raise AgentError(reason)
            made = memory_controller(episode.task)
            state[lane] = _controller(episode.task) if made is None else made()

    def act(
        self,
        state: dict[int, Controller | MemoryController],
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], dict[int, Controller | MemoryController]]:
        """Ask each lane's controller."""
        actions: list[Action] = []
        for lane, seen, reward in zip(lanes, observations, rewards, strict=True):
            controller = state[lane]
            actions.append(
                controller.act(seen, reward) if isinstance(controller, MemoryController) else controller(seen)
            )
        return actions, state

    def took(
        self,
        state: dict[int, Controller | MemoryController],
        lanes: Sequence[int],
        actions: Sequence[Action],
    ) -> None:
        """Tell the controllers that remember what was done instead of what they gave last."""
        for lane, action in zip(lanes, actions, strict=True):
            controller = state[lane]
            if isinstance(controller, MemoryController):
                controller.took(action)

    def state_bytes(self, state: dict[int, Controller | MemoryController]) -> int:
        """Return eight bytes for each number that controllers remember of their episodes."""
        return sum(8 * one.numbers for one in state.values() if isinstance(one, MemoryController))


def _controller(task: TaskSpec) -> Controller:
    if task.domain != "metaworld":
        return CONTROLLERS[task.id]
    expert = _metaworld_experts()[task.id.removeprefix("metaworld/")]()

    def act(observation: Observation) -> Action:
        with warnings.catch_warnings():
            # They warn that their raw action exceeds [-1, 1]; it is clipped below.
            warnings.simplefilter("ignore", UserWarning)
            action = expert.get_action(observation.astype(np.float64))
        return np.array(np.clip(action, -1.0, 1.0), dtype=np.float32)

    return act


def _metaworld_experts() -> dict[str, Any]:
    from metaworld.policies import ENV_POLICY_MAP

    experts: dict[str, Any] = ENV_POLICY_MAP
    return experts
