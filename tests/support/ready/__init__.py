"""A Python that has imported already what a command needs, for tests that start many commands.

``ready_python()`` stands for ``[sys.executable]`` before ``-m module ...``, ``-c code ...`` or ``file ...``.
The command is a process of its own, with its own folder, environment, streams and exit code. It is forked
from a server that has imported torch, pandas and matplotlib once, where a new interpreter takes two seconds
for that.
Ctrl-C, SIGTERM and SIGHUP are passed on to it, and it is killed when what the test has started is killed.

Use a new interpreter where a test is about starting it, about closed streams, about its process number, or
about what is imported. ``PYTHONPATH`` is heard; other variables that it reads at its start are not.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest

from support.ready.client import ADDRESS, PIPE, SIMULATORS, command
from support.ready.diversion import divert

_FOLDER = Path(__file__).parent
_ALONE = ("server", "simulators")
"""Servers that are new interpreters."""
_FORKED_FROM = {"nodes": "server", "cluster": "nodes"}
"""Servers that are ready processes themselves, and of which server."""

SHARED = "LRAM_TESTS_SHARED"
"""The variable that names the servers that pytest's processes share, each with its socket."""


def ready_python() -> list[str]:
    """Return the beginning of a command line; the server is started by the first call in a process."""
    return command(_server(os.getpid()))


@contextmanager
def ready_children() -> Iterator[None]:
    """Let processes for cells of studies and for measurements be ready ones: this one's, and ready ones'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ADDRESS, _server(os.getpid()))
        patch.setattr("lram.harness.children.PYTHON", ready_python())
        yield


def ready_driver() -> list[str]:
    """Return what :func:`ready_python` does, for a driver of a cluster that runs: it has imported Ray."""
    return command(_server(os.getpid(), "cluster"))


@contextmanager
def ready_nodes() -> Iterator[str]:
    """Let the nodes of a Ray cluster that start meanwhile have ready agents and workers, with ready children.

    Yields the file that they take as ``setup_worker_path``.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ADDRESS, _server(os.getpid(), "nodes"))
        patch.setenv(PIPE, "1")
        # How Ray begins the command lines of a node's agents, and of the cluster's dashboard.
        patch.setattr(
            "ray._private.services._build_python_executable_command_memory_profileable",
            lambda *_, **__: ready_driver(),
        )
        yield str(_FOLDER / "ray_worker.py")


@contextmanager
def ready_simulators() -> Iterator[None]:
    """Let the workers of simulators that this process and ready ones start in this interpreter be ready ones.

    A worker is then a client, which has the process id, the session and the end that the harness sees, and a
    process that was forked from a server that has imported numpy.
    """
    from lram.envs.workers import launch

    with pytest.MonkeyPatch.context() as patch:
        address = _server(os.getpid(), "simulators")
        patch.setenv(SIMULATORS, address)
        patch.setattr(launch, "subprocess", launch.subprocess)  # to be put back
        divert(address)
        yield


def share() -> None:
    """Start the servers that everybody needs for all processes that this one will start (pytest-xdist's).

    Set LRAM_TESTS_SHARED to nothing for servers of each process's own: what a test costs is then found among
    its descendants.
    """
    if SHARED not in os.environ:
        os.environ[SHARED] = os.pathsep.join(f"{name}={_start(name)[1]}" for name in _ALONE)


@cache
def _server(process: int, name: str = "server") -> str:
    for one in filter(None, os.environ.get(SHARED, "").split(os.pathsep)):
        shared, _, address = one.partition("=")
        if shared == name:
            _wait(address)
            return address
    server, address = _start(name)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n", "the server of ready processes did not start"
    return address


def _wait(address: str, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
            connection.connect(address)  # and part: the server takes it for a client that was killed
            return
        time.sleep(0.05)
    raise AssertionError("the server of ready processes did not start")


def _start(name: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server, which ends with this process; return it and its address."""
    process = os.getpid()
    folder = tempfile.TemporaryDirectory(prefix="lram-ready-")
    address = str(Path(folder.name) / "socket")
    start = [sys.executable, "-m", f"support.ready.{name}"]
    if name in _FORKED_FROM:
        start = [*command(_server(process, _FORKED_FROM[name])), str(_FOLDER / f"{name}.py")]
    server = subprocess.Popen(
        [*start, address],
        stdin=subprocess.PIPE,  # its end of file tells the server that this process is gone
        stdout=subprocess.PIPE,
        # Commands set OMP_WAIT_POLICY before they load torch (lram.harness.machine.calm_threads); here it is
        # loaded already, and two threads of a model would spin for minutes beside a busy neighbour.
        env={
            **os.environ,
            "PYTHONPATH": str(_FOLDER.parents[1]),
            "MPLBACKEND": "agg",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            **({"PYTHONWARNINGS": "ignore"} if name == "simulators" else {}),
        },
    )

    def end() -> None:
        if os.getpid() == process:
            server.kill()
            server.wait()
            folder.cleanup()

    atexit.register(end)
    return server, address
