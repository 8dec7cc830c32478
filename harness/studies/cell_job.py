"""A cell of a study as a job: a process that makes it or times it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lram.harness.children import child_command, child_environment
from lram.harness.executors.contract import JobFailedError
from lram.harness.storage.links import open_log, refuse_links
from lram.harness.storage.segments import LOCK
from lram.harness.studies.folder import CellFolder, StudyFolder

What = Literal["make", "time"]
"""What a job does with its cell; cells are timed one after the other, with nothing beside them."""

_STOP_S = 60.0


@dataclass(slots=True, eq=False)
class CellJob:
    """A cell that is to be made, or timed."""

    study: StudyFolder
    cell: CellFolder
    what: What
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _deadline: float = field(default=0.0, init=False)

    @property
    def title(self) -> str:
        """What people call the cell."""
        return self.cell.entry.title

    def work(self) -> Iterator[None]:
        """Work on the cell in a process; see :class:`lram.harness.executors.contract.ExecutorJob`."""
        process = self._process = begin(self.study.path, self.cell, self.what)
        try:
            while process.poll() is None:
                yield None
        finally:
            if process.poll() is None:
                self._wait(process)
            if process.stdin is not None:
                process.stdin.close()
        if why := reason(process.returncode, self.cell.path / "log.txt"):
            raise JobFailedError(why)

    def cancel(self) -> None:
        """Ask the process to save what it can and end."""
        self._deadline = time.monotonic() + _STOP_S
        if self._process is not None:
            with suppress(OSError):
                self._process.terminate()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def begin(study: Path, cell: CellFolder, what: str) -> subprocess.Popen[bytes]:
    """Start the process that works on a cell; it stops as if asked to when this one is gone."""
    refuse_links(cell.path.parent, (cell.path.name,))
    refuse_links(cell.path, ("train", "eval", LOCK))
    cell.path.mkdir(parents=True, exist_ok=True)
    with os.fdopen(open_log(cell.path / "log.txt"), "ab") as log:
        return subprocess.Popen(
            child_command("lram.harness.studies.child", str(study.resolve()), cell.entry.folder, what),
            stdin=subprocess.PIPE,  # closed when this process is gone, by which the child knows
            stdout=log,
            stderr=log,
            env={**child_environment(), "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for this process, which then asks its children
        )


def reason(code: int, log: Path) -> str:
    """Return why a process with that exit code and log has failed; empty where it has not."""
    if code == 0:
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    if code == 2 and lines[-1].startswith("lram: "):
        return lines[-1].removeprefix("lram: ")
    return f"its process ended with {code} (see {log}): {lines[-1][:200]}"
