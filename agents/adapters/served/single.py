"""Servers of other projects' protocols: one lane a question, an observation dictionary, a chunk of actions.

What a policy sees: a vector as float32 under its key, an image as uint8 (height, width, 3), and the task in
words. Rewards and returns are not sent; neither protocol has a place for them. An action comes as an array
(size,), or as a chunk (steps, size) of which the first ``play`` are played before the next question. Its
numbers are clipped to [-1, 1]; an action of a discrete task is a whole number, and a chunk of them (steps,)
or (steps, 1). What has another shape is refused, and so are as many floating-point numbers as a discrete
task has actions, which may be one value an action.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lram.agents.adapters.prompt import prompt_of
from lram.agents.adapters.served.address import ServedAddress
from lram.agents.adapters.served.connection import ServedConnection
from lram.agents.adapters.served.messages import MessageError, action_of
from lram.agents.adapters.served.retrying import with_retries
from lram.agents.api import Action, Agent, AgentError, AgentInfo, Episode, Observation, TaskSpec


@dataclass(slots=True)
class SingleLane:
    """A lane: its episode, and what is left of a chunk of actions.

    Attributes:
        episode: That it holds.
        left: Actions that are still to be played.
        begins: Whether no question was asked yet.
        connection: Of this lane alone, where the protocol wants one.
    """

    episode: Episode
    left: deque[Action] = field(default_factory=deque)
    begins: bool = True
    connection: ServedConnection | None = None


class SingleLaneAgent(Agent):
    """A policy that is asked lane by lane; protocols are subclasses.

    Args:
        address: Of the server.
        described: What reports say of the policy.
    """

    def __init__(self, address: ServedAddress, described: str) -> None:
        self._address = address
        self._described = described

    @property
    def info(self) -> AgentInfo:
        """Where it is served, and how it is asked."""
        address = self._address
        clock = "a decision's time holds the network: from the question to the whole answer"
        play = "all" if not address.play else str(address.play)
        details = (("clock", clock), ("actions of a chunk that are played", play))
        return AgentInfo("served", f"{self._described}, served at {address.url}", details=details)

    def refuses(self, task: TaskSpec) -> str | None:
        """Return None: neither protocol says what a policy can play; a wrong answer stops the run."""
        return None

    def start(self, lanes: int) -> dict[int, SingleLane]:
        """Return no lanes yet."""
        return {}

    def reset(self, state: dict[int, SingleLane], lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Give lanes their episodes; what is left of a chunk is dropped."""
        for lane, episode in zip(lanes, episodes, strict=True):
            before = state.get(lane)
            state[lane] = SingleLane(episode, connection=before.connection if before else None)

    def act(
        self,
        state: dict[int, SingleLane],
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], dict[int, SingleLane]]:
        """Play what is left of chunks, and ask for the lanes where nothing is."""
        found = []
        for lane, observation in zip(lanes, observations, strict=True):
            held = state[lane]
            if not held.left:
                answer = self._answer(held, observation)
                held.begins = False
                held.left.extend(self._actions(answer, held.episode.task))
            found.append(held.left.popleft())
        return found, state

    def took(self, state: dict[int, SingleLane], lanes: Sequence[int], actions: Sequence[Action]) -> None:
        """Drop what is left of the chunks of ``lanes``, which was meant for another course."""
        for lane in lanes:
            state[lane].left.clear()

    def state_bytes(self, state: dict[int, SingleLane]) -> int:
        """Return the bytes of the chunks that are held here; what the server holds is not known."""
        actions = [action for held in state.values() for action in held.left]
        return sum(action.nbytes if isinstance(action, np.ndarray) else 8 for action in actions)

    @abstractmethod
    def _answer(self, held: SingleLane, observation: Observation) -> Any:
        """Return what the server answers for a lane: a dictionary with ``actions``."""

    def _prompt(self, task: TaskSpec) -> str:
        return prompt_of(task, self._address.prompt)

    def _actions(self, answer: object, task: TaskSpec) -> list[Action]:
        """Return the actions to play, one at least; AgentError where there are none."""
        try:
            given = answer.get("actions") if isinstance(answer, dict) else None
            if given is None:
                keys = (
                    ", ".join(sorted(map(str, answer))[:8]) if isinstance(answer, dict) else "no dictionary"
                )
                raise MessageError(f"the answer has no 'actions', but {keys or 'nothing'}")
            chunk = np.asarray(given)
            if chunk.dtype.kind not in "biuf":
                raise MessageError(f"the actions are of the type {chunk.dtype}")
            return [self._action(one, task) for one in self._steps(chunk, task)]
        except (MessageError, ValueError) as error:  # lists of several lengths are ValueErrors of NumPy
            raise AgentError(
                f"{self._address.url} gave no action of {task.id}: {error}; check that it serves this task"
            ) from error

    def _steps(self, chunk: Any, task: TaskSpec) -> Any:
        """Return the rows of a chunk that are played."""
        discrete, one = task.action == "discrete", 0 if task.action == "discrete" else 1
        if discrete and chunk.dtype.kind == "f" and chunk.shape == (task.action_size,) != (1,):
            raise MessageError(
                f"{task.action_size} floating-point numbers may be one value an action or a chunk; answer "
                "the action's index, or a chunk (steps, 1)"
            )
        if discrete and chunk.ndim == 2 and chunk.shape[1] == 1:
            chunk = chunk[:, 0]
        if chunk.ndim == one:
            chunk = chunk[None]
        if chunk.ndim != one + 1 or not len(chunk):
            raise MessageError(f"the actions are of shape {chunk.shape}")
        return chunk[: self._address.play or None]

    def _action(self, value: Any, task: TaskSpec) -> Action:
        if task.action == "discrete":
            whole = value.dtype.kind in "iu" or (value.dtype.kind == "f" and float(value).is_integer())
            if not whole:
                raise MessageError(f"an action is {value}, not a whole number")
            return action_of(int(value), task)
        action = action_of(np.asarray(value, np.float32), task)
        return np.clip(action, -1.0, 1.0).astype(np.float32, copy=False)


def as_image(observation: Observation) -> Any:
    """Return an image (3, height, width) as (height, width, 3), as other projects have it."""
    return np.ascontiguousarray(np.moveaxis(observation, 0, -1))


class OpenpiAgent(SingleLaneAgent):
    """A policy of openpi (its ``websocket_policy_server.py``): one observation dictionary a question.

    openpi's policies remember nothing and its protocol has no reset, so all lanes share a connection, and a
    lost one is made again at any decision. Keys are those of openpi's own robots, ``observation/state`` and
    ``observation/image``, beside ``prompt``.

    Args:
        address: Of the server.
        connection: Open to it, its first message read.
    """

    def __init__(self, address: ServedAddress, connection: ServedConnection) -> None:
        super().__init__(address, "a policy by openpi's protocol")
        self._connection = connection

    def _answer(self, held: SingleLane, observation: Observation) -> Any:
        task = held.episode.task
        if task.observation == "image":
            seen = {self._address.image_key or "observation/image": as_image(observation)}
        else:
            seen = {self._address.state_key or "observation/state": np.asarray(observation, np.float32)}
        question = {**seen, "prompt": self._prompt(task)}

        def again() -> ServedConnection:
            connection = ServedConnection(self._address)
            connection.receive_first()
            return connection

        answer, self._connection = with_retries(
            lambda connection: connection.ask(question), self._connection, again, self._address.retries
        )
        return answer
