"""The worker processes of an evaluation: started, waited for, parked for reuse, buried.

When a worker dies or misses a deadline, the episode it was busy with is to blame, and the episodes of
its other slots are lost without fault.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lram.envs import wire
from lram.envs.availability import SAFE_PATH, environment
from lram.envs.process import Died, Event, WorkerProcess
from lram.envs.wire import Kind

_SHUTDOWN_S = 2.0
# The module's name is an argument so that a list of processes tells what a worker is.
_START = SAFE_PATH + "from importlib import import_module; import_module(sys.argv.pop(1)).main()"


class WorkerStartError(RuntimeError):
    """The system does not let a worker process start; one sentence."""


class Pool:
    """The worker processes of one evaluation, started when a domain needs them and kept for reuse."""

    def __init__(
        self,
        *,
        log_folder: Path,
        interpreters: Mapping[str, str] | None = None,
        parked: int = 4,
    ) -> None:
        """Make an empty pool.

        Args:
            log_folder: Where each worker's standard output and error go.
            interpreters: Python executable by domain; others run in this interpreter.
            parked: How many idle workers are kept alive for their domain's next episodes.
        """
        self.facts: dict[str, dict[str, Any]] = {}
        self._log_folder = log_folder
        self._interpreters = dict(interpreters or {})
        self._selector = selectors.DefaultSelector()
        self._workers: list[WorkerProcess] = []
        self._parked: list[WorkerProcess] = []
        self._keep = parked
        self._started = 0
        self._bridge: tempfile.TemporaryDirectory[str] | None = None

    def acquire(self, domain: str) -> WorkerProcess:
        """Return a worker for ``domain``: a parked one, or a new process."""
        for worker in self._parked:
            if worker.domain == domain and worker.process.poll() is None:
                self._parked.remove(worker)
                return worker
        try:
            worker = self._start(domain)
        except OSError as error:
            raise WorkerStartError(
                f"a worker for the domain {domain} cannot be started: {error.strerror or error}"
            ) from error
        self._workers.append(worker)
        self._selector.register(worker.connection, selectors.EVENT_READ, worker)
        return worker

    def release(self, worker: WorkerProcess) -> None:
        """Park a worker that holds no episode; the longest parked one goes when there are too many."""
        self._parked.append(worker)
        while len(self._parked) > self._keep:
            self._stop(self._parked.pop(0))

    def wait(self, timeout: float) -> list[Event]:
        """Return the events of at most ``timeout`` seconds, as soon as there are any."""
        end = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            events = self._overdue(now)
            due = [d for d in (w.deadline for w in self._workers) if d is not None]
            until = min([end, *due])
            self._watch_room()
            for key, ready in self._selector.select(0 if events else max(0.0, until - now)):
                if ready & selectors.EVENT_WRITE:
                    key.data.flush()
                if ready & selectors.EVENT_READ:
                    events.extend(self._read(key.data))
            if events or time.monotonic() >= end:
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
            self._discard(worker)
        self._parked.clear()
        self._selector.close()
        if self._bridge is not None:
            self._bridge.cleanup()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, domain: str) -> WorkerProcess:
        self._started += 1
        log = self._log_folder / f"worker-{self._started:03d}-{domain}.log"
        ours, theirs = socket.socketpair()
        python = self._interpreters.get(domain, sys.executable)
        # The death signal is tied to the thread that starts the process: from another thread than
        # the main one it would fire when that thread ends.
        parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
        arguments = ["--domain", domain, "--fd", str(theirs.fileno()), "--parent", str(parent)]
        with theirs, log.open("ab") as output:
            process = subprocess.Popen(
                [python, "-c", _START, "lram.envs.worker", *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment(python),
                # A session of its own: Ctrl-C and Ctrl-Z are the harness's to handle, and what a
                # simulator starts can be ended together with it.
                start_new_session=True,
            )
        ours.setblocking(False)
        return WorkerProcess(domain, process, ours, log)

    def _environment(self, python: str) -> dict[str, str]:
        variables = environment(python)
        # One simulator uses one core; more threads only fight the other workers for theirs.
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            variables.setdefault(name, "1")
        variables.setdefault("PYTHONWARNINGS", "ignore")
        if python != sys.executable:
            variables["PYTHONPATH"] = os.pathsep.join(
                filter(None, [self._bridge_path(), variables.get("PYTHONPATH")])
            )
        return variables

    def _bridge_path(self) -> str:
        """Return a folder from which another interpreter imports this very ``lram.envs``."""
        if self._bridge is None:
            self._bridge = tempfile.TemporaryDirectory(prefix="lram-envs-")
            package = Path(self._bridge.name) / "lram"
            package.mkdir()
            (package / "envs").symlink_to(Path(__file__).resolve().parent, target_is_directory=True)
        return self._bridge.name

    def _watch_room(self) -> None:
        """Be told of room in the sockets of the workers that have unsent requests."""
        for worker in self._workers:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.unsent else 0)
            if self._selector.get_key(worker.connection).events != wanted:
                self._selector.modify(worker.connection, wanted, worker)

    def _read(self, worker: WorkerProcess) -> list[Event]:
        events, ended = worker.receive()
        if worker.facts:
            self.facts.setdefault(worker.domain, worker.facts)
        if ended:
            events.append(self._bury(worker, "crash"))
        return events

    def _overdue(self, now: float) -> list[Event]:
        late = [w for w in self._workers if w.deadline is not None and w.deadline <= now]
        events: list[Event] = []
        for worker in late:
            # The answer may be waiting in the socket: this process was busy, not the worker.
            answered, ended = worker.receive()
            events.extend(answered)
            if ended or (worker.deadline is not None and worker.deadline <= now):
                events.append(self._bury(worker, "crash" if ended else "timeout"))
        return events

    def _bury(self, worker: WorkerProcess, reason: Literal["crash", "timeout"]) -> Died:
        culprit = worker.culprit
        if reason == "timeout":
            limit = worker.limit_s
            text = f"the {worker.domain} worker gave no answer within {limit:g} s and was killed"
        else:
            code = _exit_code(worker.process)
            text = f"the {worker.domain} worker died ({_exit_text(code)})"
            words = worker.last_words()
            text += f"; its last words: {words}" if words else ""
        self._discard(worker)
        return Died(worker, reason, text, culprit)

    def _stop(self, worker: WorkerProcess) -> None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            worker.connection.send(wire.frame(Kind.CLOSE, b""))
            worker.process.wait(_SHUTDOWN_S)
        self._discard(worker)

    def _discard(self, worker: WorkerProcess) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.process.wait()
        self._selector.unregister(worker.connection)
        worker.connection.close()
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
