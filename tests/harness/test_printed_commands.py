"""Commands that a training prints: pasted into the same shell, they work."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from lram.agents.api import AgentError, TaskSpec
from lram.agents.checkpoints.folder import load_checkpoint
from lram.agents.shown import command
from lram.agents.trajectories import StoreWriter, Trajectory
from lram.envs.registry import select
from lram.harness.cli import app, give
from lram.harness.errors import LramError
from lram.harness.evaluation_files.content import EvaluationFile
from lram.harness.evaluation_files.reading import located
from lram.harness.plan import labelled_specs
from lram.harness.rollout.translation import task_spec
from lram.harness.storage.records import PlannedTask

BACKBONE = """
from dataclasses import dataclass
from lram.agents.backbones import BackboneSpec
from lram.agents.backbones.cells.plain import GRU
@dataclass(frozen=True)
class Options:
    hidden: int = 5
class Mine(GRU):
    pass
SPEC = BackboneSpec("mine", Options, Mine)
"""
SETTINGS = (
    *("model.width=8", "model.layers=1", "optimizer.updates=2", "sampling.sequences=2", "sampling.context=4"),
    *("validation.windows=2", "saving.trackers=[]", "data.stores=store", "data.validation_share=0.3"),
)


def lram(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        app(list(arguments), exit_on_error=False, print_error=False)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def train(*arguments: str, settings: tuple[str, ...] = ()) -> int:
    words = [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
    return lram("train", *words, "-q", *arguments)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose code Python finds when a command searches there, and for this test only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    return tmp_path


def store(*tasks: TaskSpec) -> None:
    rng = np.random.default_rng(0)
    with StoreWriter(Path("store")) as writer:
        for task in tasks:
            for length in range(4, 8):
                seen = rng.uniform(-1, 1, (length + 1, *task.observation_shape)).astype(np.float32)
                actions = rng.uniform(-1, 1, (length, task.action_size)).astype(np.float32)
                rewards = rng.uniform(0, 1, length).astype(np.float32)
                writer.append(Trajectory(task, seen, actions, rewards, rewards, False, True, policy="expert"))


REACH = task_spec(PlannedTask(select("toy/reach")[0], ""))
ELSEWHERE = TaskSpec("lab/x", "lab", "vector", (3,), "continuous", 2, 1.0, 1.0)


def test_the_next_command_finds_a_backbone_of_the_working_directory(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"mine_{abs(hash(here)) % 10**9}"
    (here / f"{name}.py").write_text(BACKBONE)
    store(REACH)
    assert train("-o", "run", settings=(f"model.backbone={name}:SPEC",)) == 0
    printed = re.findall(r"next: (.*)", capsys.readouterr().out)[0]
    assert printed == "PYTHONPATH=$PWD lram eval run/checkpoint --tasks toy/reach -o run/eval"
    assert command("train", "--resume", "run") == "PYTHONPATH=$PWD lram train --resume run"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    lines = f'lram() {{ {shlex.quote(sys.executable)} -P -m lram.harness.cli "$@"; }}\n' + printed
    pasted = subprocess.run(
        ["bash", "-c", f"{lines} -n 1 --dry-run"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert pasted.returncode == 0, pasted.stdout + pasted.stderr


def test_an_untrained_backbone_of_one_s_own_is_made_to_be_checked(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"untrained_{abs(hash(here)) % 10**9}"
    (here / f"{name}.py").write_text(BACKBONE)
    settings = (f"model.backbone={name}:SPEC", "model.width=8", "model.layers=1", "model.mine.hidden=7")
    assert lram("create", *(word for one in settings for word in ("--set", one)), "-o", "untrained") == 0
    printed = capsys.readouterr().out
    assert printed == "checkpoint: untrained\nnext: PYTHONPATH=$PWD lram check untrained\n"
    meta = load_checkpoint("untrained")[1]
    assert (meta.trained, meta.config.backbone.hidden, meta.config.width) == (False, 7, 8)
    assert lram("check", "untrained", "--tokens", "20") == 0
    assert lram("create", "gru-1M", "--set", "model.layers=1", "-o", "preset") == 0
    assert load_checkpoint("preset")[1].config.layers == 1
    with pytest.raises(LramError, match=r"data.stores is no field of a model with random weights"):
        app(["create", "gru-1M", "--set", "data.stores=a", "-o", "x"], exit_on_error=False, print_error=False)
    with pytest.raises(AgentError, match=r"names no model; set model.preset"):
        app(["create", "-o", "x"], exit_on_error=False, print_error=False)


def test_the_next_command_names_tasks_that_can_be_played(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(ELSEWHERE)
    assert train("-o", "one", settings=("model.backbone=gru",)) == 0
    printed = capsys.readouterr().out
    assert (
        "no simulator of lab/x is known here; to evaluate the model there, give --tasks the file" in printed
    )
    assert "next: lram eval one/checkpoint --tasks TASKS -o one/eval" in printed
    store_of_both = Path("store")
    for file in sorted(store_of_both.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    store(REACH, ELSEWHERE)
    assert train("-o", "both", settings=("model.backbone=gru",)) == 0
    printed = capsys.readouterr().out
    assert "next: lram eval both/checkpoint --tasks toy/reach -o both/eval" in printed
    assert "simulator" not in printed


LOUD = """
print("imported")
from lram.agents.experts.baselines import ConstantAgent
class Loud(ConstantAgent):
    def act(self, state, observations, rewards, lanes):
        print("acting")
        return super().act(state, observations, rewards, lanes)
def make():
    print("made")
    return Loud(0.0)
"""


def test_what_own_code_prints_is_no_part_of_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"loud_{abs(hash(here)) % 10**9}"
    (here / f"{name}.py").write_text(LOUD)
    assert give(["check", f"{name}:make", "--json"]) == 0
    printed = capsys.readouterr()
    assert [one["agent"] for one in json.loads(printed.out)] == [f"{name}:make"]
    assert {"imported", "made", "acting"} <= set(printed.err.split())
    print("as before")
    assert capsys.readouterr().out == "as before\n"


def test_what_a_backbone_prints_is_no_part_of_a_printed_recipe(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"spoken_{abs(hash(here)) % 10**9}"
    (here / f"{name}.py").write_text(f"print('imported')\n{BACKBONE}")
    settings = (f"model.backbone={name}:SPEC", "model.width=8", "model.layers=1")
    words = [word for setting in settings for word in ("--set", setting)]
    assert give(["train", "--print-recipe", *words]) == 0
    printed = capsys.readouterr()
    assert tomllib.loads(printed.out)["model"]["width"] == 8
    assert "imported" in printed.err


def test_a_folder_whose_name_has_an_equals_sign_is_no_label(here: Path) -> None:
    for folder in ("lr=0.01/checkpoint", "named"):
        Path(folder).mkdir(parents=True)
    there = str(here / "lr=0.01/checkpoint")
    assert labelled_specs("lr=0.01/checkpoint") == {"lr=0.01": there}
    assert labelled_specs("lr=0.01/checkpoint~0.3") == {"lr=0.01~0.3": f"{there}~0.3"}
    assert labelled_specs("a=lr=0.01/checkpoint") == {"a": there}
    assert labelled_specs("lr=named") == {"lr": str(here / "named")}
    assert labelled_specs("constant=0.5") == {"constant=0.5": "constant=0.5"}


def test_a_file_of_an_evaluation_names_such_a_folder(here: Path) -> None:
    Path("files/lr=0.01/checkpoint").mkdir(parents=True)
    asked = EvaluationFile(tasks=("toy/reach",), agents=("lr=0.01/checkpoint", "a=lr=0.01/checkpoint"))
    there = str(here / "files/lr=0.01/checkpoint")
    assert located(asked, here / "files").agents == (there, f"a={there}")
