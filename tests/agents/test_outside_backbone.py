"""A backbone from outside the package: known by its specification alone, and judged by the same gate."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import AgentError
from lram.agents.backbones import BackboneSpec, ModelShape, Size
from lram.agents.backbones.cells import GRUConfig
from lram.agents.backbones.cells.plain import GRU
from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.layers import column, keep_valid
from lram.agents.backbones.registry import find_spec, home_of, kinds, register
from lram.agents.backbones.states import State
from lram.agents.checkpoints.folder import load_checkpoint, model_digest, save_checkpoint
from lram.agents.checks.equivalence import model_checks
from lram.agents.model.config import ModelConfig, config_from_dict, config_to_dict
from lram.agents.model.network import ActionModel, build_model
from lram.agents.training.recipe_text import read_recipe

WIDTH = 16


@dataclass(frozen=True)
class DecayConfig:
    """Options of the backbone here."""

    hidden: int = 24
    fault: str = ""


class Decay(Backbone):
    """One leaky memory a block; ``fault`` plants what the gate must find."""

    def __init__(self, model: ModelShape) -> None:
        super().__init__()
        self.hidden, self.fault = model.backbone.hidden, model.backbone.fault
        self.values = nn.Linear(model.width, self.hidden)
        self.out = nn.Linear(self.hidden, model.width)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        return self._read(x, self.initial_state(len(x)), None)[0]

    def initial_state(self, rows: int) -> State:
        state = torch.zeros(rows, self.hidden, dtype=torch.float32)
        count = torch.zeros(rows, dtype=torch.int64)
        return {"h": state, "count": count}

    def reset(self, state: State, rows: Sequence[int]) -> None:
        if self.fault != "forgets its reset":
            super().reset(state, rows)

    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        y, state = self._read(x, state, valid)
        if self.fault == "leaks between rows":
            y = y + 1e-3 * y.mean(dim=0, keepdim=True)
        if self.fault == "is not deterministic":
            self.calls += 1
            y = y + 1e-3 * self.calls
        if self.fault == "drifts after 300 tokens":
            y = y + 1e-3 * (state["count"] > 300).view(-1, 1, 1)
        return y, state

    def _read(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        values, h, outputs = self.values(x).float(), state["h"], []
        for token in range(x.shape[1]):
            new = 0.9 * h + 0.1 * values[:, token]
            h = keep_valid(column(valid, token), new, h)
            outputs.append(new)
        count = state["count"] + (x.shape[1] if valid is None else valid.sum(dim=1))
        return x + self.out(torch.stack(outputs, dim=1).to(x.dtype)), {"h": h, "count": count}


SPEC = BackboneSpec("decay", DecayConfig, Decay, sizes=(Size("1M", 96, 2, {"hidden": 64}),))
CONFIG = ModelConfig(WIDTH, 1, DecayConfig())


def agent_of(config: ModelConfig) -> ModelAgent:
    return ModelAgent(build_model(config, 3), trained=False, description="decay", digest="")


def failed(agent: ModelAgent) -> set[str]:
    return {check.name for check in model_checks(agent) if check.status == "failed"}


def test_a_specification_is_all_that_a_configuration_needs() -> None:
    assert (CONFIG.kind, CONFIG.describe(), CONFIG.past.recurrent) == ("decay", "decay", True)
    plain = config_to_dict(CONFIG)
    assert plain["backbone"] == home_of(SPEC) == f"{__name__}:SPEC"
    assert plain["decay"] == {"hidden": 24, "fault": ""}
    assert config_from_dict(plain) == CONFIG
    # What is left to its default is written all the same: a later default must not make it another model.
    bare = {name: value for name, value in plain.items() if name != "decay"}
    assert config_to_dict(config_from_dict(bare)) == plain
    assert pickle.loads(pickle.dumps(CONFIG)) == CONFIG


def test_a_sound_one_passes_the_gate() -> None:
    assert failed(agent_of(CONFIG)) == set()


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("forgets its reset", "a reset row is fresh"),
        ("leaks between rows", "a row's neighbours do not matter"),
        ("is not deterministic", "step equals forward"),
        ("drifts after 300 tokens", "step equals forward"),
    ],
)
def test_the_gate_names_what_fails(fault: str, found: str) -> None:
    names = failed(agent_of(replace(CONFIG, backbone=DecayConfig(fault=fault))))
    assert found in names


def test_its_checkpoint_is_read_with_the_same_digest(tmp_path: Path) -> None:
    model = build_model(CONFIG, 3)
    save_checkpoint(tmp_path / "checkpoint", model, CONFIG, trained=False, card={})
    again, meta = load_checkpoint(tmp_path / "checkpoint")
    assert isinstance(again.backbone, Decay)
    assert meta.config == CONFIG
    assert meta.digest == model_digest(model)


@pytest.mark.slow
def test_a_checkpoint_whose_code_is_not_here_says_what_to_install(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", build_model(CONFIG, 3), CONFIG, trained=False, card={})
    config = tmp_path / "checkpoint" / "config.json"
    config.write_text(config.read_text().replace(__name__, "nowhere_to_be_found"))
    (tmp_path / "checkpoint" / "SHA256SUMS").unlink()
    (tmp_path / "nowhere_to_be_found.py").write_text("raise SystemExit('code beside a checkpoint was run')")
    code = f"from lram.agents.factory import create_agent; create_agent({str(tmp_path / 'checkpoint')!r})"
    answer = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "AgentError" in answer.stderr
    assert "nowhere_to_be_found:SPEC cannot be imported" in answer.stderr
    assert "PYTHONPATH" in answer.stderr
    assert "was run" not in answer.stderr


HERE = """
from dataclasses import dataclass
from lram.agents.backbones import BackboneSpec
open("ran", "w").close()
@dataclass(frozen=True)
class Options:
    hidden: int = 5
SPEC = BackboneSpec("mine", Options, lambda model: None)
"""


@pytest.mark.slow
@pytest.mark.parametrize("named", ["by --set", "by the recipe"])
def test_code_of_the_working_directory_is_run_where_the_command_line_names_it(
    tmp_path: Path, named: str
) -> None:
    (tmp_path / "mine.py").write_text(HERE)
    (tmp_path / "recipe.toml").write_text('[model]\nbackbone = "mine:SPEC"\nwidth = 8\nlayers = 1\n')
    words = ["train", "recipe.toml", "--print-recipe"]
    words += ["--set", "model.backbone=mine:SPEC"] if named == "by --set" else []
    command = [str(Path(sys.executable).with_name("lram")), *words]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (tmp_path / "ran").exists() == (named == "by --set"), answer.stderr
    if named == "by --set":
        assert "mine.hidden = 5" in answer.stdout
    else:
        assert answer.returncode == 2
        assert "put its folder on PYTHONPATH" in answer.stderr


def test_options_are_typed_and_set_like_any_others() -> None:
    from lram.agents.training.recipe import model_config

    base = [f"model.backbone={__name__}:SPEC", "model.width=16", "model.layers=1"]
    recipe = read_recipe(None, [*base, "model.decay.hidden=40"])
    assert model_config(recipe.model).backbone == DecayConfig(hidden=40)
    for setting, told in (
        ("model.decay.hidden=lots", "decay.hidden"),
        ("model.decay.hiden=40", "no field decay.hiden"),
        ("model.xlstm.heads=2", "exactly one"),
    ):
        with pytest.raises(AgentError, match=told):
            model_config(read_recipe(None, [*base, setting]).model)


def test_a_kind_cannot_be_called_as_something_else() -> None:
    for kind in ("xlstm", "width", "name"):
        with pytest.raises(AgentError, match="means something else"):
            register(replace(SPEC, kind=kind))
    with pytest.raises(AgentError, match="lower-case"):
        replace(SPEC, kind="My Backbone")
    with pytest.raises(AgentError, match="there is no backbone 'rwkv'"):
        find_spec("rwkv")


def test_a_built_in_kind_without_options_has_the_defaults() -> None:
    config = config_from_dict({"width": 16, "layers": 1, "backbone": "gru"})
    assert config.backbone == GRUConfig()
    assert "backbone" not in config_to_dict(config)
    assert {"gru", "lstm"} <= set(kinds())


@pytest.mark.parametrize("hidden", [None, 24])
def test_torch_reads_the_same_as_the_step_of_a_gru(hidden: int | None) -> None:
    model = ActionModel(ModelConfig(WIDTH, 2, GRUConfig(hidden)))
    backbone: Any = model.backbone
    assert isinstance(backbone, GRU)
    x = torch.randn(3, 20, WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        state, outputs = backbone.initial_state(3), []
        for first in range(0, 20, 4):
            y, state = backbone.step(x[:, first : first + 4], state)
            outputs.append(y)
        # Of float32: the same products, summed in another order.
        torch.testing.assert_close(torch.cat(outputs, dim=1), backbone(x), rtol=0, atol=2e-6)
