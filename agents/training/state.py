"""Training states: what a run needs to go on as if it had not stopped.

::

    RUN/state/update-00000200/
        tensors.safetensors     weights, and AdamW's exp_avg, exp_avg_sq and step of every weight
        state.json              everything else

A state appears whole or not at all; the two newest are kept. Nothing random is in it: batches depend on
their number only, and no model here has dropout.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.training.metrics import Meter

FOLDER = "state"
TENSORS_FILE = "tensors.safetensors"
STATE_FILE = "state.json"
VERSION = 1
KEPT = 2


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
        tensors: SHA-256 of the file of tensors.
        version: Of this layout.
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
    tensors: str = ""
    version: int = VERSION


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
        described["tensors"] = _checksum(partial / TENSORS_FILE)
        (partial / STATE_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(described), indent=1))

    write_whole(path, write)
    for old in _states(run)[KEPT:]:
        shutil.rmtree(old)
    return path


def newest_update(run: Path) -> int:
    """Return the update of the newest state; 0 without one."""
    states = _states(run)
    return int(states[0].name.rpartition("-")[2]) if states else 0


def load_state(run: Path) -> tuple[TrainingState, dict[str, Tensor]] | None:
    """Read the newest state that is sound, or None when there is none.

    Raises:
        AgentError: There are states, and all are damaged.
    """
    problems = []
    for path in _states(run):
        try:
            return _read(path)
        except (OSError, msgspec.MsgspecError, SafetensorError, UnicodeDecodeError) as error:
            problems.append(f"{path} is damaged ({error})")
    if problems:
        raise AgentError(f"{'; '.join(problems)}; restore one of them or start a new run")
    return None


def _read(path: Path) -> tuple[TrainingState, dict[str, Tensor]]:
    state = msgspec.json.decode((path / STATE_FILE).read_bytes(), type=TrainingState)
    if state.version != VERSION:
        raise AgentError(f"{path} has layout {state.version}, not {VERSION}; use the lram-bench that made it")
    if _checksum(path / TENSORS_FILE) != state.tensors:
        raise OSError("its checksum differs")
    return state, load_file(path / TENSORS_FILE)


def _states(run: Path) -> list[Path]:
    """Return the states of a run, newest first."""
    return sorted((run / FOLDER).glob("update-????????"), reverse=True)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Make a folder that is there whole, on disk, or not at all; one that is there is replaced.

    Args:
        path: The folder.
        write: Fills the folder that it is given.
    """
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=path.parent))
    try:
        write(partial)
        partial.chmod(0o755)  # mkdtemp makes it private, and safetensors its file
        for file in partial.iterdir():
            file.chmod(0o644)
            _sync(file)
        _sync(partial)
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
        _sync(path.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def remove_partial(folder: Path) -> None:
    """Remove what a process that was killed in :func:`write_whole` has left."""
    for partial in folder.glob(".partial-*"):
        shutil.rmtree(partial, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def os_errors() -> Iterator[None]:
    """Let safetensors' errors of writing be OSError, as everybody else's."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(str(error)) from error
