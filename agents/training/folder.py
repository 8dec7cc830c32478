"""The folder of a training run, and the rule that one process group writes it.

::

    RUN/
        recipe.toml            every field of the recipe
        metrics.jsonl          a line an event; tensorboard/ the same as curves
        state/                 to resume from: the two newest
        checkpoints/step-N/    checkpoints on the way
        checkpoint/            the final one: training has ended
        lock                   held while a process trains
"""

from __future__ import annotations

import fcntl
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lram.agents.api import AgentError
from lram.agents.checkpoint import CONFIG_FILE
from lram.agents.training.recipe import FREE, Recipe, flat, recipe_to_dict
from lram.agents.training.recipe_text import read_recipe, render_recipe
from lram.agents.training.state import FOLDER, newest_update, remove_partial

RECIPE_FILE = "recipe.toml"
FINAL = "checkpoint"
BETWEEN = "checkpoints"


@contextmanager
def written(run: Path) -> Iterator[None]:
    """Hold the run's lock and clear what a killed process left half done; AgentError when it is held."""
    lock = _open_lock(run)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AgentError(f"{run} is being trained by another process; wait for it or end it") from None
        for folder in (run, run / FOLDER, run / BETWEEN):
            remove_partial(folder)
            for hidden in folder.glob(f".{FINAL}-*" if folder == run else ".step-*"):
                shutil.rmtree(hidden, ignore_errors=True)  # of save_checkpoint
        yield
    finally:
        lock.close()


def _open_lock(run: Path) -> io.TextIOWrapper:
    try:
        return (run / "lock").open("a")
    except OSError as error:
        raise AgentError(f"{run} cannot be written ({error.strerror}); give a folder that can") from error


def check_vacant(run: Path) -> None:
    """Raise AgentError when something is in the folder that a new run is to have."""
    if (run / RECIPE_FILE).is_file():
        if is_finished(run):
            raise AgentError(
                f"{run} holds a run that has ended, with its model in {run / FINAL}; give another folder"
            )
        raise AgentError(
            f"{run} holds a run that stopped after update {newest_update(run)}; go on with "
            f"'lram train --resume {run}', or give another folder"
        )
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise AgentError(f"{run} exists and is kept; give another folder for the run")


def begin(run: Path, recipe: Recipe) -> None:
    """Make the folder of a new run; AgentError when something is there, or it cannot be written."""
    check_vacant(run)
    try:
        run.mkdir(parents=True, exist_ok=True)
        (run / RECIPE_FILE).write_text(render_recipe(recipe), encoding="utf-8")
    except OSError as error:
        raise AgentError(f"{run} cannot be written ({error.strerror}); give a folder that can") from error


def recipe_of(run: Path, settings: tuple[str, ...] = ()) -> Recipe:
    """Return the recipe to go on with; AgentError when there is no run or ``settings`` change its numbers."""
    path = run / RECIPE_FILE
    if not path.is_file():
        raise AgentError(
            f"{run} is no training run: it has no {RECIPE_FILE}; 'lram train RECIPE -o {run}' starts one"
        )
    recipe = read_recipe(path)
    changed = read_recipe(path, settings)
    refuse_changes(run, recipe, changed)
    return changed


def refuse_changes(run: Path, before: Recipe, after: Recipe) -> None:
    """Raise AgentError for the first field that differs and decides numbers."""
    old, new = flat(recipe_to_dict(before)), flat(recipe_to_dict(after))
    for name in sorted(old.keys() | new.keys()):
        if name not in FREE and old.get(name) != new.get(name):
            raise AgentError(
                f"{run} was trained with {name} = {old.get(name)} and cannot go on with {new.get(name)}; "
                "leave it, or start a new run"
            )


def is_finished(run: Path) -> bool:
    """Return whether the final checkpoint is there."""
    return (run / FINAL / CONFIG_FILE).is_file()


def prune_checkpoints(run: Path, keep: int) -> None:
    """Remove all but the newest checkpoints on the way."""
    found = {}
    for path in (run / BETWEEN).glob("step-*"):
        number = path.name.removeprefix("step-")
        if number.isdigit():
            found[int(number)] = path
    for old in sorted(found)[:-keep]:
        shutil.rmtree(found[old])
