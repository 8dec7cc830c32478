"""GLA and HGRN2 compute what the flash-linear-attention package computes on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.gla import GLAConfig
from lram.agents.backbones.gla.public import from_public as gla_weights
from lram.agents.backbones.hgrn2 import HGRN2Config
from lram.agents.backbones.hgrn2.public import from_public as hgrn2_weights
from lram.agents.backbones.parts import MatrixMemory
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.sequences import plain_sequences
from lram.agents.backbones.stepping import make_stepper
from lram.agents.model.config import ModelConfig

FOLDER = Path(__file__).parents[1] / "data" / "recurrences"
WIDTH, LAYERS = 32, 2
KINDS: dict[str, tuple[Any, Callable[..., dict[str, Tensor]]]] = {
    "gla": (GLAConfig(heads=2, hidden=48), gla_weights),
    "hgrn2": (HGRN2Config(heads=2, hidden=48), hgrn2_weights),
}


def _recorded(kind: str) -> dict[str, Tensor]:
    with np.load(FOLDER / f"{kind}.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def _weights(recorded: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "weight/"
    return {name[len(prefix) :]: tensor for name, tensor in recorded.items() if name.startswith(prefix)}


def _backbone(kind: str, weights: dict[str, Tensor]) -> Backbone:
    options, rename = KINDS[kind]
    backbone = build_backbone(ModelConfig(WIDTH, LAYERS, backbone=options))
    backbone.load_state_dict(rename(weights))
    return backbone.eval()


def _equal(ours: Tensor, theirs: Tensor) -> None:
    # Float32, the same sums in another order.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_whole_sequences_are_read_as_by_the_public_code(kind: str) -> None:
    recorded = _recorded(kind)
    backbone = _backbone(kind, _weights(recorded))
    _equal(backbone(recorded["x"]), recorded["y"])
    with plain_sequences():
        _equal(backbone(recorded["x"]), recorded["y"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["torch", "fused"])
@pytest.mark.parametrize("size", [1, 3])
@torch.no_grad()
def test_steps_read_as_those_of_the_public_code(kind: str, form: str, size: int) -> None:
    if form == "fused":
        pytest.importorskip("numba")
    recorded = _recorded(kind)
    backbone, x = _backbone(kind, _weights(recorded)), recorded["x"]
    step, state, outputs = make_stepper(backbone, form).call, backbone.initial_state(len(x)), []
    for first in range(0, x.shape[1], size):
        y, state = step(x[:, first : first + size], state, None)
        outputs.append(y)
    _equal(torch.cat(outputs, dim=1), recorded["y_step"])
    for layer in range(LAYERS):  # the package keeps them transposed
        _equal(state[layer], recorded[f"state/{layer}.recurrent"].transpose(2, 3))


@torch.no_grad()
def test_the_bare_recurrence_of_gla_is_the_public_one() -> None:
    recorded = _recorded("gla")
    q, k, v, log_decay = (recorded[f"rule/{name}"] for name in ("q", "k", "v", "gk"))
    memory = MatrixMemory(v.shape[2], q.shape[3], v.shape[3])
    inputs = (q * q.shape[3] ** -0.5, k, v, log_decay)
    for size in (1, 3, v.shape[1]):
        state, outputs = recorded["rule/initial"].clone(), []
        for first in range(0, v.shape[1], size):
            y, state = memory.step(*(part[:, first : first + size] for part in inputs), state, None)
            outputs.append(y)
        _equal(torch.cat(outputs, dim=1), recorded["rule/o"])
        _equal(state, recorded["rule/final"])


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_whole_models_and_older_names_are_read_too(kind: str) -> None:
    recorded = _recorded(kind)
    weights = _weights(recorded)
    for layer in range(LAYERS):
        up = weights.pop(f"layers.{layer}.mlp.up_proj.weight")
        gate = f"layers.{layer}.mlp.gate_proj.weight"
        weights[gate] = torch.cat([weights[gate], up])
    weights = {f"model.{name}": tensor for name, tensor in weights.items()}
    weights |= {"model.embeddings.weight": torch.zeros(9, WIDTH), "lm_head.weight": torch.zeros(9, WIDTH)}
    _equal(_backbone(kind, weights)(recorded["x"]), recorded["y"])


@torch.no_grad()
def test_the_lower_bounds_rise_from_zero_over_the_layers() -> None:
    backbone = build_backbone(ModelConfig(WIDTH, 4, backbone=HGRN2Config()))
    bounds = backbone.get_submodule("lower_bounds")()
    torch.testing.assert_close([float(bound[0]) for bound in bounds], [0.0, 0.25, 0.5, 0.75])
