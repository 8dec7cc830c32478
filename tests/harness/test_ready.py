"""The server of ready processes, which the tests of this folder start commands with, outlives its clients."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ready.client import command


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "support.ready.simulators", str(tmp_path / "socket")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def wait_for_state(process: int, state: str) -> None:
    while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != state:
        time.sleep(0.01)


def test_clients_and_processes_that_are_killed_in_one_moment_do_not_end_it(
    tmp_path: Path, server: subprocess.Popen[bytes]
) -> None:
    python = command(str(tmp_path / "socket"))
    said = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with subprocess.Popen([*python, "-c", said], stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        child = int(client.stdout.readline())
        server.send_signal(signal.SIGSTOP)
        wait_for_state(server.pid, "T")
        client.kill()
        client.wait()
    os.kill(child, signal.SIGKILL)
    with socket.socket(socket.AF_UNIX) as connection:  # a client that was killed before it said anything
        connection.connect(str(tmp_path / "socket"))
    wait_for_state(child, "Z")
    server.send_signal(signal.SIGCONT)
    done = subprocess.run([*python, "-c", "print('here')"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr
    assert server.poll() is None
