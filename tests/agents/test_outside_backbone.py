"""A backbone from outside the package: known by its specification alone, and judged by the same gate."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import AgentError, TaskSpec
from lram.agents.backbones import BackboneSpec, ModelShape, Size
from lram.agents.backbones.cells import GRUConfig
from lram.agents.backbones.cells.plain import GRU
from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.layers import column, keep_valid
from lram.agents.backbones.registry import find_spec, home_of, kinds, register, spec_of
from lram.agents.backbones.states import State
from lram.agents.checkpoints.folder import load_checkpoint, model_digest, save_checkpoint
from lram.agents.checks.equivalence import model_checks
from lram.agents.factory import create_agent
from lram.agents.model.config import ModelConfig, config_from_dict, config_to_dict
from lram.agents.model.network import ActionModel, build_model
from lram.agents.training.recipe import Recipe
from lram.agents.training.recipe_text import read_recipe
from lram.agents.training.run import start
from lram.agents.trajectories import StoreWriter, Trajectory

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


WRONG = """
from dataclasses import dataclass
import torch
from torch import nn
from lram.agents.backbones import BackboneSpec
from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.cells.plain import GRU
@dataclass(frozen=True)
class Options:
    hidden: int = 5
def spec(build, **fields):
    return BackboneSpec("wrong", type("Own", (Options,), {"__module__": __name__}), build, **fields)
class Asserts(GRU):
    def __init__(self, model):
        super().__init__(model)
        assert model.width % 5 == 0, "width must be a multiple of 5"
class Lacks(GRU):
    def __init__(self, model):
        super().__init__(model)
        self.size = model.backbone.size
class Abstract(Backbone):
    def forward(self, x):
        return x
class Narrow(GRU):
    def forward(self, x):
        return super().forward(x)[..., :-1]
class Short(GRU):
    def forward(self, x):
        return x + torch.zeros(1, 4, x.shape[-1])
class Late(GRU):
    def forward(self, x):
        if self.training:
            raise KeyError("only in training")
        return super().forward(x)
def bad_check(model):
    raise AttributeError("no size")
class Half(GRU):
    def forward(self, x):
        if not torch.is_autocast_enabled(x.device.type):
            raise RuntimeError("my kernels take bfloat16 alone")
        return super().forward(x)
ASSERTS, LACKS, ABSTRACT = spec(Asserts), spec(Lacks), spec(Abstract)
NARROW, SHORT, LATE = spec(Narrow), spec(Short), spec(Late)
NOTHING, CHECK = spec(lambda model: None), spec(GRU, check=bad_check)
HALF = spec(Half)
"""


@pytest.fixture
def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"wrong_{abs(hash(tmp_path)) % 10**9}"
    (tmp_path / f"{name}.py").write_text(WRONG)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    task = TaskSpec("lab/x", "lab", "vector", (3,), "continuous", 2, 1.0, 1.0)
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "store") as writer:
        for length in range(8, 12):
            seen = rng.uniform(-1, 1, (length + 1, 3)).astype(np.float32)
            actions = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
            rewards = rng.uniform(0, 1, length).astype(np.float32)
            writer.append(Trajectory(task, seen, actions, rewards, rewards, False, True, policy="expert"))
    return name


def training(name: str) -> Recipe:
    settings = ["optimizer.updates=2", "sampling.sequences=2", "sampling.context=5", "validation.windows=0"]
    settings += ["saving.trackers=[]", "data.stores=store", "model.width=16", "model.layers=1"]
    return read_recipe(None, [*settings, f"model.backbone={name}"])


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            "ASSERTS",
            r"wrong cannot be made: AssertionError: width must be a multiple of 5 \(NAME, line 16\); fix",
        ),
        (
            "LACKS",
            r"wrong cannot be made: AttributeError: 'Own' object has no attribute 'size' \(NAME, line 20",
        ),
        ("ABSTRACT", r"wrong cannot be made: TypeError: Can't instantiate .*abstract"),
        ("NOTHING", r"wrong cannot be made: its build returned a NoneType; let it return a .*Backbone"),
        (
            "CHECK",
            r"the check of the backbone wrong raised AttributeError: no size \(NAME, line 36\); fix it",
        ),
        ("NARROW", r"forward of the backbone wrong makes the shape \(2, 15, 15\) of .* \(2, 15, 16\)"),
        ("SHORT", r"wrong cannot read 15 tokens: RuntimeError: .* \(NAME, line 29\); fix its forward"),
    ],
)
def test_what_is_wrong_with_it_is_one_sentence_and_leaves_no_run(
    spec: str, sentence: str, wrong: str, tmp_path: Path
) -> None:
    with pytest.raises(AgentError, match=sentence.replace("NAME", rf"{wrong}\.py")) as caught:
        start(training(f"{wrong}:{spec}"), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_it_is_tried_in_the_precision_that_it_is_trained_in(wrong: str, tmp_path: Path) -> None:
    recipe = training(f"{wrong}:HALF")
    with pytest.raises(AgentError, match="my kernels take bfloat16 alone"):
        start(recipe, tmp_path / "run")
    start(replace(recipe, optimizer=replace(recipe.optimizer, precision="bfloat16")), tmp_path / "run")


def test_what_it_raises_in_training_says_how_to_continue(wrong: str, tmp_path: Path) -> None:
    sentence = (
        rf"ended in the backbone wrong: KeyError: 'only in training' \({wrong}\.py, line 33\); fix its code, "
        "and continue with "
        r"'lram train --resume .*run'"
    )
    with pytest.raises(AgentError, match=sentence):
        start(training(f"{wrong}:LATE"), tmp_path / "run")


def test_an_agent_that_is_a_backbone_says_how_to_make_a_model_of_it() -> None:
    with pytest.raises(AgentError, match=r"is a backbone, and no agent yet; 'lram create --set model.backb"):
        create_agent(f"{__name__}:SPEC")


def test_two_backbones_with_one_class_of_options_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_twins.py").write_text(
        "from dataclasses import dataclass, replace\n\n"
        "from lram.agents.backbones import cells\n\n\n"
        "@dataclass(frozen=True)\nclass Options(cells.GRUConfig):\n    pass\n\n\n"
        "@dataclass(frozen=True)\nclass Others(cells.GRUConfig):\n    pass\n\n\n"
        'ONE = replace(cells.GRU, kind="own_one", options=Options, sizes=())\n'
        "ALIAS = ONE\n"
        'TWO = replace(ONE, kind="own_two")\n'
        'AGAIN = replace(ONE, title="One")\n'
        'THREE = replace(ONE, kind="own_three", options=Others)\n'
        'GRU = replace(ONE, kind="own_gru", options=cells.GRUConfig)\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_spec("own_twins:ONE") is find_spec("own_twins:ALIAS") is find_spec("own_twins:ONE")
    assert find_spec("own_twins:THREE").kind == "own_three"
    with pytest.raises(AgentError, match="kinds own_one and own_two, have the options Options; give the sec"):
        find_spec("own_twins:TWO")
    assert spec_of(find_spec("own_twins:AGAIN").options()).title == "One"  # as when it is loaded again
    find_spec("own_twins:ONE")
    with pytest.raises(AgentError, match="kinds gru and own_gru, have the options GRUConfig"):
        find_spec("own_twins:GRU")
    config = config_from_dict({"width": 16, "layers": 1, "backbone": "own_twins:ONE"})
    assert config.kind == "own_one"
    monkeypatch.setattr("lram.agents.backbones.registry._FOREIGN", {})
    with pytest.raises(AgentError, match="two backbones"):  # which of them, nothing tells
        _ = config.kind
