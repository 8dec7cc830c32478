"""Mamba-2 computes what the public code does on the same weights."""

from __future__ import annotations

import pytest
import torch
from support.recorded import Recorded, outputs

from lram.agents.backbones.mamba2 import Mamba2Config
from lram.agents.backbones.mamba2.plain import Mamba2, block
from lram.agents.backbones.mamba2.public import block_from_public, from_public
from lram.agents.model.config import ModelConfig


@pytest.mark.parametrize("name", ["mamba2", "mamba2_groups"])
def test_mamba2_is_that_of_transformers(name: str) -> None:
    pytest.importorskip("numba")
    recorded = Recorded(name)
    config = recorded.config
    options = Mamba2Config(
        config["state"], config["conv"], config["expand"], config["head_width"], config["groups"]
    )
    ours = block(config["width"], options)
    ours.load_state_dict(block_from_public(recorded.weights))
    for form, (y, _) in outputs(ours, recorded["x"]).items():
        torch.testing.assert_close(y, recorded["block_y"], rtol=0, atol=1e-5, msg=form)
    for form, (y, state) in outputs(ours.mixer, recorded["x"]).items():
        torch.testing.assert_close(y, recorded["y"], rtol=0, atol=1e-5, msg=form)
        torch.testing.assert_close(y, recorded["y_step"], rtol=0, atol=1e-5, msg=form)
        if state is not None:
            matrices, past = state
            torch.testing.assert_close(matrices.mT, recorded["state/recurrent"], rtol=0, atol=1e-5, msg=form)
            torch.testing.assert_close(past.mT, recorded["state/conv"][..., 1:], rtol=0, atol=1e-5, msg=form)


def test_whole_models_have_the_names_of_mamba_ssm() -> None:
    torch.manual_seed(0)
    ours = Mamba2(ModelConfig(32, 2, backbone=Mamba2Config()))
    theirs = {}
    for name, value in ours.state_dict().items():
        if name == "norm.weight":
            theirs["backbone.norm_f.weight"] = value
        else:
            theirs["backbone." + name.replace("blocks.", "layers.").replace(".conv.", ".conv1d.")] = value
    theirs |= {"backbone.embedding.weight": torch.zeros(3, 32), "lm_head.weight": torch.zeros(3, 32)}
    assert "backbone.layers.1.mixer.conv1d.bias" in theirs
    found = from_public(theirs)
    assert found.keys() == ours.state_dict().keys()
    ours.load_state_dict(found)
