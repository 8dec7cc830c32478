"""Folders that are copied: which of their files count, and how a copy is whole and on disk or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lram.agents.durable import is_scratch_of, open_regular, scratch_of, sync_folder


def names_in(folder: Path) -> list[str]:
    """Return the names of the files of ``folder``, without locks and what is being written."""
    return [
        file.relative_to(folder).as_posix()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "lock" and not file.name.startswith(".")
    ]


def sync_tree(folder: Path) -> None:
    """Put all of ``folder`` on disk."""
    for place in [folder, *folder.rglob("*")]:
        with suppress(OSError):
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


@contextmanager
def copied_tree(source: Path, target: Path, names: Iterable[str]) -> Iterator[Path]:
    """Copy the files ``names`` of ``source``; they become ``target``, whole and on disk, when the block ends.

    Yields where they are until then, so that files can be added. What a killed process has left is removed.

    Raises:
        OSError: A file cannot be read or written, or ``target`` is there; nothing is left then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.iterdir():
        if is_scratch_of(left.name, target.name):
            shutil.rmtree(left)
    scratch = scratch_of(target)
    try:
        scratch.mkdir()
        for name in names:
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            with open_regular(source / name) as read, (scratch / name).open("xb") as written:
                shutil.copyfileobj(read, written, 1 << 20)
        yield scratch
        sync_tree(scratch)
        scratch.rename(target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    sync_folder(target.parent)
