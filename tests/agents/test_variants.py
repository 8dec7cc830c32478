"""Variants of backbones: each acts as it is trained, compiled too; none is there unasked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.stepping import make_stepper
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.checkpoints.folder import load_checkpoint, save_checkpoint
from lram.agents.model.config import ModelConfig, config_from_dict, config_to_dict
from lram.agents.model.network import ActionModel, build_model
from lram.agents.model.presets import is_preset, parse_preset
from lram.agents.training.recipe import model_config
from lram.agents.training.recipe_text import read_recipe
from lram.agents.training.trainer import seeded
from lram.harness.plan import split_label

WIDTH = 32
FULL = TransformerConfig(heads=2, positions="rotary", window=None, cache="full")
RING = TransformerConfig(heads=2, positions="none", window=9, cache="ring")
XLSTM = XLSTMConfig(heads=2, slstm_at=(1,))
VARIANTS = {
    "no positions": replace(FULL, positions="none"),
    "no positions, ring": RING,
    "no positions, window read anew": replace(RING, window=12, cache="recompute"),
    "rms, normed queries": replace(FULL, norm="rms", qk_norm=True),
    "post-norm, normed queries": replace(RING, norm_order="post", qk_norm=True),
    "post-norm, learned": replace(FULL, positions="learned", window=40, norm_order="post"),
    "xlstm, rms": replace(XLSTM, norm="rms"),
}
DROPPING = {
    "transformer": replace(FULL, dropout=0.25),
    "xlstm": replace(XLSTM, dropout=0.25),
    "mamba": MambaConfig(dropout=0.25),
}


def _model(options: Any) -> ModelConfig:
    return ModelConfig(WIDTH, 2, options)


def _backbone(options: Any) -> Any:
    """A backbone whose weights make every part of it matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = build_backbone(_model(options))
        backbone.reset_parameters()
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return backbone.eval()


def _tokens(rows: int, count: int) -> Tensor:
    return torch.randn(rows, count, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("form", ["torch", "fused"])
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@torch.inference_mode()
def test_every_variant_acts_as_it_is_trained(options: Any, form: str) -> None:
    if form == "fused":
        pytest.importorskip("numba")
    backbone = _backbone(options)
    tokens = 12 if getattr(options, "cache", "") == "recompute" else 36
    step, x = make_stepper(backbone, form).call, _tokens(2, tokens)
    state, found = backbone.initial_state(2), []
    for first in range(0, tokens, 3):
        y, state = step(x[:, first : first + 3], state, None)
        found.append(y)
    torch.testing.assert_close(torch.cat(found, dim=1), backbone(x), rtol=0, atol=2e-5)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@torch.inference_mode()
def test_every_variant_computes_something_else(options: Any) -> None:
    plain = XLSTM if isinstance(options, XLSTMConfig) else replace(FULL, window=None)
    backbone, x = _backbone(options), _tokens(1, 8)
    assert (backbone(x) - _backbone(plain)(x)).abs().max() > 1e-2


@torch.inference_mode()
def test_without_positions_the_order_of_what_a_token_sees_is_not_seen() -> None:
    """Of one block, since the tokens of the next have seen different pasts."""
    x = _tokens(1, 6)
    moved = x[:, [2, 0, 1, 4, 3, 5]]
    last = {}
    for positions in ("none", "rotary"):
        section = replace(FULL, positions=positions)  # type: ignore[arg-type]
        backbone = build_backbone(ModelConfig(WIDTH, 1, section)).eval()
        last[positions] = (backbone(x) - backbone(moved))[:, -1].abs().max()
    assert last["none"] < 1e-5 < 1e-3 < last["rotary"]


# --- dropout --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", DROPPING.values(), ids=DROPPING)
def test_dropout_is_of_training_and_of_its_seed_alone(options: Any) -> None:
    x = _tokens(2, 7)
    dropping, plain = _backbone(options), _backbone(replace(options, dropout=0.0))
    assert torch.equal(dropping(x), plain(x))  # in evaluation
    found = []
    for micro_step, rank in ((3, 0), (3, 0), (4, 0), (3, 1)):
        with seeded(5, micro_step, rank, torch.device("cpu")):
            found.append(dropping.train()(x))
    first, again, *others = found
    assert torch.equal(first, again)
    for one in (*others, plain.train()(x)):
        assert (one - first).abs().max() > 1e-2


def test_drawing_for_a_micro_batch_leaves_the_generator_as_it_was() -> None:
    before = torch.default_generator.get_state()
    with seeded(5, 1, 0, torch.device("cpu")):
        torch.rand(3)
    assert torch.equal(torch.default_generator.get_state(), before)


# --- what is written, and what is named -----------------------------------------------------------------


def test_an_option_that_is_not_set_is_not_written() -> None:
    for preset, later in (
        ("transformer-1M", ("dropout", "norm", "norm_order", "qk_norm")),
        ("xlstm-1M", ("dropout", "norm")),
        ("mamba-1M", ("dropout",)),
    ):
        config = parse_preset(preset)
        written = config_to_dict(config)[config.kind]
        assert not set(later) & set(written)
        assert written


@pytest.mark.parametrize("options", [*VARIANTS.values(), *DROPPING.values()])
def test_a_variant_is_written_and_described(options: Any, tmp_path: Path) -> None:
    config = _model(options)
    assert config_from_dict(config_to_dict(config)) == config
    told = config.describe()
    assert told != _model(type(options)()).describe()
    save_checkpoint(tmp_path / "made", build_model(config, 0), config, trained=False, card={})
    assert load_checkpoint(tmp_path / "made")[1].config == config


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("transformer[full,positions=none]-1M", "positions", "none"),
        ("transformer[positions=rotary, full, window=none]-1M", "window", None),
        ("transformer[qk_norm=true,norm=rms]-1M", "qk_norm", True),
        ("xlstm[7:1,dropout=0.1]-1M", "dropout", 0.1),
        ("mamba[dropout=0.5]-1M", "dropout", 0.5),
        ("stack[mamba*3,attention,window=30]-1M", "window", 30),
    ],
)
def test_brackets_set_options(name: str, field: str, value: Any) -> None:
    assert is_preset(name)
    config = parse_preset(name)
    assert getattr(config.backbone, field) == value
    assert config.name == name


def test_brackets_set_depth_and_width_and_a_recipe_does_too() -> None:
    half = parse_preset("xlstm[7:1,layers=4]-16M")
    assert (half.width, half.layers, half.backbone.slstm_at) == (512, 4, (1,))
    wide = parse_preset("xlstm[layers=4,width=704]-16M")
    recipe = read_recipe(None, ["model.preset=xlstm-16M", "model.layers=4", "model.width=704"])
    assert replace(model_config(recipe.model), name="") == replace(wide, name="")
    with torch.device("meta"):
        whole, narrow = (ActionModel(parse_preset(n)) for n in ("xlstm-16M", "xlstm[layers=4,width=704]-16M"))
    assert 0.9 < narrow.parameter_count / whole.parameter_count < 1.1  # the reference's width for depth


def test_none_is_a_word_of_positions_and_no_value_of_a_window() -> None:
    settings = ["model.preset=transformer[full]-1M", "model.transformer.positions=none"]
    recipe = read_recipe(None, [*settings, "model.transformer.window=none"])
    section = model_config(recipe.model).backbone
    assert (section.positions, section.window) == ("none", None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("transformer[depth=3]-1M", "has no option depth; known: heads"),
        ("transformer[positions=some]-1M", "positions=some does not fit"),
        ("mamba[dropout=1]-1M", "dropout must be 0 or more and below 1"),
        ("xlstm[layers=x]-1M", "layers=x does not fit"),
        ("mamba[layers=2,window]-1M", "there is no model preset"),
    ],
)
def test_what_brackets_cannot_mean_is_one_sentence(name: str, words: str) -> None:
    with pytest.raises(AgentError, match=words):
        parse_preset(name)


def test_an_option_in_brackets_is_no_label() -> None:
    name = "xlstm[7:1,layers=4]-16M"
    assert split_label(name) == ("", name)
    assert split_label(f"half={name}") == ("half", name)
