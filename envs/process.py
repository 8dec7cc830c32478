"""One worker process seen from the harness: requests out, events in.

A worker answers strictly in order, so the request at the head of its queue is the one it is busy with.
"""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from lram.envs import wire
from lram.envs.session import Action, Observation, SessionSpec, Step
from lram.envs.wire import Kind

_READ_SIZE = 1 << 18
_LAST_WORDS = 2000  # bytes of a worker's log that are looked at when it dies


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a worker may take: to begin an episode (imports and model building included) or
    to make one step. Past that it counts as hung and is killed."""

    begin_s: float = 180.0
    step_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Begun:
    """An episode has begun in a slot."""

    worker: WorkerProcess
    slot: int
    spec: SessionSpec
    observation: Observation
    seconds: float


@dataclass(frozen=True, slots=True)
class Stepped:
    """A slot has made a step; ``trajectory`` is the episode's running CRC-32."""

    worker: WorkerProcess
    slot: int
    step: Step
    seconds: float
    trajectory: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The simulator in a slot raised or broke its contract; the worker lives on."""

    worker: WorkerProcess
    slot: int
    message: str


@dataclass(frozen=True, slots=True)
class Died:
    """A worker is gone, with all its slots; ``culprit`` is the slot it was busy with, if any.

    ``message`` holds no process id, so that the same failure reads the same in two runs.
    """

    worker: WorkerProcess
    reason: Literal["crash", "timeout"]
    message: str
    culprit: int | None


Event: TypeAlias = Begun | Stepped | Failed | Died


@dataclass(slots=True)
class _Request:
    slot: int
    limit_s: float


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """One worker: its process, its end of the socket, and what it still owes an answer to."""

    domain: str
    process: subprocess.Popen[bytes]
    connection: socket.socket
    log: Path
    facts: dict[str, Any] = field(default_factory=dict)
    # Memory to read into is kept: so large a piece would be asked of the system, and given back, each time.
    _chunk: bytearray = field(default_factory=lambda: bytearray(_READ_SIZE), repr=False)
    _buffer: bytearray = field(default_factory=bytearray)
    _unsent: bytearray = field(default_factory=bytearray)
    _owed: deque[_Request] = field(default_factory=deque)
    _head_since: float = 0.0
    _specs: dict[int, SessionSpec] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def begin(self, slot: int, task: str, protocol: str, seed: int, deadlines: Deadlines) -> None:
        """Ask for an episode of ``task`` (name within the domain) in ``slot``."""
        request = {"slot": slot, "task": task, "protocol": protocol, "seed": seed}
        self._send(wire.pack_json(Kind.BEGIN, request), _Request(slot, deadlines.begin_s))

    def step(self, slot: int, action: Action, deadlines: Deadlines, *, flush: bool = True) -> None:
        """Ask for one step in ``slot``; without ``flush`` the request waits for the next one that is sent."""
        self._send(wire.pack_step(slot, action), _Request(slot, deadlines.step_s), flush=flush)

    @property
    def deadline(self) -> float | None:
        """When (monotonic seconds) the answer being worked on is overdue; None: nothing is owed."""
        return self._head_since + self._owed[0].limit_s if self._owed else None

    @property
    def limit_s(self) -> float:
        """Seconds allowed for the answer being worked on; infinite when nothing is owed."""
        return self._owed[0].limit_s if self._owed else math.inf

    @property
    def culprit(self) -> int | None:
        """The slot whose request is being worked on; None when nothing is owed."""
        return self._owed[0].slot if self._owed else None

    @property
    def unsent(self) -> bool:
        """Whether requests wait for room in the socket."""
        return bool(self._unsent)

    def flush(self) -> None:
        """Send what there is room for; never blocks, because the worker may be blocked on us."""
        try:
            while self._unsent:
                del self._unsent[: self.connection.send(self._unsent)]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            self._unsent.clear()  # the end of the connection is reported by the next wait

    def last_words(self) -> str:
        """Return the last lines that the worker printed, as one line; empty when none."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_WORDS))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return " | ".join(lines[-3:])

    def receive(self) -> tuple[list[Event], bool]:
        """Read what is there; return its events, and whether the connection has ended."""
        try:
            size = self.connection.recv_into(self._chunk)
        except BlockingIOError:
            return [], False
        except ConnectionResetError:
            size = 0
        self._buffer += memoryview(self._chunk)[:size]
        events: list[Event] = []
        try:
            events.extend(self._events())
        except (ValueError, LookupError, struct.error):  # what it sends is no answer: as good as dead
            return events, True
        return events, not size

    def _events(self) -> Iterator[Event]:
        buffer, start, size = self._buffer, 0, wire.HEADER.size
        while len(buffer) - start >= size:
            length, number = wire.HEADER.unpack_from(buffer, start)
            if len(buffer) - start - size < length:
                break
            body = bytes(buffer[start + size : start + size + length])
            start += size + length
            event = self._event(Kind(number), body)
            if event is not None:
                yield event
        del buffer[:start]

    def _event(self, kind: Kind, body: bytes) -> Event | None:
        if kind is Kind.HELLO:
            self.facts = json.loads(body)
            return None
        self._owed.popleft()
        self._head_since = time.monotonic()
        if kind is Kind.STEPPED:
            spec = self._specs[wire.slot_of(body)]
            return Stepped(self, *wire.unpack_stepped(body, spec))
        if kind is Kind.BEGUN:
            slot, spec, seconds, observation = wire.unpack_begun(body)
            self._specs[slot] = spec
            return Begun(self, slot, spec, observation, seconds)
        facts = json.loads(body)
        return Failed(self, facts["slot"], facts["message"])

    def _send(self, content: bytes, request: _Request, *, flush: bool = True) -> None:
        if not self._owed:
            self._head_since = time.monotonic()
        self._owed.append(request)
        self._unsent += content
        if flush:
            self.flush()
