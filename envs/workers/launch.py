"""How a worker process is started: in which interpreter, with what environment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from lram.envs.availability import SAFE_PATH, environment
from lram.envs.domain_files import VARIABLE
from lram.envs.registry import file_of

# The module's name is an argument so that a list of processes tells what a worker is.
_START = SAFE_PATH + "from importlib import import_module; import_module(sys.argv.pop(1)).main()"


class Launcher:
    """Starts workers, each in the interpreter of its domain."""

    def __init__(self, interpreters: Mapping[str, str]) -> None:
        """Take the Python executable by domain; others run in this interpreter."""
        self._interpreters = dict(interpreters)
        self._bridge: tempfile.TemporaryDirectory[str] | None = None

    def start(
        self, domain: str, theirs: socket.socket, output: int, mark: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Return the process of a new worker; OSError where the system does not let one start.

        Args:
            domain: What it serves.
            theirs: Its end of the connection.
            output: Descriptor that it prints to.
            mark: Environment variables that it and what it starts are known by.
        """
        python = self._interpreters.get(domain, sys.executable)
        # The death signal is tied to the thread that starts the process: from another thread than
        # the main one it would fire when that thread ends.
        parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
        arguments = ["--domain", domain, "--fd", str(theirs.fileno()), "--parent", str(parent)]
        if (file := file_of(domain)) is not None:
            arguments += ["--file", str(file.path), "--digest", file.digest]
        return subprocess.Popen(
            [python, "-c", _START, "lram.envs.workers.worker", *arguments],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**self._environment(python), **mark},
            # A session of its own: Ctrl-C and Ctrl-Z are the harness's to handle, and what a
            # simulator starts can be ended together with it.
            start_new_session=True,
        )

    def close(self) -> None:
        """Remove what was made for other interpreters."""
        if self._bridge is not None:
            self._bridge.cleanup()

    def _environment(self, python: str) -> dict[str, str]:
        variables = environment(python)
        # One simulator uses one core; more threads only fight the other workers for theirs.
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            variables.setdefault(name, "1")
        variables.setdefault("PYTHONWARNINGS", "ignore")
        variables.pop(VARIABLE, None)  # it is given its own file, and the others may not run in its Python
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
            (package / "envs").symlink_to(Path(__file__).resolve().parent.parent, target_is_directory=True)
        return self._bridge.name
