"""One worker process seen from the harness: requests out, events in.

A worker answers strictly in order, so the request at the head of its queue is the one it is busy with. A
frame that is no right answer to that request ends the worker.
"""

from __future__ import annotations

import math
import os
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from lram.envs.errors import FrameError
from lram.envs.session import Action, Observation, SessionSpec, Step
from lram.envs.text import printable
from lram.envs.workers import answers, wire
from lram.envs.workers.answers import Layout, Request
from lram.envs.workers.wire import Kind

_READ_SIZE = 1 << 18
_STEPPED = int(Kind.STEPPED)
_NUMBERED = (Kind.BEGUN, Kind.STEPPED, Kind.RENDERED)  # answers whose beginning tells their request
_LAST_WORDS = 2000  # bytes of a worker's log that are looked at when it dies
_LONGEST_LAST_WORDS = 600  # characters of them that are shown


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
class Rendered:
    """A slot has shown its scene, uint8 (height, width, 3)."""

    worker: WorkerProcess
    slot: int
    image: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Failed:
    """The simulator in a slot raised or broke its contract; the worker lives on."""

    worker: WorkerProcess
    slot: int
    message: str


@dataclass(frozen=True, slots=True)
class Died:
    """A worker is gone, with all its slots.

    Attributes:
        reason: ``crash`` (it died), ``timeout`` (it gave no answer), ``session`` (what it sent is no right
            answer, and it was killed).
        message: One sentence. It holds no process id, so that the same failure reads the same in two runs.
        culprit: The slot that is to blame: that of the request it was busy with; None: no one's.
        over: The episode to blame had ended before, so that none in flight is.
    """

    worker: WorkerProcess
    reason: Literal["crash", "timeout", "session"]
    message: str
    culprit: int | None
    over: bool = False


Event: TypeAlias = Begun | Stepped | Rendered | Failed | Died


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """One worker: its process, its end of the socket, and what it still owes an answer to.

    Attributes:
        facts: What it reported of itself (HELLO); empty until then.
        fault: Why a frame of its was refused; empty when none was.
        clock: Seconds that deadlines are counted in.
    """

    domain: str
    process: subprocess.Popen[bytes]
    connection: socket.socket
    log: Path
    clock: Callable[[], float] = time.monotonic
    facts: dict[str, Any] = field(default_factory=dict)
    fault: str = ""
    # Memory to read into is kept: so large a piece would be asked of the system, and given back, each time.
    _chunk: bytearray = field(default_factory=lambda: bytearray(_READ_SIZE), repr=False)
    _buffer: bytearray = field(default_factory=bytearray)
    _unsent: bytearray = field(default_factory=bytearray)
    _owed: deque[Request] = field(default_factory=deque)
    _requests: int = 0
    _head_since: float = 0.0
    _anew: bool = False  # the time of the head was counted anew already
    _layouts: dict[int, Layout] = field(default_factory=dict)
    _known: dict[tuple[str, str], Layout] = field(default_factory=dict)
    # By slot, the number of the request that began its episode; of the answer before, its slot and that.
    _episodes: dict[int, int] = field(default_factory=dict)
    _last: tuple[int, int | None] | None = None
    _blame_last: bool = False

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def begin(self, slot: int, task: str, protocol: str, seed: int, deadlines: Deadlines) -> None:
        """Ask for an episode of ``task`` (name within the domain) in ``slot``."""
        number = self._number()
        content = {"slot": slot, "request": number, "task": task, "protocol": protocol, "seed": seed}
        request = Request(Kind.BEGUN, slot, number, deadlines.begin_s, self.clock(), (task, protocol))
        self._episodes[slot] = number
        self._send(wire.pack_json(Kind.BEGIN, content), request)

    def step(self, slot: int, action: Action, deadlines: Deadlines, *, flush: bool = True) -> None:
        """Ask for one step in ``slot``; without ``flush`` the request waits for the next one that is sent."""
        number = self._number()
        request = Request(Kind.STEPPED, slot, number, deadlines.step_s, self.clock())
        self._send(wire.pack_step(slot, action, number), request, flush=flush)

    def render(self, slot: int, deadlines: Deadlines) -> None:
        """Ask for an image of the scene in ``slot``, of an episode that continues or has just ended.

        The first one may take as long as an episode's beginning: a GL context is made.
        """
        number = self._number()
        request = Request(Kind.RENDERED, slot, number, deadlines.begin_s, self.clock())
        self._send(wire.pack_render(slot, number), request)

    @property
    def deadline(self) -> float | None:
        """When (seconds of the clock) the pending answer is overdue; None: none is pending."""
        return self._head_since + self._owed[0].limit_s if self._owed else None

    @property
    def limit_s(self) -> float:
        """Seconds allowed for the pending answer; infinite when none is."""
        return self._owed[0].limit_s if self._owed else math.inf

    @property
    def culprit(self) -> int | None:
        """The slot whose request is pending; None when none is."""
        return self._owed[0].slot if self._owed else None

    @property
    def blamed(self) -> tuple[int | None, bool]:
        """The slot whose episode is to blame for the worker's end, and whether that episode had ended.

        That is the pending one; for a second answer to one request, the one that was answered.
        """
        if not self._blame_last:
            return self.culprit, False
        if self._last is None:
            return None, False
        slot, episode = self._last
        return slot, episode is None or self._episodes.get(slot) != episode

    @property
    def unsent(self) -> bool:
        """Whether requests wait for room in the socket."""
        return bool(self._unsent)

    def postpone(self, seconds: float) -> None:
        """Count the pending answer as due so much later: for that long nothing ran."""
        self._head_since += seconds

    def count_anew(self, now: float) -> None:
        """Count the time of the pending answer from ``now``; once for each answer."""
        if self._owed and not self._anew:
            self._head_since, self._anew = now, True

    def flush(self) -> None:
        """Send what there is room for; never blocks, because the worker may be blocked on us."""
        try:
            while self._unsent:
                del self._unsent[: self.connection.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()  # the end of the connection is reported by the next wait

    def last_words(self) -> str:
        """Return the last lines that the worker printed, as one printable line; empty when none."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_WORDS))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return printable(" | ".join(lines[-3:]), _LONGEST_LAST_WORDS)

    def receive(self) -> tuple[list[Event], bool]:
        """Read what is there; return its events, and whether the worker is to be removed.

        It is when the connection has ended, or when a frame is no right answer (``fault`` says why).
        """
        try:
            size = self.connection.recv_into(self._chunk)
        except BlockingIOError:
            return [], False
        except OSError:
            size = 0
        self._buffer += memoryview(self._chunk)[:size]
        events: list[Event] = []
        try:
            self._read(events)
        except FrameError as error:
            self.fault = str(error)
            self._blame_last = error.again or not self._owed
            return events, True
        return events, not size

    def _read(self, events: list[Event]) -> None:
        """Take the frames that are whole; FrameError at the first that is no right answer."""
        buffer, start, size, now = self._buffer, 0, wire.HEADER.size, self.clock()
        owed, unpack = self._owed, wire.HEADER.unpack_from
        while len(buffer) - start >= size:
            length, number = unpack(buffer, start)
            request = owed[0] if owed else None
            steps = request is not None and request.kind is Kind.STEPPED
            layout = self._layouts.get(request.slot) if request is not None and steps else None
            stepped = layout.stepped if layout is not None else -1
            if number != _STEPPED or length != stepped or not self.facts:
                self._check_header(number, length, request, stepped, start + size)
            end = start + size + length
            if len(buffer) < end:
                break
            if layout is not None and request is not None and number == _STEPPED:
                step, seconds, trajectory = answers.read_stepped(buffer, start + size, request, layout, now)
                events.append(Stepped(self, request.slot, step, seconds, trajectory))
                self._answered(request, now, ends=step.terminated or step.truncated)
            else:
                self._take(number, buffer[start + size : end], request, now, events)
            start = end
        del buffer[:start]
        if buffer and self.facts and not self._owed:
            raise FrameError("sent something that was not asked for", again=True)

    def _take(
        self, number: int, body: bytearray, request: Request | None, now: float, events: list[Event]
    ) -> None:
        """Take what is no step."""
        if request is None or number == Kind.HELLO:
            self.facts = answers.read_hello(body)
            return
        if number == Kind.FAILED:
            message = answers.read_failed(body, request)
            events.append(Failed(self, request.slot, message))
            self._answered(request, now, ends=True)
            return
        if number == Kind.RENDERED:
            events.append(Rendered(self, request.slot, answers.read_rendered(body, request, now)))
            self._answered(request, now, ends=False)
            return
        assert request.task is not None
        layout, seconds, first = answers.read_begun(body, request, self._known.get(request.task), now)
        self._known[request.task] = self._layouts[request.slot] = layout
        events.append(Begun(self, request.slot, layout.spec, first, seconds))
        self._answered(request, now, ends=False)

    def _check_header(
        self, number: int, length: int, request: Request | None, stepped: int, place: int
    ) -> None:
        try:
            answers.check_header(number, length, request, stepped, greeted=bool(self.facts))
        except FrameError:
            if self._repeats(number, place):
                raise answers.unasked(number) from None
            raise

    def _repeats(self, number: int, place: int) -> bool:
        """Return whether a frame names the request that was answered last."""
        if number not in _NUMBERED or len(self._buffer) < place + wire.ANSWERED.size:
            return False
        _, request = wire.ANSWERED.unpack_from(self._buffer, place)
        return bool(self._owed) and request == (self._owed[0].number - 1) % wire.REQUESTS

    def _answered(self, request: Request, now: float, *, ends: bool) -> None:
        self._owed.popleft()
        self._head_since, self._anew = now, False
        slot, episodes = request.slot, self._episodes
        self._last = slot, episodes.pop(slot, None) if ends else episodes.get(slot)

    def _number(self) -> int:
        self._requests = (self._requests + 1) % wire.REQUESTS
        return self._requests

    def _send(self, content: bytes, request: Request, *, flush: bool = True) -> None:
        if not self._owed:
            self._head_since, self._anew = request.sent, False
        self._owed.append(request)
        self._unsent += content
        if flush:
            self.flush()
