"""What one client is answered: the protocol of ``lram serve``, and openpi's for one task. No network here.

Each client has a state of its own. A question of ours is a dictionary with ``lram``; any other is an
observation dictionary of openpi's protocol, for the task that the server was started with.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lram.agents.adapters.served import messages
from lram.agents.adapters.served.messages import KEY, MessageError, field
from lram.agents.api import Agent, Episode, Observation, TaskSpec

OBSERVATION_KEYS = ("observation", "observation/state", "observation/image", "state", "image")
"""Where a client of openpi's protocol puts its observation; the first that is there counts."""


def greeting(agent: Agent, task: TaskSpec | None) -> dict[str, Any]:
    """Return the first message to a client: what is offered."""
    offered = {
        "protocol": messages.PROTOCOL,
        "agent": messages.info_message(agent.info),
        "rows": agent.rows,
        "most_lanes": messages.MOST_LANES,
        "task": None if task is None else messages.task_message(task),
    }
    return {KEY: offered}


class ServedSession:
    """A client's episodes.

    Args:
        agent: That is offered.
        task: Of clients that only speak openpi's protocol; None: they are refused.
        seed: Of such a client's first episode; the next one has the next seed.
    """

    def __init__(self, agent: Agent, task: TaskSpec | None = None, seed: int = 0) -> None:
        self._agent, self._task = agent, task
        self._next_seed = seed
        self._state: Any = None
        self._lanes = 0
        self._tasks: dict[int, TaskSpec] = {}
        self._questions: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "refuses": self._refuses,
            "start": self._start,
            "act": self._act,
            "state_bytes": self._state_bytes,
        }

    def answer(self, question: object) -> dict[str, Any]:
        """Return the answer to a message.

        Raises:
            MessageError: The message is none of the protocol.
            Exception: Whatever the agent raises.
        """
        if not isinstance(question, Mapping):
            raise MessageError(f"a message is a {type(question).__name__} instead of a dictionary")
        if KEY not in question:
            return self._infer(question)
        kind = field(question, KEY, str)
        if kind not in self._questions:
            raise MessageError(f"there is no question {kind[:40]!r}; there are {', '.join(self._questions)}")
        return self._questions[kind](question)

    def _refuses(self, question: Mapping[str, Any]) -> dict[str, Any]:
        return {"reason": self._agent.refuses(messages.task_of(question))}

    def _start(self, question: Mapping[str, Any]) -> dict[str, Any]:
        lanes = field(question, "lanes", int)
        if not 1 <= lanes <= messages.MOST_LANES:
            raise MessageError(f"a state has 1 to {messages.MOST_LANES} lanes, not {lanes}")
        self._state, self._lanes, self._tasks = self._agent.start(lanes), lanes, {}
        return {"lanes": lanes}

    def _act(self, question: Mapping[str, Any]) -> dict[str, Any]:
        for one in field(question, "before", list):
            self._take_note(one)
        lanes = self._known(messages.numbers_of(question, "lanes"))
        given, rewards = field(question, "observations", list), field(question, "rewards", list)
        if not lanes or not len(lanes) == len(given) == len(rewards):
            raise MessageError("lanes, observations and rewards must be as many, and one at least")
        if not all(isinstance(reward, float) for reward in rewards):
            raise MessageError("a reward is no number")
        seen = [_observation(one, self._tasks[lane]) for one, lane in zip(given, lanes, strict=True)]
        return self._decided(lanes, seen, rewards)

    def _take_note(self, one: object) -> None:
        if isinstance(one, Mapping) and "reset" in one:
            lanes = messages.numbers_of(one, "reset")
            episodes = [messages.episode_of(episode) for episode in field(one, "episodes", list)]
            if len(lanes) != len(episodes) or not all(lane < self._lanes for lane in lanes):
                raise MessageError("a reset must name lanes of the state, and an episode for each")
            for episode in episodes:
                if reason := self._agent.refuses(episode.task):
                    raise MessageError(f"the agent does not play {episode.task.id}: {reason}")
            self._agent.reset(self._state, lanes, episodes)
            self._tasks.update((lane, episode.task) for lane, episode in zip(lanes, episodes, strict=True))
            return
        lanes = self._known(messages.numbers_of(one, "took"))
        actions = field(one, "actions", list)
        if len(lanes) != len(actions):
            raise MessageError("what lanes did must name an action for each")
        pairs = zip(actions, lanes, strict=True)
        self._agent.took(
            self._state, lanes, [messages.action_of(action, self._tasks[lane]) for action, lane in pairs]
        )

    def _known(self, lanes: list[int]) -> list[int]:
        if missing := [lane for lane in lanes if lane not in self._tasks]:
            raise MessageError(f"lane {missing[0]} holds no episode; it must be reset first")
        return lanes

    def _decided(
        self, lanes: list[int], seen: Sequence[Observation], rewards: Sequence[float]
    ) -> dict[str, Any]:
        began = time.perf_counter()
        actions, self._state = self._agent.act(self._state, list(seen), list(rewards), lanes)
        taken = time.perf_counter() - began
        return {"actions": list(actions), "server_timing": {"infer_ms": 1000 * taken}}

    def _state_bytes(self, question: Mapping[str, Any]) -> dict[str, Any]:
        return {"bytes": self._agent.state_bytes(self._state) if self._lanes else 0}

    def _infer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a client of openpi's protocol: a chunk of one action."""
        task = self._task
        if task is None:
            raise MessageError(
                "clients of openpi's protocol do not say which task they play; start 'lram serve' with --task"
            )
        found = [question[key] for key in OBSERVATION_KEYS if key in question]
        if not found:
            raise MessageError(f"there is no observation; put it under one of {', '.join(OBSERVATION_KEYS)}")
        seen = found[0]
        if task.observation == "image" and isinstance(seen, np.ndarray) and seen.shape[-1:] == (3,):
            seen = np.ascontiguousarray(np.moveaxis(seen, -1, 0))
        if task.observation == "vector" and isinstance(seen, np.ndarray):
            seen = seen.astype(np.float32)
        observation = _observation(seen, task)
        reward = question.get("reward", 0.0)
        if isinstance(reward, bool) or not isinstance(reward, int | float | np.number):
            raise MessageError("the reward is no number")
        if not self._lanes:
            self._start({"lanes": 1})
        if not self._tasks or question.get("reset", False):
            self._agent.reset(self._state, [0], [Episode(task, self._next_seed)])
            self._tasks, self._next_seed = {0: task}, self._next_seed + 1
        answer = self._decided([0], [observation], [float(reward)])
        (action,) = answer["actions"]
        chunk = np.asarray(action)[None] if task.action == "continuous" else np.array([[action]], np.int64)
        return {**answer, "actions": chunk}


def _observation(value: object, task: TaskSpec) -> Observation:
    """Return ``value`` as an observation of ``task``; MessageError where it is none."""
    dtype = np.uint8 if task.observation == "image" else np.float32
    if not isinstance(value, np.ndarray) or value.dtype != dtype or value.shape != task.observation_shape:
        what = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        wanted = f"{np.dtype(dtype)} {task.observation_shape}"
        raise MessageError(f"an observation of {task.id} is {what} instead of {wanted}")
    if math.prod(value.shape) != value.size:
        raise MessageError(f"an observation of {task.id} is incomplete")
    return value
