"""A server that forks a process a request, once what they need has been imported."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from support.ready.client import ADDRESS, SIMULATORS, command
from support.ready.diversion import divert


def run(request: dict[str, object], files: list[int], address: str) -> None:
    """Be the command: never returns."""
    above = 1 + max(*files, *request["files"])  # type: ignore[misc]
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, above) for file in files]
    for file in files:
        os.close(file)
    for number, file in zip(request["files"], moved, strict=True):  # type: ignore[call-overload]
        os.dup2(file, number)
        os.close(file)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL if number != signal.SIGPIPE else signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    environment: dict[str, str] = request["environment"]  # type: ignore[assignment]
    os.environ.clear()
    os.environ.update(environment)
    if "OMP_NUM_THREADS" in environment and (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    parent = request["parent"]
    os.getppid = lambda: parent  # type: ignore[assignment,return-value]
    if ADDRESS in environment and (children := sys.modules.get("lram.harness.children")) is not None:
        children.PYTHON[:] = command(address)
    if SIMULATORS in environment:
        divert(environment[SIMULATORS])
    if request.get("session"):
        os.setsid()
    os.chdir(str(request["folder"]))
    os.nice(max(0, int(str(request["nice"])) - os.nice(0)))  # as nice as the client, and not twice as much
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        stream = open(  # noqa: SIM115
            number,
            "r" if number == 0 else "w",
            encoding="utf-8",
            errors="backslashreplace" if number == 2 else "strict",
            buffering=1 if number == 2 else -1,
            closefd=False,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    arguments: list[str] = request["arguments"]  # type: ignore[assignment]
    own = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]
    isolated = arguments[0] == "-P"
    option, *rest = arguments[1:] if isolated else arguments
    what = rest.pop(0) if option in ("-m", "-c") else option
    here = {"-m": [os.getcwd()], "-c": [""]}.get(option, [str(Path(what).parent)])  # noqa: PTH109
    sys.path[:] = [*([] if isolated else here), *own, *sys.path]
    sys.argv = [option, *rest]
    code: object = 0
    try:
        if option == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        elif option != "-c":
            runpy.run_path(what, run_name="__main__")
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    import atexit
    import threading

    with suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does at its end
    with suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit((code or 0) & 0xFF)


def serve(address: str) -> None:
    """Answer each connection with a process's number, and with its status when it has ended.

    The folder of the tests is on this process's PYTHONPATH, and not on the path of those that it forks.
    """
    own = {os.getcwd(), str(Path(__file__).parents[2])}  # noqa: PTH109
    sys.path[:] = [place for place in sys.path if place not in own]  # as if it had never been this one
    gc.freeze()  # what is shared with children is not copied by their garbage collection
    waiting = selectors.DefaultSelector()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        waiting.register(listening, selectors.EVENT_READ)
        waiting.register(sys.stdin, selectors.EVENT_READ)
        os.write(1, b"ready\n")
        while True:
            # A client and its process may have ended in one moment: first what needs the connection open.
            for key in sorted((key for key, _ in waiting.select()), key=_turn):
                if key.fileobj is sys.stdin:
                    return
                if key.fileobj is listening:
                    _begin(listening, waiting)
                elif isinstance(key.data, int):
                    _follow(key, waiting)
                else:
                    _end(key, waiting)


def _turn(key: selectors.SelectorKey) -> int:
    return 2 if isinstance(key.data, tuple) else 1 if key.data is None else 0


def _begin(listening: socket.socket, waiting: selectors.BaseSelector) -> None:
    connection, _ = listening.accept()
    files: list[int] = []
    try:
        head, files, _, _ = socket.recv_fds(connection, 4, 200)
        size = struct.unpack("!I", head)[0]
        request = json.loads(connection.recv(size, socket.MSG_WAITALL))
    except (OSError, struct.error, ValueError):  # the client was killed meanwhile
        for file in files:
            os.close(file)
        connection.close()
        return
    child = os.fork()
    if child == 0:
        address = listening.getsockname()
        connection.close()
        listening.close()
        run(request, files, address)
    for file in files:
        os.close(file)
    with suppress(OSError):  # then the end of the connection will tell that the client was killed
        connection.sendall(struct.pack("!i", child))
    waiting.register(os.pidfd_open(child), selectors.EVENT_READ, (child, connection))
    waiting.register(connection, selectors.EVENT_READ, child)


def _follow(key: selectors.SelectorKey, waiting: selectors.BaseSelector) -> None:
    """End a process whose client was killed: a SIGKILL cannot be forwarded."""
    waiting.unregister(key.fileobj)
    with suppress(ProcessLookupError):
        os.kill(key.data, signal.SIGKILL)


def _end(key: selectors.SelectorKey, waiting: selectors.BaseSelector) -> None:
    child, connection = key.data
    _, status = os.waitpid(child, 0)
    waiting.unregister(key.fileobj)
    os.close(key.fd)
    with suppress(KeyError):
        waiting.unregister(connection)
    with suppress(OSError):  # a test that gave up does not wait for the status
        connection.sendall(struct.pack("!i", status))
    connection.close()
