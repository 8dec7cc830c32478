"""A policy that left decides as its agent, runs without the package, and is written whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import AgentError, TaskSpec
from lram.agents.backbones.cells import GRUConfig
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.mamba2 import Mamba2Config
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.compute import Compute
from lram.agents.exporting import export_policy
from lram.agents.exporting.decision import OneDecision
from lram.agents.exporting.graphs import Format
from lram.agents.exporting.policy import Policy
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model
from lram.agents.sums import file_sum

VECTOR = TaskSpec("toy/reach", "toy", "vector", (6,), "continuous", 2, 25.0, 2.0)
IMAGE = TaskSpec("toy/image", "toy", "image", (3, 64, 64), "discrete", 5, 10.0, 1.0)
RING = TransformerConfig(heads=4, positions="rotary", window=15, cache="ring")
CONFIGS = {
    "gru with actions": ModelConfig(16, 1, GRUConfig(), actions_in_context=True),
    "mamba with actions, without returns": ModelConfig(
        16, 1, MambaConfig(), actions_in_context=True, returns_in_context=False
    ),
    "mamba2": ModelConfig(16, 1, Mamba2Config(state_size=8, head_width=16)),
    "ring": ModelConfig(16, 1, RING),
    "xlstm": ModelConfig(16, 2, XLSTMConfig(slstm_at=(1,))),
}


def _agent(config: ModelConfig) -> ModelAgent:
    compute = Compute(step="torch")
    return ModelAgent(
        build_model(config, 3), trained=False, description="tiny", digest="0123", compute=compute
    )


@pytest.fixture
def few_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare fewer: the ring's window ends with the fifth, and the second episode follows another."""
    monkeypatch.setattr("lram.agents.exporting.agreement.EPISODES", 2)
    monkeypatch.setattr("lram.agents.exporting.agreement.DECISIONS", 12)


@pytest.mark.slow
@pytest.mark.usefixtures("few_decisions")
@pytest.mark.parametrize("name", ["mamba with actions, without returns", "ring", "xlstm"])
def test_a_program_decides_as_the_agent(name: str, tmp_path: Path) -> None:
    found = export_policy(tmp_path / "out", _agent(CONFIGS[name]), VECTOR, "torch-export")
    assert found.decisions == 24
    assert found.largest_difference < 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("few_decisions")
def test_the_folder_says_what_is_in_it_and_runs_without_the_package(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_policy(out, _agent(ModelConfig(16, 1, GRUConfig())), IMAGE, "torch-export")
    about = json.loads((out / "model.json").read_text())
    assert [one["name"] for one in about["inputs"]] == ["observation", "reward", "first", "target_return"]
    assert {one["input"] for one in about["state"]} == {"earned", "past_0_0"}
    assert about["model"]["digest"] == "0123"
    assert about["agreement"]["decisions"] == 24
    assert about["target_return"] == 10
    assert "one of 0 to 4" in (out / "card.md").read_text()
    assert len((out / "policy.py").read_text().splitlines()) <= 100
    for line in (out / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert file_sum(out / name) == digest
    hidden = "import sys, runpy; sys.modules['lram'] = None; runpy.run_path('policy.py', run_name='__main__')"
    ran = subprocess.run([sys.executable, "-c", hidden], cwd=out, capture_output=True, text=True, check=True)
    assert "ms a decision" in ran.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("few_decisions")
@pytest.mark.parametrize(
    ("name", "task"), [("mamba2", VECTOR), ("xlstm", VECTOR), ("gru with actions", IMAGE)]
)
def test_onnx_decides_as_the_agent(name: str, task: TaskSpec, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra export is not installed")
    found = export_policy(tmp_path / "out", _agent(CONFIGS[name]), task, "onnx")
    assert found.decisions == 24
    assert found.largest_difference < 1e-5


def test_a_policy_that_decides_otherwise_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = OneDecision.forward

    def forgetful(self: OneDecision, *given: Tensor) -> tuple[Tensor, ...]:
        names = [port.name for port in self.inputs]
        return sound(self, *(part * 0 if name == "reward" else part for name, part in zip(names, given)))  # noqa: B905

    monkeypatch.setattr(OneDecision, "forward", forgetful)
    agent = _agent(ModelConfig(16, 1, GRUConfig()))
    with pytest.raises(AgentError, match=r"decision 2 of made-up episode 1 a logit by .* nothing was kept"):
        export_policy(tmp_path / "out", agent, VECTOR, "torch-export")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "task", "to", "sentence"),
    [
        (
            ModelConfig(16, 1, TransformerConfig(heads=4, window=30, cache="full")),
            VECTOR,
            "torch-export",
            r'keeps a cache that grows .* with cache = "ring" or "recompute" in \[model.transformer\]',
        ),
        (
            ModelConfig(16, 1, GRUConfig(), state_width=4),
            VECTOR,
            "torch-export",
            r"toy/reach has observations wider than the model's 4",
        ),
        (
            ModelConfig(16, 1, GRUConfig()),
            VECTOR,
            "onnx",
            r"onnx cannot be imported .* pip install 'lram-bench\[export\]'",
        ),
    ],
)
def test_what_cannot_be_exported_costs_one_sentence(
    config: ModelConfig,
    task: TaskSpec,
    to: Format,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(AgentError, match=sentence):
        export_policy(tmp_path / "out", _agent(config), task, to)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="exists and is kept"):
        export_policy(tmp_path, _agent(ModelConfig(16, 1, GRUConfig())), VECTOR, "torch-export")


def test_a_policy_refuses_an_observation_of_another_shape_and_output_that_is_not_finite(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    found = export_policy(out, _agent(ModelConfig(16, 1, GRUConfig())), VECTOR, "torch-export")
    assert found.decisions == 200
    policy = Policy(out)
    with pytest.raises(ValueError, match=r"observation has the shape \(7,\), not \(6,\)"):
        policy.act(np.zeros(7))
    with pytest.raises(ValueError, match="not finite"):
        policy.act(np.full(6, np.nan))
