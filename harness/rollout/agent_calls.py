"""Calls of agents: one ``act`` for the lanes of a group, its time, and what an agent may do wrong at it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lram.agents.api import Action, Agent, AgentError, Episode, LaunchingAgent, Observation
from lram.agents.memory import is_lack
from lram.envs.text import message_of, type_of
from lram.harness.errors import LramError
from lram.harness.rollout.lane import Lane
from lram.harness.rollout.launched import LaunchedPass
from lram.harness.rollout.measured_times import MeasuredTimes
from lram.harness.storage import seeds

_WARM_UP_DECISIONS = 5  # before a decision's time decides what the world does meanwhile


class AgentRaisedError(LramError):
    """An agent raised, its exception is the cause; or it gave actions for other lanes than it was asked for.

    Attributes:
        label: The agent's.
        story: What to keep of it, where there is no cause here: the traceback of another process.
    """

    def __init__(self, label: str, message: str, story: str = "") -> None:
        super().__init__(message)
        self.label, self.story = label, story


class AgentCalls:
    """The agents of a rollout with their states.

    Attributes:
        pass_s: Seconds of the last pass, by label.
    """

    def __init__(
        self,
        agents: Mapping[str, Agent],
        lanes: int,
        run_seeds: Mapping[str, int],
        times: MeasuredTimes,
        *,
        warm_up: bool,
    ) -> None:
        """Take the agents; an agent's state is made at its first decision.

        Args:
            agents: By label.
            lanes: Of each agent.
            run_seeds: The run's seed, by label.
            times: Told what passes take, from the second of an agent on.
            warm_up: Whether an agent decides in vain before its time counts.
        """
        self._agents, self._lanes, self._seeds = agents, lanes, run_seeds
        self._times, self._warms_up = times, warm_up
        self._launching = {
            label
            for label, agent in agents.items()
            if not warm_up and isinstance(agent, LaunchingAgent) and agent.launches
        }
        self._states: dict[str, Any] = {}
        self.pass_s: dict[str, float] = {}

    def ask(self, label: str, lanes: Sequence[Lane]) -> Sequence[Action]:
        """Return the actions of agent ``label`` for ``lanes``, which share its time.

        Raises:
            AgentRaisedError: It raised, or gave more or fewer actions.
        """
        agent = self._agents[label]
        try:
            started = self._begin(agent, label, lanes)
            given, self._states[label] = agent.act(self._states[label], *_shown(lanes))
            actions = list(islice(given, len(lanes) + 1))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _raised(label, lanes, error) from error
        self._take(label, lanes, actions, time.perf_counter() - started)
        return actions

    def launches(self, label: str) -> bool:
        """Return whether agent ``label`` computes on a device of its own, and is asked by :meth:`launch`.

        Not where its time decides what the world does meanwhile: the driver may be late to take a result.
        """
        return label in self._launching

    def launch(self, label: str, lanes: Sequence[Lane]) -> LaunchedPass:
        """Ask agent ``label`` for actions for ``lanes`` without waiting for them; see :meth:`collect`.

        Raises:
            AgentRaisedError: It raised.
        """
        agent = self._agents[label]
        assert isinstance(agent, LaunchingAgent)
        try:
            started = self._begin(agent, label, lanes)
            pending, self._states[label] = agent.launch(self._states[label], *_shown(lanes))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _raised(label, lanes, error) from error
        return LaunchedPass(label, lanes, pending, started)

    def collect(self, launched: LaunchedPass) -> Sequence[Action]:
        """Return the actions of a pass whose result is there; raises as :meth:`ask`."""
        label, lanes = launched.label, launched.lanes
        try:
            if launched.error is not None:
                raise launched.error
            actions = list(islice(launched.pending.actions(), len(lanes) + 1))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _raised(label, lanes, error) from error
        self._take(label, lanes, actions, launched.ended - launched.started)
        return actions

    def _begin(self, agent: Agent, label: str, lanes: Sequence[Lane]) -> float:
        """Make the agent's state and the lanes' resets; return the moment from which its time counts."""
        started = time.perf_counter()
        if label not in self._states:
            self._states[label] = agent.start(self._lanes)
            if self._warms_up:
                self._warm_up(agent, lanes)
                started = time.perf_counter()
        begins = [lane for lane in lanes if lane.needs_reset]
        if begins:
            numbers = [lane.number for lane in begins]
            agent.reset(self._states[label], numbers, [self._episode(lane) for lane in begins])
        return started

    def _take(self, label: str, lanes: Sequence[Lane], actions: Sequence[Action], taken: float) -> None:
        """Take note of a pass; AgentRaisedError where its actions are more or fewer than its lanes."""
        if len(actions) != len(lanes):
            raise AgentRaisedError(
                label,
                said := f"agent {label} gave {'more than ' if len(actions) > len(lanes) else ''}"
                f"{min(len(actions), len(lanes))} actions for {len(lanes)} lanes; fix it and resume",
                said,
            )
        if label in self.pass_s:  # the first may have compiled something
            self._times.decided(label, taken)
        self.pass_s[label] = taken
        share = taken / len(lanes)
        for lane in lanes:
            lane.needs_reset = False
            lane.agent_s += share

    def longest_pass_s(self, labels: Iterable[str]) -> float:
        """Return the seconds of the last pass of that agent of ``labels`` for which it was longest."""
        return max(self.pass_s.get(label, 0.0) for label in labels)

    def forget(self, label: str) -> None:
        """Drop the state of an agent that has no more to play."""
        self._states.pop(label, None)

    def _warm_up(self, agent: Agent, lanes: Sequence[Lane]) -> None:
        """Let an agent decide a few times before its time counts; what it makes of it is forgotten."""
        state = agent.start(self._lanes)
        numbers = [lane.number for lane in lanes]
        agent.reset(state, numbers, [self._episode(lane) for lane in lanes])
        for _ in range(_WARM_UP_DECISIONS):
            # Copies: an agent that changes them in place must still be shown these when its time counts.
            seen = [lane.observation.copy() for lane in lanes if lane.observation is not None]
            _, state = agent.act(state, seen, [lane.signal for lane in lanes], numbers)

    def _episode(self, lane: Lane) -> Episode:
        item = lane.item
        seed = seeds.agent_seed(self._seeds[item.agent], item.task, item.episode, lane.contexts)
        return Episode(lane.spec, seed)


def _shown(lanes: Sequence[Lane]) -> tuple[list[Observation], list[float], list[int]]:
    """Return what an agent is given for a decision."""
    return (
        [lane.observation for lane in lanes if lane.observation is not None],
        [lane.signal for lane in lanes],
        [lane.number for lane in lanes],
    )


def _raised(label: str, lanes: Sequence[Lane], error: BaseException) -> AgentRaisedError:
    """Return what to say of an agent that raised ``error``."""
    tasks = ", ".join(sorted({lane.item.task for lane in lanes}))
    if is_lack(error):
        explained = isinstance(error, AgentError)
        what = message_of(error) if explained else f"{message_of(error)}; give fewer --rows or --lanes"
        return AgentRaisedError(label, f"agent {label}: {what}; then resume the run (tasks {tasks})")
    place = traceback.extract_tb(error.__traceback__)[-1]
    return AgentRaisedError(
        label,
        f"agent {label} raised {type_of(error)}: {message_of(error)} "
        f"({Path(place.filename).name}, line {place.lineno}; "
        f"tasks {tasks}); fix it and resume the run",
    )
