"""Configurations: every number has a type and a bound, and what is outside ends at once in a sentence."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest

from lram.agents.acting.contexts import parse_context
from lram.agents.api import AgentError
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.checkpoints.shipped import shipped_checkpoints
from lram.agents.factory import create_agent
from lram.agents.model.config import ModelConfig, config_from_dict
from lram.agents.model.network import build_model
from lram.agents.model.presets import parse_preset

SECTIONS = {"xlstm": XLSTMConfig, "mamba": MambaConfig, "transformer": TransformerConfig}
NUMBERS = [("", "width"), ("", "layers"), ("", "state_width")] + [
    (kind, one.name)
    for kind, section in SECTIONS.items()
    for one in fields(section)
    if "int" in str(one.type) or "float" in str(one.type)
]
BAD: dict[str, Any] = {
    "zero": 0,
    "negative": -3,
    "large": 10**9,
    "huge": 10**30,
    "many digits": 10**4000,
    "bool": True,
    "text": "8",
    "nan": math.nan,
    "infinite": math.inf,
    "largest float": 1e308,
    "list": [8],
    "object": {"a": 8},
}


def _plain(kind: str, name: str, value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"width": 64, "layers": 2, kind or "mamba": {}}
    (plain[kind] if kind else plain)[name] = value
    return plain


def test_every_number_is_looked_at() -> None:
    assert len(NUMBERS) == 19


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
@pytest.mark.parametrize(("kind", "name"), NUMBERS)
def test_a_number_that_makes_no_sense_is_one_sentence(kind: str, name: str, value: Any) -> None:
    if name == "slstm_at" and value in (0, [8]):
        value = [-1]
    if name == "dropout" and value == 0 and value is not False:
        value = 1  # all of it
    with pytest.raises(AgentError) as caught:
        config_from_dict(_plain(kind, name, value))
    assert name in str(caught.value) or "does not fit" in str(caught.value)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "positions", [[10**9], [10**5000], [-1], [0, 0], [True], list(range(10**5)), [0] * 10**5, [[0]]]
)
def test_positions_of_blocks_are_checked(positions: list[Any]) -> None:
    with pytest.raises(AgentError) as caught:
        config_from_dict(_plain("xlstm", "slstm_at", positions))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["x" * 201, "a\x1b[2J", "a\nb"])
def test_a_name_is_a_short_printable_text(name: str) -> None:
    with pytest.raises(AgentError, match="name is not a printable text"):
        replace(parse_preset("mamba-1M"), name=name)


def test_models_that_are_there_keep_their_configurations() -> None:
    for folder in shipped_checkpoints().values():
        plain = json.loads((folder / "config.json").read_text())["model"]
        assert config_from_dict(plain).width == plain["width"]


@pytest.mark.parametrize(
    "name",
    [
        "xlstm[7:1]-999999999M",
        "xlstm[1:1000000000]-16M",
        f"xlstm[{'9' * 100}:1]-16M",
        "mamba[7:1]-1M",
        "xlstm[\u0663:1]-1M",
        "small-mamba@window=1000000000000",
        f"small-mamba@reset={'9' * 100}",
    ],
)
def test_a_preset_or_a_context_without_end_is_one_sentence(name: str) -> None:
    with pytest.raises(AgentError):
        create_agent(name)


def test_the_longest_context_is_accepted() -> None:
    assert parse_context("reset=1000000").timesteps == 1_000_000


def test_a_model_that_no_memory_holds_is_not_made() -> None:
    huge = ModelConfig(1 << 20, 64, backbone=MambaConfig(expand=64))
    with pytest.raises(AgentError, match=r"needs [\d,]+ GiB for its weights, and this machine has"):
        build_model(huge, 0)


def test_a_ratio_is_written_as_named_only_where_the_blocks_are_placed_by_it() -> None:
    assert parse_preset("xlstm[7:1]-1M").describe() == "xLSTM [7:1] (sLSTM at 1 of 8 blocks)"
    rounded = parse_preset("xlstm[7:1]-48M")
    assert rounded.describe() == "xLSTM [7:1] (sLSTM at 1, 3 of 12 blocks)"
    assert replace(rounded, layers=20).describe() == "xLSTM [9:1] (sLSTM at 1, 3 of 20 blocks)"
    moved = replace(rounded, backbone=XLSTMConfig(slstm_at=(0, 2)))
    assert moved.describe() == "xLSTM [5:1] (sLSTM at 0, 2 of 12 blocks)"
