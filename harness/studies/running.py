"""Run a study: collect what it is to be trained on, make its cells in child processes, then time them.

Cells are timed one after the other when all are made, so that nothing else of the study runs beside
them; one seed after the other, so that the levels take turns on the machine.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec

from lram.agents.own_code import changed, code_of
from lram.agents.patterns import fits
from lram.agents.places import placed
from lram.agents.shown import few
from lram.agents.training.recipe import recipe_to_dict
from lram.agents.trajectories import TrajectoryStore
from lram.envs.registry import select
from lram.harness.collection.collect import Notes, collect, collected_runs
from lram.harness.domain_files import noted, sources
from lram.harness.errors import LramError
from lram.harness.executors.contract import Executor, ExecutorSession, JobUpdate
from lram.harness.executors.local import LOCAL
from lram.harness.machine import Machine
from lram.harness.plan import labelled_specs
from lram.harness.progress import Progress, quiet
from lram.harness.storage.json_files import read_json, write_json
from lram.harness.storage.links import refuse_links
from lram.harness.storage.segments import LOCK
from lram.harness.studies.cell_job import CellJob, What
from lram.harness.studies.cells import Cell, cells_of
from lram.harness.studies.folder import (
    STUDY_FILE,
    CellFolder,
    StudyFolder,
    check_place,
    held,
    write_plan,
)
from lram.harness.studies.initial_weights import check_initial_weights
from lram.harness.studies.pace import CellPace, last_line
from lram.harness.studies.preflight import check_study, protocols_of
from lram.harness.studies.records import SCHEMA, CellEntry, StudyPlan
from lram.harness.studies.reuse import opened_others, reuse_store, reuse_trainings
from lram.harness.studies.study import Collect, Statement, Study
from lram.harness.waiting import LINE_EVERY_S
from lram.harness.words import count

Say = Callable[[str], None]

SHARED_STARTS = (
    "this study was begun by a version that evaluates every training seed on the same initial states, and is "
    "continued like that: its verdicts miss the noise of those states; a study in another folder has initial "
    "states of its own for each training seed"
)

_SHOWN = 24  # cells that are listed


@dataclass(frozen=True, slots=True)
class FailedCell:
    """A cell that could not be made, and why."""

    cell: CellFolder
    reason: str


def ablate(
    study: Study,
    folder: str | Path,
    *,
    jobs: int | None = None,
    only: Sequence[str] = (),
    reuse: Sequence[str | Path] = (),
    say: Say = lambda line: None,
    executor: Executor = LOCAL,
    progress: Progress = quiet,
) -> tuple[StudyFolder, list[FailedCell]]:
    """Make the cells of ``study`` that ``folder`` does not have yet.

    Args:
        study: The study.
        folder: Where; one that exists is continued, also when the study has changed: cells of the
            same content are kept as they are.
        jobs: Cells that are made at the same time, one thread each (None: one; on a cluster as many as fit).
        only: Patterns of cells' titles, level names or folders; none: all cells.
        reuse: Folders of other studies, from which collected trajectories and trainings of cells with the
            same key are copied (:mod:`lram.harness.studies.reuse`).
        say: Told what happens.
        executor: Where: this machine, or a cluster; data are collected there, too.
        progress: Told of the episodes that are collected.

    Returns:
        The study on disk, and the cells that failed.

    Raises:
        LramError, AgentError: The study cannot be run as it is; one sentence.
        KeyboardInterrupt: The running cells have saved what they can.
    """
    if jobs is not None and jobs < 1:
        raise LramError(f"jobs is {jobs}; it must be 1 or more")
    executor.check_for_cells()
    path = placed(folder)
    check_place(path)
    others = opened_others(reuse, path)
    with held(path / LOCK):
        refuse_links(path, (STUDY_FILE, "data", "cells"))
        planned, cells = check_study(study, executor)
        # A folder that was begun by an earlier version keeps its rule, so that its cells stay what they are.
        own_starts = not os.path.lexists(path / STUDY_FILE) or StudyFolder(path).plan.own_starts
        if not own_starts:
            say(SHARED_STARTS)
        say(_listed(_named(cells, only)))
        stores = {one: TrajectoryStore(one).digest for one in study.data.stores}
        for asked in study.data.collect:
            where, digest = _collected(asked, path / "data", others, jobs, say, executor, progress)
            stores[str(where.resolve())] = digest
        cells = cells_of(
            study,
            stores,
            protocols := protocols_of(planned),
            own_starts=own_starts,
            domain_code=noted(planned.domain_files),
            made=_names_in(path / "cells"),
        )
        for line in _other_code(path, cells):
            say(line)
        entries = tuple(map(_entry, cells))
        earlier = _earlier_predictions(path, study)
        plan = StudyPlan(SCHEMA, study, stores, protocols, entries, earlier_predictions=earlier)
        write_plan(path, plan)
        opened = StudyFolder(path)
        chosen = _chosen(opened.cells(), only)
        check_initial_weights(chosen)
        reuse_trainings(chosen, others, say)
        if made := sum(cell.done() is not None for cell in chosen):
            say(f"{made} of {count(len(chosen), 'cell')} made already")
        unmade = [cell for cell in chosen if cell.stage() not in ("", "timing")]
        failed: list[FailedCell] = []
        if any(cell.stage() for cell in chosen):
            with executor.open(log=say) as session:
                failed = _work(session, opened, "make", unmade, jobs, say)
                lost = {one.cell.entry.folder for one in failed}
                untimed = [cell for cell in chosen if cell.stage() and cell.entry.folder not in lost]
                failed += _work(session, opened, "time", untimed, 1, say)
    return opened, failed


def _collected(
    asked: Collect,
    folder: Path,
    others: Sequence[StudyFolder],
    jobs: int | None,
    say: Say,
    executor: Executor,
    progress: Progress,
) -> tuple[Path, str]:
    """Return the store with what is asked for, and its digest; it is collected as far as it is not there."""
    key = _collected_key(asked, folder, say)
    store, marker = folder / key, folder / f"{key}.json"
    reuse_store(key, folder, others, say)
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
            executor=executor,
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


def _collected_key(asked: Collect, folder: Path, say: Say) -> str:
    """Return the name of the trajectories that are asked for: of what is asked, and of the user's code in it.

    Those that an earlier version collected carry the name of what was asked alone; they are kept unless their
    run notes other code.
    """
    earlier = _digest8(asked)
    code = noted(sources(dict.fromkeys(task.domain for task in select(list(asked.tasks)))))
    for spec in labelled_specs(list(asked.agents)).values():
        code |= {f"module {name}": digest for name, digest in code_of(str(spec)).items()}
    if not code:
        return earlier
    if os.path.lexists(folder / earlier):
        others = changed(_code_of_store(folder / earlier), code)
        if not others:
            return earlier
        say(
            f"the source of {few(others, 8)} has changed since the trajectories in {folder / earlier} were "
            "collected; they stay there, and others are collected"
        )
    return _digest8({"collect": asked, "code": code})


def _code_of_store(store: Path) -> dict[str, str]:
    """Return what the runs of a store note of the user's code that played them."""
    found: dict[str, str] = {}
    for run in collected_runs(store):
        found |= noted(run.plan.domain_files)
        for agent in run.plan.agents:
            found |= {f"module {name}": digest for name, digest in agent.code.items()}
    return found


def _digest8(what: object) -> str:
    return hashlib.sha256(msgspec.json.encode(what, order="sorted")).hexdigest()[:8]


def _entry(cell: Cell) -> CellEntry:
    return CellEntry(
        cell.levels,
        cell.seed,
        cell.title,
        cell.key,
        cell.folder,
        recipe_to_dict(cell.recipe),
        cell.evaluation_seed,
        cell.code,
    )


def _names_in(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()} if folder.is_dir() else set()


def _other_code(path: Path, cells: Sequence[Cell]) -> list[str]:
    """Return what is to be said of cells in ``path`` that other code made, or code that is not known."""
    said = []
    if unnoted := [cell.folder for cell in cells if cell.unnoted]:
        said.append(
            f"{count(len(unnoted), 'cell')} of this study began under a version that did not note the code "
            "of own backbones and domains, and they are kept, whatever code made them; to make them anew, "
            f"move away {few((str(path / 'cells' / one) for one in unnoted), 8)}"
        )
    if not os.path.lexists(path / STUDY_FILE):
        return said
    before = {(entry.levels, entry.seed): entry.code for entry in StudyFolder(path).plan.cells}
    others: dict[str, None] = {}
    anew = []
    for cell in cells:
        earlier = before.get((cell.levels, cell.seed), {})
        if what := changed(earlier, cell.code) if cell.code else []:
            others |= dict.fromkeys(what)
            anew.append(cell)
    if anew:
        said.append(
            f"the source of {few(others, 8)} has changed since this study was run last, and so "
            f"{count(len(anew), 'cell')} of it are not those that were asked for then; what the other code "
            f"made stays in {path / 'cells'}"
        )
    return said


def _earlier_predictions(path: Path, study: Study) -> tuple[tuple[Statement, ...], ...]:
    """Return the predictions of the study in ``path`` that were replaced after its first training."""
    if not os.path.lexists(path / STUDY_FILE):
        return ()
    before = StudyFolder(path)
    earlier = before.plan.earlier_predictions
    if before.plan.study.prediction == study.prediction or not any(
        cell.is_trained() for cell in before.cells()
    ):
        return earlier
    return (*earlier, before.plan.study.prediction)


def _listed(cells: Sequence[Cell]) -> str:
    """Return how many cells there are, and which."""
    return f"{count(len(cells), 'cell')}: {few((cell.title for cell in cells), _SHOWN, '; ')}"


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
            if any(fits(name, pattern) for name in (cell.title, *cell.levels, f"seed {cell.seed}"))
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
        named = [cell for cell in cells if any(fits(name, pattern) for name in _names(cell))]
        if not named:
            raise _no_cell(pattern, [cell.entry.title for cell in cells])
        found |= {cell.entry.folder: cell for cell in named}
    return [cell for cell in cells if cell.entry.folder in found]


def _names(cell: CellFolder) -> tuple[str, ...]:
    return (cell.entry.title, cell.entry.folder, *cell.entry.levels, f"seed {cell.entry.seed}")


def _work(
    session: ExecutorSession,
    study: StudyFolder,
    what: What,
    cells: Sequence[CellFolder],
    at_once: int | None,
    say: Say,
) -> list[FailedCell]:
    """Make or time ``cells``, telling how far it is; return those that failed."""
    pace = CellPace(what, study.cells())
    began: dict[str, float] = {}
    failed: list[FailedCell] = []
    finished, logged = 0, time.monotonic()
    jobs = [CellJob(study, cell, what) for cell in cells]
    stream = cast(Generator[JobUpdate | None, None, None], session.run(jobs, at_once))

    def ahead() -> str:
        now = time.monotonic()
        running = [now - start for start in began.values()]
        return pace.words(len(cells) - finished - len(began), running, at_once or len(running))

    with closing(stream) as updates:
        for update in updates:
            if update is None:
                if began and not session.remote and time.monotonic() - logged >= LINE_EVERY_S:
                    logged = time.monotonic()
                    for job in [job for job in jobs if job.cell.entry.folder in began]:
                        at = last_line(job.cell.path / "log.txt") or "begins"
                        say(f"{finished}/{len(cells)}  {job.title}: {at}")
                    say(f"{finished}/{len(cells)} cells{ahead()}")
                continue
            cell, title = update.job.cell, update.job.title
            if update.state == "started":
                began[cell.entry.folder] = time.monotonic()
                continue
            began.pop(cell.entry.folder, None)
            if update.state == "lost":
                say(
                    f"{title} was lost with its process on the node {update.node} and is made again: "
                    f"{update.reason}"
                )
                continue
            finished += 1
            if update.state == "failed":
                failed.append(FailedCell(cell, update.reason))
                how = f"failed: {update.reason}"
            else:
                pace.add(update.seconds)
                how = f"{what} took {update.seconds:.0f} s" + (f" on {update.node}" if update.node else "")
            say(f"{finished}/{len(cells)}  {title}: {how}{ahead()}")
            logged = time.monotonic()
    return failed
