"""What a user sees while a run is played: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, TypeAlias

from lram.harness.storage.records import EpisodeRecord, WorkItem
from lram.harness.waiting import LINE_EVERY_S, left, remaining, say
from lram.harness.words import visible

if TYPE_CHECKING:
    from rich.console import Console


class Reporter(Protocol):
    """Told what happens in a run."""

    def record(self, record: EpisodeRecord) -> None:
        """Take note of a record."""
        ...

    def heartbeat(self, active: int, decisions: int) -> None:
        """Take note of the episodes in flight and the decisions so far; comes several times a second."""
        ...


Progress: TypeAlias = Callable[[Sequence[WorkItem], int], AbstractContextManager[Reporter]]


class _Silent:
    def record(self, record: EpisodeRecord) -> None:
        pass

    def heartbeat(self, active: int, decisions: int) -> None:
        pass


@contextmanager
def quiet(items: Sequence[WorkItem], planned: int) -> Iterator[Reporter]:
    """Report nothing."""
    yield _Silent()


@contextmanager
def shown(items: Sequence[WorkItem], planned: int) -> Iterator[Reporter]:
    """Report on standard error: a bar when that is a terminal, a line now and then otherwise."""
    from rich.console import Console

    console = Console(stderr=True)
    if planned > len(items):
        with suppress(OSError):
            console.print(f"{planned - len(items)} of {planned} episodes are recorded already")
    if not console.is_terminal:
        lines = _Lines(len(items))
        yield lines
        lines.summary()
        return
    with _bar(console, len(items)) as bar:
        yield bar


class _Tally:
    def __init__(self, total: int) -> None:
        self.total, self.done, self.errored, self.decisions = total, 0, 0, 0
        self.started = time.monotonic()

    def add(self, record: EpisodeRecord) -> None:
        self.done += 1
        self.errored += record.status == "errored"

    def text(self) -> str:
        seconds = time.monotonic() - self.started
        errors = f", {self.errored} errored" if self.errored else ""
        return f"{self.decisions:,} decisions, {self.decisions / max(seconds, 1e-9):,.0f}/s{errors}"


class _Lines(_Tally):
    def __init__(self, total: int) -> None:
        super().__init__(total)
        self._next = self.started + LINE_EVERY_S
        self._playing: float | None = None  # since when: starting simulators and models is no pace

    def record(self, record: EpisodeRecord) -> None:
        self.add(record)
        if record.failure is not None:
            say(f"{record.item.id} errored: {record.failure.message}")

    def heartbeat(self, active: int, decisions: int) -> None:
        self.decisions = decisions
        now = time.monotonic()
        if decisions and self._playing is None:
            self._playing = now
        if now >= self._next:
            self._next = now + LINE_EVERY_S
            seconds = now - (self._playing or now)
            after = left(remaining(self.total, self.done, active, seconds))
            say(f"{self.done}/{self.total} episodes, {active} in flight, {self.text()}, {after}")

    def summary(self) -> None:
        seconds = time.monotonic() - self.started
        say(f"{self.done}/{self.total} episodes in {seconds:.0f} s, {self.text()}")


@contextmanager
def _bar(console: Console, total: int) -> Iterator[Reporter]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("episodes", total=total, note="")
        tally = _Tally(total)

        class Live:
            def record(self, record: EpisodeRecord) -> None:
                tally.add(record)
                bar.update(task, advance=1)
                if record.failure is not None:
                    bar.console.print(
                        visible(f"{record.item.id} errored: {record.failure.message}"), markup=False
                    )

            def heartbeat(self, active: int, decisions: int) -> None:
                tally.decisions = decisions
                bar.update(task, note=f"{active} in flight, {tally.text()}")

        yield Live()
