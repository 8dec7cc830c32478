"""The client of vla-evaluation-harness's model servers (its ``protocol/messages.py``, protocol version 1).

Every message is a map of ``type``, ``payload``, ``seq`` and ``timestamp``. A client says ``hello`` and is
answered, tells ``episode_start``, and gets an ``action`` (or an ``error``) for each ``observation``. An
episode lives on one connection, so each lane has its own; a lost one is made again between episodes.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import numpy as np

from lram.agents.adapters.served.address import ServedAddress
from lram.agents.adapters.served.connection import ServedConnection
from lram.agents.adapters.served.messages import MessageError, field
from lram.agents.adapters.served.retrying import with_retries
from lram.agents.adapters.served.single import SingleLane, SingleLaneAgent, as_image
from lram.agents.api import AgentError, Observation, TaskSpec
from lram.agents.shown import shown

_VERSION = 1


class VlaEvalAgent(SingleLaneAgent):
    """A policy of a model server of vla-evaluation-harness.

    An observation is ``state``, or ``images`` with one camera (``agentview``), and ``task_description``.

    Args:
        address: Of the server, which is greeted once, so that a wrong one is found before anything is played.
    """

    def __init__(self, address: ServedAddress) -> None:
        super().__init__(address, "a policy by vla-evaluation-harness's protocol")
        self._seq = 0
        self._spare: ServedConnection | None = self._greeted()

    def _answer(self, held: SingleLane, observation: Observation) -> Any:
        task = held.episode.task
        payload = {**self._seen(observation, task), "task_description": self._prompt(task)}
        connection = held.connection or self._spare or self._greeted()
        if connection is self._spare:
            self._spare = None

        def ask(connection: ServedConnection) -> Any:
            if held.begins:
                start = {"task": {"name": task.id, "episode_idx": 0}, "seed": held.episode.seed % (1 << 31)}
                connection.send(self._message("episode_start", start))
            return self._asked(connection, "observation", payload, "action")

        retries = self._address.retries if held.begins else 0
        answer, held.connection = with_retries(ask, connection, self._greeted, retries)
        return answer

    def _seen(self, observation: Observation, task: TaskSpec) -> dict[str, Any]:
        if task.observation == "image":
            return {"images": {self._address.image_key or "agentview": as_image(observation)}}
        return {self._address.state_key or "state": np.asarray(observation, np.float32)}

    def _greeted(self) -> ServedConnection:
        connection = ServedConnection(self._address, text_keys=True)
        hello = {"harness_version": f"lram-bench {version('lram-bench')}", "protocol_version": _VERSION}
        self._asked(connection, "hello", hello, "hello")
        return connection

    def _message(self, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        self._seq += 1
        return {"type": kind, "payload": payload, "seq": self._seq, "timestamp": time.time()}

    def _asked(
        self, connection: ServedConnection, kind: str, payload: dict[str, Any], wanted: str
    ) -> dict[str, Any]:
        """Return the payload of the answer of kind ``wanted``."""
        answer = connection.ask(self._message(kind, payload))
        try:
            given, content = field(answer, "type", str), field(answer, "payload", dict)
            if given == "error":
                said = shown(str(content.get("error", content)), 300)
                raise AgentError(f"{self._address.url} reports an error: {said}; its own log tells more")
            if given != wanted:
                raise MessageError(f"a message of the type {shown(given, 40)!r} came instead of {wanted!r}")
            seq = field(answer, "seq", int)
            if seq != self._seq:
                raise MessageError(f"message {self._seq} was answered as message {seq}")
        except MessageError as error:
            connection.close()
            raise AgentError(
                f"{self._address.url} does not keep to vla-evaluation-harness's protocol: {error}; check "
                "what serves there"
            ) from error
        result: dict[str, Any] = content
        return result
