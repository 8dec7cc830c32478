"""How long the cells of a study take yet, from those that were measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from lram.harness.studies.folder import CellFolder
from lram.harness.waiting import left

_LAST = 4096  # bytes of a log in which its last line is looked for
_TIMING = "timing"


class CellPace:
    """Seconds that a cell takes to make, or to time."""

    def __init__(self, what: str, made: Iterable[CellFolder] = ()) -> None:
        """Take what is done (``make`` or ``time``), and cells whose seconds are known if they are whole."""
        self._seconds: list[float] = []
        for cell in made:
            if (done := cell.done()) is not None and done.seconds:
                timing = done.seconds.get(_TIMING, 0.0)
                self._seconds.append(timing if what == "time" else sum(done.seconds.values()) - timing)

    def add(self, seconds: float) -> None:
        """Take note of a cell that took so long."""
        self._seconds.append(seconds)

    def left(self, waiting: int, running: Sequence[float], jobs: int) -> float | None:
        """Return the seconds that the rest takes; None before a cell was measured.

        Args:
            waiting: Cells that were not begun.
            running: Seconds since each of the others was begun.
            jobs: Cells that run at the same time.
        """
        if not self._seconds:
            return None
        each = fmean(self._seconds)
        return (waiting * each + sum(max(each - seconds, 0.0) for seconds in running)) / max(jobs, 1)

    def words(self, waiting: int, running: Sequence[float], jobs: int) -> str:
        """Return the same in words, with a comma before them; empty when nothing is left."""
        return f", {left(self.left(waiting, running, jobs))}" if waiting or running else ""


def last_line(log: Path) -> str:
    """Return the last line of a cell's log; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LAST))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[-1].strip()[:200] if lines else ""
