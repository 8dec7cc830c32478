"""Stacks of mixing layers: hybrids of the kinds that the package has."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lram.agents.api import AgentError
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.stack import MIXERS, StackConfig, pattern
from lram.agents.model.config import ModelConfig, config_from_dict, config_to_dict
from lram.agents.model.network import ActionModel, build_model
from lram.agents.model.presets import parse_preset
from lram.agents.training.optimizer import decayed_names

WIDTH, ROWS, TOKENS = 16, 3, 24
CASES = [(name,) for name in MIXERS] + [("mamba", "attention"), ("mlstm", "slstm", "gru")]


def config(blocks: tuple[str, ...]) -> ModelConfig:
    return ModelConfig(WIDTH, max(2, len(blocks)), StackConfig(blocks, heads=2, window=9))


@pytest.mark.parametrize("blocks", CASES, ids="-".join)
def test_the_step_reads_as_forward_does_and_skips_what_is_masked(blocks: tuple[str, ...]) -> None:
    backbone = build_model(config(blocks), 1).backbone
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, TOKENS, WIDTH, generator=generator)
    with torch.no_grad():
        whole = backbone(x)
        state, outputs = backbone.initial_state(ROWS), []
        for first in range(0, TOKENS, 4):
            part, valid = x[:, first : first + 4], torch.ones(ROWS, 5, dtype=torch.bool)
            valid[:, 2] = False  # a token that is not there, between those that are
            y, state = backbone.step(torch.cat([part[:, :2], part[:, :1], part[:, 2:]], dim=1), state, valid)
            outputs.append(y[:, valid[0]])
    # float32, the same sums in another order; the attention here has left its window of 9 tokens behind.
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole, rtol=0, atol=2e-5)


@pytest.mark.parametrize("blocks", CASES, ids="-".join)
def test_a_reset_row_is_fresh(blocks: tuple[str, ...]) -> None:
    backbone = build_backbone(config(blocks))
    x = torch.randn(ROWS, 5, WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, state = backbone.step(x, backbone.initial_state(ROWS))
        backbone.reset(state, [0, 1, 2])
        again, _ = backbone.step(x, state)
        fresh, _ = backbone.step(x, backbone.initial_state(ROWS))
    assert torch.equal(again, fresh)


def test_a_preset_repeats_its_pattern_over_the_blocks_of_its_size() -> None:
    preset = parse_preset("stack[mamba*3,attention]-1M")
    assert preset.backbone.blocks == ("mamba", "mamba", "mamba", "attention")
    assert preset.describe() == "Stack of 3 mamba, attention, repeated"
    kinds = [type(block).__name__ for block in ActionModel(preset).backbone.blocks]  # type: ignore[union-attr]
    assert kinds == ["MambaMixing", "MambaMixing", "MambaMixing", "AttentionMixing"] * 2
    assert config_from_dict(config_to_dict(preset)) == preset


def test_what_a_stack_keeps_is_said_as_it_is() -> None:
    assert config(("mlstm", "gru")).past.words == ""
    assert config(("attention",)).past.words == "keys and values of the last 9 tokens, float32"
    hybrid = config(("mamba", "attention")).past
    assert hybrid.words == "recurrent state, and keys and values of the last 9 tokens, float32"
    assert hybrid.recurrent  # of one size, whatever was read


def test_what_is_no_pattern_is_refused_in_a_sentence() -> None:
    assert pattern("gru*2, lstm") == ("gru", "gru", "lstm")
    for text, told in (("gru,rwkv", "no mixing layer 'rwkv'"), ("gru*0", "1 to 4096 blocks")):
        with pytest.raises(AgentError, match=told):
            parse_preset(f"stack[{text}]-1M")
    with pytest.raises(AgentError, match="choose from"):
        replace(config(("gru",)), backbone=StackConfig(("xlstm",)))
    with pytest.raises(AgentError, match="no multiple of the stack's 3 heads"):
        replace(config(("gru",)), backbone=StackConfig(("mlstm",), heads=3))


def test_headwise_projections_of_a_stack_decay_as_an_xlstms_do() -> None:
    decayed = decayed_names(ActionModel(config(("mlstm",))))
    assert "backbone.blocks.0.block.xlstm.q_proj.weight" in decayed
