"""A process of ours on a node: its folders there, its priority, and that it ends with its node's Ray."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lram.agents.durable import NoLocksError, flock
from lram.harness.errors import LramError

KEEP_S = 2 * 86400.0
"""Seconds that a node keeps what nobody asks for."""


def scratch() -> Path:
    """Return this user's folder on this node for what drivers have sent; it exists and is nobody else's."""
    folder = Path(tempfile.gettempdir()) / f"lram-cluster-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise LramError(f"{folder} belongs to somebody else; set TMPDIR on this node")
    return folder


@contextmanager
def held(name: str) -> Iterator[None]:
    """Hold a lock of this node for a while; other processes wait for it."""
    file = scratch() / f"{name}.lock"
    with file.open("a") as handle:
        try:
            flock(handle.fileno(), fcntl.LOCK_EX, file)
        except NoLocksError as error:
            raise LramError(f"cannot lock {file}: {error.strerror}; set TMPDIR on this node") from error
        yield


@contextmanager
def own_folder(kind: str) -> Iterator[Path]:
    """Give this process a folder for a while, where its temporary files go, too.

    Folders of processes that were killed are removed by the next one.
    """
    base = scratch() / kind
    base.mkdir(exist_ok=True)
    with held(kind):
        for old in base.iterdir():
            if old.name.isdigit() and not Path(f"/proc/{old.name}").exists():
                shutil.rmtree(old, ignore_errors=True)
        folder = base / str(os.getpid())
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def usual_priority() -> Iterator[int]:
    """Let this process wait its turn as any other for a while, and return how nice it then is.

    Ray makes its processes nice. Only the system's administrator may undo that; other users get a message.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    if before > 0:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, 0)
    try:
        yield os.getpriority(os.PRIO_PROCESS, 0)
    finally:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


def die_with_raylet() -> None:
    """End this process as soon as its node's Ray is gone.

    Ray lets a task finish first: it would play on for minutes, unheard, beside those who repeat its
    episodes. Simulators end with this process.
    """
    global _watching
    if _watching:
        return
    _watching = True
    # Ray tells its workers who started them: a container or a shell may stand between.
    try:
        raylet = os.pidfd_open(int(os.environ.get("RAY_RAYLET_PID") or os.getppid()))
    except ProcessLookupError:
        os._exit(1)
    waiting = select.poll()
    waiting.register(raylet, select.POLLIN)

    def watch() -> None:
        waiting.poll()
        os._exit(1)

    threading.Thread(target=watch, name="lram-raylet-watch", daemon=True).start()


_watching = False
