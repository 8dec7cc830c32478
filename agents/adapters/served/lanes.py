"""The client of ``lram serve``: lanes in batches, resets, rewards and states, as the Agent contract has them.

Each state has a connection of its own. ``reset`` and ``took`` send nothing: what they say goes, in order,
with the next question, so a decision costs one question and one answer. Arrays travel bit for bit, so the
actions are those that the agent would give here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from lram.agents.adapters.served import messages
from lram.agents.adapters.served.address import ServedAddress
from lram.agents.adapters.served.connection import LostServerError, ServedConnection
from lram.agents.adapters.served.messages import KEY, MessageError
from lram.agents.adapters.served.retrying import with_retries
from lram.agents.api import Action, Agent, AgentError, AgentInfo, Episode, Observation, TaskSpec
from lram.agents.shown import shown


@dataclass(slots=True)
class ServedState:
    """A state on the server.

    Attributes:
        connection: On which the state lives: the server drops it when this is closed.
        lanes: Of the state.
        before: What is said with the next question.
        tasks: By lane, of the episode that it holds.
        begins: By lane, episodes of which no decision was asked yet.
        lost: Lanes whose episodes went with an earlier connection.
    """

    connection: ServedConnection
    lanes: int
    before: list[dict[str, Any]] = field(default_factory=list)
    tasks: dict[int, TaskSpec] = field(default_factory=dict)
    begins: dict[int, Episode] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)


class ServedLanesAgent(Agent):
    """An agent that ``lram serve`` offers.

    Args:
        address: Of the server.
        connection: Open to it, its first message read.
        greeting: That message.

    Raises:
        AgentError: The greeting is not one of this protocol.
    """

    def __init__(self, address: ServedAddress, connection: ServedConnection, greeting: object) -> None:
        self._address = address
        self._control = connection
        with self._sentence():
            offered = messages.field(greeting, KEY, dict)
            version = messages.field(offered, "protocol", int)
            if version != messages.PROTOCOL:
                raise MessageError(
                    f"it speaks version {version} of the protocol and this is version {messages.PROTOCOL}; "
                    "install the same lram-bench on both sides"
                )
            self._served = messages.info_of(offered)
            rows = messages.field(offered, "rows", (int, type(None)))
        self.rows = rows
        self._refusals: dict[TaskSpec, str | None] = {}

    @property
    def info(self) -> AgentInfo:
        """What the server says of its agent, and that it is served."""
        where = self._address.url
        clock = "a decision's time holds the network: from the question to the whole answer"
        return replace(
            self._served,
            kind="served",
            description=f"{self._served.description}, served at {where}",
            details=(*self._served.details, ("served kind", self._served.kind), ("clock", clock)),
        )

    def refuses(self, task: TaskSpec) -> str | None:
        """Ask the server, once a task."""
        if task not in self._refusals:
            question = {KEY: "refuses", "task": messages.task_message(task)}
            try:
                answer = self._control.ask(question)
            except LostServerError:  # it may have been idle for long; nothing is lost with it
                self._control = self._connect()
                answer = self._control.ask(question)
            with self._sentence():
                self._refusals[task] = messages.field(self._sound(answer), "reason", (str, type(None)))
        return self._refusals[task]

    def start(self, lanes: int) -> ServedState:
        """Return a state on a connection of its own."""
        return ServedState(self._begin(lanes), lanes)

    def reset(self, state: ServedState, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Note what the next question begins with."""
        pairs = list(zip(lanes, episodes, strict=True))
        for lane, episode in pairs:
            state.begins[lane] = episode
            state.tasks[lane] = episode.task
            state.lost.discard(lane)
        descriptions = [messages.episode_message(episode) for _, episode in pairs]
        state.before.append({"reset": [int(lane) for lane, _ in pairs], "episodes": descriptions})

    def took(self, state: ServedState, lanes: Sequence[int], actions: Sequence[Action]) -> None:
        """Note what lanes did, for the next question."""
        plain = [action if not isinstance(action, int) else int(action) for action in actions]
        state.before.append({"took": [int(lane) for lane in lanes], "actions": plain})

    def act(
        self,
        state: ServedState,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], ServedState]:
        """Ask for a decision of each lane.

        Raises:
            AgentError: The connection was lost with an episode in it, or the answer is none.
        """
        lanes = [int(lane) for lane in lanes]
        if gone := state.lost.intersection(lanes):
            raise AgentError(
                f"the connection to {self._address.url} was lost in the middle of {len(gone)} episodes, "
                "whose states went with it; resume the run, which plays them again"
            )
        question: dict[str, Any] = {
            KEY: "act",
            "before": state.before,
            "lanes": lanes,
            "observations": list(observations),
            "rewards": [float(reward) for reward in rewards],
        }

        def again() -> ServedConnection:
            """Begin anew, on another connection, the episodes that were to begin."""
            connection = self._begin(state.lanes)
            state.lost = state.tasks.keys() - state.begins.keys()
            state.before = []
            self.reset(state, list(state.begins), list(state.begins.values()))
            question["before"] = state.before
            return connection

        # Where every episode that is asked for only begins, nothing is lost with the connection.
        retries = self._address.retries if state.begins.keys() >= set(lanes) else 0
        answer, state.connection = with_retries(
            lambda connection: connection.ask(question), state.connection, again, retries
        )
        with self._sentence():
            given = messages.field(self._sound(answer), "actions", list)
            if len(given) != len(lanes):
                raise MessageError(f"{len(given)} actions came for {len(lanes)} lanes")
            actions = [
                messages.action_of(one, state.tasks[lane]) for one, lane in zip(given, lanes, strict=True)
            ]
        state.before = []
        for lane in lanes:
            state.begins.pop(lane, None)
        return actions, state

    def state_bytes(self, state: ServedState) -> int:
        """Ask the server."""
        with self._sentence():
            size: int = messages.field(self._sound(state.connection.ask({KEY: "state_bytes"})), "bytes", int)
        return size

    def _connect(self) -> ServedConnection:
        """Return a new connection to the same agent."""
        connection = ServedConnection(self._address)
        with self._sentence():
            offered = messages.field(connection.receive_first(), KEY, dict)
            now = messages.info_of(offered)
        if now != self._served:
            connection.close()
            raise AgentError(
                f"{self._address.url} serves another agent than before ({now.description}, digest "
                f"{now.digest[:12] or 'none'}); serve the same one, or begin a new run"
            )
        return connection

    def _begin(self, lanes: int) -> ServedConnection:
        connection = self._connect()
        with self._sentence():
            self._sound(connection.ask({KEY: "start", "lanes": lanes}))
        return connection

    @contextmanager
    def _sentence(self) -> Iterator[None]:
        """Turn what a message lacks into a sentence that names the server."""
        try:
            yield
        except MessageError as error:
            raise AgentError(
                f"{self._address.url} does not keep to the protocol of 'lram serve': {error}; check what "
                "serves there"
            ) from error

    def _sound(self, answer: object) -> object:
        """Return ``answer``; AgentError with what it reports, where that is an error."""
        if isinstance(answer, dict) and "error" in answer:
            said = shown(str(answer["error"]), 500)
            raise AgentError(f"{self._address.url} reports an error: {said}; its own log tells more")
        return answer
