"""Children of a command that are forked from it instead of started: what it has imported, they have, too.

After :func:`install`, ``subprocess`` forks where this very Python is asked for ``-m lram.SOMETHING``. The
child is a process of its own, its parent's child, with its own folder, environment, streams and session, and
holds no more open files than a new interpreter would. What other programs are started is as ever.

For processes that have not computed with several threads: a fork has only one.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from support.ready import forking


def install() -> None:
    """Fork from now on."""
    start = subprocess._fork_exec  # type: ignore[attr-defined]

    def fork_exec(command: list[Any], *rest: Any) -> int:
        words = [os.fsdecode(word) for word in command]
        if words[:2] == [sys.executable, "-m"] and words[2].startswith("lram."):
            return _forked(words[1:], *rest)
        process: int = start(command, *rest)
        return process

    subprocess._fork_exec = fork_exec  # type: ignore[attr-defined]


def _forked(words: list[str], executables: object, close: bool, keep: tuple[int, ...], *rest: Any) -> int:
    """Stand for ``_posixsubprocess.fork_exec``; its descriptor for failures is closed, as exec does it."""
    folder, environment, *streams, _, failures, _, session = rest[:12]  # as subprocess gives them
    parent = os.getpid()
    if process := os.fork():
        return process
    try:
        gc.freeze()  # nothing that is open here is closed by its collection, when its number is another's
        signal.set_wakeup_fd(-1)
        given = [streams[0], streams[3], streams[5]]  # of each pair of a pipe's ends, the child's
        own = [os.dup(number if stream == -1 else stream) for number, stream in enumerate(given)]
        kept = {0, 1, 2, *own, *keep} - {failures}
        for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
            if number not in kept:
                _close(number)
        if session:
            os.setsid()
        for place in keep:
            if place != failures:
                os.set_inheritable(place, True)
        warnings.simplefilter("ignore", RuntimeWarning)  # of runpy: the module has been imported already
        request = {
            "arguments": words,
            "folder": os.getcwd() if folder is None else os.fsdecode(folder),  # noqa: PTH109
            "environment": dict(os.environ)
            if environment is None
            else {os.fsdecode(k): os.fsdecode(v) for k, _, v in (one.partition(b"=") for one in environment)},
            "files": [0, 1, 2],
            "parent": parent,
            "nice": 0,  # a fork has that of its parent
        }
        forking.run(request, own, "")
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(70)


def _close(number: int) -> None:
    with suppress(OSError):  # that of the listing itself
        os.close(number)
