"""Trackers of an evaluation: its progress and its scores, also where others look at experiments.

A tracker is what trainings have (:mod:`lram.agents.training.sinks`), and is given lines of two kinds, where
``update`` is the number of episodes recorded so far::

    {"kind": "progress", "update": 12, "episodes": 12, "errored": 0, "planned": 60, "time": {"seconds": 8.1}}
    {"kind": "scores", "update": 60, "agents": {LABEL: {"score": 0.8, "success": 1.0, "tasks": {...}}}}

Each works in a thread of its own, so that a slow or hanging one keeps nobody waiting. One that fails is given
up with a word, and the evaluation continues: what counts is the run's folder.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from lram.agents.training.sinks import (
    BUILT_IN,
    EXTRAS,
    Sink,
    cause_of,
    is_announced,
    known_trackers,
    open_tracker,
)
from lram.harness.errors import LramError
from lram.harness.progress import Progress, Reporter
from lram.harness.storage.records import EpisodeRecord, WorkItem
from lram.harness.waiting import LINE_EVERY_S, say

CLOSE_S = 60.0
"""So long is waited at the end for a tracker that has not taken all lines yet."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise LramError for a tracker that is not known, or whose package is not there; nothing is imported."""
    known = known_trackers()
    for name in names:
        if name not in known:
            raise LramError(f"there is no tracker {name!r}; known: {', '.join(known)}")
        if not is_announced(name) and find_spec(package := BUILT_IN[name][1]) is None:
            how = f"pip install 'lram-bench[{EXTRAS[name]}]'" if name in EXTRAS else f"pip install {package}"
            raise LramError(f"the tracker {name} needs the package {package}, which is not installed: {how}")


class RunTrackers:
    """Trackers of one evaluation; a context, at whose end they are closed."""

    def __init__(self, names: Sequence[str], settings: Mapping[str, Any], folder: Path) -> None:
        """Take what they are given when play begins; LramError as for :func:`check_trackers`."""
        check_trackers(names)
        self._names = tuple(dict.fromkeys(names))
        self._settings, self._folder = settings, folder
        self._open: list[_TrackerThread] = []

    def over(self, progress: Progress) -> Progress:
        """Return a progress that passes everything on to ``progress``, and to the trackers."""
        if not self._names:
            return progress

        @contextmanager
        def tracked(items: Sequence[WorkItem], planned: int) -> Iterator[Reporter]:
            with progress(items, planned) as report:
                before = planned - len(items)
                self._begin(before)
                telling = _Tracked(report, self, before, planned)
                yield telling
                telling.tell()

        return tracked

    def write(self, line: Mapping[str, Any]) -> None:
        """Hand a line to every tracker."""
        for one in self._open:
            one.lines.put(line)

    def _begin(self, update: int) -> None:
        for name in self._names:
            try:
                sink = open_tracker(name, self._folder, self._settings, update)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a package may do anything, also end the process
                say(f"lram: the tracker {name} cannot be opened and is left out: {cause_of(error)}")
            else:
                self._open.append(_TrackerThread(name, sink))

    def __enter__(self) -> RunTrackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._open:
            one.lines.put(None)
        until = time.monotonic() + CLOSE_S
        for one in self._open:
            one.thread.join(max(0.0, until - time.monotonic()))
            if one.thread.is_alive():
                say(
                    f"lram: the tracker {one.name} has not taken everything after {CLOSE_S:.0f} s; it is left"
                )


class _TrackerThread:
    """Gives one tracker its lines; None ends it."""

    def __init__(self, name: str, sink: Sink) -> None:
        self.name = name
        self.lines: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._sink = sink
        self.thread = threading.Thread(target=self._work, name=f"lram-tracker-{name}", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            while (line := self.lines.get()) is not None:
                self._sink.write(line)
            self._sink.close()
        except BaseException as error:  # likewise
            say(f"lram: the tracker {self.name} failed and is given up: {cause_of(error)}")


class _Tracked:
    """A reporter that also tells trackers, at most every so many seconds."""

    def __init__(self, report: Reporter, trackers: RunTrackers, before: int, planned: int) -> None:
        self._report, self._trackers, self._planned = report, trackers, planned
        self._done, self._errored = before, 0
        self._began = time.monotonic()
        self._next = self._began + LINE_EVERY_S

    def record(self, record: EpisodeRecord) -> None:
        self._report.record(record)
        self._done += 1
        self._errored += record.status == "errored"

    def heartbeat(self, active: int, decisions: int) -> None:
        self._report.heartbeat(active, decisions)
        if time.monotonic() >= self._next:
            self.tell()

    def tell(self) -> None:
        now = time.monotonic()
        self._next = now + LINE_EVERY_S
        self._trackers.write(
            {
                "kind": "progress",
                "update": self._done,
                "episodes": self._done,
                "errored": self._errored,
                "planned": self._planned,
                "time": {"seconds": now - self._began},
            }
        )
