"""The worker processes of an evaluation: started, waited for, parked for reuse, removed.

When a worker dies, misses a deadline or sends what is no right answer, the episode it was busy with is to
blame, and the episodes of its other slots are lost without fault.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from lram.envs.errors import WorkerStartError
from lram.envs.workers import wire
from lram.envs.workers.launch import Launcher
from lram.envs.workers.output import OutputFile, OutputFiles
from lram.envs.workers.process import Died, Event, WorkerProcess
from lram.envs.workers.reaping import Reaper
from lram.envs.workers.wire import Kind

_SHUTDOWN_S = 2.0
# So much later than a wait was to end, nothing ran: the machine slept, or this process was stopped.
_STANDSTILL_S = 2.0


class Pool:
    """The worker processes of one evaluation, started when a domain needs them and kept for reuse.

    Attributes:
        facts: What the first worker of each domain reported of itself.
        stood_still_s: Seconds, so far, for which nothing ran while the pool waited. No deadline counts them.
    """

    def __init__(
        self,
        *,
        log_folder: Path,
        interpreters: Mapping[str, str] | None = None,
        parked: int = 4,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an empty pool.

        Args:
            log_folder: Where each worker's standard output and error go, in files of bounded size.
            interpreters: Python executable by domain; others run in this interpreter.
            parked: How many idle workers are kept alive for their domain's next episodes.
            clock: Seconds that deadlines are counted in.
        """
        self.facts: dict[str, dict[str, Any]] = {}
        self.stood_still_s = 0.0
        self._clock = clock
        self._left = clock()  # when the last wait ended
        self._outputs = OutputFiles(log_folder)
        self._output: dict[WorkerProcess, OutputFile] = {}
        self._numbers: dict[WorkerProcess, int] = {}
        self._exits: dict[WorkerProcess, int] = {}  # descriptors that can be read when a process has ended
        self._reaper: Reaper | None = None
        self._launcher = Launcher(interpreters or {})
        self._selector = selectors.DefaultSelector()
        self._workers: list[WorkerProcess] = []
        self._parked: list[WorkerProcess] = []
        self._keep = parked
        self._started = 0

    def acquire(self, domain: str, *, new: bool = False) -> WorkerProcess:
        """Return a worker for ``domain``: a parked one, or a ``new`` process."""
        for worker in [] if new else self._parked:
            if worker.domain == domain and worker.process.poll() is None:
                self._parked.remove(worker)
                return worker
        try:
            return self._start(domain)
        except OSError as error:
            raise WorkerStartError(
                f"a worker for the domain {domain} cannot be started: {error.strerror or error}"
            ) from error

    def release(self, worker: WorkerProcess) -> None:
        """Park a worker that holds no episode; the longest parked one goes when there are too many."""
        self._parked.append(worker)
        while len(self._parked) > self._keep:
            self._stop(self._parked.pop(0))

    def watch(self, descriptor: int) -> None:
        """Let :meth:`wait` return early, perhaps without events, while ``descriptor`` can be read."""
        self._selector.register(descriptor, selectors.EVENT_READ)

    def unwatch(self, descriptor: int) -> None:
        """Forget a descriptor again, before it is closed."""
        self._selector.unregister(descriptor)

    def wait(self, timeout: float) -> list[Event]:
        """Return the events of at most ``timeout`` seconds, as soon as there are any."""
        now = self._clock()
        end = now + timeout
        if now - self._left > _STANDSTILL_S:
            # Whether nothing ran, or this process was busy and the workers were not, cannot be known.
            for worker in self._workers:
                worker.count_anew(now)
        while True:
            events = self._overdue(now)
            due = [d for d in (w.deadline for w in self._workers) if d is not None]
            self._watch_room()
            asked = 0 if events else max(0.0, min([end, *due]) - now)
            before = self._clock()
            ready = self._selector.select(asked)
            now = self._clock()
            self._stand_still(now - before - asked)
            woken = False
            for key, mask in ready:
                if key.data is None:
                    woken = True
                    continue
                if isinstance(key.data, OutputFile):
                    self._drain(key.data)
                    continue
                if key.fileobj == self._exits.get(key.data):
                    events.extend(self._exited(key.data))
                    continue
                if mask & selectors.EVENT_WRITE and key.data in self._output:
                    key.data.flush()
                if mask & selectors.EVENT_READ:
                    events.extend(self._read(key.data))
            if events or woken or now >= end:
                self._left = self._clock()
                return events

    def close(self) -> None:
        """End every worker; none is left when this returns."""
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.connection.send(wire.frame(Kind.CLOSE, b""))
        end = time.monotonic() + _SHUTDOWN_S
        for worker in list(self._workers):
            busy = worker.culprit is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(0.0 if busy else max(0.0, end - time.monotonic()))
            self._discard(worker, last=True)
        self._parked.clear()
        self._selector.close()
        if self._reaper is not None:
            self._reaper.close()
            self._reaper = None
        self._launcher.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, domain: str) -> WorkerProcess:
        if self._reaper is None:
            self._reaper = Reaper()
        self._started += 1
        number = self._started
        ours, theirs = socket.socketpair()
        output: OutputFile | None = None
        try:
            output = self._outputs.make(domain)
            process = self._launcher.start(domain, theirs, output.writing, self._reaper.mark(number))
        except OSError:
            ours.close()
            if output is not None:
                self._outputs.close(output)
            raise
        finally:
            theirs.close()
        self._reaper.started(number, process.pid)
        output.started()
        ours.setblocking(False)
        worker = WorkerProcess(domain, process, ours, output.path, self._clock)
        self._output[worker], self._numbers[worker] = output, number
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        self._selector.register(output, selectors.EVENT_READ, output)
        with contextlib.suppress(OSError):  # a system without them sees the connection end
            self._exits[worker] = os.pidfd_open(process.pid)
            self._selector.register(self._exits[worker], selectors.EVENT_READ, worker)
        return worker

    def _watch_room(self) -> None:
        """Be woken by room in the sockets of the workers that have unsent requests."""
        for worker in self._workers:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.unsent else 0)
            if self._selector.get_key(worker.connection).events != wanted:
                self._selector.modify(worker.connection, wanted, worker)

    def _stand_still(self, seconds: float) -> None:
        """Let no deadline count ``seconds`` for which nothing ran, where they are more than a delay."""
        if seconds > _STANDSTILL_S:
            self.stood_still_s += seconds
            for worker in self._workers:
                worker.postpone(seconds)

    def _drain(self, output: OutputFile) -> None:
        if output.fileno() < 0:  # its worker has been removed meanwhile
            return
        output.drain()
        if output.ended:
            self._selector.unregister(output)

    def _read(self, worker: WorkerProcess) -> list[Event]:
        if worker not in self._output:  # it has been removed meanwhile
            return []
        events, ended = worker.receive()
        if worker.facts:
            self.facts.setdefault(worker.domain, worker.facts)
        if ended:
            events.append(self._remove(worker, "crash"))
        return events

    def _exited(self, worker: WorkerProcess) -> list[Event]:
        """Remove a worker whose process has ended; one that it has forked may hold the connection open."""
        events: list[Event] = []
        more, ended = True, False
        while more and not ended:
            answered, ended = worker.receive()
            events.extend(answered)
            more = bool(answered)
        return [*events, self._remove(worker, "crash")]

    def _overdue(self, now: float) -> list[Event]:
        late = [w for w in self._workers if w.deadline is not None and w.deadline <= now]
        events: list[Event] = []
        for worker in late:
            # The answer may be waiting in the socket: this process was busy, not the worker.
            answered, ended = worker.receive()
            events.extend(answered)
            if ended or (worker.deadline is not None and worker.deadline <= now):
                events.append(self._remove(worker, "crash" if ended else "timeout"))
        return events

    def _remove(self, worker: WorkerProcess, reason: Literal["crash", "timeout"]) -> Died:
        culprit, over = worker.blamed
        if worker.fault:
            text = f"the {worker.domain} worker {worker.fault}, and was killed"
            self._discard(worker)
            return Died(worker, "session", text, culprit, over)
        if reason == "timeout":
            limit = worker.limit_s
            text = f"the {worker.domain} worker gave no answer within {limit:g} s and was killed"
        else:
            code = _exit_code(worker.process)
            text = f"the {worker.domain} worker died ({_exit_text(code)})"
            self._output[worker].drain()
            words = worker.last_words()
            text += f"; its last words: {words}" if words else ""
        self._discard(worker)
        return Died(worker, reason, text, culprit)

    def _stop(self, worker: WorkerProcess) -> None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            worker.connection.send(wire.frame(Kind.CLOSE, b""))
            worker.process.wait(_SHUTDOWN_S)
        self._discard(worker)

    def _discard(self, worker: WorkerProcess, *, last: bool = False) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.process.wait()
        self._selector.unregister(worker.connection)
        worker.connection.close()
        output = self._output.pop(worker)
        with contextlib.suppress(KeyError):  # its end was seen
            self._selector.unregister(output)
        self._outputs.close(output)
        if (handle := self._exits.pop(worker, None)) is not None:
            self._selector.unregister(handle)
            os.close(handle)
        number = self._numbers.pop(worker)
        if self._reaper is not None and not last:
            self._reaper.ended(number)
        self._workers.remove(worker)
        if worker in self._parked:
            self._parked.remove(worker)


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(_SHUTDOWN_S)
    except subprocess.TimeoutExpired:  # it closed its socket and hangs
        process.kill()
        return process.wait()


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code}, {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
