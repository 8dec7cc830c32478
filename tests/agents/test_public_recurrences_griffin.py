"""Hawk's and Griffin's blocks give what RecurrentGemma's do (transformers), on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lram.agents.backbones.griffin import GriffinConfig
from lram.agents.backbones.griffin.plain import Griffin, RecurrentMixer, block
from lram.agents.backbones.griffin.public import block_from_public, from_public
from lram.agents.backbones.parts import MixerBlock
from lram.agents.backbones.sequences import plain_sequences
from lram.agents.model.config import ModelConfig

CPU = torch.device("cpu")
TOKENS = 21


class Recorded:
    """Inputs, outputs and weights of the public code; the file's ``meta`` says how they were made."""

    def __init__(self, name: str) -> None:
        path = Path(__file__).parents[1] / "data" / "recurrences" / f"{name}.npz"
        with np.load(path) as file:
            self.arrays = {key: torch.from_numpy(file[key]) for key in file.files if key != "meta"}
            self.config: dict[str, Any] = json.loads(bytes(file["meta"]))["config"]
        self.weights = {
            key.removeprefix("weight/"): tensor
            for key, tensor in self.arrays.items()
            if key.startswith("weight/")
        }

    def __getitem__(self, name: str) -> Tensor:
        return self.arrays[name]


@pytest.fixture(params=["torch", "fused"])
def form(request: pytest.FixtureRequest) -> str:
    if request.param == "fused":
        pytest.importorskip("numba")
    return str(request.param)


def _of(module: nn.Module, form: str) -> Any:
    if form == "torch":
        return module
    from lram.agents.backbones.parts.compiled import with_compiled_parts

    return with_compiled_parts(module, 6)


def _steps(module: Any, x: Tensor, size: int, state: Any) -> tuple[Tensor, Any]:
    outputs = []
    with torch.no_grad():
        for first in range(0, x.shape[1], size):
            y, state = module.step(x[:, first : first + size].contiguous(), state, None)
            outputs.append(y)
    return torch.cat(outputs, dim=1), state


def _close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def _block(recorded: Recorded, name: str, **options: Any) -> MixerBlock:
    config = recorded.config
    section = GriffinConfig(heads=config["heads"], hidden=config["feed_forward"], **options)
    made = block(config["width"], section, name)
    made.load_state_dict(block_from_public(recorded.weights))
    return made


def _recurrent() -> tuple[Recorded, MixerBlock]:
    recorded = Recorded("rglru")
    return recorded, _block(recorded, "recurrent")


def test_a_recurrent_block_reads_a_sequence_as_theirs_does() -> None:
    recorded, made = _recurrent()
    with torch.no_grad():
        _close(made.mixer(recorded["x"]), recorded["y"])
        _close(made(recorded["x"]), recorded["block_y"])
        with plain_sequences():
            _close(made.mixer(recorded["x"]), recorded["y"])


@pytest.mark.parametrize("size", [1, 3])
def test_a_recurrent_block_reads_the_next_tokens_as_theirs_does(size: int, form: str) -> None:
    recorded, made = _recurrent()
    mixer = _of(made.mixer, form)
    y, (memory, past) = _steps(mixer, recorded["x"], size, made.mixing.initial_state(2, CPU))
    _close(y, recorded["y_step"])
    _close(memory[0], recorded["state/recurrent"])
    _close(past.transpose(1, 2), recorded["state/conv"])


def test_the_recurrence_alone_begins_as_theirs_does(form: str) -> None:
    """With and without the rule for a row's first token."""
    recorded, made = _recurrent()
    assert isinstance(made.mixer, RecurrentMixer)
    recurrence, u = _of(made.mixer.recurrence, form), recorded["rule/u"]
    with torch.no_grad():
        _close(made.mixer.recurrence(u), recorded["rule/h"])
    h, begun = made.mixer.recurrence.initial_state(2, CPU)
    _close(_steps(recurrence, u, 3, (h.clone(), begun.clone()))[0], recorded["rule/h"])
    _close(_steps(recurrence, u, 3, (h, torch.ones_like(begun)))[0], recorded["rule/h_no_reset"])


def test_attention_sees_the_window_that_theirs_does(form: str) -> None:
    recorded = Recorded("griffin_attention")
    made = _block(recorded, "attention", window=recorded.config["window"])
    with torch.no_grad():
        _close(made.mixer(recorded["x"]), recorded["y"])
        _close(made(recorded["x"]), recorded["block_y"])
    for size in (1, 3, TOKENS):
        mixer = _of(made.mixer, form)
        _close(_steps(mixer, recorded["x"], size, made.mixing.initial_state(2, CPU))[0], recorded["y"])


def test_a_whole_model_is_theirs(form: str) -> None:
    recorded = Recorded("griffin")
    config = recorded.config
    section = GriffinConfig(heads=config["heads"], hidden=config["feed_forward"], window=config["window"])
    model = Griffin(ModelConfig(config["width"], len(config["layers"]), section))
    model.load_state_dict(from_public(recorded.weights))
    x = recorded["x"] * config["width"] ** 0.5
    with torch.no_grad():
        _close(model(x), recorded["y"])
    for size in (1, 3):
        stepped = _of(model, form)
        _close(_steps(stepped, x, size, model.initial_state(2))[0], recorded["y_step"])
