"""Commands that meet a fault at one of their file operations: killed there, or refused by the disk.

A server process, a ready one itself (``support.ready``), has imported what the commands need and forks for
every trial, so that a trial costs what the command costs; the processes of ours that a command starts are
forked, too (``support.forked``). In the fork
every file operation below one folder is counted: opening for writing, each write, synchronising, renaming,
making and removing folders and files. At the chosen one the process

* is killed (``kill``; a write is done by half before, as a machine that loses power leaves it),
* or is given ``EIO`` or ``ENOSPC`` (a write is done by half before, as a full disk leaves it).

Only the command's own process is counted; what other programs of it write (a simulator's log) is not.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.ready import ready_python

KINDS = ("kill", "EIO", "ENOSPC")

_EVENTS = {"os.mkdir": 0, "os.rename": 1, "os.remove": 0, "os.rmdir": 0, "os.truncate": 0, "os.link": 1}


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        code: Exit code; negative for a signal.
        operations: File operations that were counted.
        errors: What was said on standard error.
        hit: The operation that met the fault, in words; empty where there were fewer.
        output: What was said on standard output, in bytes.
    """

    code: int
    operations: int
    errors: str
    hit: str
    output: bytes = b""


class Faults:
    """In the fork: counts file operations below ``folder``, and lets number ``at`` (from 0) fail."""

    def __init__(self, folder: str, kind: str, at: int, notes: Path) -> None:
        self._folder, self._kind, self._at, self._notes = folder, kind, at, notes
        self._pid = os.getpid()
        self._count = 0
        self._names: dict[int, str] = {}
        self._quiet = False

    def install(self) -> None:
        """Watch from now on."""
        sys.addaudithook(self._audit)
        self._open, self._os_open = builtins.open, os.open
        faults = self

        class Watched(io.FileIO):
            def write(self, content: Any) -> int:
                path = faults.path_of(self.name)
                faults.write(path, lambda part: super(Watched, self).write(part), content)
                return len(memoryview(content).cast("B"))

        def opened(file: Any, mode: str = "r", buffering: int = -1, *more: Any, **named: Any) -> Any:
            """``open``, where what is written goes through ``Watched``."""
            if not set(mode) & set("wax+") or not faults.watches(faults.path_of(file)):
                return faults._open(file, mode, buffering, *more, **named)
            raw = Watched(file, mode.replace("b", "").replace("t", ""))
            if buffering == 0:
                return raw
            buffer = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
            return buffer if "b" in mode else io.TextIOWrapper(buffer, *more, **named)

        def os_write(handle: int, content: Any) -> int:
            name = faults.name_of(handle)
            if not faults.watches(name):
                return write(handle, content)
            faults.write(name, lambda part: write(handle, part), content)
            return len(content)

        write = os.write
        builtins.open = io.open = opened  # type: ignore[assignment]
        io.FileIO = Watched  # type: ignore[misc]
        os.write = os_write  # type: ignore[assignment]
        for name in ("fsync", "fdatasync", "ftruncate"):
            setattr(os, name, self._watched(name, getattr(os, name)))

    def watches(self, file: Any) -> bool:
        """Return whether operations on ``file`` count."""
        try:
            path = str(Path(os.fsdecode(file)).absolute())
        except TypeError:
            return False
        return os.getpid() == self._pid and path.startswith(self._folder)

    def path_of(self, file: Any) -> Any:
        """Return the path of ``file``, a path or the number of an open file."""
        return self.name_of(file) if isinstance(file, int) else file

    def name_of(self, handle: int) -> str:
        """Return the path of an open file."""
        try:
            return str(Path(f"/proc/self/fd/{handle}").readlink())
        except OSError:
            return ""

    def write(self, name: str, write: Callable[[Any], Any], content: Any) -> None:
        """Write all of ``content``, or half of it and then meet the fault."""
        whole = memoryview(content).cast("B")
        if self._is_next(f"write {name}"):
            write(whole[: len(whole) // 2])
            self._strike()
        while whole:
            whole = whole[write(whole) :]

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(handle: int, *more: Any) -> Any:
            path = self.name_of(handle)
            if self.watches(path) and self._is_next(f"{name} {path}"):
                self._strike()
            return call(handle, *more)

        return watched

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._quiet or os.getpid() != self._pid:
            return
        if event == "open":
            file, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes or not isinstance(file, str | bytes | os.PathLike):
                return
            place = 0
        elif event in _EVENTS:
            place = _EVENTS[event]
        else:
            return
        if self.watches(arguments[place]) and self._is_next(f"{event} {os.fspath(arguments[place])}"):
            self._strike()

    def _is_next(self, what: str) -> bool:
        number, self._count = self._count, self._count + 1
        self._note(f"{number} {what}")
        return number == self._at

    def _note(self, line: str) -> None:
        self._quiet = True
        handle = self._os_open(self._notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.writev(handle, [line.encode(errors="replace").replace(b"\n", b" ") + b"\n"])
        finally:
            os.close(handle)
            self._quiet = False

    def _strike(self) -> None:
        if self._kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self._kind)
        raise OSError(number, os.strerror(number))


class Server:
    """Runs commands of ``lram`` with faults; a context manager."""

    def __init__(self, scratch: Path, imports: str = "") -> None:
        """Start the process; ``imports`` is Python that it runs once, before the first command."""
        self._scratch = scratch
        self._process = subprocess.Popen(
            [*ready_python(), str(Path(__file__)), imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "MPLBACKEND": "agg"},
        )

    def run(
        self,
        *arguments: object,
        folder: Path | None = None,
        kind: str = "kill",
        at: int = -1,
        setup: str = "",
    ) -> Outcome:
        """Run ``lram ARGUMENTS``; operation ``at`` below ``folder`` meets the fault (-1: none does).

        ``setup`` is Python that the fork runs first: it changes the process's surroundings.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        notes, errors = self._scratch / "operations.txt", self._scratch / "errors.txt"
        output = self._scratch / "output.txt"
        for file in (notes, errors, output):
            file.write_text("")
        trial = {
            "arguments": [str(one) for one in arguments],
            "folder": str(folder or "/nowhere"),
            "kind": kind,
            "at": at,
            "notes": str(notes),
            "errors": str(errors),
            "output": str(output),
            "setup": setup,
        }
        print(json.dumps(trial), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        lines = notes.read_text(errors="replace").splitlines()
        hit = lines[at].partition(" ")[2] if 0 <= at < len(lines) else ""
        return Outcome(code, len(lines), errors.read_text(errors="replace"), hit, output.read_bytes())

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        if self._process.stdout is not None:
            self._process.stdout.close()


def _serve() -> None:
    sys.path[0] = str(Path(__file__).parents[1])
    exec(sys.argv[1])  # what the tests give
    from lram.harness.cli import main
    from support import forked

    forked.install()
    for line in sys.stdin:
        trial = json.loads(line)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            _trial(trial, main)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _trial(trial: dict[str, Any], main: Callable[[], None]) -> None:
    code = 70
    try:
        null = os.open(os.devnull, os.O_RDWR)
        errors = os.open(trial["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(null, 0)
        os.dup2(os.open(trial["output"], os.O_WRONLY | os.O_APPEND), 1)
        os.dup2(errors, 2)
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), line_buffering=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), line_buffering=True)
        sys.argv = ["lram", *trial["arguments"]]
        exec(trial["setup"], {})
        Faults(trial["folder"], trial["kind"], trial["at"], Path(trial["notes"])).install()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve()
