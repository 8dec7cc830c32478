"""Run a study: collect what it is to be trained on, make its cells in child processes, then time them.

Cells are timed one after the other when all are made, so that nothing else of the study runs beside
them; one seed after the other, so that the levels take turns on the machine.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

import msgspec

from lram.agents.places import placed
from lram.agents.training.recipe import recipe_to_dict
from lram.agents.trajectories import TrajectoryStore
from lram.harness.children import child_environment
from lram.harness.collection.collect import Notes, collect
from lram.harness.errors import LramError
from lram.harness.executors.contract import LOCAL, Backend
from lram.harness.machine import Machine
from lram.harness.progress import Progress, quiet
from lram.harness.storage.json_files import read_json, write_json
from lram.harness.storage.links import open_log, refuse_links
from lram.harness.storage.segments import LOCK
from lram.harness.studies.cells import Cell, cells_of
from lram.harness.studies.folder import (
    STUDY_FILE,
    CellFolder,
    StudyFolder,
    check_place,
    held,
    write_plan,
)
from lram.harness.studies.pace import CellPace, last_line
from lram.harness.studies.preflight import check_study
from lram.harness.studies.records import SCHEMA, CellEntry, StudyPlan
from lram.harness.studies.study import Collect, Study
from lram.harness.waiting import LINE_EVERY_S
from lram.harness.words import count

Say = Callable[[str], None]

SHARED_STARTS = (
    "this study was begun by a version that evaluates every training seed on the same initial states, and is "
    "continued like that: its verdicts miss the noise of those states; a study in another folder has initial "
    "states of its own for each training seed"
)

_SHOWN = 24  # cells that are listed
_POLL_S = 0.2
_STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Failed:
    """A cell that could not be made, and why."""

    cell: CellFolder
    reason: str


class Team(Protocol):
    """Makes cells."""

    def run(self, what: str, cells: Sequence[CellFolder], jobs: int | None) -> list[Failed]:
        """Work on ``cells``, ``jobs`` at a time (None: as many as is usual); return those that failed.

        Args:
            what: ``make``, or ``time``: one after the other, on one machine with nothing beside them.
            cells: What is to be worked on.
            jobs: At a time.

        Raises:
            LramError: Nothing can be made any more.
            KeyboardInterrupt: The cells in work have been told to save what they can.
        """
        ...


class Crew(Protocol):
    """Where cells are made.

    Attributes:
        backend: Where data are collected, and whose simulators play the evaluation.
    """

    backend: Backend

    def open(self, study: StudyFolder, say: Say) -> AbstractContextManager[Team]:
        """Return a team for as long as the context is held."""
        ...


class Here:
    """This machine."""

    backend: Backend = LOCAL

    @contextmanager
    def open(self, study: StudyFolder, say: Say) -> Iterator[Team]:
        """Return a team of processes."""
        yield _HereTeam(study.path, say)


HERE = Here()


@dataclass(frozen=True, slots=True)
class _HereTeam:
    path: Path
    say: Say

    def run(self, what: str, cells: Sequence[CellFolder], jobs: int | None) -> list[Failed]:
        pace = CellPace(what, StudyFolder(self.path).cells())
        return _Children(self.path, what, self.say, pace).run(cells, 1 if what == "time" else jobs or 1)


def ablate(
    study: Study,
    folder: str | Path,
    *,
    jobs: int | None = None,
    only: Sequence[str] = (),
    say: Say = lambda line: None,
    crew: Crew = HERE,
    progress: Progress = quiet,
) -> tuple[StudyFolder, list[Failed]]:
    """Make the cells of ``study`` that ``folder`` does not have yet.

    Args:
        study: The study.
        folder: Where; one that exists is gone on with, also when the study has changed: cells of the
            same content are kept as they are.
        jobs: Cells that are made at the same time, one thread each (None: one; on a cluster as many as fit).
        only: Patterns of cells' titles, level names or folders; none: all cells.
        say: Told what happens.
        crew: Where: this machine, or a cluster (:class:`lram.harness.executors.ray.studies.Nodes`).
        progress: Told of the episodes that are collected.

    Returns:
        The study on disk, and the cells that failed.

    Raises:
        LramError, AgentError: The study cannot be run as it is; one sentence.
        KeyboardInterrupt: The cells in work have saved what they can.
    """
    if jobs is not None and jobs < 1:
        raise LramError(f"jobs is {jobs}; it must be 1 or more")
    path = placed(folder)
    check_place(path)
    with held(path / LOCK):
        refuse_links(path, (STUDY_FILE, "data", "cells"))
        protocols, cells = check_study(study, crew.backend)
        # A folder that was begun by an earlier version keeps its rule, so that its cells stay what they are.
        own_starts = not os.path.lexists(path / STUDY_FILE) or StudyFolder(path).plan.own_starts
        if not own_starts:
            say(SHARED_STARTS)
        say(_listed(_named(cells, only)))
        stores = {one: TrajectoryStore(one).digest for one in study.data.stores}
        for asked in study.data.collect:
            where, digest = _collected(asked, path / "data", jobs, say, crew.backend, progress)
            stores[str(where.resolve())] = digest
        plan = _plan(study, stores, protocols, own_starts=own_starts)
        write_plan(path, plan)
        opened = StudyFolder(path)
        chosen = _chosen(opened.cells(), only)
        if made := sum(cell.done() is not None for cell in chosen):
            say(f"{made} of {count(len(chosen), 'cell')} made already")
        unmade = [cell for cell in chosen if cell.stage() not in ("", "timing")]
        failed: list[Failed] = []
        if any(cell.stage() for cell in chosen):
            with crew.open(opened, say) as team:
                failed = team.run("make", unmade, jobs)
                lost = {one.cell.entry.folder for one in failed}
                untimed = [cell for cell in chosen if cell.stage() and cell.entry.folder not in lost]
                failed += team.run("time", untimed, 1)
    return opened, failed


def _collected(
    asked: Collect, folder: Path, jobs: int | None, say: Say, backend: Backend, progress: Progress
) -> tuple[Path, str]:
    """Return the store with what is asked for, and its digest; it is collected as far as it is not there."""
    key = hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()[:8]
    store, marker = folder / key, folder / f"{key}.json"
    if not marker.is_file():
        say(f"collecting {asked.episodes} episodes a task of {', '.join(asked.agents)}")
        folder.mkdir(parents=True, exist_ok=True)
        run = collect(
            list(asked.agents),
            list(asked.tasks),
            store,
            episodes=asked.episodes,
            seed=asked.seed,
            protocols=asked.protocols,
            machine=Machine(workers=jobs or 1),
            notes=Notes("collected by a study"),
            backend=backend,
            progress=progress,
        )
        if errored := sum(record.status != "scored" for record in run.records()):
            say(f"{errored} of the episodes errored and are not trained on; see {run.path / 'logs'}")
        write_json(marker, {"digest": TrajectoryStore(store).digest})
    digest = TrajectoryStore(store).digest
    if read_json(marker, dict[str, str]).get("digest") != digest:
        raise LramError(
            f"the trajectories in {store} have changed since they were collected; remove {marker}"
        )
    return store, digest


def _plan(study: Study, stores: dict[str, str], protocols: tuple[str, ...], *, own_starts: bool) -> StudyPlan:
    cells = tuple(
        CellEntry(
            cell.levels,
            cell.seed,
            cell.title,
            cell.key,
            cell.folder,
            recipe_to_dict(cell.recipe),
            cell.evaluation_seed,
        )
        for cell in cells_of(study, stores, protocols, own_starts=own_starts)
    )
    return StudyPlan(SCHEMA, study, stores, protocols, cells)


def _listed(cells: Sequence[Cell]) -> str:
    """Return how many cells there are, and which."""
    more = f"; and {len(cells) - _SHOWN} more" if len(cells) > _SHOWN else ""
    return f"{count(len(cells), 'cell')}: {'; '.join(cell.title for cell in cells[:_SHOWN])}{more}"


def _named(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """Return the cells that ``only`` may mean; LramError for a pattern that no cell has.

    Names of folders end with a key that is not known yet: whatever begins like one may be one.
    """
    if not only:
        return list(cells)
    chosen: set[str] = set()
    for pattern in only:
        named = {
            cell.title
            for cell in cells
            if any(_fits(name, pattern) for name in (cell.title, *cell.levels, f"seed {cell.seed}"))
            or pattern.startswith(cell.folder.removesuffix(cell.key[:8]))
        }
        wild = any(letter in pattern for letter in "*?[")
        if not named and not wild:
            raise _no_cell(pattern, [cell.title for cell in cells])
        chosen |= named
    return [cell for cell in cells if cell.title in chosen]


def _no_cell(pattern: str, titles: Sequence[str]) -> LramError:
    return LramError(f"no cell is called {pattern!r}; there are {', '.join(map(repr, titles))}")


def _chosen(cells: Sequence[CellFolder], only: Sequence[str]) -> list[CellFolder]:
    if not only:
        return list(cells)
    found: dict[str, CellFolder] = {}
    for pattern in only:
        named = [cell for cell in cells if any(_fits(name, pattern) for name in _names(cell))]
        if not named:
            raise _no_cell(pattern, [cell.entry.title for cell in cells])
        found |= {cell.entry.folder: cell for cell in named}
    return [cell for cell in cells if cell.entry.folder in found]


def _fits(name: str, pattern: str) -> bool:
    """Return whether a pattern is or describes a name: brackets may be part of it."""
    return name == pattern or fnmatchcase(name, pattern)


def _names(cell: CellFolder) -> tuple[str, ...]:
    return (cell.entry.title, cell.entry.folder, *cell.entry.levels, f"seed {cell.entry.seed}")


@dataclass(slots=True)
class _Child:
    cell: CellFolder
    process: subprocess.Popen[bytes]
    began: float


class _Children:
    """Child processes that each work on one cell."""

    def __init__(self, study: Path, what: str, say: Say, pace: CellPace) -> None:
        self._study, self._what, self._say, self._pace = study, what, say, pace
        self._running: list[_Child] = []

    def run(self, cells: Sequence[CellFolder], jobs: int) -> list[Failed]:
        """Work on ``cells``, ``jobs`` at a time; return those that failed."""
        waiting, failed, finished = list(cells), [], 0
        told = time.monotonic()
        try:
            while waiting or self._running:
                while waiting and len(self._running) < jobs:
                    self._running.append(self._start(waiting.pop(0)))
                time.sleep(_POLL_S)
                for child in [one for one in self._running if one.process.poll() is not None]:
                    self._running.remove(child)
                    finished += 1
                    seconds = time.monotonic() - child.began
                    why = reason(child.process.returncode, child.cell.path / "log.txt")
                    how = f"failed: {why}" if why else f"{self._what} took {seconds:.0f} s"
                    if why:
                        failed.append(Failed(child.cell, why))
                    else:
                        self._pace.add(seconds)
                    ahead = self._left(len(waiting), jobs)
                    self._say(f"{finished}/{len(cells)}  {child.cell.entry.title}: {how}{ahead}")
                    told = time.monotonic()
                if self._running and time.monotonic() - told >= LINE_EVERY_S:
                    told = time.monotonic()
                    for child in self._running:
                        at = last_line(child.cell.path / "log.txt") or "begins"
                        self._say(f"{finished}/{len(cells)}  {child.cell.entry.title}: {at}")
                    self._say(f"{finished}/{len(cells)} cells{self._left(len(waiting), jobs)}")
        except BaseException:
            self._stop()
            raise
        return failed

    def _left(self, waiting: int, jobs: int) -> str:
        now = time.monotonic()
        return self._pace.words(waiting, [now - child.began for child in self._running], jobs)

    def _start(self, cell: CellFolder) -> _Child:
        return _Child(cell, begin(self._study, cell, self._what), time.monotonic())

    def _stop(self) -> None:
        for child in self._running:
            with suppress(OSError):
                child.process.terminate()
        deadline = time.monotonic() + _STOP_S
        for child in self._running:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()


def begin(study: Path, cell: CellFolder, what: str) -> subprocess.Popen[bytes]:
    """Start the process that works on a cell; it stops as if asked to when this one is gone."""
    refuse_links(cell.path.parent, (cell.path.name,))
    refuse_links(cell.path, ("train", "eval", LOCK))
    cell.path.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "lram.harness.studies.child"]
    with os.fdopen(open_log(cell.path / "log.txt"), "ab") as log:
        return subprocess.Popen(
            [*command, str(study.resolve()), cell.entry.folder, what],
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
