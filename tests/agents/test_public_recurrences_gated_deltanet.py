"""Gated DeltaNet computes what the public code does on the same weights."""

from __future__ import annotations

import pytest
import torch
from support.recorded import Recorded, outputs
from torch import Tensor

from lram.agents.backbones.gated_deltanet import GatedDeltaNetConfig
from lram.agents.backbones.gated_deltanet.plain import GatedDeltaNet, block
from lram.agents.backbones.gated_deltanet.public import block_from_transformers, from_public
from lram.agents.backbones.parts import MatrixMemory
from lram.agents.model.config import ModelConfig


def _close(found: Tensor, recorded: Tensor, form: str = "") -> None:
    torch.testing.assert_close(found, recorded, rtol=0, atol=1e-5, msg=lambda text: f"{form}: {text}")


def test_gated_deltanet_is_that_of_transformers() -> None:
    """A layer of Qwen3-Next, where each head of keys serves two."""
    pytest.importorskip("numba")
    recorded = Recorded("gated_deltanet")
    config = recorded.config
    heads, key_heads, width = config["value_heads"], config["key_heads"], config["width"]
    factors = key_heads * config["head_width"] / width, heads * config["head_width"] / width
    ours = block(
        width, GatedDeltaNetConfig(heads, key_heads, *factors, config["conv"], config["feed_forward"])
    )
    ours.load_state_dict(block_from_transformers(recorded.weights, key_heads))
    for form, (y, _) in outputs(ours, recorded["x"]).items():
        _close(y, recorded["block_y"], form)
    for form, (y, state) in outputs(ours.mixer, recorded["x"]).items():
        _close(y, recorded["y"], form)
        _close(y, recorded["y_step"], form)
        if state is not None:
            _close(state[0], recorded["state/recurrent"], form)
            _close(state[1].mT, recorded["state/conv"][..., 1:], form)


def test_gated_deltanet_is_that_of_fla() -> None:
    pytest.importorskip("numba")
    recorded = Recorded("gated_deltanet_fla")
    config = recorded.config
    heads, width = config["heads"], config["width"]
    options = GatedDeltaNetConfig(
        heads=heads,
        key_factor=heads * config["key_width"] / width,
        value_factor=heads * config["value_width"] / width,
        hidden=config["feed_forward"],
    )
    ours = GatedDeltaNet(ModelConfig(width, config["layers"], backbone=options))
    weights = {f"model.{name}": value for name, value in recorded.weights.items()}
    ours.load_state_dict(from_public({**weights, "lm_head.weight": torch.zeros(3, width)}))
    x = recorded["x"]
    with torch.no_grad():
        _close(ours(x), recorded["y"])
        y, states = ours.step(x, ours.initial_state(len(x)))
    _close(y, recorded["y_step"])
    for place, (matrices, past) in enumerate(states):
        _close(matrices.mT, recorded[f"state/{place}.recurrent"])
        theirs = [recorded[f"state/{place}.conv_{part}"] for part in ("q", "k", "v")]
        _close(past.mT, torch.cat(theirs, dim=1)[..., 1:])
    for form, (y, _) in outputs(ours.blocks[1].mixer, x).items():  # type: ignore[arg-type]
        _close(y, recorded["mixer_y"], form)


def test_the_rule_goes_on_from_a_state_as_that_of_fla() -> None:
    """Corrections up to twice what is held, as with negative eigenvalues; from a memory that is not empty."""
    pytest.importorskip("numba")
    recorded = Recorded("gated_deltanet_fla")
    q, k, v, g, beta = (recorded[f"rule/{name}"] for name in ("q", "k", "v", "g", "beta"))
    assert beta.max() > 1.5
    log_decay, rate = g.unsqueeze(-1), beta.unsqueeze(-1)
    q = q * q.shape[-1] ** -0.5
    memory = MatrixMemory(q.shape[2], q.shape[3], v.shape[3])
    fix = k, -log_decay.exp() * rate * k
    for step in (memory.step, memory.compiled(3).step):
        o, final = step(q, k, rate * v, log_decay, recorded["rule/initial"].clone(), None, *fix)
        _close(o, recorded["rule/o"])
        _close(final, recorded["rule/final"])
