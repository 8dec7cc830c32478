"""Noise: an agent some of whose actions are replaced by random ones, for data of many qualities.

``scripted~0.3`` plays as ``scripted`` does, but each decision is replaced, with probability 0.3, by an
action drawn uniformly from what the task has. ``scripted~0.3x5`` does so in bursts: one random action is
drawn and repeated for 5 decisions, and bursts begin as often as makes 0.3 of the decisions random. It
goes with anything that names an agent: ``xlstm[7:1]-16M~0.1``, ``runs/x/checkpoint~0.05``.

The number of decisions from burst to burst is geometric. With bursts of length L that begin with
probability q at each free decision, L of L + (1 - q) / q decisions are random; that is the share P for
q = P / (P + L (1 - P)). The first decision of an episode is inside a burst with probability P, at a
place drawn uniformly, so the share is P at every decision and not only in the long run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lram.agents.api import (
    Action,
    Agent,
    AgentError,
    AgentInfo,
    Episode,
    LaunchingAgent,
    Observation,
    PendingActions,
    TaskSpec,
)

_SUFFIX = re.compile(r"(?P<share>\d*\.?\d+)(x(?P<burst>\d+))?")
_STREAM = 0x6E6F6973  # keeps the noise apart from what the agent itself draws from the episode's seed
_FREE = -1  # of what is left of a burst: the first decision, which was found to be outside of one
GENERATOR_BYTES = 32  # a PCG64's state and increment


@dataclass(frozen=True, slots=True)
class Noise:
    """How much is replaced.

    Attributes:
        share: Expected share of the decisions that are random, 0 to 1.
        burst: Decisions for which a random action is repeated.
    """

    share: float
    burst: int = 1

    def describe(self) -> str:
        """Return it in words."""
        text = f"{self.share:.4g} of its actions replaced by random ones"
        return text if self.burst == 1 else f"{text}, each repeated {self.burst} times"

    @property
    def begin(self) -> float:
        """Probability that a burst begins at a decision that is outside of one."""
        return self.share / (self.share + self.burst * (1.0 - self.share))


def split_noise(spec: str) -> tuple[str, str]:
    """Return the agent that ``spec`` names and the text after its last ``~``; empty without one.

    A ``~`` that a path follows (``~/checkpoint``), or that stands within an argument (``m:make('~')``), is
    part of the agent.
    """
    agent, mark, suffix = spec.rpartition("~")
    if not mark or not agent or "/" in suffix or suffix.endswith(")"):
        return spec, ""
    return agent, suffix


def parse_noise(suffix: str) -> Noise:
    """Return the noise that the text after ``~`` names, such as ``0.3x5``; AgentError where it is none."""
    match = _SUFFIX.fullmatch(suffix)
    if match is None:
        raise AgentError(
            f"'~{suffix}' is no noise; write ~0.3 for random actions at 0.3 of the decisions, or ~0.3x5 for "
            "random actions that are repeated 5 times"
        )
    noise = Noise(float(match["share"]), int(match["burst"] or 1))
    if noise.share > 1 or noise.burst < 1:
        raise AgentError(
            f"'~{suffix}' is no noise: the share is from 0 to 1, and an action is repeated 1 time or more"
        )
    return noise


@dataclass(slots=True)
class _Dice:
    """The noise of one lane's episode: how long the current burst still lasts, and its action."""

    task: TaskSpec
    rng: np.random.Generator
    left: int
    action: Action


@dataclass(slots=True)
class NoisyState:
    """The inner agent's state, and the dice of each lane."""

    inner: Any
    dice: dict[int, _Dice] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NoisyActions(PendingActions):
    """Actions of the inner agent that a device still computes, some of which are replaced.

    Attributes:
        pending: The inner agent's.
        replaced: Returns what is taken of them.
    """

    pending: PendingActions
    replaced: Callable[[list[Action]], list[Action]]

    def wait(self) -> None:
        """See :class:`lram.agents.api.PendingActions`."""
        self.pending.wait()

    def actions(self) -> list[Action]:
        """See :class:`lram.agents.api.PendingActions`."""
        return self.replaced(self.pending.actions())


class NoisyAgent(LaunchingAgent):
    """Another agent with some of its actions replaced by random ones.

    The inner agent is asked at every decision, so what it remembers continues; its ``took`` tells it which
    actions were replaced.

    Args:
        inner: The agent.
        noise: How much is replaced.
    """

    def __init__(self, inner: Agent, noise: Noise) -> None:
        self.inner = inner
        self.noise = noise
        self.rows = inner.rows

    @property
    def info(self) -> AgentInfo:
        """See :class:`lram.agents.api.Agent`."""
        info = self.inner.info
        return replace(info, description=f"{info.description}; {self.noise.describe()}")

    def refuses(self, task: TaskSpec) -> str | None:
        """Return what the inner agent says."""
        return self.inner.refuses(task)

    def start(self, lanes: int) -> NoisyState:
        """See :class:`lram.agents.api.Agent`."""
        return NoisyState(self.inner.start(lanes))

    def reset(self, state: NoisyState, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """See :class:`lram.agents.api.Agent`; the noise is drawn from the episodes' seeds."""
        self.inner.reset(state.inner, lanes, episodes)
        for lane, episode in zip(lanes, episodes, strict=True):
            rng = np.random.default_rng((_STREAM, episode.seed))
            inside = rng.random() < self.noise.share
            left = int(rng.integers(1, self.noise.burst + 1)) if inside else _FREE
            state.dice[lane] = _Dice(episode.task, rng, left, uniform_action(episode.task, rng))

    def act(
        self,
        state: NoisyState,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], NoisyState]:
        """See :class:`lram.agents.api.Agent`."""
        given, state.inner = self.inner.act(state.inner, observations, rewards, lanes)
        return self._replaced(state, list(given), lanes), state

    @property
    def launches(self) -> bool:
        """Whether the inner agent does."""
        return isinstance(self.inner, LaunchingAgent) and self.inner.launches

    def launch(
        self,
        state: NoisyState,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[PendingActions, NoisyState]:
        """See :class:`lram.agents.api.LaunchingAgent`; the dice are thrown when the actions are taken."""
        assert isinstance(self.inner, LaunchingAgent)
        lanes = list(lanes)
        pending, state.inner = self.inner.launch(state.inner, observations, rewards, lanes)
        return NoisyActions(pending, lambda actions: self._replaced(state, actions, lanes)), state

    def _replaced(self, state: NoisyState, actions: list[Action], lanes: Sequence[int]) -> list[Action]:
        """Return what is taken of the inner agent's ``actions``; it learns what is not."""
        replaced = []
        for place, lane in enumerate(lanes):
            action = self._replacement(state.dice[lane])
            if action is not None:
                actions[place] = action
                replaced.append(place)
        if replaced:
            self.took(state, [lanes[place] for place in replaced], [actions[place] for place in replaced])
        return actions

    def took(self, state: NoisyState, lanes: Sequence[int], actions: Sequence[Action]) -> None:
        """Pass on what was taken instead of what this agent gave."""
        self.inner.took(state.inner, lanes, actions)

    def state_bytes(self, state: NoisyState) -> int:
        """Return the inner agent's bytes and those of the generators."""
        return self.inner.state_bytes(state.inner) + GENERATOR_BYTES * len(state.dice)

    def _replacement(self, dice: _Dice) -> Action | None:
        """Return the random action to take at this decision; None to leave the agent's own."""
        if dice.left == _FREE:
            dice.left = 0
            return None
        if not dice.left and dice.rng.random() < self.noise.begin:
            dice.left, dice.action = self.noise.burst, uniform_action(dice.task, dice.rng)
        if not dice.left:
            return None
        dice.left -= 1
        return dice.action.copy() if isinstance(dice.action, np.ndarray) else dice.action


def uniform_action(task: TaskSpec, rng: np.random.Generator) -> Action:
    """Return an action drawn uniformly from what ``task`` has."""
    if task.action == "discrete":
        return int(rng.integers(task.action_size))
    return rng.uniform(-1.0, 1.0, task.action_size).astype(np.float32)
