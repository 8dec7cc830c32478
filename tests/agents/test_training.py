"""Training: the same bits each time, also after an interruption anywhere; models learn; no silent NaN."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lram.agents.api import AgentError, TaskSpec
from lram.agents.backbones import sequences
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.checkpoints.folder import load_checkpoint
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import action_loss, build_model
from lram.agents.model.tokens import action_to_classes
from lram.agents.training import run as running
from lram.agents.training import state as states
from lram.agents.training import trainer as training
from lram.agents.training.batches import Batch
from lram.agents.training.distributed import World
from lram.agents.training.folder import kept_checkpoints, recipe_of, unsigned_recipe
from lram.agents.training.initial import standardise_states
from lram.agents.training.metrics import batch_sums, pair_values
from lram.agents.training.optimizer import decayed_names, learning_rate, make_optimizer
from lram.agents.training.recipe import ModelSection, OptimizerSection, Recipe, recipe_digest
from lram.agents.training.recipe_text import read_recipe
from lram.agents.training.run import Outcome, Silent, Surroundings, go_on, start
from lram.agents.training.sinks import read_metrics
from lram.agents.training.sources import TrainingData, open_data
from lram.agents.training.stopping import StopRequest
from lram.agents.trajectories import StoreWriter, Trajectory

REACH = TaskSpec("metaworld/reach", "metaworld", "vector", (5,), "continuous", 2, 1.0, 1.0)
PUSH = replace(REACH, id="metaworld/push")
GAME = TaskSpec("atari/game", "atari", "vector", (7,), "discrete", 6, 1.0, 1.0)
SCREEN = replace(GAME, observation="image", observation_shape=(3, 64, 64))  # takes twice as long

TINY = (
    "model.width=16",
    "model.layers=2",
    "model.xlstm.heads=2",
    "model.xlstm.slstm_at=[1]",
    "sampling.sequences=3",
    "sampling.context=5",
    "sampling.domain_sequences.atari=1",
    "optimizer.updates=12",
    "optimizer.warmup_updates=2",
    "optimizer.learning_rate=1e-3",
    "data.validation_share=0.3",
    "validation.every=5",
    "validation.windows=2",
    "saving.metrics_every=5",
    "saving.state_updates=3",
)


def episode(task: TaskSpec, number: int, length: int = 8) -> Trajectory:
    """A task that can be learned: always the same action."""
    rng = np.random.default_rng([number, len(task.id)])
    if task.observation == "image":
        seen: Any = rng.integers(0, 256, (length + 1, *task.observation_shape), dtype=np.uint8)
    else:
        seen = rng.uniform(-1, 1, (length + 1, *task.observation_shape)).astype(np.float32)
    discrete = task.action == "discrete"
    actions: Any = np.full(length, 2) if discrete else np.full((length, task.action_size), 0.5, np.float32)
    rewards = rng.uniform(0, 1, length).astype(np.float32)
    return Trajectory(task, seen, actions, rewards, rewards, False, True, policy="expert")


def stored(path: Path, *tasks: TaskSpec) -> Path:
    with StoreWriter(path) as writer:
        for task in tasks:
            for number in range(5):
                writer.append(episode(task, number))
    return path


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("stores") / "store", REACH, PUSH, GAME)


@pytest.fixture(scope="session")
def with_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("stores") / "store", REACH, PUSH, SCREEN)


@pytest.fixture(scope="session")
def recipe(store: Path) -> Callable[..., Recipe]:
    def make(*settings: str) -> Recipe:
        return read_recipe(None, [f"data.stores={store}", "saving.trackers=[]", *TINY, *settings])

    return make


@pytest.fixture(scope="session")
def whole(recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    start(recipe(), path)
    return path


def lines(run: Path) -> list[dict[str, Any]]:
    """Metrics without what depends on speed."""
    return [{k: v for k, v in line.items() if k != "time"} for line in read_metrics(run / "metrics.jsonl")]


def weights(run: Path) -> bytes:
    return (run / "checkpoint" / "model.safetensors").read_bytes()


class CrashError(Exception):
    """A process that ends here."""


class Crashing(Silent):
    """Ends training after an update, as a process that is killed does."""

    def __init__(self, update: int) -> None:
        self._at = update

    def update(self, update: int, loss: float, tokens: int) -> None:
        if update == self._at:
            raise CrashError


# --- the same bits --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_gives_the_same_bits_again(recipe: Callable[..., Recipe], tmp_path: Path, whole: Path) -> None:
    torch.manual_seed(1)  # what surrounds a run must not matter
    start(recipe(), tmp_path / "again")
    start(recipe("seed=1"), tmp_path / "other")
    assert weights(whole) == weights(tmp_path / "again") != weights(tmp_path / "other")
    assert lines(whole) == lines(tmp_path / "again")


def test_a_run_with_dropout_is_resumed_to_the_same_bits_and_validates_without(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    few = (
        "optimizer.updates=4",
        "optimizer.warmup_updates=1",
        "saving.state_updates=2",
        "data.tasks=*/reach",
    )
    dropping = recipe(*few, "model.xlstm.dropout=0.3")
    start(dropping, tmp_path / "whole")
    with pytest.raises(CrashError):
        start(dropping, tmp_path / "crashed", Surroundings(observer=Crashing(3)))
    go_on(tmp_path / "crashed")
    assert lines(tmp_path / "crashed") == lines(tmp_path / "whole")
    assert weights(tmp_path / "crashed") == weights(tmp_path / "whole")

    start(recipe(*few), tmp_path / "plain")
    first, other = lines(tmp_path / "whole")[0], lines(tmp_path / "plain")[0]
    assert first["kind"] == "validation"
    assert first["loss"] == other["loss"]
    assert weights(tmp_path / "plain") != weights(tmp_path / "whole")
    assert load_checkpoint(tmp_path / "whole" / "checkpoint")[1].config.backbone.dropout == 0.3


@pytest.mark.slow
def test_workers_change_no_bit(recipe: Callable[..., Recipe], tmp_path: Path, whole: Path) -> None:
    start(recipe("sampling.workers=2"), tmp_path / "run")
    assert weights(whole) == weights(tmp_path / "run")
    assert lines(whole) == lines(tmp_path / "run")


@pytest.mark.slow
def test_neither_workers_nor_a_crash_change_a_bit_of_what_is_learnt_from_images(
    recipe: Callable[..., Recipe], with_images: Path, tmp_path: Path, whole: Path
) -> None:
    start(recipe(f"data.stores={with_images}"), tmp_path / "whole")
    with pytest.raises(CrashError):
        start(
            recipe(f"data.stores={with_images}", "sampling.workers=2"),
            tmp_path / "cut",
            Surroundings(Crashing(8)),
        )
    go_on(tmp_path / "cut")
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole") != weights(whole)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("update", [1, 3, 4, 5, 8, 10, 12])
def test_a_run_that_crashed_anywhere_goes_on_to_the_same_bits(
    update: int, recipe: Callable[..., Recipe], tmp_path: Path, whole: Path
) -> None:
    with pytest.raises(CrashError):
        start(recipe(), tmp_path / "cut", Surroundings(Crashing(update)))
    go_on(tmp_path / "cut")
    assert weights(tmp_path / "cut") == weights(whole)
    assert lines(tmp_path / "cut") == lines(whole)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["save_file", "write_bytes", "rename", "unlink"])
def test_a_crash_while_a_state_is_written_loses_nothing_before_it(
    moment: str, recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    owner = states if moment == "save_file" else Path
    plain, calls = getattr(owner, moment), 0

    def crash(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        subject = str(arguments[-1] if moment == "save_file" else arguments[0])
        if "cut" in subject and ("partial" in subject or (moment == "unlink" and "update-" in subject)):
            calls += 1
            if calls == 2:
                raise CrashError
        return plain(*arguments, **named)

    monkeypatch.setattr(owner, moment, crash)
    with pytest.raises(CrashError):
        start(recipe(), tmp_path / "cut")
    monkeypatch.setattr(owner, moment, plain)
    go_on(tmp_path / "cut")
    assert weights(tmp_path / "cut") == weights(whole)
    assert lines(tmp_path / "cut") == lines(whole)
    assert not list(tmp_path.glob("cut/**/.*"))


def test_a_damaged_state_is_passed_over_for_the_one_before(
    recipe: Callable[..., Recipe], tmp_path: Path, whole: Path
) -> None:
    with pytest.raises(CrashError):
        start(recipe(), tmp_path / "cut", Surroundings(Crashing(8)))
    newest = tmp_path / "cut" / "state" / "update-00000006" / "tensors.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    go_on(tmp_path / "cut")
    assert weights(tmp_path / "cut") == weights(whole)


def test_two_states_and_the_newest_checkpoints_are_kept(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    start(recipe("saving.checkpoint_updates=2", "saving.keep=3"), tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run" / "state").iterdir()) == [
        "update-00000009",
        "update-00000012",
    ]
    kept = sorted(int(p.name.removeprefix("step-")) for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == [6, 8, 10]
    _, meta = load_checkpoint(tmp_path / "run" / "checkpoints" / "step-10")
    assert meta.card["update"] == 10


def test_all_checkpoints_are_kept_where_the_recipe_says_so_also_over_an_interruption(
    recipe: Callable[..., Recipe], tmp_path: Path, whole: Path
) -> None:
    run, keeping = tmp_path / "run", recipe("saving.checkpoint_updates=2", "saving.keep=all")
    assert recipe_digest(keeping) == recipe_digest(recipe())
    with pytest.raises(CrashError):
        start(keeping, run, Surroundings(Crashing(9)))
    before = {
        update: (path / "model.safetensors").read_bytes() for update, path in kept_checkpoints(run).items()
    }
    assert list(before) == [2, 4, 6, 8]
    go_on(run)
    kept = kept_checkpoints(run)
    assert list(kept) == [2, 4, 6, 8, 10, 12]
    assert kept[12] == run / "checkpoint"
    assert weights(run) == weights(whole)
    assert not list(run.glob("**/.*"))
    for update, path in kept.items():
        assert before.get(update, b"") in (b"", (path / "model.safetensors").read_bytes())
        _, meta = load_checkpoint(path)
        assert (meta.card["update"], meta.verified) == (update, True)
    (kept[4] / "model.safetensors").unlink()  # as a process that is killed while it removes one leaves it
    assert list(kept_checkpoints(run)) == [2, 6, 8, 10, 12]


def test_a_training_that_kept_few_keeps_all_from_where_it_is_resumed(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(CrashError):
        start(recipe("saving.checkpoint_updates=2", "saving.keep=1"), run, Surroundings(Crashing(7)))
    assert list(kept_checkpoints(run)) == [6]
    with pytest.raises(CrashError):
        go_on(run, ["saving.keep=all"], Surroundings(Crashing(9)))
    assert list(kept_checkpoints(run)) == [6, 8]
    go_on(run)  # as the command that continues it is printed
    assert list(kept_checkpoints(run)) == [6, 8, 10, 12]
    assert recipe_of(run).saving.keep == "all"
    assert unsigned_recipe((run / "recipe.toml").read_bytes()) is not None


def test_what_is_not_written_cannot_all_be_kept(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"saving\.checkpoint_updates = 0 writes no checkpoint"):
        start(recipe("saving.keep=all"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(AgentError, match="not one of a whole number, all"):
        recipe("saving.keep=most")


def test_a_request_to_stop_saves_the_last_update(
    recipe: Callable[..., Recipe], tmp_path: Path, whole: Path
) -> None:
    stop = StopRequest()

    class Asking(Silent):
        def update(self, update: int, loss: float, tokens: int) -> None:
            stop.asked = update == 7

    class Given:
        def __enter__(self) -> StopRequest:
            return stop

        def __exit__(self, *error: object) -> None:
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "stop_requests", Given)
        outcome = start(recipe("saving.state_updates=0"), tmp_path / "cut", Surroundings(Asking()))
    assert (outcome.finished, outcome.update) == (False, 7)
    assert not (tmp_path / "cut" / "checkpoint").exists()
    stop.asked = False
    go_on(tmp_path / "cut")
    assert weights(tmp_path / "cut") == weights(whole)
    assert lines(tmp_path / "cut") == lines(whole)


class Ending:
    """Windows of which one signals the trainer, and dies with its process, while the trainer waits for it."""

    def __init__(self, data: TrainingData, item: int) -> None:
        self._windows, self._item, self._trainer = data.windows, item, os.getpid()
        self.cycle, self.tasks = data.windows.cycle, data.windows.tasks

    def __getitem__(self, item: int) -> Batch:
        if item == self._item:
            time.sleep(0.5)  # the batches before are used up
            os.kill(self._trainer, signal.SIGTERM)
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        return self._windows[item]


def test_a_request_to_stop_that_ends_the_workers_too_saves_the_last_update(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    def ending(recipe: Recipe, width: int, rank: int) -> TrainingData:
        data = open_data(recipe, width, rank)
        return replace(data, windows=Ending(data, 7))  # an update reads 2 of them

    few = ("saving.state_updates=0", "validation.windows=0", "sampling.workers=1")
    outcome = start(recipe(*few), tmp_path / "run", Surroundings(data=ending))
    assert (outcome.finished, outcome.update) == (False, 3)
    assert (tmp_path / "run" / "state" / "update-00000003").is_dir()


class Together:
    """One of two processes that train together, each in a thread of this one."""

    size = 2

    def __init__(self, barrier: threading.Barrier, given: dict[int, torch.Tensor], rank: int) -> None:
        self._barrier, self._given, self._rank = barrier, given, rank

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        self._given[self._rank] = values
        self._barrier.wait(10)
        total = self._given[0] + self._given[1]
        self._barrier.wait(10)
        return total


def test_states_are_standardised_by_what_all_processes_read() -> None:
    config = ModelConfig(16, 1, TransformerConfig(heads=2), state_width=4)
    states = torch.from_numpy(np.random.default_rng(0).normal(3.0, 2.0, (16, 6, 5, 4))).float()

    def windows(rows: slice) -> Any:
        made = [SimpleNamespace(observations=one[rows], mask=torch.ones(6, 5, 2)[rows] > 0) for one in states]
        return type("", (list,), {"cycle": ("toy", "toy")})(made)

    alone = build_model(config, 0)
    standardise_states(alone, windows(slice(6)), World(0, 1, torch.device("cpu")))
    barrier, given, models = threading.Barrier(2), {}, [build_model(config, 0) for _ in range(2)]

    def join(rank: int) -> None:
        rows = slice(4) if rank == 0 else slice(4, 6)
        standardise_states(models[rank], windows(rows), Together(barrier, given, rank))  # type: ignore[arg-type]

    threads = [threading.Thread(target=join, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model in models:
        for mine, theirs in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs)
    assert torch.equal(models[0].encoders.state.weight, models[1].encoders.state.weight)
    assert not torch.equal(alone.encoders.state.weight, build_model(config, 0).encoders.state.weight)


# --- what may not change --------------------------------------------------------------------------------


@pytest.fixture
def stopped(recipe: Callable[..., Recipe], tmp_path: Path) -> Path:
    with pytest.raises(CrashError):
        start(recipe(), tmp_path / "run", Surroundings(Crashing(4)))
    return tmp_path / "run"


def test_a_run_does_not_go_on_by_another_recipe(stopped: Path) -> None:
    with pytest.raises(AgentError, match=r"optimizer\.clip = 0\.25 and cannot continue with 1"):
        go_on(stopped, ["optimizer.clip=1"])
    text = (stopped / "recipe.toml").read_text()
    (stopped / "recipe.toml").write_text(text.replace("seed = 0", "seed = 9", 1))
    with pytest.raises(AgentError, match="seed = 0 and cannot continue with 9"):
        go_on(stopped)


def test_a_run_does_not_go_on_with_other_trajectories(stopped: Path, tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "other") as writer:
        for task in (REACH, PUSH, GAME):
            for number in range(4):
                writer.append(episode(task, number))
    with pytest.raises(AgentError, match="not those"):
        go_on(stopped, [f"data.stores={tmp_path / 'other'}"])


def test_a_run_does_not_go_on_with_other_code_of_ones_own_backbone(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "own_cells.py"
    source = (
        "from dataclasses import dataclass, replace\n\n"
        "from lram.agents.backbones import cells\n\n\n"
        "@dataclass(frozen=True)\nclass Options(cells.GRUConfig):\n    pass\n\n\n"
        'SPEC = replace(cells.GRU, kind="own_cells", options=Options, sizes=(), listed=())\n'
    )
    code.write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = [setting for setting in TINY if "xlstm" not in setting]
    settings = [*own, *recipe_stores(recipe), "saving.trackers=[]", "model.backbone=own_cells:SPEC"]
    run = tmp_path / "run"
    with pytest.raises(CrashError):
        start(read_recipe(None, settings), run, Surroundings(Crashing(4)))
    code.write_text(source + "# changed\n")
    with pytest.raises(AgentError, match=r"the source of own_cells has changed since .* until update 3; put"):
        go_on(run)
    code.write_text(source)
    assert go_on(run).finished
    _, meta = load_checkpoint(run / "checkpoint")
    assert meta.card["code"] == {"own_cells": hashlib.sha256(source.encode()).hexdigest()}
    for file in (run / "state").glob("update-*/state.json"):
        assert json.loads(file.read_text())["code"] == meta.card["code"]


def recipe_stores(recipe: Callable[..., Recipe]) -> list[str]:
    return [f"data.stores={one}" for one in recipe().data.stores]


def test_a_store_may_move(stopped: Path, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "moved")
    assert go_on(stopped, [f"data.stores={tmp_path / 'moved'}"]).finished


def test_a_folder_that_holds_something_is_not_trained_into(
    stopped: Path, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    with pytest.raises(AgentError, match="continue with 'lram train --resume"):
        start(recipe(), stopped)
    go_on(stopped)
    with pytest.raises(AgentError, match="has ended"):
        start(recipe(), stopped)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").touch()
    with pytest.raises(AgentError, match="exists and is kept"):
        start(recipe(), tmp_path / "full")
    (tmp_path / "file").touch()
    with pytest.raises(AgentError, match="cannot be written"):
        start(recipe(), tmp_path / "file" / "run")
    with pytest.raises(AgentError, match="no training run"):
        go_on(tmp_path / "nowhere")


def test_a_finished_run_is_left_alone(stopped: Path) -> None:
    first = go_on(stopped)
    before = weights(stopped)
    again = go_on(stopped)
    assert again == Outcome(True, 12, again.validation)
    assert again.validation == first.validation
    assert weights(stopped) == before


def test_one_process_writes_a_run(stopped: Path) -> None:
    class Second(Silent):
        def begin(self, trainer: training.Trainer) -> None:
            with pytest.raises(AgentError, match="another process"):
                go_on(stopped)

    assert go_on(stopped, around=Surroundings(Second())).finished


# --- trouble --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_is_told_and_costs_no_state(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(states, "save_file", full)
    with pytest.raises(AgentError, match=r"No space left on device.*--resume"):
        go_on(stopped)
    assert [path.name for path in (stopped / "state").iterdir()] == ["update-00000003"]
    monkeypatch.undo()
    assert go_on(stopped).finished


class Spoilt:
    """Windows whose rewards are infinite in one micro-batch."""

    def __init__(self, data: TrainingData, item: int) -> None:
        self.cycle, self.tasks = data.windows.cycle, data.windows.tasks
        self._windows, self._item = data.windows, item

    def __getitem__(self, item: int) -> Batch:
        batch = self._windows[item]
        return replace(batch, rewards=batch.rewards + math.inf) if item == self._item else batch


def test_a_loss_that_is_no_number_ends_training_and_is_named(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    def spoilt(recipe: Recipe, width: int, rank: int) -> TrainingData:
        data = open_data(recipe, width, rank)
        return replace(data, windows=Spoilt(data, item=2 * 7))  # of two domains: in update 8

    with pytest.raises(AgentError, match=r"loss of update 8 .*domain metaworld; tasks metaworld/") as caught:
        start(recipe(), tmp_path / "run", Surroundings(data=spoilt))
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in (tmp_path / "run" / "state").iterdir())[-1] == "update-00000006"
    for tensor in load_file(tmp_path / "run" / "state" / "update-00000006" / "tensors.safetensors").values():
        assert torch.isfinite(tensor).all()


def test_a_model_that_is_not_named_is_asked_for(store: Path, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"set model\.preset"):
        start(read_recipe(None, [f"data.stores={store}"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_context_longer_than_learned_positions_is_refused_before_anything_is_written(
    store: Path, tmp_path: Path
) -> None:
    sizes = ["model.preset=transformer[recompute]-1M", "model.width=16", "model.layers=1"]
    settings = [f"data.stores={store}", *sizes, "model.transformer.max_positions=150", "sampling.context=51"]
    with pytest.raises(
        AgentError, match=r"51 timesteps of 3 tokens .* 150 learned positions; set it to 50 or"
    ):
        start(read_recipe(None, settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- optimiser ------------------------------------------------------------------------------------------


def test_weights_of_layers_decay_and_nothing_else_does() -> None:
    for config in (
        ModelConfig(16, 2, backbone=XLSTMConfig(heads=2, slstm_at=(1,)), actions_in_context=True),
        ModelConfig(16, 2, backbone=MambaConfig()),
        ModelConfig(16, 2, backbone=TransformerConfig(heads=2)),
    ):
        model = build_model(config, 0)
        decayed = decayed_names(model)
        assert {"head.weight", "encoders.state.weight", "encoders.image.cnn.0.conv.weight"} <= decayed
        spared = {name for name, _ in model.named_parameters()} - decayed
        for name in spared:
            assert not any(part in name for part in ("proj.weight", "conv.weight", "head.weight")), name
        for name in decayed:
            assert name.endswith("weight"), name
            assert not any(part in name for part in ("norm", "wpe", "encoders.action", "ln_")), name
        groups = make_optimizer(model, OptimizerSection()).param_groups
        assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
        assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    xlstm = decayed_names(build_model(ModelConfig(16, 2, backbone=XLSTMConfig(heads=2, slstm_at=(1,))), 0))
    assert "backbone.blocks.0.xlstm.q_proj.weight" in xlstm  # headwise


def test_the_learning_rate_warms_up_and_falls_as_half_a_cosine() -> None:
    section = OptimizerSection(learning_rate=1.0, final_learning_rate=0.1, updates=104, warmup_updates=4)
    assert [learning_rate(update, section) for update in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert learning_rate(54, section) == pytest.approx(0.55)
    assert learning_rate(104, section) == pytest.approx(0.1)


def test_an_update_is_the_mean_of_its_micro_batches_gradients(
    recipe: Callable[..., Recipe], with_images: Path, tmp_path: Path
) -> None:
    """Against plain PyTorch: the mean over micro-batches of each one's own mean loss, clipped, AdamW."""
    settings = ("optimizer.updates=1", "optimizer.warmup_updates=0", "optimizer.accumulate=4")
    one = recipe(f"data.stores={with_images}", *settings)
    start(one, tmp_path / "run")
    ours, _ = load_checkpoint(tmp_path / "run" / "checkpoint")

    model = build_model(ours.config, one.seed).train()
    windows = open_data(one, ours.config.state_width).windows
    losses = []
    for item in range(4):
        batch = windows[item]
        logits = model(batch.observations, batch.returns_to_go, batch.rewards).logits
        losses.append(action_loss(logits, batch.classes, batch.mask))
    torch.stack(losses).mean().backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
    decayed = decayed_names(model)
    for decay in (0.01, 0.0):
        part = [p for name, p in model.named_parameters() if (name in decayed) == bool(decay)]
        torch.optim.AdamW(part, lr=1e-3, weight_decay=decay, fused=False).step()
    for (name, expected), found in zip(model.state_dict().items(), ours.state_dict().values(), strict=True):
        # An element whose gradient is all but 0 moves by the learning rate or not at all.
        close = torch.isclose(found, expected, atol=1e-6, rtol=1e-5)
        assert close.float().mean() > 0.999, name
    line = next(line for line in lines(tmp_path / "run") if line["kind"] == "train")
    assert line["loss"] == pytest.approx(float(torch.stack(losses).mean().detach()), rel=1e-5)


# --- metrics --------------------------------------------------------------------------------------------


def test_metrics_are_what_they_are_called() -> None:
    classes = torch.from_numpy(action_to_classes(np.array([0.5, -0.5, 0.0])))
    logits = torch.full((1, 3, 8, 274), -20.0)
    logits[0, 0, 0, classes[0]] = 20.0  # right
    logits[0, 1, 0, classes[1] + 4] = 20.0  # four bins too high
    logits[0, 2, 0, 3] = 20.0  # a class of discrete actions is likeliest, which no agent takes
    logits[0, 2, 0, classes[2] + 1] = 10.0
    mask = torch.zeros(1, 3, 8, dtype=torch.bool)
    mask[0, :, 0] = True
    taken = torch.full((1, 3, 8), int(action_to_classes(0.0)))
    taken[0, :, 0] = classes
    zeros = torch.zeros(1, 3)
    ones = torch.zeros(1, dtype=torch.int64)
    batch = Batch("d", torch.zeros(1, 3, 204), zeros, zeros, taken, mask, ones, ones + 3, ones)
    loss = action_loss(logits, taken, mask)
    pairs, losses, right, error = batch_sums(logits, batch, loss).tolist()
    assert (pairs, right) == (3, 1)
    assert losses / pairs == pytest.approx(float(loss))
    assert error == pytest.approx(5 * 2 / 256)
    assert pair_values(logits, batch).flatten(1).sum(1).tolist() == pytest.approx([3, losses, 1, error])


def test_validation_is_of_held_out_trajectories_by_domain_task_and_position(
    recipe: Callable[..., Recipe], whole: Path
) -> None:
    found = [line for line in lines(whole) if line["kind"] == "validation"]
    assert [line["update"] for line in found] == [0, 5, 10, 12]
    line = found[-1]
    assert set(line["domains"]) == {"metaworld", "atari"}
    assert set(line["tasks"]) == {"metaworld/reach", "metaworld/push", "atari/game"}
    assert {domain: len(places) for domain, places in line["positions"].items()} == {
        "metaworld": 5,
        "atari": 5,
    }
    for domain, metrics in line["domains"].items():
        assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"])), domain

    model, _ = load_checkpoint(whole / "checkpoint")
    data = open_data(recipe(), model.config.state_width)
    losses: dict[str, list[float]] = {"metaworld": [], "atari": []}
    for batch in data.validation:
        logits = model(batch.observations, batch.returns_to_go, batch.rewards).logits
        values = pair_values(logits, batch)
        losses[batch.domain].append(float(values[1, :, 2].sum() / values[0, :, 2].sum()))
    assert len(losses["metaworld"]) == 1
    assert line["positions"]["metaworld"][2] == pytest.approx(losses["metaworld"][0], rel=1e-5)


def test_smoothed_bins_train_other_weights_and_metrics_keep_the_plain_cross_entropy(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    once = ("optimizer.updates=1", "optimizer.warmup_updates=0", "saving.metrics_every=1")
    found = {}
    for smoothing in (0, 6):
        start(
            recipe(*once, "validation.windows=0", f"optimizer.bin_smoothing={smoothing}"),
            tmp_path / str(smoothing),
        )
        (line,) = (one for one in lines(tmp_path / str(smoothing)) if one["kind"] == "train")
        found[smoothing] = line["loss"], line["gradient_norm"], weights(tmp_path / str(smoothing))
    assert found[6][0] == pytest.approx(found[0][0], rel=1e-6)  # summed in another order
    assert found[6][1] < 0.9 * found[0][1]
    assert found[6][2] != found[0][2]


def test_the_form_of_sequences_is_used_and_told_by_the_card(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    plain = recipe("optimizer.updates=1", "optimizer.warmup_updates=0", "optimizer.sequences=torch")
    predict = training.Trainer._predict

    def predicted(self: training.Trainer, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        hook = model.register_forward_pre_hook(lambda *given: seen.append(sequences.sequence_form()))
        try:
            return predict(self, model, batch)
        finally:
            hook.remove()

    monkeypatch.setattr(training.Trainer, "_predict", predicted)
    start(plain, tmp_path / "run")
    assert set(seen) == {"torch"}
    _, meta = load_checkpoint(tmp_path / "run" / "checkpoint")
    assert meta.card["sequences"] == f"plain PyTorch {torch.__version__}"
    assert meta.card["recipe"]["optimizer"]["sequences"] == "torch"
    assert sequences.sequence_form() == "auto"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("optimizer.sequences=packages",), "the sequence form packages cannot be used: "),
        (
            ("optimizer.sequences=fused", "optimizer.compile=true"),
            "optimizer.compile is true and optimizer.sequences is fused, but PyTorch's compiler takes",
        ),
    ],
)
def test_a_form_of_sequences_that_cannot_be_is_refused_before_anything_is_written(
    recipe: Callable[..., Recipe], tmp_path: Path, settings: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(AgentError) as raised:
        start(recipe(*settings), tmp_path / "run")
    assert str(raised.value).startswith(sentence)
    assert not (tmp_path / "run").exists()


def test_earlier_recipes_have_the_digest_that_they_had() -> None:
    plain = Recipe()
    assert recipe_digest(replace(plain, optimizer=OptimizerSection(sequences="auto"))) == recipe_digest(plain)
    assert recipe_digest(replace(plain, optimizer=OptimizerSection(sequences="torch"))) != recipe_digest(
        plain
    )


def test_metrics_hold_no_time_outside_their_time_field(recipe: Callable[..., Recipe], whole: Path) -> None:
    line = read_metrics(whole / "metrics.jsonl")[1]
    assert line["kind"] == "train"
    assert set(line) == {
        "kind", "update", "learning_rate", "loss", "gradient_norm", "domains", "timesteps", "time",
    }  # fmt: skip
    assert set(line["time"]) == {"seconds", "tokens_per_second", "waiting_share"}
    assert set(line["domains"]["atari"]) == {"loss", "perplexity", "top1", "action_error"}


def test_curves_are_in_tensorboard_too(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    start(recipe("saving.trackers=tensorboard"), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    curve = [(event.step, event.value) for event in events.Scalars("train/domains/atari/loss")]
    expected = [
        (line["update"], line["domains"]["atari"]["loss"])
        for line in lines(tmp_path / "run")
        if line["kind"] == "train"
    ]
    assert curve == [(step, pytest.approx(value)) for step, value in expected]


def test_a_tracker_that_fails_does_not_end_training(
    recipe: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from lram.agents.training import sinks

    class Broken:
        name = "broken"

        def load(self) -> Any:
            return lambda folder, recipe, update: self

        def write(self, line: Mapping[str, Any]) -> None:
            raise ConnectionError("no network")

        def close(self) -> None:
            pass

    monkeypatch.setattr(sinks, "entry_points", lambda group: [Broken()])
    assert start(recipe("saving.trackers=broken"), tmp_path / "run").finished
    assert capsys.readouterr().err.count("broken failed and is given up: ConnectionError: no network") == 1
    with pytest.raises(AgentError, match="not installed; known: tensorboard, wandb, mlflow, trackio, broken"):
        start(recipe("saving.trackers=nothing"), tmp_path / "other")


# --- models and checkpoints -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["xlstm", "mamba", "transformer"])
def test_every_kind_of_model_learns(
    kind: str, precision: str, store: Path, with_images: Path, tmp_path: Path
) -> None:
    """Images, whose encoder is that of every kind, with one of them only."""
    own = {"xlstm": "xlstm.slstm_at=[1]", "mamba": "mamba.expand=2", "transformer": "transformer.heads=4"}
    recipe = read_recipe(
        None,
        [
            *(setting for setting in TINY if not setting.startswith("model.xlstm")),
            f"data.stores={with_images if kind == 'transformer' else store}",
            "saving.trackers=[]",
            f"model.{own[kind]}",
            "optimizer.updates=25",
            "optimizer.learning_rate=1e-2",
            f"optimizer.precision={precision}",
            "optimizer.clip=1",
            "model.actions_in_context=true",
            "validation.every=0",
        ],
    )
    start(recipe, tmp_path / "run")
    first, last = (line for line in lines(tmp_path / "run") if line["kind"] == "validation")
    assert last["domains"].keys() == {"atari", "metaworld"}
    for domain in ("atari", "metaworld"):
        assert last["domains"][domain]["loss"] < first["domains"][domain]["loss"] - 3
    model, meta = load_checkpoint(tmp_path / "run" / "checkpoint")
    assert meta.trained
    assert all(weight.dtype == torch.float32 for weight in model.state_dict().values())


def test_the_card_tells_recipe_data_and_metrics(
    recipe: Callable[..., Recipe], store: Path, tmp_path: Path
) -> None:
    start(recipe(), tmp_path / "run", Surroundings(card={"versions": {"torch": "x"}}))
    _, meta = load_checkpoint(tmp_path / "run" / "checkpoint")
    card = json.loads(json.dumps(meta.card))
    assert recipe_of(tmp_path / "run") == recipe()
    assert card["recipe"]["optimizer"]["updates"] == 12
    assert card["data"]["stores"][0]["path"] == str(store)
    assert len(card["data"]["stores"][0]["digest"]) == 64
    assert card["data"]["tasks"]["atari/game"]["episodes"] == 3
    assert card["metrics"]["validation"]["domains"].keys() == {"metaworld", "atari"}
    assert (card["update"], card["versions"]) == (12, {"torch": "x"})


@pytest.mark.slow
def test_training_goes_on_from_a_checkpoint(
    recipe: Callable[..., Recipe], store: Path, tmp_path: Path
) -> None:
    start(recipe(), tmp_path / "first")
    _, meta = load_checkpoint(tmp_path / "first" / "checkpoint")
    kept = [setting for setting in TINY if not setting.startswith("model.")]
    more = read_recipe(
        None, [*kept, f"data.stores={store}", f"model.init_from={tmp_path / 'first' / 'checkpoint'}"]
    )
    with pytest.raises(CrashError):
        start(more, tmp_path / "second", Surroundings(Crashing(4)))
    shutil.rmtree(tmp_path / "first" / "checkpoint")  # a state has all that is needed
    go_on(tmp_path / "second")
    ended = [line for line in lines(tmp_path / "first") if line["kind"] == "validation"][-1]
    began = lines(tmp_path / "second")[0]
    assert began["domains"] == ended["domains"]
    _, again = load_checkpoint(tmp_path / "second" / "checkpoint")
    assert again.card["init_from"]["digest"] == meta.digest


def test_a_fine_tuning_keeps_the_returns_that_tasks_of_before_are_asked_for(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    few = [
        "optimizer.updates=2",
        "optimizer.warmup_updates=0",
        "validation.windows=0",
        "saving.state_updates=1",
    ]
    start(recipe(*few, "data.target_returns=data", "data.tasks=metaworld/*"), tmp_path / "first")
    _, first = load_checkpoint(tmp_path / "first" / "checkpoint")
    assert first.target_returns.keys() == {REACH.id, PUSH.id}
    plain = recipe(*few, "data.target_returns=data", f"data.tasks={PUSH.id}", "data.target_quantile=0.1")
    more = replace(plain, model=ModelSection(init_from=str(tmp_path / "first" / "checkpoint")))
    with pytest.raises(CrashError):
        start(more, tmp_path / "second", Surroundings(Crashing(2)))
    shutil.rmtree(tmp_path / "first")
    go_on(tmp_path / "second")
    _, second = load_checkpoint(tmp_path / "second" / "checkpoint")
    assert second.target_returns[REACH.id] == first.target_returns[REACH.id]
    assert second.target_returns[PUSH.id] < first.target_returns[PUSH.id]
    assert second.card["init_from"].keys() == {"checkpoint", "digest"}


def test_what_is_begun_with_may_not_change_before_the_first_state(
    recipe: Callable[..., Recipe], store: Path, tmp_path: Path
) -> None:
    few = [
        "optimizer.updates=3",
        "optimizer.warmup_updates=0",
        "validation.windows=0",
        "saving.state_updates=0",
    ]
    for name, seed in (("init", 0), ("other", 1)):
        start(recipe(*few, f"seed={seed}"), tmp_path / name)
    init, other = (tmp_path / name / "checkpoint" for name in ("init", "other"))
    more = replace(recipe(*few), model=ModelSection(init_from=str(init)))
    with pytest.raises(CrashError):
        start(more, tmp_path / "run", Surroundings(Crashing(1)))
    assert not (tmp_path / "run" / "state").exists()
    init.rename(tmp_path / "kept")
    shutil.copytree(other, init)
    with pytest.raises(AgentError, match=r"has other weights .* than those that .* began from"):
        go_on(tmp_path / "run")
    shutil.rmtree(init)
    (tmp_path / "kept").rename(init)
    with StoreWriter(tmp_path / "few") as writer:
        for task in (REACH, PUSH, GAME):
            for number in range(4):
                writer.append(episode(task, number))
    with pytest.raises(AgentError, match=r"are not those that .* began with"):
        go_on(tmp_path / "run", [f"data.stores={tmp_path / 'few'}"])
    began = tmp_path / "run" / "began.json"
    content = began.read_bytes()
    began.write_bytes(content.replace(b"stores", b"stones"))
    with pytest.raises(AgentError, match=r"began\.json is damaged .* or remove it"):
        go_on(tmp_path / "run")
    began.unlink()  # as in a run of an earlier version
    assert go_on(tmp_path / "run").finished


def test_weights_that_do_not_fit_the_recipe_s_model_are_refused(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    start(recipe("optimizer.updates=3"), tmp_path / "first")
    with pytest.raises(AgentError, match="do not fit the recipe's model"):
        start(
            recipe("model.width=32", f"model.init_from={tmp_path / 'first' / 'checkpoint'}"), tmp_path / "b"
        )
