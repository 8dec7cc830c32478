"""The folder of a Decision Transformer: its configuration, and its weights without running anything."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.checkpoints.untrusted import damage_reported, load_plain
from lram.agents.checkpoints.weights import WeightsError, WeightsFile
from lram.agents.durable import read_regular
from lram.agents.shown import shown

CONFIG_FILE = "config.json"
WEIGHTS_FILE, PICKLE_FILE = "model.safetensors", "pytorch_model.bin"

_LARGEST_SIZE = 1 << 20
_BUFFERS = (".attn.bias", ".attn.masked_bias")
"""Masks that older versions of transformers saved with the weights."""


@dataclass(frozen=True, slots=True)
class DtConfig:
    """Fields of ``config.json`` that acting needs, with the defaults of transformers.

    Attributes:
        state_dim: Numbers of an observation.
        act_dim: Numbers of an action.
        hidden_size: Width.
        n_layer, n_head, n_inner: Blocks, heads of a block, and width of its feed-forward part (None: four
            times the width).
        max_ep_len: Steps of an episode that it has embeddings for.
        max_length: Steps that it is shown.
        action_tanh: Whether a tanh bounds its actions.
        activation_function: Of the feed-forward parts.
        layer_norm_epsilon: Of the blocks' norms.
        scale_attn_weights, scale_attn_by_inverse_layer_idx: How attention is scaled.
    """

    state_dim: int = 17
    act_dim: int = 4
    hidden_size: int = 128
    n_layer: int = 3
    n_head: int = 1
    n_inner: int | None = None
    max_ep_len: int = 4096
    max_length: int = 20
    action_tanh: bool = True
    activation_function: str = "relu"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False


def read_config(folder: Path) -> DtConfig:
    """Return the configuration in ``folder``.

    Raises:
        AgentError: There is none, it is damaged, or of another model; one sentence.
    """
    file = folder / CONFIG_FILE
    try:
        plain = json.loads(read_regular(file))
    except FileNotFoundError:
        raise AgentError(
            f"{folder} has no {CONFIG_FILE}; give a folder that save_pretrained() of transformers wrote"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise AgentError(f"{file} is no JSON ({shown(str(error), 160)}); save the model again") from None
    kind = plain.get("model_type") if isinstance(plain, dict) else None
    if kind != "decision_transformer":
        raise AgentError(
            f"{file} is of a model of the type {shown(str(kind))}, and decision_transformer is read here"
        )
    if plain.get("add_cross_attention"):
        raise AgentError(f"{file} asks for cross attention, which acting does not have; save it without")
    known = {field.name: field.default for field in fields(DtConfig)}
    config_fields = {name: plain[name] for name in known if plain.get(name) is not None}
    for name, value in config_fields.items():
        _check(file, name, value, known[name])
    config = DtConfig(**config_fields)
    if config.hidden_size % config.n_head:
        raise AgentError(f"{file}: hidden_size {config.hidden_size} is no multiple of n_head {config.n_head}")
    return config


def _check(file: Path, name: str, value: object, default: object) -> None:
    if isinstance(default, bool):
        fits = isinstance(value, bool)
    elif isinstance(default, str):
        fits = isinstance(value, str)
    elif isinstance(default, float):
        fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
    else:
        fits = type(value) is int and 0 < value <= _LARGEST_SIZE
    if not fits:
        raise AgentError(f"{file}: {name} is {shown(str(value))}, which no such model has; save it again")


def read_weights(folder: Path) -> tuple[dict[str, Tensor], Path]:
    """Return the weights in ``folder`` by name, float32, and the file that they are from.

    Raises:
        AgentError: There are none, or they are damaged or no plain tensors; one sentence.
    """
    file = folder / WEIGHTS_FILE
    if file.is_file():
        try:
            with WeightsFile(file) as weights:
                found = weights.read()
        except (WeightsError, OSError) as error:
            reason = shown(str(error), 200)
            raise AgentError(f"{file} is damaged or incomplete: {reason}; copy or save it again") from None
    elif (folder / PICKLE_FILE).is_file():
        file = folder / PICKLE_FILE
        found = _plain(load_plain(file, str(file)), file)
    elif (folder / f"{WEIGHTS_FILE}.index.json").is_file():
        raise AgentError(f"{folder} has its weights in several files; save it with max_shard_size='100GB'")
    else:
        raise AgentError(f"{folder} has no {WEIGHTS_FILE}; give what save_pretrained() of transformers wrote")
    kept = {name: tensor for name, tensor in found.items() if not name.endswith(_BUFFERS) or ".c_" in name}
    with damage_reported(str(file)):
        for name, tensor in kept.items():
            if not bool(torch.isfinite(tensor).all()):
                raise AgentError(f"{file}: {shown(name)} holds values that are no finite numbers")
        return {name: tensor.float().contiguous() for name, tensor in kept.items()}, file


def _plain(value: Any, file: Path) -> dict[str, Tensor]:
    named = isinstance(value, dict) and all(isinstance(name, str) for name in value)
    if not named or not all(isinstance(tensor, Tensor) for tensor in value.values()):
        raise AgentError(f"{file} is no state dict; save the model again")
    found = {}
    size = file.stat().st_size
    for name, tensor in value.items():
        if name.endswith(_BUFFERS) and ".c_" not in name:
            continue
        plain = tensor.is_floating_point() and tensor.layout == torch.strided and not tensor.is_nested
        # A tensor can repeat one number a billion times at no cost, until it is copied.
        if not plain or tensor.numel() * tensor.element_size() > size:
            raise AgentError(f"{file}: {shown(name)} is not a plain tensor of floating-point numbers")
        found[name] = tensor.detach()
    return found
