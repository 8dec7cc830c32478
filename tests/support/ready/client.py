"""What a test starts: hands its streams, folder and arguments to the server, and ends as that says.

It ends when its parent does, and with it the process that it stands for.
"""

import json
import os
import select
import signal
import socket
import struct
import sys
from contextlib import suppress

ADDRESS = "LRAM_TESTS_READY"
"""The variable that names the server's socket to workers on a cluster's nodes."""
PIPE = "RAY_enable_pipe_based_agent_to_parent_health_check"
"""The variable by which a node's agents learn of its end from their standard input; the parent of a ready one
is the server."""
SIMULATORS = "LRAM_TESTS_SIMULATORS"
"""The variable that names the socket of the simulators' server to ready processes that start simulators."""


def command(address: str) -> list[str]:
    """Return the beginning of a command line that a ready process runs."""
    return [sys.executable, "-I", "-S", __file__, address]


def main() -> int:
    """Return the exit code of the command; a signal that ended it ends this process, too."""
    address, *arguments = sys.argv[1:]
    parent = os.getppid()
    try:
        parent_ends = os.pidfd_open(parent)
    except ProcessLookupError:
        return 1
    files = sorted(set(map(int, os.listdir("/proc/self/fd"))) - {parent_ends})  # noqa: PTH208
    files = [file for file in files if os.path.exists(f"/proc/self/fd/{file}")]  # noqa: PTH110
    words = {
        "arguments": arguments,
        "folder": os.getcwd(),  # noqa: PTH109
        "environment": dict(os.environ),
        "nice": os.nice(0),
        "parent": parent,
        "session": os.getsid(0) == os.getpid(),
        "files": files,
    }
    message = json.dumps(words).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [struct.pack("!I", len(message))], files)
        connection.sendall(message)
        (process,) = struct.unpack("!i", connection.recv(4, socket.MSG_WAITALL))

        def forward(number: int, frame: object) -> None:
            os.kill(process, number)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, forward)
        ends = select.poll()
        ends.register(connection, select.POLLIN)
        ends.register(parent_ends, select.POLLIN)
        if connection.fileno() not in dict(ends.poll()):
            return 1
        (status,) = struct.unpack("!i", connection.recv(4, socket.MSG_WAITALL))
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with suppress(OSError):  # SIGKILL has no other handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
