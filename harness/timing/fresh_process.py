"""A measurement in a Python process of its own, which nothing was imported, compiled or allocated in before.

The parent starts ``python -m MODULE``, gives it its order as JSON on standard input, and reads what it finds
line by line from a pipe; what else the process prints goes to a log. The child is :func:`serve`. It ends when
its parent does, and is ended when it is silent for too long.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lram.agents.memory import is_lack_text, kernel_kills
from lram.harness.children import child_command, child_environment
from lram.harness.storage.links import open_log

SILENCE_S = 1800.0
"""A process that says nothing for so long is ended."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Read by libraries when they are loaded, so that they are set before a process begins."""

_READ = 1 << 16
_LAST_WORDS = 1 << 16  # bytes of a log: a fault names all extension modules after its first line

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a process is sent.

    Attributes:
        order: What to do; JSON of the type that the module knows.
        descriptor: Where its lines go.
        parent: Process id of who waits for them; 0: not tied to it.
    """

    order: msgspec.Raw
    descriptor: int
    parent: int = 0


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """How a process ended.

    Attributes:
        silent: It was ended, because it had said nothing for ``SILENCE_S``.
        code: Its exit code; the signal's number below 0.
        words: The last that it printed.
        spared: The kernel counts whom it kills for lack of memory, and killed nobody meanwhile.
    """

    silent: bool
    code: int
    words: str
    spared: bool = False

    @property
    def lack(self) -> bool:
        """Whether memory ran out: it says so, or it was killed, and not by somebody else than the kernel."""
        return is_lack_text(self.words) or (self.code == -signal.SIGKILL and not self.spared)

    @property
    def cause(self) -> str:
        """Why it died, with its last line."""
        try:
            name = signal.Signals(-self.code).name if self.code < 0 else f"exit code {self.code}"
        except ValueError:
            name = f"signal {-self.code}"
        lines = [line.strip() for line in self.words.splitlines() if line.strip()]
        fatal = [line for line in lines if line.startswith("Fatal Python error")]
        last = (fatal or lines or [""])[-1][:200]
        if self.code == -signal.SIGKILL and self.spared:
            last = "somebody ended it; the kernel killed no process for lack of memory meanwhile"
        return f"the process died ({name}){': ' * bool(last)}{last}"


class FreshProcess:
    """A process that measures; iterate over it for its lines, then ask for its :attr:`end`.

    Attributes:
        end: How it ended; None before its last line was read.
    """

    def __init__(
        self, module: str, order: object, log: Path, *, title: str, threads: int, home: str | None = None
    ) -> None:
        """Say what to start; it is started when its lines are asked for.

        Args:
            module: Which calls :func:`serve`.
            order: What it is to do.
            log: Where its output is appended, after a line with ``title``.
            title: What it is called.
            threads: Of each library that shares its work among several (OpenMP, OpenBLAS, MKL), whatever
                this process's variables say: an agent may compute by others than PyTorch.
            home: Its working directory (None: this process's).
        """
        self._module, self._order, self._log, self._title, self._home = module, order, log, title, home
        self._threads = threads
        self.end: ProcessEnd | None = None

    def __iter__(self) -> Generator[bytes, None, None]:
        """Yield its lines as they come. Whoever stops asking ends the process."""
        ours, theirs = os.pipe()
        # The death signal is tied to the thread that starts the process.
        parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
        before = kernel_kills()
        with os.fdopen(open_log(self._log), "ab") as output:
            output.write(f"{self._title}\n".encode())
            start = output.tell()
            process = subprocess.Popen(
                child_command(self._module),
                pass_fds=[theirs],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                # As 'lram eval' has it: idle OpenMP threads do not spin.
                env=child_environment({"OMP_WAIT_POLICY": "PASSIVE"})
                | dict.fromkeys(THREAD_VARIABLES, str(self._threads)),
                cwd=self._home,
            )
        os.close(theirs)
        assert process.stdin is not None
        silent, code = False, 0
        try:
            # One that has died before it read its order has an end that says so.
            with suppress(BrokenPipeError), process.stdin as stdin:
                order = msgspec.Raw(msgspec.json.encode(self._order))
                stdin.write(msgspec.json.encode(Envelope(order, theirs, parent)))
            yield from _lines(ours)
            code = process.wait()
        except TimeoutError:
            silent = True
        finally:
            os.close(ours)
            if process.poll() is None:
                process.kill()
                process.wait()
        words = self._log.read_bytes()[start:][-_LAST_WORDS:].decode(errors="replace") if code else ""
        self.end = ProcessEnd(silent, code, words, before is not None and kernel_kills() == before)


def serve(order_type: type[_T], measure: Callable[[_T, Callable[[Any], object]], object]) -> None:
    """Be the process: call ``measure`` with the order and with what sends a line, and end."""
    faulthandler.enable()
    sent = msgspec.json.decode(sys.stdin.buffer.read(), type=Envelope)
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sent.parent:
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != sent.parent:
            os._exit(1)
    with os.fdopen(sent.descriptor, "wb", buffering=0) as out:
        order = msgspec.json.decode(sent.order, type=order_type)
        measure(order, lambda one: out.write(msgspec.json.encode(one) + b"\n"))


def _lines(descriptor: int) -> Iterator[bytes]:
    """Yield whole lines until the writer is gone; TimeoutError when it is silent for too long."""
    rest = b""
    while True:
        if not select.select([descriptor], [], [], SILENCE_S)[0]:
            raise TimeoutError
        chunk = os.read(descriptor, _READ)
        if not chunk:
            return
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
