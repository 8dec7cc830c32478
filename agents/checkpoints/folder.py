"""Checkpoints: a folder with ``config.json``, ``model.safetensors`` and ``SHA256SUMS``; nothing runs code.

``config.json`` holds the format's name and version, whether the weights were trained, the model's
configuration, the returns to ask of its tasks where those are its own, and a card: whatever its maker
wants to say, as plain JSON.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import save_file

from lram.agents.api import AgentError
from lram.agents.backbones.registry import MissingBackboneError
from lram.agents.checkpoints.description import (
    CONFIG_FILE,
    FILES,
    FORMAT,
    VERSION,
    WEIGHTS_FILE,
    read_description,
)
from lram.agents.checkpoints.digests import Weights, digest_of_weights
from lram.agents.checkpoints.weights import FLOATS, WeightsError, WeightsFile, os_errors
from lram.agents.durable import open_regular, publish_folder, sync_folder
from lram.agents.model.config import ModelConfig, config_from_dict, config_to_dict
from lram.agents.model.network import ActionModel, check_memory, float32_by_default, without_memory
from lram.agents.model.tokens import ACTION_DIMS, CLASSES
from lram.agents.places import placed
from lram.agents.shown import command, shown
from lram.agents.sums import SUMS_FILE, check_sum, file_sum, read_sums, render_sums

PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".zip")


@dataclass(frozen=True, slots=True)
class CheckpointMeta:
    """What a checkpoint says beside its weights.

    Attributes:
        config: The model's configuration.
        trained: Whether the weights were trained.
        digest: See :func:`model_digest`.
        card: What its maker says.
        target_returns: Return to ask for, unscaled, by task id; the task table's where a task is not here.
            A model trained on other data than the table's knows other returns.
        verified: Whether its files were compared with ``SHA256SUMS``; earlier versions wrote none.
    """

    config: ModelConfig
    trained: bool
    digest: str
    card: Mapping[str, Any] = field(default_factory=dict)
    target_returns: Mapping[str, float] = field(default_factory=dict)
    verified: bool = True


def model_digest(model: ActionModel, target_returns: Mapping[str, float] | None = None) -> str:
    """Return the digest of a model and the returns it asks for (:mod:`lram.agents.checkpoints.digests`)."""
    tensors = model.state_dict()

    def weights(name: str) -> Weights:
        tensor = tensors[name]
        content = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
        return Weights(str(tensor.dtype), tuple(tensor.shape), content.data)

    return digest_of_weights(model.config, tensors, weights, target_returns)


def save_checkpoint(
    folder: str | Path,
    model: ActionModel,
    config: ModelConfig,
    *,
    trained: bool,
    card: Mapping[str, Any],
    overwrite: bool = False,
    dtype: torch.dtype | None = None,
    target_returns: Mapping[str, float] | None = None,
) -> None:
    """Write a checkpoint; it appears whole or not at all.

    Args:
        folder: Where.
        model: Its weights are written.
        config: Its configuration.
        trained: Whether the weights were trained.
        card: What its maker wants to say, as plain JSON.
        overwrite: Replace a checkpoint that is there.
        dtype: Round the weights to this type, such as float16 for half the size (None: as they are).
            ``load_checkpoint`` gives float32 whatever the file holds.
        target_returns: Return to ask for by task id, where it is not the task table's.

    Raises:
        AgentError: ``folder`` exists, and ``overwrite`` is not set or it is no checkpoint; or a weight is
            too large for ``dtype``, or that is no type that is read again.
        OSError: The system refuses to write; nothing is left.
    """
    folder = placed(folder)
    if dtype is not None and dtype not in FLOATS.values():
        names = ", ".join(str(one).removeprefix("torch.") for one in FLOATS.values())
        raise AgentError(
            f"a checkpoint cannot hold {str(dtype).removeprefix('torch.')}; choose one of {names}"
        )
    if folder.exists() and not (overwrite and (folder / CONFIG_FILE).is_file()):
        raise AgentError(f"{folder} exists and is kept; name another folder for the checkpoint")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        described = {
            "format": FORMAT,
            "version": VERSION,
            "trained": trained,
            "model": config_to_dict(config),
            **({"target_returns": dict(target_returns)} if target_returns else {}),
            "card": dict(card),
        }
        (partial / CONFIG_FILE).write_bytes(
            msgspec.json.format(msgspec.json.encode(described), indent=2) + b"\n"
        )
        weights = {
            name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()
        }
        for name, tensor in weights.items():
            if dtype is not None and not bool(torch.isfinite(tensor).all()):
                raise AgentError(f"{name} has weights too large for {dtype}; choose another type")
        with os_errors():
            save_file(weights, partial / WEIGHTS_FILE)
        sums = {name: file_sum(partial / name) for name in FILES}
        (partial / SUMS_FILE).write_bytes(render_sums(sums))
        publish_folder(partial)
        if folder.exists():
            replaced = partial.with_name(partial.name + "-replaced")
            folder.rename(replaced)
            try:
                partial.rename(folder)
            except BaseException:
                replaced.rename(folder)
                raise
            remove_checkpoint(replaced)
            for other in replaced.iterdir() if replaced.exists() else ():
                other.rename(folder / other.name)  # of others: it stays where it was
            remove_checkpoint(replaced)
        else:
            partial.rename(folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint, and its folder where nothing else is in it: what others put there stays."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)  # the link, not what it leads to
        return
    for name in (WEIGHTS_FILE, SUMS_FILE, CONFIG_FILE):  # by the last of them it is still known
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def load_checkpoint(folder: str | Path) -> tuple[ActionModel, CheckpointMeta]:
    """Read a checkpoint onto the CPU, in float32.

    Raises:
        AgentError: One sentence that names the file, what is wrong with it, and what to do.
    """
    folder = placed(folder)
    if not folder.is_dir():
        if folder.is_file() and folder.suffix in PICKLES:
            raise AgentError(_pickle_message(folder))
        what = "is a file, not a folder" if folder.is_file() else "does not exist"
        other = ", or convert it with 'lram import-checkpoint'" if folder.is_file() else ""
        raise AgentError(f"checkpoint {folder} {what}; give the folder that holds {CONFIG_FILE}{other}")
    sums = read_sums(folder, FILES)
    trained, plain, card, target_returns = read_description(folder, sums)
    config = _config_of(folder / CONFIG_FILE, plain)
    model = _load_model(config, folder / WEIGHTS_FILE, sums)
    if sums is None:
        _tell_unverified(folder)
    digest = model_digest(model, target_returns)
    return model.eval(), CheckpointMeta(config, trained, digest, card, target_returns, sums is not None)


@cache
def _tell_unverified(folder: Path) -> None:
    """Say once that nothing is known of a checkpoint's files."""
    with suppress(OSError):
        print(
            f"lram: {folder} has no {SUMS_FILE} (earlier versions wrote none), so whether its files are "
            "as they were saved is not known; "
            f"'sha256sum {' '.join(FILES)} > {SUMS_FILE}' in it records what they are now",
            file=sys.stderr,
            flush=True,
        )


def _config_of(path: Path, model: Any) -> ModelConfig:
    """Return the configuration that stands in ``path`` under ``model``."""
    try:
        return config_from_dict(model)
    except MissingBackboneError as error:
        raise AgentError(f"{path}: {error}") from None
    except AgentError as error:
        raise AgentError(f"{path}: {error}; fix the file or save the checkpoint again") from None


def _load_model(config: ModelConfig, path: Path, sums: Mapping[str, str] | None) -> ActionModel:
    """Return the model with its weights; nothing large is made before all shapes were seen to fit."""
    try:
        with WeightsFile(path) as file:
            found = {name: entry.shape for name, entry in file.entries.items()}
            _check_sizes(config, path, found)
            with without_memory(), float32_by_default():
                model = ActionModel(config)
            _check_shapes(model, path, found)
            check_memory(model, str(path.parent))
            model.to_empty(device="cpu")
            targets = model.state_dict()
            with torch.no_grad():
                file.read_into(targets)
            check_sum(path.parent, WEIGHTS_FILE, file.digest, sums)
    except FileNotFoundError:
        pickles = [other for other in sorted(path.parent.iterdir()) if other.suffix in PICKLES]
        raise AgentError(
            _pickle_message(pickles[0]) if pickles else f"{path} is missing; save the checkpoint again"
        ) from None
    except OSError as error:
        raise AgentError(
            f"{path} cannot be read ({error.strerror or error}); copy or save it again"
        ) from None
    except WeightsError as error:
        if _starts_as_pickle(path):
            raise AgentError(_pickle_message(path)) from None
        raise AgentError(f"{path} is damaged or incomplete ({error}); copy or save it again") from None
    for name, tensor in targets.items():
        if not bool(torch.isfinite(tensor).all()):
            raise AgentError(f"{path}: {name} holds values that are no finite numbers; save it again")
    return model


def _starts_as_pickle(path: Path) -> bool:
    try:
        with open_regular(path) as raw:
            start = raw.read(2)
    except OSError:
        return False
    return start == b"PK" or start[:1] == b"\x80"


def _check_sizes(config: ModelConfig, path: Path, found: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse what cannot fit before a model is made, which takes long where there are many blocks."""
    advice = f"{CONFIG_FILE} and weights are not of one model; save the checkpoint again"
    if config.layers > len(found):
        raise AgentError(
            f"{path} has {len(found)} tensors, too few for the {config.layers} blocks of {CONFIG_FILE}: "
            f"{advice}"
        )
    for name, shape in (
        ("head.weight", (ACTION_DIMS * CLASSES, config.width)),
        ("encoders.state.weight", (config.width, config.state_width)),
    ):
        if name in found and found[name] != shape:
            raise AgentError(f"{path}: {name} has the shape {found[name]}, not {shape}: {advice}")


def _check_shapes(model: ActionModel, path: Path, found: Mapping[str, tuple[int, ...]]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    advice = f"{CONFIG_FILE} and weights are not of one model; save the checkpoint again"
    for problem, names in (
        ("lacks", sorted(expected.keys() - found.keys())),
        ("has an unexpected tensor", sorted(found.keys() - expected.keys())),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise AgentError(f"{path} {problem} {shown(names[0])}{more}: {advice}")
    for name, shape in expected.items():
        if found[name] != shape:
            raise AgentError(f"{path}: {name} has the shape {found[name]}, not {shape}: {advice}")


def _pickle_message(path: Path) -> str:
    return (
        f"{path} is a pickle; loading it could run code, so it is refused: convert it with "
        f"'{command('import-checkpoint', path, '--output', 'FOLDER')}'"
    )
