"""What simulators have started ends with the harness: its side of :mod:`lram.envs.workers.reaper`."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from pathlib import Path

from lram.envs.workers.reaper import VARIABLE, facts_of

_CLOSE_S = 5.0


class Reaper:
    """A small process that outlives this one by a moment, to end what the workers of a pool have left."""

    def __init__(self) -> None:
        """Start it; OSError where the system does not let a process start."""
        self._token = secrets.token_hex(8)
        reading, self._pipe = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py"))],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                # Signals of a terminal are not for it.
                start_new_session=True,
            )
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(reading)
        os.set_blocking(self._pipe, False)
        self._tell(f"{self._token} {os.getpid()}")

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def mark(self, number: int) -> dict[str, str]:
        """Return the environment variable that marks a worker's process and what it starts."""
        return {VARIABLE: f"{self._token}-{number}"}

    def started(self, number: int, pid: int) -> None:
        """Tell it of a worker that runs."""
        # The number stays the process's until this one has waited for it.
        if (facts := facts_of(pid)) is not None:
            self._tell(f"+ {number} {pid} {facts[3]}")

    def ended(self, number: int) -> None:
        """Let it end what a worker that was ended has left."""
        self._tell(f"- {number}")

    def close(self) -> None:
        """Let it end what all workers have left, and wait for its own end."""
        self._tell(".")
        os.close(self._pipe)
        try:
            self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, line: str) -> None:
        # Where somebody has killed it, the run is as safe as it was without one.
        with contextlib.suppress(OSError):
            os.write(self._pipe, line.encode() + b"\n")
