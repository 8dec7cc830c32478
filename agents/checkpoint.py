"""Checkpoints: a folder with ``config.json`` and ``model.safetensors``, and nothing that runs code.

``config.json`` holds the format's name and version, whether the weights were trained, the model's
configuration, the returns to ask of its tasks where those are its own, and a card: whatever its maker
wants to say, as plain JSON.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lram.agents.api import AgentError
from lram.agents.config import ModelConfig, config_from_dict, config_to_dict
from lram.agents.model import ActionModel, float32_by_default

FORMAT = "lram-checkpoint"
VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
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
    """

    config: ModelConfig
    trained: bool
    digest: str
    card: Mapping[str, Any] = field(default_factory=dict)
    target_returns: Mapping[str, float] = field(default_factory=dict)


def model_digest(model: ActionModel, target_returns: Mapping[str, float] | None = None) -> str:
    """Return the SHA-256 over configuration (without its name), weights and the returns asked for, as hex.

    Args:
        model: The model.
        target_returns: The checkpoint's own, if any: who asks for another return is another agent.
    """
    digest = hashlib.sha256(
        msgspec.json.encode(config_to_dict(replace(model.config, name="")), order="sorted")
    )
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    if target_returns:
        digest.update(msgspec.json.encode(dict(target_returns), order="sorted"))
    return digest.hexdigest()


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
            too large for ``dtype``.
    """
    folder = Path(folder)
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
        save_file(weights, partial / WEIGHTS_FILE)
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            (partial / name).chmod(0o644)  # safetensors makes its file private
            with (partial / name).open("rb") as file:
                os.fsync(file.fileno())
        partial.chmod(0o755)  # mkdtemp makes it private
        if folder.exists():
            replaced = partial.with_name(partial.name + "-replaced")
            folder.rename(replaced)
            partial.rename(folder)
            shutil.rmtree(replaced)
        else:
            partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def load_checkpoint(folder: str | Path) -> tuple[ActionModel, CheckpointMeta]:
    """Read a checkpoint onto the CPU, in float32.

    Raises:
        AgentError: One sentence that names the file, what is wrong with it, and what to do.
    """
    folder = Path(folder)
    if not folder.is_dir():
        if folder.is_file() and folder.suffix in PICKLES:
            raise AgentError(_pickle_message(folder))
        what = "is a file, not a folder" if folder.is_file() else "does not exist"
        other = ", or convert it with 'lram import-checkpoint'" if folder.is_file() else ""
        raise AgentError(f"checkpoint {folder} {what}; give the folder that holds {CONFIG_FILE}{other}")
    config, trained, card, target_returns = _read_config(folder / CONFIG_FILE)
    with torch.device("meta"), float32_by_default():
        model = ActionModel(config)
    _load_weights(model, folder / WEIGHTS_FILE)
    digest = model_digest(model, target_returns)
    return model.eval(), CheckpointMeta(config, trained, digest, card, target_returns)


def _read_config(path: Path) -> tuple[ModelConfig, bool, dict[str, Any], dict[str, float]]:
    if not path.is_file():
        raise AgentError(f"{path.parent} has no {CONFIG_FILE}, so it is no checkpoint; give another folder")
    try:
        plain = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AgentError(f"{path} is not JSON ({error}); restore it or save the checkpoint again") from None
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise AgentError(f"{path} is not of the format {FORMAT}; convert the model or give another folder")
    if plain.get("version") != VERSION:
        raise AgentError(f"{path} has version {plain.get('version')!r}, not {VERSION}; update lram-bench")
    unknown = sorted(plain.keys() - {"format", "version", "trained", "model", "target_returns", "card"})
    if unknown:
        raise AgentError(f"{path} has an unknown field {unknown[0]!r}; remove it or update lram-bench")
    if not isinstance(plain.get("trained"), bool) or not isinstance(plain.get("card", {}), dict):
        raise AgentError(f"{path}: trained must be true or false, and card an object; mend the file")
    try:
        config = config_from_dict(plain.get("model"))
    except AgentError as error:
        raise AgentError(f"{path}: {error}; mend the file or save the checkpoint again") from None
    try:
        target_returns = msgspec.convert(plain.get("target_returns", {}), dict[str, float])
    except msgspec.ValidationError as error:
        raise AgentError(f"{path}: target_returns is no object of numbers ({error}); mend the file") from None
    return config, plain["trained"], plain.get("card", {}), target_returns


def _load_weights(model: ActionModel, path: Path) -> None:
    """Give the model (on ``meta``) its weights; nothing large is allocated before all shapes fit."""
    if not path.is_file():
        pickles = [other for other in sorted(path.parent.iterdir()) if other.suffix in PICKLES]
        raise AgentError(
            _pickle_message(pickles[0]) if pickles else f"{path} is missing; save the checkpoint again"
        )
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            _check_shapes(model, path, {name: tuple(file.get_slice(name).get_shape()) for name in names})
            model.to_empty(device="cpu")
            with torch.no_grad():
                for name, target in model.state_dict().items():
                    tensor = file.get_tensor(name)
                    if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
                        raise AgentError(
                            f"{path}: {name} holds values that are no finite numbers; save it again"
                        )
                    target.copy_(tensor)
    except SafetensorError as error:
        with path.open("rb") as raw:
            start = raw.read(2)
        if start == b"PK" or start[:1] == b"\x80":
            raise AgentError(_pickle_message(path)) from None
        raise AgentError(f"{path} is damaged or incomplete ({error}); copy or save it again") from None


def _check_shapes(model: ActionModel, path: Path, found: dict[str, tuple[int, ...]]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    advice = f"{CONFIG_FILE} and weights are not of one model; save the checkpoint again"
    for problem, names in (
        ("lacks", sorted(expected.keys() - found.keys())),
        ("has an unexpected tensor", sorted(found.keys() - expected.keys())),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise AgentError(f"{path} {problem} {names[0]}{more}: {advice}")
    for name, shape in expected.items():
        if found[name] != shape:
            raise AgentError(f"{path}: {name} has the shape {found[name]}, not {shape}: {advice}")


def _pickle_message(path: Path) -> str:
    return (
        f"{path} is a pickle; loading it could run code, so it is refused: convert it with "
        f"'lram import-checkpoint {path} --output FOLDER'"
    )
