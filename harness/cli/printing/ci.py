"""Files that jobs of CI read: written whole, or added to as a whole."""

from __future__ import annotations

import os
from pathlib import Path

from lram.agents.durable import write_durably
from lram.harness.errors import LramError

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


def step_summary_file() -> Path:
    """Return the file that GitHub Actions shows as the summary of a step; LramError where there is none."""
    named = os.environ.get(SUMMARY_VARIABLE, "")
    if not named:
        raise LramError(
            f"--github-summary adds to the file that {SUMMARY_VARIABLE} names, and it is not set: GitHub "
            "Actions sets it in every step; elsewhere set it to a file, or leave the option out"
        )
    file = Path(named)
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise LramError(
            f"{SUMMARY_VARIABLE} names {file}, which cannot be a file here; set it to one that can"
        )
    return file


def check_junit(file: Path) -> None:
    """Raise LramError where ``file`` cannot be written."""
    if file.is_dir():
        raise LramError(f"--junit {file} is a folder; name a file, such as {file / 'compare.xml'}")


def write_junit(file: Path, content: bytes) -> None:
    """Write ``content`` to ``file``, whole or not at all; LramError where the system refuses."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(file, content)
    except OSError as error:
        raise LramError(
            f"the JUnit file {file} cannot be written ({error.strerror or error}); name another with --junit"
        ) from error


def append_whole(file: Path, content: bytes) -> None:
    """Add ``content`` to ``file`` on a line of its own; LramError where the system refuses, and nothing of it
    is left.
    """
    try:
        handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            size = os.fstat(handle).st_size
            ended = not size or os.pread(handle, 1, size - 1) == b"\n"
            left = memoryview(content if ended else b"\n" + content)
            try:
                while left:
                    left = left[os.write(handle, left) :]
            except OSError:
                os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)
    except OSError as error:
        raise LramError(
            f"{file}, which {SUMMARY_VARIABLE} names, cannot be written ({error.strerror or error}); make "
            "room, or leave --github-summary out"
        ) from error
