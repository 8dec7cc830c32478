"""A new folder with folders in it, whole or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lram.agents.api import AgentError
from lram.agents.durable import sync_folder
from lram.agents.places import placed


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write into, which becomes ``folder`` when the block ends without an error.

    Raises:
        AgentError: There is something at ``folder``, or it cannot be written; nothing is left of it.
    """
    folder = placed(folder)
    if folder.exists() or folder.is_symlink():
        raise AgentError(f"{folder} is there already; name a new folder with -o, or move it away")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise _unwritten(folder, error) from error
    try:
        yield partial
        _publish(partial)
        partial.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise _unwritten(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _publish(folder: Path) -> None:
    """Put all files in ``folder`` on disk, readable for all as other folders are."""
    folder.chmod(0o755)  # mkdtemp makes it private
    for place, _, files in os.walk(folder):
        for name in files:
            with (Path(place) / name).open("rb") as handle:
                os.fsync(handle.fileno())
        sync_folder(Path(place))


def _unwritten(folder: Path, error: OSError) -> AgentError:
    return AgentError(
        f"{folder} cannot be written ({error.strerror or error}), and nothing of it is left; make room there "
        "or give another place with -o, and repeat the command"
    )
