"""The folder of a training run, and the rule that one process group writes it.

::

    RUN/
        recipe.toml            every field of the recipe, and the checksum of its text
        began.json             digests of what it began with: stores, initial checkpoint, and experts' tasks
        metrics.jsonl          a line an event; tensorboard/ the same as curves
        state/                 to resume from: the two newest
        checkpoints/step-N/    checkpoints on the way
        checkpoint/            the final one: training has ended
        lock                   held while a process trains

Only what a run has written itself is ever removed, and nothing outside of its folder: links in place of its
files are refused.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from lram.agents.api import AgentError
from lram.agents.checkpoints.description import CONFIG_FILE, WEIGHTS_FILE
from lram.agents.checkpoints.folder import remove_checkpoint
from lram.agents.checksums import ChecksumError, sign_file, verify_file
from lram.agents.durable import InUseError, Lock, is_scratch_of, laid_by_desktop, read_regular, write_durably
from lram.agents.shown import command, shown
from lram.agents.training.recipe import FREE, Recipe, flat, recipe_to_dict
from lram.agents.training.recipe_text import LARGEST_RECIPE, read_recipe, render_recipe
from lram.agents.training.sinks import METRICS_FILE
from lram.agents.training.state import FOLDER, newest_update, remove_partial

RECIPE_FILE = "recipe.toml"
BEGAN_FILE = "began.json"
FINAL = "checkpoint"
BETWEEN = "checkpoints"
LOCK = "lock"
_SUM = re.compile(rb"# sha256 of the text above: ([0-9a-f]{64})\n\Z")
_OWN = (LOCK, RECIPE_FILE, BEGAN_FILE, METRICS_FILE, FOLDER, BETWEEN, FINAL, "tensorboard")


@contextmanager
def written(run: Path, beginning: tuple[Recipe, Beginning] | None = None) -> Iterator[None]:
    """Hold the run's lock and clear what a killed process left half done.

    Args:
        run: Its folder.
        beginning: Recipe of a new run, which begins here, and with what; None: the run is there.

    Raises:
        AgentError: Another process holds the lock, the folder cannot be written, or there is something in
            the folder of a new run.
    """
    with ExitStack() as stack:
        try:
            _open(run, beginning, stack)
        except InUseError:
            raise AgentError(f"{run} is being trained by another process; wait for it or end it") from None
        except OSError as error:
            raise AgentError(
                f"{run} cannot be written ({error.strerror or error}); fix that, or give a folder that can, "
                "and give the same command again"
            ) from error
        yield


def _open(run: Path, beginning: tuple[Recipe, Beginning] | None, stack: ExitStack) -> None:
    if beginning is not None:
        check_vacant(run)  # before anything of ours is put there
        run.mkdir(parents=True, exist_ok=True)
    _refuse_links(run)
    stack.enter_context(Lock(run / LOCK))
    if beginning is not None:
        check_vacant(run)
    _clear(run)
    if beginning is not None:
        recipe, began = beginning
        _note_beginning(run, began)
        write_durably(run / RECIPE_FILE, signed_recipe(render_recipe(recipe)))  # last: now there is a run


def _refuse_links(run: Path) -> None:
    for name in _OWN:
        if (run / name).is_symlink():
            raise AgentError(
                f"{run / name} is a link, and a training writes nothing outside of its folder; put what it "
                "leads to in its place"
            )


def _clear(run: Path) -> None:
    for folder in (run, run / FOLDER, run / BETWEEN):
        remove_partial(folder)
        # Of save_checkpoint, which adds eight characters to the name.
        pattern = f".{FINAL}-*" if folder == run else ".step-*"
        for hidden in folder.glob(pattern):
            named = re.fullmatch(r"\.(checkpoint|step-[0-9]+)-[a-z0-9_]{8}(-replaced)?", hidden.name)
            if named and hidden.is_dir() and not hidden.is_symlink():
                remove_checkpoint(hidden)
    for found in run.glob(".*"):
        if any(is_scratch_of(found.name, name) for name in (RECIPE_FILE, BEGAN_FILE, METRICS_FILE)):
            found.unlink()


def check_vacant(run: Path) -> None:
    """Raise AgentError when something is in the folder that a new run is to have.

    What a run that was killed before it had a recipe has left is nothing.
    """
    if (run / RECIPE_FILE).is_file():
        if is_finished(run):
            raise AgentError(
                f"{run} holds a run that has ended, with its model in {run / FINAL}; give another folder"
            )
        raise AgentError(
            f"{run} holds a run that stopped after update {newest_update(run)}; continue with "
            f"'{command('train', '--resume', run)}', or give another folder"
        )
    if run.exists() and (not run.is_dir() or not all(map(_left_by_a_beginning, run.iterdir()))):
        raise AgentError(f"{run} exists and is kept; give another folder for the run")


def _left_by_a_beginning(path: Path) -> bool:
    if laid_by_desktop(path.name):
        return True
    if path.is_symlink():
        return False
    if path.name == LOCK:
        return path.is_file() and not path.stat().st_size
    if path.name == BEGAN_FILE:
        try:
            return beginning_of(path.parent) is not None
        except AgentError:
            return False
    return path.is_file() and any(is_scratch_of(path.name, name) for name in (RECIPE_FILE, BEGAN_FILE))


def recipe_of(run: Path, settings: tuple[str, ...] = ()) -> Recipe:
    """Return the recipe to continue with; AgentError without a run, or where ``settings`` change numbers."""
    path = run / RECIPE_FILE
    if not path.is_file():
        raise AgentError(
            f"{run} is no training run: it has no {RECIPE_FILE}; '{command('train', 'RECIPE', '-o', run)}' "
            "starts one"
        )
    recipe = read_recipe(path, written_out=True)
    changed = read_recipe(path, settings, written_out=True)
    refuse_changes(run, recipe, changed)
    if settings:
        changed.check_saving()
    return changed


def check_recipe_text(run: Path) -> None:
    """Raise AgentError where a run's recipe is not what it began with: no state tells what that was.

    That there is no checksum, as in runs of earlier versions, is said on standard error.
    """
    path = run / RECIPE_FILE
    content = read_regular(path, LARGEST_RECIPE)
    try:
        if unsigned_recipe(content) is None:
            say(f"{path} carries no checksum, so whether it is what the run began with is not known")
    except ChecksumError:
        raise AgentError(
            f"{path} was changed since the run began, and there is no state yet that tells its recipe; "
            "restore it, remove its last line if you changed it on purpose, or start a new run"
        ) from None


def signed_recipe(text: str) -> bytes:
    """Return ``text``, a recipe, with its checksum as the last line."""
    content = text.encode()
    return content + b"# sha256 of the text above: %s\n" % hashlib.sha256(content).hexdigest().encode()


def unsigned_recipe(content: bytes) -> str | None:
    """Return a recipe's text without its checksum; None without one, ChecksumError for a wrong one."""
    match = _SUM.search(content)
    if match is None:
        return None
    if hashlib.sha256(content[: match.start()]).hexdigest().encode() != match[1]:
        raise ChecksumError("it is not what its checksum says")
    return content[: match.start()].decode()


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a run begins with, beside its recipe.

    Attributes:
        stores: Digests of the stores, in the recipe's order.
        init_from: Digest of the checkpoint that training begins from; empty for random weights.
        labels: Tasks that experts' actions are learned of, by expert; None without such labels.
    """

    stores: tuple[str, ...]
    init_from: str = ""
    labels: dict[str, tuple[str, ...]] | None = None


def _note_beginning(run: Path, beginning: Beginning) -> None:
    """Write ``began.json``, which tells it until there is a state."""
    text = msgspec.json.format(msgspec.json.encode(beginning), indent=2)
    write_durably(run / BEGAN_FILE, sign_file(text + b"\n"))


def beginning_of(run: Path) -> Beginning | None:
    """Return what a run noted when it began; None for runs of earlier versions, which noted nothing.

    Raises:
        AgentError: The file is damaged.
    """
    path = run / BEGAN_FILE
    try:
        content = read_regular(path, LARGEST_RECIPE)
        verify_file(content)
        return msgspec.json.decode(content, type=Beginning)
    except FileNotFoundError:
        return None
    except (OSError, ChecksumError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise AgentError(
            f"{path} is damaged ({shown(str(error), 200)}); restore it, or remove it, and what the run began "
            "with is not checked"
        ) from None


def keep_settings(run: Path, recipe: Recipe) -> None:
    """Write ``recipe.toml`` anew where ``recipe``, which a run continues with, is another than it tells.

    So the next resume has the same settings: one that forgot saving.keep would remove checkpoints. A recipe
    that carries no checksum does not get one here. OSError when the system refuses.
    """
    path = run / RECIPE_FILE
    if read_recipe(path, written_out=True) == recipe:
        return
    text = render_recipe(recipe)
    signed = _SUM.search(read_regular(path, LARGEST_RECIPE)) is not None
    write_durably(path, signed_recipe(text) if signed else text.encode())


def refuse_changes(run: Path, before: Recipe, after: Recipe) -> None:
    """Raise AgentError for the first field that differs and decides numbers."""
    old, new = flat(recipe_to_dict(before)), flat(recipe_to_dict(after))
    for name in sorted(old.keys() | new.keys()):
        if name not in FREE and old.get(name) != new.get(name):
            raise AgentError(
                f"{run} was trained with {shown(name)} = {shown(str(old.get(name)))} and cannot continue "
                f"with {shown(str(new.get(name)))}; "
                "leave it, or start a new run"
            )


def is_finished(run: Path) -> bool:
    """Return whether the final checkpoint is there."""
    return (run / FINAL / CONFIG_FILE).is_file()


def checkpoints_on_the_way(run: Path) -> dict[int, Path]:
    """Return the folders of a run's checkpoints but the final one, by update, in their order."""
    found = {}
    for path in (run / BETWEEN).glob("step-*"):
        number = path.name.removeprefix("step-")
        own = number.isdecimal() and path.name == f"step-{int(number)}" and not path.is_symlink()
        if own and (path / CONFIG_FILE).is_file():
            found[int(number)] = path
    return dict(sorted(found.items()))


def kept_checkpoints(run: Path) -> dict[int, Path]:
    """Return the folders of all of a run's checkpoints by update, the final one last where it is there.

    One that was half removed when its process ended is none.

    Raises:
        AgentError: It is no training run.
    """
    recipe = recipe_of(run)
    final = {recipe.optimizer.updates: run / FINAL} if is_finished(run) else {}
    found = {**checkpoints_on_the_way(run), **final}
    return {update: path for update, path in found.items() if (path / WEIGHTS_FILE).is_file()}


def prune_checkpoints(run: Path, keep: int | Literal["all"]) -> None:
    """Remove all but the newest checkpoints on the way; what others put into them stays."""
    if keep == "all":
        return
    found = list(checkpoints_on_the_way(run).values())
    for old in found[:-keep]:
        remove_checkpoint(old)


def say(sentence: str) -> None:
    """Say something of a run that is no error, on standard error."""
    with suppress(OSError):  # a reader that is gone must not end the run
        print(f"lram: {sentence}", file=sys.stderr, flush=True)
