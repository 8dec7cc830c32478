"""One cell in a process of its own: ``python -m lram.harness.studies.child FOLDER CELL make|time``.

``make`` trains, evaluates and measures what is not there yet; ``time`` takes the times of decisions
and closes the cell. Both continue wherever an earlier process was interrupted. The exit code is 0 when all
of it is there, 130 when the process was asked to stop, and 2 when something is wrong, with one sentence
as the last line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lram.agents.api import AgentError
from lram.agents.training.recipe import Recipe
from lram.agents.training.recipe_text import recipe_from_dict
from lram.envs.protocol_id import ProtocolId
from lram.harness.errors import LramError, as_lram_error
from lram.harness.evaluation import evaluate, resume
from lram.harness.machine import Machine, calm_threads
from lram.harness.progress import shown
from lram.harness.storage.provenance import collect
from lram.harness.studies.folder import CellFolder, StudyFolder, held
from lram.harness.studies.records import SCHEMA, Copies, Done, StudyPlan, Times
from lram.harness.studies.study import Study

INTERRUPTED = 130


def make(cell: CellFolder, study: Study) -> None:
    """Train, evaluate and measure copying, as far as that is not done.

    Raises:
        KeyboardInterrupt: The process was asked to stop; a training has saved its state.
        LramError, AgentError: Something is wrong; what was made is kept.
    """
    recipe = recipe_from_dict(cell.entry.recipe, cell.entry.title)
    if not cell.is_trained():
        _timed(cell, "train", lambda: _train(cell, recipe))
    if not cell.is_evaluated():
        _timed(cell, "eval", lambda: _evaluate(cell, study, recipe.device))
    if cell.copies() is None:
        from lram.harness.studies.copycat import copycat

        def measure() -> None:
            cell.write("copycat.json", Copies(SCHEMA, copycat(cell.checkpoint, recipe), cell.entry.key))

        _timed(cell, "copycat", measure)


def take_times(cell: CellFolder, study: Study) -> None:
    """Time the cell's decisions and close it; raises as :func:`make`."""
    from lram.agents.checkpoints.folder import load_checkpoint
    from lram.harness.studies.timing import time_checkpoint

    recipe = recipe_from_dict(cell.entry.recipe, cell.entry.title)
    if cell.times() is None:

        def measure() -> None:
            load = os.getloadavg()[0]
            step, points = time_checkpoint(cell.checkpoint, recipe, study.timing)
            cell.write("timing.json", Times(SCHEMA, step, round(load, 2), points, cell.entry.key))

        _timed(cell, "timing", measure)
    model, _ = load_checkpoint(cell.checkpoint)
    made = collect({"threads": 1, "workers": 1}, {})
    cell.write(
        "done.json",
        Done(SCHEMA, cell.entry.key, cell.entry.title, model.parameter_count, cell.seconds(), made),
    )


def _train(cell: CellFolder, recipe: Recipe) -> None:
    from lram.agents.training.run import go_on, start
    from lram.harness.training import surroundings

    if (cell.train / "recipe.toml").is_file():
        # The study's folder may have been moved; which trajectories they are is held by their digests.
        stores = f"data.stores={json.dumps(list(recipe.data.stores))}"
        with surroundings() as around:
            outcome = go_on(cell.train, (stores,), around)
    else:
        _set_aside(cell.train)  # of a process that was killed before it began
        with surroundings() as around:
            outcome = start(recipe, cell.train, around)
    if not outcome.finished:
        raise KeyboardInterrupt


def _evaluate(cell: CellFolder, study: Study, device: str) -> None:
    # On a processor a cell has one core; where a GPU decides, simulators have all of them.
    asked, machine = study.evaluation, Machine(workers=1 if device == "cpu" else None, device=device)
    spec = str(cell.checkpoint.resolve())
    # A run finds its model and interpreters by the paths that it was begun with: in a folder that was moved,
    # and on a machine that has them elsewhere, it begins again.
    run = cell.run()
    if (
        run is not None
        and [agent.spec for agent in run.plan.agents] == [spec]
        and all(Path(python).exists() for python in run.plan.interpreters.values())
    ):
        resume(run, machine=machine, progress=shown)
        return
    _set_aside(cell.eval)  # that, or of a process that was killed before it began
    evaluate(
        {cell.entry.title: spec},
        list(asked.tasks),
        cell.eval,
        episodes=asked.episodes,
        seed=cell.evaluation_seed(asked),
        protocols=asked.protocols,
        machine=machine,
        progress=shown,
    )


def _set_aside(folder: Path) -> None:
    """Make way for a new ``folder``: what is there is kept beside it, because it may have taken hours."""
    if not os.path.lexists(folder):
        return
    number = 1
    while os.path.lexists(aside := folder.with_name(f"{folder.name}.aside-{number}")):
        number += 1
    folder.rename(aside)
    print(f"{folder} is begun again; what was there is in {aside}", flush=True)


@as_lram_error()
def _settled(plan: StudyPlan) -> Study:
    """Return the study with the protocols of its plan: another machine could play others that fit it, too."""
    protocols = {one.domain: one.name for one in map(ProtocolId.parse, plan.protocols)}
    return replace(plan.study, evaluation=replace(plan.study.evaluation, protocols=protocols))


def _timed(cell: CellFolder, stage: str, work: Callable[[], None]) -> None:
    """Do ``work`` and add what it took to the stage's seconds, also where it is interrupted.

    A stage may be interrupted when its last file is written, and is not begun again then: its seconds would
    be missing if they were written only after it.
    """
    began = time.monotonic()
    try:
        work()
    finally:
        cell.add_seconds(stage, time.monotonic() - began)


def _end_with_parent() -> None:
    """Stop as if asked to when the parent, which holds the other end of standard input, is gone."""

    def watch() -> None:
        os.read(0, 1)  # not by sys.stdin, whose lock must be free when the interpreter ends
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main(folder: str, name: str, what: str) -> int:
    """Do the work of one cell; return the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which then asks
    _end_with_parent()
    calm_threads()
    try:
        study = StudyFolder(folder)
        cell = study.cell(name)
        # A child whose parent was killed may still be saving its state.
        with held(cell.path / "lock", wait=True):
            {"make": make, "time": take_times}[what](cell, _settled(study.plan))
    except (LramError, AgentError) as error:
        print(f"lram: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
