"""docs/how-to/policies.md: its commands run, and a run stays with its files."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.lerobot import fake_python, save
from support.ready import ready_python

from lram.agents.checks.contract import contract_checks
from lram.agents.factory import create_agent
from lram.harness.cli import main
from lram.harness.evaluation import Machine, evaluate
from lram.harness.gate.contract import is_foreign
from lram.harness.plan import split_label
from lram.harness.storage.run_folder import Run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "policies.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [line.removeprefix("$ lram ") for line in PAGE.splitlines() if line.startswith("$ lram ")]
ARCHIVE = ROOT / "tests" / "data" / "sb3" / "ppo.zip"

pytestmark = pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens")


class Remembering(torch.nn.Module):
    def forward(self, obs: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        memory = 0.5 * memory + obs.sum(dim=1, keepdim=True)
        return memory[:, :2], memory


def decision_transformer(folder: Path) -> None:
    """Write a Decision Transformer for toy/reach, with one block, as transformers names its weights."""
    folder.mkdir()
    config = {
        "model_type": "decision_transformer",
        "state_dim": 6,
        "act_dim": 2,
        "hidden_size": 8,
        "n_layer": 1,
    }
    (folder / "config.json").write_text(json.dumps({**config, "max_ep_len": 200}))
    shapes = {"embed_timestep.weight": (200, 8), "encoder.wpe.weight": (4, 8), "encoder.wte.weight": (1, 8)}
    for name, outputs, inputs in (
        ("embed_return", 8, 1),
        ("embed_state", 8, 6),
        ("embed_action", 8, 2),
        ("predict_action.0", 2, 8),
        ("encoder.h.0.attn.c_attn", 24, 8),
        ("encoder.h.0.attn.c_proj", 8, 8),
        ("encoder.h.0.mlp.c_fc", 32, 8),
        ("encoder.h.0.mlp.c_proj", 8, 32),
    ):
        shapes[f"{name}.bias"] = (outputs,)  # type: ignore[assignment]
        shapes[f"{name}.weight"] = (inputs, outputs) if ".c_" in name else (outputs, inputs)
    for name in ("embed_ln", "encoder.ln_f", "encoder.h.0.ln_1", "encoder.h.0.ln_2"):
        shapes |= {f"{name}.bias": (8,), f"{name}.weight": (8,)}  # type: ignore[dict-item]
    generator = torch.Generator().manual_seed(0)
    weights = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with the page's network and sidecar, and an archive of Stable-Baselines3."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ARCHIVE, tmp_path / "reach.zip")
    decision_transformer(tmp_path / "hopper")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Remembering(), (torch.zeros(1, 6), torch.zeros(1, 16)))
        torch.jit.save(traced, "net.pt")
    (tmp_path / "net.pt.toml").write_text(BLOCKS[0])
    return tmp_path


@pytest.fixture
def lram(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    handler = signal.getsignal(signal.SIGTERM)

    def call(command: str) -> str:
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)]
        monkeypatch.setattr(sys, "argv", ["lram", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capfd.readouterr()
        assert not stop.value.code, printed.err
        return printed.out

    yield call
    signal.signal(signal.SIGTERM, handler)


def test_the_pages_commands_run(user: Path, lram: Callable[..., str]) -> None:
    asked = [
        command.replace("metaworld/reach-v3", "toy/reach").replace("-n 20", "-n 1") for command in COMMANDS
    ]
    assert [command.split()[0] for command in asked] == ["check", "eval"] * 4
    assert "checks: 10 passed" in lram(asked[0])
    lram(f"{asked[1]} -q --workers 1")
    assert {one.status for one in Run(user / "runs" / "reach").records()} == {"scored"}
    assert "checks: 10 passed" in lram(asked[2])
    lram(f"{asked[3]} -q --workers 1")
    assert {one.status for one in Run(user / "runs" / "dt").records()} == {"scored"}
    lram(asked[5].replace("-n 5", "-n 1") + " -q --workers 1")
    assert {one.label for one in Run(user / "runs" / "mine").plan.agents} == {"random", "mine"}


@pytest.mark.slow
def test_a_policy_of_lerobot_plays_and_one_that_dies_is_resumed_to_the_same_run(
    user: Path, lram: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRAM_LEROBOT_PYTHON", fake_python(user / "python", ready_python()))
    policy = save(user / "pretrained_model", text="reach", noise=0.25)
    assert "checks: 10 passed" in lram(COMMANDS[6])
    command = f"{COMMANDS[7].replace('-n 5', '-n 2')} -q --workers 1 --lanes 1"
    lram(command)
    (policy / "die").touch()
    words = [
        word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command.replace("runs/act", "runs/again"))
    ]
    monkeypatch.setattr(sys, "argv", ["lram", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    before = len(Run(user / "runs" / "again").records())
    (policy / "die").unlink()
    lram("resume runs/again -q")
    assert before < 4
    both = [
        sorted((one.agent, one.episode, one.trajectory) for one in Run(user / "runs" / name).records())
        for name in ("act", "again")
    ]
    assert len(both[0]) == 4
    assert both[0] == both[1]


def test_the_pages_sidecar_describes_an_agent_that_keeps_the_contract(user: Path) -> None:
    from lram.agents.api import TaskSpec

    task = TaskSpec("toy/reach", "toy", "vector", (6,), "continuous", 2, None, 1.0)
    checks = contract_checks(create_agent("torchscript:net.pt"), (task,), decisions=4)
    assert {check.status for check in checks} == {"passed"}
    assert tomllib.loads(BLOCKS[1]) == {"names": {"observation": "obs", "answer": "action"}}


def test_a_run_finds_its_file_from_anywhere_and_is_called_by_its_name(
    user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(lanes=2, workers=1)
    names = ["sb3:reach.zip(low=-2, high=2)", f"sb3:{user / 'reach.zip'}~0.1"]
    run = evaluate(names, "toy/reach", "run", episodes=1, machine=machine)
    assert [(one.label, one.spec) for one in run.plan.agents] == [
        ("sb3:reach.zip(low=-2, high=2)", f"sb3:{user / 'reach.zip'}(low=-2, high=2)"),
        ("sb3:reach.zip~0.1", f"sb3:{user / 'reach.zip'}~0.1"),
    ]
    assert split_label("a=sb3:reach.zip(low=-2, high=2)") == ("a", "sb3:reach.zip(low=-2, high=2)")


def test_an_adapted_policy_is_somebody_elses(user: Path) -> None:
    assert is_foreign(create_agent("sb3:reach.zip"))
