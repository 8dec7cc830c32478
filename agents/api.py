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

Some parts of the contract have defaults that are right for most agents, and an agent from outside need not
have them (:class:`MinimalAgent`; :func:`checked_agent` adds what is missing, where it enters):

* ``rows``: an agent whose network reads lanes in passes of a fixed size tells the size: lanes 0 .. rows - 1
  share a pass, and so on. It is then asked for the lanes of one pass at a time, while simulators step those
  of the others. None (the default) and 0: no such passes. :mod:`lram.agents.acting.padded` makes such an
  agent of a function that acts for a batch.
* ``launch``: an agent that computes on a GPU may let simulators be stepped meanwhile
  (:class:`LaunchingAgent`).
* ``took``: called with what lanes did instead of the actions that the agent gave, for agents that
  remember their own actions. By default
  nothing is remembered.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from lram.agents import fields
from lram.agents.errors import AgentError as AgentError  # a part of the contract
from lram.agents.shown import shown

Observation: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.uint8]
Action: TypeAlias = int | npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What an agent gets to know of a task.

    Attributes:
        id: ``domain/name``.
        domain: Domain name.
        observation: ``image`` (uint8, 3 x 64 x 64) or ``vector`` (float32).
        observation_shape: Shape of one observation.
        action: ``discrete`` or ``continuous`` (each dimension in [-1, 1]).
        action_size: Number of discrete actions, or of continuous dimensions.
        target_return: Return to ask for, in unscaled reward (None: the task names none).
        reward_scale: Divide rewards and returns-to-go by this.

    Raises:
        ValueError: A field holds something else; one sentence that names it.
    """

    id: str
    domain: str
    observation: Literal["image", "vector"]
    observation_shape: tuple[int, ...]
    action: Literal["discrete", "continuous"]
    action_size: int
    target_return: float | None
    reward_scale: float

    def __post_init__(self) -> None:
        owner = "TaskSpec"
        fields.text(owner, "id", self.id)
        fields.text(owner, "domain", self.domain)
        if self.id.partition("/")[0] != self.domain or not self.id.partition("/")[2]:
            raise ValueError(
                f"TaskSpec.id is {self.id!r}; give the domain, {self.domain!r}, a slash and a name"
            )
        fields.choice(owner, "observation", self.observation, ("image", "vector"))
        fields.choice(owner, "action", self.action, ("discrete", "continuous"))
        if isinstance(self.observation_shape, str) or not isinstance(self.observation_shape, Sequence):
            raise ValueError(
                f"TaskSpec.observation_shape is {self.observation_shape!r}; give a tuple of whole numbers, "
                "such as (39,)"
            )
        shape = tuple(fields.whole(owner, "observation_shape", size, 1) for size in self.observation_shape)
        object.__setattr__(self, "observation_shape", shape)
        object.__setattr__(self, "action_size", fields.whole(owner, "action_size", self.action_size, 1))
        if self.target_return is not None:
            object.__setattr__(
                self, "target_return", fields.finite(owner, "target_return", self.target_return)
            )
        scale = fields.finite(owner, "reward_scale", self.reward_scale)
        if scale <= 0:
            raise ValueError(
                f"TaskSpec.reward_scale is {scale:g}, and rewards are divided by it; give a number above 0"
            )
        object.__setattr__(self, "reward_scale", scale)


@dataclass(frozen=True, slots=True)
class Episode:
    """A task to play once, and the seed of everything random the agent does in it.

    Raises:
        ValueError: ``task`` is no :class:`TaskSpec`, or ``seed`` no whole number from 0 on.
    """

    task: TaskSpec
    seed: int

    def __post_init__(self) -> None:
        if not isinstance(self.task, TaskSpec):
            raise ValueError(f"Episode.task is a {type(self.task).__name__}; give a lram.agents.api.TaskSpec")
        if type(self.seed) is not int or self.seed < 0:  # the usual case comes first: one an episode
            object.__setattr__(self, "seed", fields.whole("Episode", "seed", self.seed, 0, 1 << 128))


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """What a report says of an agent.

    Attributes:
        kind: ``baseline``, ``model``, or any other word, such as ``mlp``. A model is counted as what computes
            on a GPU where a run has one; nothing else depends on it.
        description: One line, such as ``xLSTM [7:1], 16M, untrained (random weights, seed 0)``.
        trained: Whether weights were trained; None for agents without weights.
        parameters: Number of weights; None for agents without.
        digest: Hash of configuration and weights; empty where there are none. An agent of a user's own that
            reads weights or tables gives theirs here: a run is not continued with another digest.
        details: Further facts for provenance, plain strings.
        training_tasks: Ids of the tasks that the agent was trained on; None where that is not known, or where
            nothing was trained. Reports tell by it what an agent has seen.
        training_tasks_complete: Whether these are all; False: it may have been trained on others before.

    Lists, mappings (for ``details``) and NumPy's numbers become tuples, pairs and plain numbers.

    Raises:
        ValueError: A field holds something else; one sentence that names it.
    """

    kind: str
    description: str
    trained: bool | None = None
    parameters: int | None = None
    digest: str = ""
    details: tuple[tuple[str, str], ...] = ()
    training_tasks: tuple[str, ...] | None = None
    training_tasks_complete: bool = True

    def __post_init__(self) -> None:
        owner = "AgentInfo"
        fields.text(owner, "kind", self.kind)
        fields.text(owner, "description", self.description)
        fields.text(owner, "digest", self.digest, empty=True)
        if self.trained is not None:
            object.__setattr__(self, "trained", fields.flag(owner, "trained", self.trained))
        if self.parameters is not None:
            object.__setattr__(self, "parameters", fields.whole(owner, "parameters", self.parameters, 0))
        object.__setattr__(self, "details", fields.pairs(owner, "details", self.details))
        if self.training_tasks is not None:
            tasks = fields.texts(owner, "training_tasks", self.training_tasks)
            object.__setattr__(self, "training_tasks", tasks)
        complete = fields.flag(owner, "training_tasks_complete", self.training_tasks_complete)
        object.__setattr__(self, "training_tasks_complete", complete)


class MinimalAgent(Protocol):
    """What every agent has; the module's text tells the contract. ``state`` is the agent's own business."""

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


@runtime_checkable
class Agent(MinimalAgent, Protocol):
    """The whole contract: subclasses inherit the defaults.

    Attributes:
        rows: Lanes that share a pass; None: the agent reads lanes in no passes of a fixed size.
    """

    rows: int | None = None

    def took(self, state: Any, lanes: Sequence[int], actions: Sequence[Action]) -> None:
        """Take note that ``lanes`` did ``actions`` instead of what the last ``act`` gave for them.

        Item i of ``actions`` belongs to lanes[i]. By default nothing is remembered of actions.
        """


class PendingActions(Protocol):
    """Actions that a device is still computing, one for each lane of a :meth:`LaunchingAgent.launch`."""

    def wait(self) -> None:
        """Return when they are there; called once, by a thread of its own."""
        ...

    def actions(self) -> list[Action]:
        """Return them, and note what the agent remembers of them; called once, after :meth:`wait`."""
        ...


class LaunchingAgent(Agent):
    """An agent that computes on a device of its own, and need not be waited for."""

    @property
    def launches(self) -> bool:
        """Whether it does so here; otherwise only ``act`` is called."""
        return True

    @abstractmethod
    def launch(
        self,
        state: Any,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[PendingActions, Any]:
        """Ask the device for a decision as :meth:`MinimalAgent.act` makes it, and return before it is there.

        ``reset`` and ``launch`` may be called for other lanes, and other passes, before the actions are
        taken; not for lanes of the same pass. What is given may change once this returns.

        Returns:
            What the actions come from, and the state.
        """


class CompletedAgent(Agent):
    """An agent from outside with the defaults of what it lacks.

    Args:
        inner: The agent.
        rows: Its own, where it has them.
        took: Likewise.

    Attributes:
        inner: The agent.
    """

    def __init__(
        self,
        inner: MinimalAgent,
        rows: int | None = None,
        took: Callable[[Any, Sequence[int], Sequence[Action]], None] | None = None,
    ) -> None:
        self.inner, self.rows, self._took = inner, rows, took

    @property
    def info(self) -> AgentInfo:
        """See :class:`MinimalAgent`."""
        return self.inner.info

    def refuses(self, task: TaskSpec) -> str | None:
        """See :class:`MinimalAgent`."""
        return self.inner.refuses(task)

    def start(self, lanes: int) -> Any:
        """See :class:`MinimalAgent`."""
        return self.inner.start(lanes)

    def reset(self, state: Any, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """See :class:`MinimalAgent`."""
        self.inner.reset(state, lanes, episodes)

    def act(
        self,
        state: Any,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], Any]:
        """See :class:`MinimalAgent`."""
        return self.inner.act(state, observations, rewards, lanes)

    def took(self, state: Any, lanes: Sequence[int], actions: Sequence[Action]) -> None:
        """See :class:`Agent`."""
        if self._took is not None:
            self._took(state, lanes, actions)

    def state_bytes(self, state: Any) -> int:
        """See :class:`MinimalAgent`."""
        return self.inner.state_bytes(state)


_METHODS = ("refuses", "start", "reset", "act", "state_bytes")


def checked_agent(agent: object, name: str) -> Agent:
    """Return ``agent``, which is called ``name`` for people and must have what :class:`MinimalAgent` asks.

    This is the door for agents from outside, and the only place that looks what an object has: one that
    lacks ``rows`` or ``took`` comes back within a :class:`CompletedAgent`, any other as it is.

    Raises:
        AgentError: It lacks a method, or its ``info`` is no :class:`AgentInfo`; one sentence.
    """
    if isinstance(agent, type):
        raise AgentError(f"{name} is the class {agent.__name__}; give an object of it, {agent.__name__}()")
    part = "info"
    try:
        missing = [part for part in _METHODS if not callable(getattr(agent, part, None))]
        if not (hasattr(type(agent), "info") or hasattr(agent, "info")):
            missing.insert(0, "info")
        info: object = None if missing else agent.info  # type: ignore[attr-defined]
        part = "rows"
        rows, took = getattr(agent, "rows", None), getattr(agent, "took", None)
    except Exception as error:
        words = shown(f"{type(error).__name__}: {error}", 500)
        raise AgentError(f"{name}: its {part} cannot be read: {words}") from error
    if missing:
        kind = type(agent).__name__
        raise AgentError(f"{name} is a {kind} without {', '.join(missing)}; see lram.agents.api.Agent")
    if not isinstance(info, AgentInfo):
        raise AgentError(f"{name}: its info is a {type(info).__name__}; give a lram.agents.api.AgentInfo")
    if isinstance(agent, Agent):
        return agent
    return CompletedAgent(cast(MinimalAgent, agent), rows, took)
