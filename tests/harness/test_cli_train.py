"""lram train, finetune and cast: killed and resumed, on several processes, and on to lram eval."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from support.ready import ready_python

from lram.agents.api import AgentError, TaskSpec
from lram.agents.checkpoints.folder import load_checkpoint, save_checkpoint
from lram.agents.checkpoints.shipped import shipped_checkpoints
from lram.agents.model.network import build_model
from lram.agents.training.recipe import describe_fields, model_config, recipe_to_dict
from lram.agents.training.recipe_text import read_recipe
from lram.agents.training.run import Outcome
from lram.agents.training.sinks import read_metrics
from lram.agents.trajectories import StoreWriter, Trajectory
from lram.envs.registry import select
from lram.harness.cli import app
from lram.harness.cli.printing.closing import conclude_training
from lram.harness.cli.printing.streams import nothing_hidden
from lram.harness.errors import LramError
from lram.harness.rollout.translation import task_spec
from lram.harness.storage.records import PlannedTask
from lram.harness.training import finetuning_recipe

# A shell that starts the tests in the background has them ignore Ctrl-C, and children inherit that.
HEED_CTRL_C = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    "from lram.harness.cli import main; main()"
)

RECIPE = """
[model]
width = 16
layers = 2
xlstm = {heads = 2, slstm_at = [1]}
[data]
validation_share = 0.3
[sampling]
context = 5
sequences = 3
domain_sequences = {atari = 1}
[optimizer]
updates = 45
warmup_updates = 5
learning_rate = 1e-3
[validation]
every = 20
windows = 2
[saving]
metrics_every = 5
state_updates = 7
trackers = []
"""

REACH = TaskSpec("metaworld/reach", "metaworld", "vector", (5,), "continuous", 2, 1.0, 1.0)
GAME = TaskSpec("atari/game", "atari", "image", (3, 64, 64), "discrete", 6, 1.0, 1.0)


def episode(task: TaskSpec, number: int, length: int = 8) -> Trajectory:
    rng = np.random.default_rng([number, len(task.id)])
    if task.observation == "image":
        seen: Any = rng.integers(0, 256, (length + 1, *task.observation_shape), dtype=np.uint8)
        actions: Any = rng.integers(0, task.action_size, length)
    else:
        seen = rng.uniform(-1, 1, (length + 1, *task.observation_shape)).astype(np.float32)
        actions = rng.uniform(-1, 1, (length, task.action_size)).astype(np.float32)
    rewards = rng.uniform(0, 1, length).astype(np.float32)
    return Trajectory(task, seen, actions, rewards, rewards, False, True, policy="expert")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "store"
    toy = task_spec(PlannedTask(select("toy/reach")[0], ""))
    with StoreWriter(path) as writer:
        for task in (REACH, GAME, toy):
            for number in range(6):
                # Lengths differ, so that two processes' shares of a batch hold unequally many timesteps.
                writer.append(episode(task, number, length=4 + number))
    return path


@pytest.fixture(scope="module")
def recipe(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "recipe.toml"
    path.write_text(RECIPE.replace("[data]", f'[data]\nstores = ["{store}"]\ntasks = ["[!t]*/*"]'))
    return path


def train(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*ready_python(), "-c", HEED_CTRL_C, "train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    output, errors = process.communicate(timeout=600)
    assert process.returncode == code, output + errors
    return output + errors


def lram(*arguments: str | Path) -> int:
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as stopped:
        app([str(argument) for argument in arguments], exit_on_error=False, print_error=False)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def lines(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "time"} for line in read_metrics(run / "metrics.jsonl")]


def wait_for_updates(run: Path, process: subprocess.Popen[str], more: int) -> None:
    """Wait until a process has written so many lines."""
    before = len(lines(run))
    while len(lines(run)) < before + more and process.poll() is None:
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.timeout(900)  # several processes that each import torch
def test_a_run_killed_and_interrupted_again_and_again_ends_with_the_same_bits(
    recipe: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    uninterrupted = train(recipe, "-o", whole, "-q")
    rng = random.Random(3)
    process = train(recipe, "-o", cut, "-q")
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        wait_for_updates(cut, process, more=rng.randint(1, 2))
        time.sleep(rng.uniform(0, 0.1))
        assert process.poll() is None, process.communicate()
        process.send_signal(number)
        process.wait(timeout=300)
        if number == signal.SIGINT:
            assert f"continue with: lram train --resume {cut}" in finished(process, 130)
        else:
            process.communicate()  # closes the pipes
        assert not (cut / "checkpoint").exists()
        process = train("--resume", cut, "-q")
    finished(process)
    finished(uninterrupted)
    name = "checkpoint/model.safetensors"
    assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert lines(cut) == lines(whole)
    assert [line["update"] for line in lines(whole) if line["kind"] == "train"] == list(range(5, 46, 5))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_train_as_one_with_their_batches_together(recipe: Path, tmp_path: Path) -> None:
    settings = [
        "--set=optimizer.updates=6",
        "--set=optimizer.warmup_updates=1",
        # Where a gradient is all but 0, AdamW's first steps have the sign of its rounding.
        "--set=optimizer.eps=1e-3",
    ]
    both = ["--set=sampling.sequences=4", "--set=sampling.domain_sequences.atari=4"]
    each = ["--set=sampling.sequences=2", "--set=sampling.domain_sequences.atari=2"]
    one = train(recipe, "-o", tmp_path / "one", "-q", *settings, *both)
    two = subprocess.run(
        [
            # A port that is found beforehand may be taken when it is used.
            *ready_python(), "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "--no-python", *ready_python(), "-m", "lram.harness.cli", "train", str(recipe), "-q",
            "-o", str(tmp_path / "two"), *settings, *each,
        ],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )  # fmt: skip
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("checkpoint:") == 1
    finished(one)
    expected = load_file(tmp_path / "one" / "checkpoint" / "model.safetensors")
    found = load_file(tmp_path / "two" / "checkpoint" / "model.safetensors")
    for name, weight in expected.items():
        assert float((found[name] - weight).abs().max()) < 1e-5, name
    for line, other in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert line.get("timesteps") == other.get("timesteps")
        assert line["domains"]["atari"]["top1"] == pytest.approx(other["domains"]["atari"]["top1"])


def test_a_model_from_scratch_reads_states_as_the_one_that_it_is_compared_with_did(tmp_path: Path) -> None:
    settings = ["model.backbone=gru", "model.width=16", "model.layers=1", "model.state_init=standardised"]
    recipe = read_recipe(None, settings)
    config = model_config(recipe.model)
    model = build_model(config, 0)
    save_checkpoint(tmp_path / "c", model, config, trained=True, card={"recipe": recipe_to_dict(recipe)})
    made = finetuning_recipe(tmp_path / "c", ["store"], ["*"], updates=50, scratch=True)
    assert (made.model.state_init, made.model.init_from) == ("standardised", "")


def test_a_model_that_comes_along_is_tuned_and_rounded_by_its_name(store: Path, tmp_path: Path) -> None:
    few = ["--updates", "1", "-q", "--set=sampling.sequences=1", "--set=validation.windows=1"]
    assert (
        lram("finetune", "small-mamba", "--data", store, "-t", "toy/reach", "-o", tmp_path / "t", *few) == 0
    )
    _, shipped = load_checkpoint(shipped_checkpoints()["small-mamba"])
    _, tuned = load_checkpoint(tmp_path / "t" / "checkpoint")
    assert tuned.card["init_from"]["digest"] == shipped.digest
    assert tuned.card["init_from"]["checkpoint"] == "small-mamba", "no path of this machine"
    assert tuned.card["recipe"]["model"]["init_from"] == "small-mamba"
    assert lram("cast", "small-mamba", "-o", tmp_path / "c", "--dtype", "float32") == 0
    assert load_checkpoint(tmp_path / "c")[1].digest == shipped.digest


@pytest.mark.slow
def test_from_store_to_scores(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Train, halve, fine-tune, start from scratch to compare, and act with each."""
    settings = [
        f"data.stores={store}",
        "data.tasks=toy/*",
        "data.validation_share=0.3",
        "model.preset=xlstm[7:1]-1M",
        "model.layers=2",
        "sampling.sequences=2",
        "sampling.context=4",
        "optimizer.updates=4",
        "optimizer.warmup_updates=1",
        "saving.trackers=[]",
        "validation.windows=2",
    ]
    assert lram("train", "-o", tmp_path / "run", *(f"--set={setting}" for setting in settings)) == 0
    checkpoint = tmp_path / "run" / "checkpoint"
    printed = capsys.readouterr()
    assert "perplexity" in printed.out
    assert f"lram eval {checkpoint} --tasks toy/reach -o" in printed.out, "what the model was trained on"
    assert "validation loss" in printed.err

    half = tmp_path / "half"
    assert lram("cast", checkpoint, "-o", half, "--dtype", "float16") == 0
    whole_size = (checkpoint / "model.safetensors").stat().st_size
    assert (half / "model.safetensors").stat().st_size < 0.55 * whole_size
    full, meta = load_checkpoint(checkpoint)
    halved, half_meta = load_checkpoint(half)
    assert half_meta.card["cast"] == {"from": meta.digest, "dtype": "float16"}
    for (name, weight), rounded in zip(full.state_dict().items(), halved.state_dict().values(), strict=True):
        assert rounded.equal(weight.half().float()), name

    tuned, scratch = tmp_path / "tuned", tmp_path / "scratch"
    common = ["--data", store, "--tasks", "toy/reach", "--top", "0.5", "--updates", "3", "-q"]
    assert lram("finetune", checkpoint, "-o", tuned, *common) == 0
    assert lram("finetune", checkpoint, "-o", scratch, *common, "--scratch", "--set=seed=1") == 0
    _, tuned_meta = load_checkpoint(tuned / "checkpoint")
    _, scratch_meta = load_checkpoint(scratch / "checkpoint")
    assert tuned_meta.card["init_from"] == {"checkpoint": str(checkpoint), "digest": meta.digest}
    assert scratch_meta.card["init_from"] == {}
    assert meta.digest[:12] in scratch_meta.card["recipe"]["name"]
    assert tuned_meta.config == scratch_meta.config == meta.config
    assert tuned_meta.card["data"]["tasks"]["toy/reach"]["episodes"] == 2
    assert tuned_meta.card["recipe"]["sampling"]["context"] == 4
    assert tuned_meta.card["versions"]["torch"]
    began = next(line for line in lines(tuned) if line["update"] == 0)
    ended = [line for line in lines(tmp_path / "run") if line["kind"] == "validation"][-1]
    assert began["loss"] == pytest.approx(ended["loss"])

    agents = [f"a={checkpoint}", f"b={half}", f"c={tuned / 'checkpoint'}", f"d={scratch / 'checkpoint'}"]
    tasks = ["--tasks", "toy/reach", "-n", "1", "-q", "--counts"]
    assert lram("eval", *agents, *tasks, "-o", tmp_path / "eval") == 0
    assert capsys.readouterr().out.count("trained (checkpoint") == 4


def test_help_names_every_field_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    from lram.harness.cli.train import train as command

    text = command.__doc__ or ""
    for row in describe_fields():
        assert f"`{row.name}" in text
    assert "`optimizer.learning_rate = 0.0001`" in text
    assert "`optimizer.updates = 33333`" in text


def test_the_document_names_every_field_with_its_default() -> None:
    from lram.harness.cli.train import field_rows

    document = Path(__file__).parents[2] / "docs" / "how-to" / "training.md"
    text = document.read_text(encoding="utf-8")
    for row in field_rows():
        assert row in text, f"docs/how-to/training.md lacks or differs in: {row}"


def test_a_printed_recipe_can_be_trained_by(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lram("train", recipe, "--print-recipe", "--set", "seed=7") == 0
    printed = tmp_path / "printed.toml"
    printed.write_text(capsys.readouterr().out)
    assert lram("train", printed, "--print-recipe") == 0
    assert capsys.readouterr().out == printed.read_text()
    assert "seed = 7" in printed.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "add -o FOLDER"),
        (["-o", "{}/run"], "data.stores"),
        (
            ["-o", "{}/run", "--set", "model.preset=mamba-1M", "--set", "data.stores={}/none"],
            "not a trajectory store",
        ),
        (["recipe.toml", "--resume", "{}/run"], "leave RECIPE"),
        (["--resume", "{}/run"], "no training run"),
        (["{}/none.toml", "-o", "{}/run"], "there is no recipe"),
        (["-o", "{}/run", "--set", "optimizer.updates"], "section.field=value"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises((AgentError, LramError), match=words) as caught:
        app(["train", *(text.format(tmp_path) for text in arguments)], exit_on_error=False, print_error=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_sentence_is_all_that_a_user_sees(tmp_path: Path) -> None:
    process = train("-o", tmp_path / "run", "--set", "optimizer.updtes=3")
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output, errors.count("\n")) == (2, "", 1)
    assert "did you mean optimizer.updates?" in errors


@pytest.mark.parametrize(
    "line",
    [
        {"update": 3},
        {"update": 3, "domains": [1]},
        {"update": 3, "domains": {"a": None}},
        {"update": 3, "domains": {"a": {"loss": "x", "perplexity": 1, "top1": 1, "action_error": 1}}},
    ],
)
def test_a_validation_that_no_training_wrote_is_one_sentence(line: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(LramError, match=r"metrics\.jsonl is not what a training writes; restore the file"):
        conclude_training(Outcome(True, 3, line), tmp_path)


def test_a_validation_that_was_not_finite_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    means = {"loss": None, "perplexity": None, "top1": 0.5, "action_error": None}
    assert conclude_training(Outcome(True, 3, {"update": 3, "domains": {"toy": means}}), tmp_path) == 0
    assert re.search(r"toy +nan +nan +0\.5 +nan", capsys.readouterr().out)


def test_names_from_a_folder_reach_the_terminal_without_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    means = {"loss": 1.0, "perplexity": 1.0, "top1": 1.0, "action_error": 1.0}
    with nothing_hidden():
        ended = Outcome(True, 3, {"update": 3, "domains": {"a\x1b[2J\n": means}})
        assert conclude_training(ended, tmp_path) == 0
    said = capsys.readouterr().out
    assert "a\\u001b[2J\\n" in said
    assert "\x1b" not in said
