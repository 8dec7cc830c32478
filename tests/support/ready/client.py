"""What a test starts: hands its streams, folder and arguments to the server, and ends as that says."""

import json
import os
import signal
import socket
import struct
import sys
from contextlib import suppress


def main() -> int:
    """Return the exit code of the command; a signal that ended it ends this process, too."""
    address, *arguments = sys.argv[1:]
    words = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109
    message = json.dumps(words).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [struct.pack("!I", len(message))], [0, 1, 2])
        connection.sendall(message)
        (process,) = struct.unpack("!i", connection.recv(4, socket.MSG_WAITALL))

        def forward(number: int, frame: object) -> None:
            os.kill(process, number)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, forward)
        (status,) = struct.unpack("!i", connection.recv(4, socket.MSG_WAITALL))
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with suppress(OSError):  # SIGKILL has no other handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


sys.exit(main())
