"""Training states: what a run needs to continue as if it had not stopped.

::

    RUN/state/update-00000200/
        tensors.safetensors     weights, and AdamW's exp_avg, exp_avg_sq and step of every weight
        state.json              everything else, the checksum of the tensors and one of itself

A state appears whole or not at all; the two newest are kept, and a damaged one is passed over. Nothing
random is in it: batches, and what dropout draws for them, depend on their number only.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec
from safetensors.torch import save_file
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.checkpoints.weights import WeightsError, WeightsFile, os_errors
from lram.agents.checksums import ChecksumError, sign_file, verify_file
from lram.agents.durable import publish_folder, read_regular, sync_folder
from lram.agents.shown import shown
from lram.agents.sums import file_sum
from lram.agents.training.metrics import Meter

FOLDER = "state"
TENSORS_FILE = "tensors.safetensors"
STATE_FILE = "state.json"
VERSION = 1
KEPT = 2
_LARGEST_STATE = 16 << 20


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The part of a state that is no tensor.

    Attributes:
        update: Optimiser updates made.
        micro_step: Micro-batches read, by each process.
        recipe: As :func:`lram.agents.training.recipe.recipe_to_dict` gives it.
        model: The model's configuration, as in a checkpoint.
        stores: Digests of the stores, in the recipe's order.
        processes: How many processes train together.
        origin: The checkpoint that training began from; empty for random weights.
        meter: Metrics of the updates since the last line.
        seconds: How long was trained, without interruptions.
        labels: Tasks that experts' actions are learned of, by expert, as the card's data has them; None
            without such labels, and in states of earlier versions.
        tensors: SHA-256 of the file of tensors.
        version: Of this layout.
        code: SHA-256 by module of the user's own source of the backbone (:mod:`lram.agents.own_code`); empty
            where there is none, or in states of versions that did not note it.
    """

    update: int
    micro_step: int
    recipe: Mapping[str, Any]
    model: Mapping[str, Any]
    stores: tuple[str, ...]
    processes: int
    origin: Mapping[str, str]
    meter: Meter
    seconds: float
    labels: Mapping[str, tuple[str, ...]] | None = None
    tensors: str = ""
    version: int = VERSION
    code: Mapping[str, str] = field(default_factory=dict)


_FIELDS = {one.name for one in fields(TrainingState)}


def save_state(run: Path, state: TrainingState, tensors: Mapping[str, Tensor]) -> Path:
    """Write a state and remove all but the newest two; OSError when the system refuses."""
    folder = run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"update-{state.update:08d}"

    def write(partial: Path) -> None:
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with os_errors():
            save_file(plain, partial / TENSORS_FILE)
        described = msgspec.to_builtins(state)
        if state.labels is None:
            del described["labels"]
        described["tensors"] = file_sum(partial / TENSORS_FILE)
        if not state.code:  # so that earlier versions read it
            del described["code"]
        text = msgspec.json.format(msgspec.json.encode(described), indent=2)
        (partial / STATE_FILE).write_bytes(sign_file(text + b"\n"))

    write_whole(path, write)
    for old in _states(run)[KEPT:]:
        _remove(old)
    return path


def newest_update(run: Path) -> int:
    """Return the update of the newest state; 0 without one."""
    states = _states(run)
    return int(states[0].name.rpartition("-")[2]) if states else 0


def load_state(run: Path, *, talks: bool = True) -> tuple[TrainingState, dict[str, Tensor]] | None:
    """Read the newest state that is sound, or None when there is none.

    Args:
        run: The run's folder.
        talks: Say on standard error which states were passed over, and that one carries no checksum.

    Raises:
        AgentError: There are states, and all are damaged.
    """
    problems = []
    for path in _states(run):
        try:
            state, tensors, signed = _read(path)
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            problems.append(f"{path} is damaged ({error})")
            continue
        if talks:
            _tell(path, problems, signed)
        return state, tensors
    if problems:
        raise AgentError(f"{'; '.join(problems)}; restore one of them or start a new run")
    return None


def _tell(path: Path, problems: list[str], signed: bool) -> None:
    for problem in problems:
        print(
            f"lram: {problem}; training continues from {path.name}, the state before it, to the same result",
            file=sys.stderr,
            flush=True,
        )
    if not signed:
        print(
            f"lram: {path / STATE_FILE} carries no checksum (earlier versions wrote none), so whether it is "
            "as it was written is not known",
            file=sys.stderr,
            flush=True,
        )


def _read(path: Path) -> tuple[TrainingState, dict[str, Tensor], bool]:
    """Return a state, its tensors, and whether it carries a checksum of itself."""
    content = read_regular(path / STATE_FILE, _LARGEST_STATE)
    try:
        signed = verify_file(content)
    except ChecksumError as error:
        raise ValueError(f"{STATE_FILE}: {error}") from None
    plain = msgspec.json.decode(content, type=dict[str, Any])
    if signed:
        del plain["checksum"]
    if unknown := plain.keys() - _FIELDS:  # such as a checksum whose name is damaged
        raise ValueError(f"{STATE_FILE} has an unknown field {shown(min(unknown))!r}")
    state = msgspec.convert(plain, TrainingState)
    if state.version != VERSION:
        raise AgentError(f"{path} has layout {state.version}, not {VERSION}; use the lram-bench that made it")
    if path.name != f"update-{state.update:08d}" or state.micro_step < 0 or state.processes < 1:
        raise ValueError(f"{STATE_FILE} tells of another update")
    try:
        with WeightsFile(path / TENSORS_FILE) as file:
            tensors = file.read()
    except WeightsError as error:
        raise ValueError(f"{TENSORS_FILE}: {error}") from None
    if file.digest != state.tensors:
        raise ValueError(f"{TENSORS_FILE}: it was changed since it was written: its checksum differs")
    return state, tensors, signed


def _states(run: Path) -> list[Path]:
    """Return the states of a run, newest first."""
    found = (run / FOLDER).glob("update-*")
    # All of a later state's names are of ten digits or more where a run is that long.
    states = [path for path in found if re.fullmatch("update-[0-9]{8,12}", path.name)]
    return sorted(states, key=lambda path: int(path.name.removeprefix("update-")), reverse=True)


def _remove(state: Path) -> None:
    """Remove a state, and its folder where nothing else is in it: what others put there stays."""
    if state.is_symlink():
        state.unlink()
        return
    for name in (STATE_FILE, TENSORS_FILE):
        (state / name).unlink(missing_ok=True)
    with suppress(OSError):
        state.rmdir()


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Make a folder that is there whole, on disk, or not at all; one that is there is replaced.

    Args:
        path: The folder.
        write: Fills the folder that it is given.
    """
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=path.parent))
    try:
        write(partial)
        publish_folder(partial)
        if path.is_symlink() or path.exists():
            _remove(path)
        partial.rename(path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def remove_partial(folder: Path) -> None:
    """Remove what a process that was killed in :func:`write_whole` has left."""
    for partial in folder.glob(".partial-*"):
        named = re.fullmatch(r"\.partial-[a-z0-9_]{8}", partial.name)
        if named and partial.is_dir() and not partial.is_symlink():
            _remove(partial)
