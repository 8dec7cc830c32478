"""The examples of docs/extending.md are run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from support.ready import ready_python

from lram.harness.storage.run_folder import Run

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)

STUDY = """
name = "backbone"
question = "Which backbone acts best?"
seeds = [0]

[recipe.model]
width = 32
layers = 2

[recipe.sampling]
context = 10
sequences = 2

[recipe.optimizer]
updates = 2
warmup_updates = 1

[recipe.validation]
windows = 4

[recipe.saving]
trackers = []

[[axes]]
name = "backbone"

[[axes.levels]]
name = "leaky"
changes = { "model.backbone" = "leaky_backbone:SPEC", "model.leaky.hidden" = 24 }

[[axes.levels]]
name = "gru"
changes = { "model.backbone" = "gru" }

[data]
stores = ["data"]

[evaluation]
tasks = ["toy/reach"]
episodes = 1
"""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A user's folder with the page's modules, and their domain announced as an installed package does."""
    for block in BLOCKS:
        name = re.match(r"# (\w+\.py)\n", block)
        if name:
            (tmp_path / name[1]).write_text(block)
    announced = tmp_path / "line-1.0.dist-info"
    announced.mkdir()
    (announced / "METADATA").write_text("Metadata-Version: 2.1\nName: line\nVersion: 1.0\n")
    (announced / "entry_points.txt").write_text("[lram.domains]\nnumber_line = number_line:DOMAIN\n")
    return tmp_path


def python(user: Path, *arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(user)}
    command = [*ready_python(), *arguments]
    answer = subprocess.run(command, cwd=user, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def test_the_agent_plays(user: Path) -> None:
    lram = ("-m", "lram.harness.cli", "eval", "pendulum_agent:PendulumAgent")
    python(user, *lram, "--tasks", "toy/reach", "-n", "2", "-o", "run", "-q")
    assert [record.status for record in Run(user / "run").records()] == ["scored"] * 2


def test_an_agent_with_other_weights_or_other_code_does_not_continue_a_run(user: Path) -> None:
    def lram(*words: str, stops: str = "") -> None:
        environment = {**os.environ, "PYTHONPATH": str(user)}
        command = [*ready_python(), "-m", "lram.harness.cli", *words]
        answer = subprocess.run(
            command, cwd=user, env=environment, capture_output=True, text=True, check=False
        )
        assert answer.returncode == (2 if stops else 0), answer.stderr
        assert stops in answer.stderr

    def forget() -> None:
        """Lose what was recorded, so that there is something to play."""
        for file in (user / "run" / "records").glob("*.jsonl"):
            file.unlink()

    weights = user / "weights.npy"
    np.save(weights, np.linspace(-1, 1, 6))
    lram("eval", "weighted_agent:WeightedAgent", "--tasks", "toy/reach", "-n", "1", "-o", "run", "-q")
    forget()
    lram("resume", "run", "-q")
    forget()
    content = weights.read_bytes()
    np.save(weights, np.linspace(1, -1, 6))
    lram("resume", "run", "-q", stops="is not the one the run was started with (digest")
    weights.write_bytes(content)
    lram("resume", "run", "-q")
    forget()
    module = user / "weighted_agent.py"
    module.write_text(module.read_text().replace("np.sign", "np.tanh"))
    lram("resume", "run", "-q", stops="the source of weighted_agent has changed since")


@pytest.mark.timeout(900)  # a dozen commands
def test_the_backbone_goes_the_whole_way(user: Path) -> None:
    """Trained, checked, evaluated, timed, extrapolated, and compared with the package's own in a study."""

    def lram(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(user)}
        command = [*ready_python(), "-m", "lram.harness.cli", *words]
        answer = subprocess.run(
            command, cwd=user, env=environment, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stderr + answer.stdout
        return answer.stdout

    module = next(block for block in BLOCKS if block.startswith("# leaky_backbone.py"))
    assert len(module.splitlines()) <= 60
    lram("collect", "random", "--tasks", "toy/reach", "-n", "4", "-o", "data", "-q")
    tiny = {
        "model": {"width": 32, "layers": 2},
        "sampling": {"context": 10, "sequences": 2},
        "optimizer": {"updates": 2, "warmup_updates": 1},
        "validation": {"windows": 4},
        "saving": {"trackers": "[]"},
    }
    settings = [f"{section}.{name}={value}" for section, has in tiny.items() for name, value in has.items()]
    own = ["model.backbone=leaky_backbone:SPEC", "model.leaky.hidden=24", "data.stores=data"]
    given = [word for setting in (*settings, *own) for word in ("--set", setting)]
    assert "hidden = 24" in lram("train", *given, "--print-recipe")
    lram("train", *given, "-o", "leaky", "-q")
    model = "leaky/checkpoint"
    lram("eval", model, "--tasks", "toy/reach", "-n", "1", "-o", "run", "-q")
    assert [record.status for record in Run(user / "run").records()] == ["scored"]
    lram("latency", model, "--quick", "--contexts", "4", "-t", "toy/reach", "-o", "latency")
    lram("extrapolate", model, "-t", "toy/reach", "-c", "4", "-n", "1", "-d", "data", "-o", "long")
    (user / "study.toml").write_text(STUDY)
    lram("ablate", "study.toml", "-o", "study")
    lram("report", "run", "latency", "long", "study", "-o", "report")
    page = (user / "report" / "summary.md").read_text(encoding="utf-8")
    assert "leaky" in page


def test_the_policy_that_acts_on_a_batch_plays_and_keeps_its_contract(user: Path) -> None:
    lram = ("-m", "lram.harness.cli")
    python(user, *lram, "check", "network_agent:make_agent", "--tasks", "toy/reach")
    python(user, *lram, "eval", "network_agent:make_agent", "-t", "toy/reach", "-n", "2", "-o", "run", "-q")
    run = Run(user / "run")
    assert [record.status for record in run.records()] == ["scored"] * 2
    note = run.provenance()[0].settings["check of network_agent:make_agent"]
    assert note.endswith("checks passed on toy/reach")


def test_the_domain_keeps_the_contract_and_is_found(user: Path) -> None:
    (check,) = (block for block in BLOCKS if block.startswith("from lram.envs.conformance"))
    python(user, "-c", check)
    lram = ("-m", "lram.harness.cli", "eval", "random")
    python(user, *lram, "--tasks", "number_line", "-n", "2", "-o", "run", "-q")
    assert [record.task for record in Run(user / "run").records()] == ["number_line/stay"] * 2


def test_the_weights_example_converts_a_reference_state_dict(tmp_path: Path) -> None:
    from lram.agents.checkpoints.folder import load_checkpoint
    from lram.agents.model.network import build_model
    from lram.agents.model.presets import parse_preset

    (example,) = (block for block in BLOCKS if "def convert" in block)
    scope: dict[str, object] = {}
    exec(example.replace("-16M", "-1M"), scope)
    model = build_model(parse_preset("xlstm[7:1]-1M"), seed=1)
    theirs = {"_orig_mod." + _reference_name(name): value for name, value in model.state_dict().items()}
    scope["convert"](theirs, tmp_path / "checkpoint")  # type: ignore[operator]
    loaded, meta = load_checkpoint(tmp_path / "checkpoint")
    assert meta.trained
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)


def _reference_name(ours: str) -> str:
    from lram.agents.checkpoints.reference import _PREFIXES

    for theirs, own in _PREFIXES:
        if ours.startswith(own):
            return theirs + ours[len(own) :]
    raise AssertionError(ours)
