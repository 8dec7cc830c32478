"""The process that runs a LeRobot policy: started, asked with time-outs, and ended with this one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lram.agents.adapters.lerobot import child
from lram.agents.adapters.lerobot.pythons import INSTALL
from lram.agents.adapters.served.token import VARIABLE as TOKEN
from lram.agents.api import AgentError
from lram.agents.shown import shown

_GOODBYE_S = 0.5
_LAST_WORDS = 4000  # bytes
_QUOTED = 300  # characters
_READ = 1 << 20


class PolicyProcess:
    """A process with a policy in it.

    Args:
        python: Executable that has LeRobot.
        name: Of the policy, for messages.
        threads: Of the tensor library.

    Raises:
        AgentError: It cannot be started.
    """

    def __init__(self, python: str, name: str, threads: int) -> None:
        self._name, self._python = name, python
        folder = tempfile.mkdtemp(prefix="lram-lerobot-")
        self._log = Path(folder) / "output.log"
        self._connection, theirs = socket.socketpair()
        try:
            with theirs, self._log.open("wb") as log:
                process = subprocess.Popen(
                    [python, str(Path(child.__file__).resolve()), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=_environment(python, threads, folder),
                    start_new_session=True,  # Ctrl-C is the harness's to handle
                )
        except OSError as error:
            self._connection.close()
            shutil.rmtree(folder, ignore_errors=True)
            raise AgentError(f"{python} cannot be started ({error.strerror}); {INSTALL} makes one") from error
        self._end = weakref.finalize(self, _ended, os.getpid(), process, self._connection, folder)
        self._process = process

    def ask(
        self, fields: Mapping[str, Any], arrays: Sequence[Any], wait_s: float, longer: str
    ) -> child.Message:
        """Return the answer to a question.

        Args:
            fields: Of the question.
            arrays: Likewise.
            wait_s: Longest wait for the whole answer.
            longer: The option that allows more, for the message.

        Raises:
            AgentError: The process died, said nothing in time, sent no answer, or reports an error. Of these
                only the last leaves it alive.
        """
        if not self._end.alive:
            raise AgentError(f"the process of {self._name} has ended; start the command again")
        until = time.monotonic() + wait_s
        try:
            self._connection.settimeout(wait_s)
            self._connection.sendall(child.packed(dict(fields), arrays))
            answer, found = child.received(self._reader(until))
        except TimeoutError:
            raise self._over(
                f"gave no whole answer within {wait_s:g} s; give it longer with ({longer}=...)"
            ) from None
        except (EOFError, ConnectionError, BrokenPipeError):
            why = f"{self._death()}{self._last_words()}"
            raise self._over(f"{why}; see what {self._python} needs, then resume") from None
        except child.PolicyFrameError as error:
            raise self._over(f"{error}{self._last_words()}; check what runs as {self._python}") from None
        if "error" in answer:
            raise AgentError(self._reported(answer))
        return answer, found

    def close(self) -> None:
        """End the process; nothing is raised."""
        self._end()

    def _reader(self, until: float) -> Callable[[int], bytes]:
        def read(count: int) -> bytes:
            content = bytearray()
            while len(content) < count:
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._connection.settimeout(left)
                part = self._connection.recv(min(count - len(content), _READ))
                if not part:
                    raise EOFError
                content += part
            return bytes(content)

        return read

    def _over(self, what: str) -> AgentError:
        """End the process and return the error that says why."""
        self.close()
        return AgentError(f"the process of {self._name} {what}")

    def _death(self) -> str:
        try:
            code = self._process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"died of {signal.Signals(-code).name}"
        except ValueError:  # a real-time signal has no name
            return f"died of signal {-code}"

    def _last_words(self) -> str:
        try:
            content = self._log.read_bytes()[-_LAST_WORDS:].decode("utf-8", "replace")
        except OSError:
            return ""
        lines = [line.strip() for line in content.splitlines() if line.strip()]
        return f" ({shown(lines[-1], _QUOTED)})" if lines else ""

    def _reported(self, answer: Mapping[str, Any]) -> str:
        said = shown(str(answer["error"]), _QUOTED)
        absent = str(answer.get("absent", ""))
        if absent.partition(".")[0] == "lerobot":
            known = "no LeRobot" if absent == "lerobot" else f"a LeRobot without {shown(absent)}"
            return f"{self._python} has {known}, and 0.4 or newer is needed: {INSTALL}"
        if absent:
            return f"{self._python} lacks {shown(absent)}, which {self._name} needs; install it there"
        return f"{self._name} reports an error: {said}; see whether LeRobot itself plays it in {self._python}"


def _environment(python: str, threads: int, folder: str) -> dict[str, str]:
    variables = {name: value for name, value in os.environ.items() if name != TOKEN}
    if python != sys.executable:
        variables.pop("PYTHONHOME", None)  # this interpreter's standard library
    return {
        **variables,
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TMPDIR": folder,  # LeRobot leaves files behind as it reads a configuration
        # What is evaluated lies in the folder.
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "WANDB_MODE": "disabled",
    }


def _ended(owner: int, process: subprocess.Popen[bytes], connection: socket.socket, folder: str) -> None:
    """Close the connection, at which the process ends; kill it where it does not."""
    if os.getpid() != owner:  # a fork of it
        return
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
    try:
        process.wait(_GOODBYE_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)
