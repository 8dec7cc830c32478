"""Checkpoints on their way to nodes that do not see the driver's disk: once a node, whole, and checked."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from lram.agents.durable import NoLocksError, flock
from lram.agents.spec import parse_agent
from lram.harness.errors import LramError

_KEEP_S = 2 * 86400.0
_MOST_BYTES = 64 << 30


def folder_of(spec: str) -> str:
    """Return the part of an agent's specification that is a folder; empty where it is none."""
    return parse_agent(spec).folder


def read_folder(folder: str) -> dict[str, bytes]:
    """Return the files of a checkpoint's folder by name; LramError where they cannot be read."""
    try:
        files = [file for file in sorted(Path(folder).iterdir()) if file.is_file()]
        if sum(file.stat().st_size for file in files) > _MOST_BYTES:
            raise LramError(
                f"{folder} holds more than {_MOST_BYTES >> 30} GiB; give a checkpoint's own folder"
            )
        return {file.name: file.read_bytes() for file in files}
    except OSError as error:
        raise LramError(f"{folder} cannot be read: {error.strerror}") from error


def digest_of(files: Mapping[str, bytes]) -> str:
    """Return a SHA-256 over names and contents, in hex."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{len(name)} {name} {len(content)} ".encode() + content)
    return digest.hexdigest()


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


def unpacked(fetch: Callable[[], Mapping[str, bytes]], digest: str, name: str) -> Path:
    """Return a folder on this node, called ``name``, with the files that ``fetch`` gives; once written, kept.

    The name goes into what a report says of a checkpoint, so the same files may lie there under several.

    Raises:
        LramError: What came is not what was sent.
    """
    folder = scratch() / "checkpoints" / digest[:32] / Path(name).name
    with held(f"checkpoint-{digest[:16]}"):
        if not folder.is_dir():
            _clean(folder.parent.parent)
            files = fetch()
            if digest_of(files) != digest:
                raise LramError(f"the checkpoint {name} has not come whole; start the command again")
            partial = folder.with_name(f".{folder.name}.{os.getpid()}")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for each, content in files.items():
                (partial / Path(each).name).write_bytes(content)
            partial.rename(folder)
        os.utime(folder.parent)
    return folder


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


def _clean(folder: Path) -> None:
    """Remove what nobody has asked for in two days, verdicts of gates among it."""
    old = [*(folder.iterdir() if folder.is_dir() else ()), *scratch().glob("gate-*.txt")]
    for one in old:
        with suppress(OSError):  # another process was faster
            if time.time() - one.stat().st_mtime > _KEEP_S:
                shutil.rmtree(one) if one.is_dir() else one.unlink()
