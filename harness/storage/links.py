"""Links in folders that are written to: refused, because what they lead to is not the folder's.

A folder may come from somebody else. A link in place of a log would have lines appended to any file of the
user's, and one in place of a folder new files made anywhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from lram.harness.errors import LramError


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Raise LramError for the first of ``names`` that is a link in ``folder``, which is written to."""
    for name in names:
        if (folder / name).is_symlink():
            raise LramError(
                f"{folder / name} is a link, and nothing is written through links; put what it leads to in "
                "its place"
            )


def open_log(file: Path) -> int:
    """Return a descriptor that appends to ``file``, a log; LramError for a link, a pipe or a device.

    Raises:
        OSError: The system refuses.
    """
    refuse_links(file.parent, (file.name,))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if file.exists() and not stat.S_ISREG(file.stat().st_mode):
        raise LramError(f"{file} is no regular file, and a log is written there; move it away")
    return os.open(file, flags, 0o666)
