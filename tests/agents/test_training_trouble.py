"""Trainings that are killed, damaged or changed: noticed in a sentence, or resumed to the same bits."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.agents.api import AgentError, TaskSpec
from lram.agents.durable import Lock
from lram.agents.training import folder as folders
from lram.agents.training import sinks
from lram.agents.training.recipe import Recipe
from lram.agents.training.recipe_text import read_recipe
from lram.agents.training.run import Silent, Surroundings, go_on, start
from lram.agents.training.sinks import JsonLines, Trackers, read_metrics
from lram.agents.training.state import load_state
from lram.agents.trajectories import StoreWriter, Trajectory

REACH = TaskSpec("metaworld/reach", "metaworld", "vector", (5,), "continuous", 2, 1.0, 1.0)
SETTINGS = (
    "saving.trackers=[]",
    "model.width=8",
    "model.layers=1",
    "model.mamba={state_size = 2}",
    "sampling.sequences=2",
    "sampling.context=3",
    "optimizer.updates=8",
    "optimizer.warmup_updates=2",
    "data.validation_share=0.3",
    "validation.every=3",
    "validation.windows=2",
    "saving.metrics_every=2",
    "saving.state_updates=2",
    "saving.checkpoint_updates=3",
    "saving.keep=1",
)


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Recipe]:
    path, draw = tmp_path_factory.mktemp("stores") / "store", np.random.default_rng(0)
    with StoreWriter(path) as writer:
        for _ in range(5):
            rewards = draw.uniform(0, 1, 6).astype(np.float32)
            seen = draw.uniform(-1, 1, (7, 5)).astype(np.float32)
            actions = np.full((6, 2), 0.5, dtype=np.float32)
            writer.append(Trajectory(REACH, seen, actions, rewards, rewards, False, True, policy="expert"))

    def make(*settings: str) -> Recipe:
        return read_recipe(None, [f"data.stores={path}", *SETTINGS, *settings])

    return make


@pytest.fixture(scope="session")
def whole(recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    start(recipe(), path)
    return path


class CrashError(Exception):
    """A process that ends here."""


class Crashing(Silent):
    """Ends training after an update, as a process that is killed does."""

    def __init__(self, update: int) -> None:
        self._at = update

    def update(self, update: int, loss: float, tokens: int) -> None:
        if update == self._at:
            raise CrashError


@pytest.fixture(scope="session")
def crashed(recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that crashed in update 7, with the states after 4 and 6."""
    path = tmp_path_factory.mktemp("runs") / "crashed"
    with pytest.raises(CrashError):
        start(recipe(), path, Surroundings(Crashing(7)))
    return path


@pytest.fixture
def stopped(crashed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(crashed, tmp_path / "run")
    return tmp_path / "run"


def result(run: Path) -> tuple[bytes, list[dict[str, Any]], list[str]]:
    """Weights, metrics without what depends on speed, and what else is there."""
    lines = [{k: v for k, v in line.items() if k != "time"} for line in read_metrics(run / "metrics.jsonl")]
    names = sorted(str(path.relative_to(run)) for path in run.rglob("*"))
    return (run / "checkpoint" / "model.safetensors").read_bytes(), lines, names


# --- damage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["state.json", "tensors.safetensors"])
def test_every_damage_to_a_state_is_noticed_and_said(
    name: str, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = stopped / "state" / "update-00000006" / name
    content, draw = file.read_bytes(), random.Random(0)
    places = sorted({*range(10), *(draw.randrange(len(content)) for _ in range(60)), len(content) - 1})
    damaged = [content[:place] for place in places[::8]]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        damaged.append(bytes(flipped))
    for one in damaged:
        file.write_bytes(one)
        found = load_state(stopped)
        assert found is not None
        assert found[0].update == 4
        said = capsys.readouterr().err
        assert "update-00000006 is damaged" in said
        assert "continues from update-00000004" in said
    file.unlink()
    os.mkfifo(file)
    found = load_state(stopped)
    assert found is not None
    assert found[0].update == 4


def test_a_run_whose_newest_state_is_damaged_ends_with_the_same_bits(stopped: Path, whole: Path) -> None:
    (stopped / "state" / "update-00000006" / "state.json").write_bytes(b"{}")
    go_on(stopped)
    assert result(stopped) == result(whole)


def test_a_run_without_a_sound_state_is_not_begun_again_by_itself(stopped: Path) -> None:
    for file in stopped.glob("state/*/state.json"):
        file.write_bytes(file.read_bytes().replace(b'"update": ', b'"update": 1'))
    with pytest.raises(
        AgentError, match=r"update-00000006 is damaged .*update-00000004 is damaged .*restore"
    ):
        go_on(stopped)


def test_files_of_earlier_versions_are_read_and_that_is_said(
    stopped: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in stopped.glob("state/*/state.json"):
        plain = json.loads(file.read_bytes())
        del plain["checksum"]
        file.write_text(json.dumps(plain, indent=1))
    metrics = stopped / "metrics.jsonl"
    plain_lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    for one in plain_lines:
        del one["crc32"]
    metrics.write_text("".join(json.dumps(one) + "\n" for one in plain_lines))
    text = (stopped / "recipe.toml").read_text()
    (stopped / "recipe.toml").write_text(text[: text.index("# sha256")])
    go_on(stopped)
    assert result(stopped) == result(whole)
    assert "state.json carries no checksum" in capsys.readouterr().err


def test_a_changed_line_of_metrics_is_refused_and_a_missing_one_is_said(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, draw = stopped / "metrics.jsonl", random.Random(0)
    content = file.read_bytes()
    for _ in range(100):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content) - 1)] ^= 1 << draw.randrange(8)
        file.write_bytes(flipped)
        with pytest.raises(
            AgentError, match=r"metrics.jsonl is damaged at line \d.*restore the file, remove"
        ):
            read_metrics(file)
    with pytest.raises(AgentError, match="is damaged at line"):
        go_on(stopped)
    assert file.read_bytes() == flipped  # nothing of it was cut away
    lines = content.splitlines(keepends=True)
    file.write_bytes(b"".join(line for line in lines if b'"train","update":4' not in line))
    assert go_on(stopped).finished
    assert "lacks the lines of 1 updates, the first 4" in capsys.readouterr().err


def test_damage_to_a_line_that_is_cut_away_anyway_does_not_keep_a_run_from_going_on(
    stopped: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines after the last state are not synchronised: a power cut can leave zeros of them."""
    file = stopped / "metrics.jsonl"
    with file.open("ab") as ends:
        ends.write(b"\0" * 40 + b"\n")
    number = file.read_bytes().count(b"\n")
    go_on(stopped)
    assert result(stopped) == result(whole)
    assert f"is damaged at line {number}, which came after the state" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        b"[1]",
        b"{}",
        b'{"kind":1,"update":2}',
        b'{"kind":"train","update":-1}',
        b'{"kind":"train","update":true}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_line_of_metrics_is_refused(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(line + b"\n")
    with pytest.raises(AgentError, match="is damaged at line 1"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_lines_that_are_kept_stay_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = JsonLines(file, 0)
    for update in (1, 2, 3):
        lines.write({"kind": "train", "update": update})
    lines.close()
    content = file.read_bytes()
    JsonLines(file, 2).close()
    assert file.read_bytes() == b"".join(content.splitlines(keepends=True)[:2])
    assert list(tmp_path.iterdir()) == [file]


def test_a_changed_recipe_is_noticed_with_a_state_and_without(
    stopped: Path, recipe: Callable[..., Recipe], whole: Path
) -> None:
    file = stopped / "recipe.toml"
    text = file.read_text()
    file.write_text(text.replace("clip = 0.25", "clip = 0.5"))
    with pytest.raises(
        AgentError, match=r"was trained with optimizer\.clip = 0\.25 and cannot continue with 0\.5"
    ):
        go_on(stopped)
    kept = stopped.with_name("states")
    (stopped / "state").rename(kept)
    with pytest.raises(AgentError, match=r"was changed since the run began, .* remove its last line"):
        go_on(stopped)
    kept.rename(stopped / "state")
    file.write_text("# a word of mine\n" + text)
    go_on(stopped)
    assert result(stopped) == result(whole)


@pytest.mark.parametrize("name", ["lock", "metrics.jsonl", "state", "checkpoints", "checkpoint"])
def test_nothing_is_written_through_a_link(name: str, stopped: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    if (stopped / name).exists():
        (stopped / name).rename(outside)
    (stopped / name).symlink_to(outside)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(AgentError, match="is a link, and a training writes nothing outside of its folder"):
        go_on(stopped)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_what_others_put_into_a_run_stays(stopped: Path) -> None:
    own = [
        stopped / "checkpoints" / "step-3" / "eval.txt",
        stopped / "state" / "update-00000004" / "note",
        stopped / ".checkpoint-backup" / "x",
        stopped / "checkpoints" / "step-mine" / "x",
    ]
    for path in own:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("mine")
    assert go_on(stopped).finished
    assert [path.read_text() for path in own] == ["mine"] * len(own)


# --- begun and killed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["Lock", "check_vacant", "_clear", "write_durably"])
def test_a_run_that_was_killed_before_its_recipe_was_there_begins_again(
    moment: str, recipe: Callable[..., Recipe], tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calls = tmp_path / "run", 0
    plain = getattr(folders, moment)

    def crash(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if moment == "write_durably":
            (run / ".recipe.toml.4711.lram-new").write_bytes(b"name =")
        if moment != "check_vacant" or calls == 3:
            raise CrashError
        return plain(*arguments, **named)

    monkeypatch.setattr(folders, moment, crash)
    with pytest.raises(CrashError):
        start(recipe(), run)
    monkeypatch.undo()
    assert start(recipe(), run).finished
    assert result(run) == result(whole)


@pytest.mark.parametrize("other", ["note", ".recipe.toml.mine", "state"])
def test_a_folder_with_anything_else_is_not_begun(
    other: str, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").touch()
    (tmp_path / "run" / other).write_text("mine")
    with pytest.raises(AgentError, match="exists and is kept"):
        start(recipe(), tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(["lock", other])


# --- the system refuses ---------------------------------------------------------------------------------


REFUSALS = [
    *((os, "fsync", count) for count in (1, 2, 4, 7, 12, 20)),
    *((os, "open", count) for count in (1, 2, 4, 7)),
    *((Path, "rename", count) for count in (1, 2, 4, 7)),
    *((Path, "mkdir", count) for count in (1, 2, 4, 7)),
    *((Path, "unlink", count) for count in (1, 2, 4, 7)),
    *((Path, "write_bytes", count) for count in (1, 2, 4, 7)),
    *((Path, "replace", count) for count in (1, 2)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("owner", "name", "count"), REFUSALS)
def test_an_error_at_any_file_costs_a_sentence_and_no_bit(
    owner: Any,
    name: str,
    count: int,
    recipe: Callable[..., Recipe],
    tmp_path: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, plain, calls = tmp_path / "run", getattr(owner, name), 0

    def refuse(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        if name == "fsync" or str(run) in str(arguments[0]):
            calls += 1
            if calls == count:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(arguments[0]))
        return plain(*arguments, **named)

    monkeypatch.setattr(owner, name, refuse)
    told = ""
    try:
        start(recipe(), run)
    except AgentError as error:
        told = str(error)
    monkeypatch.undo()
    assert calls >= count
    assert not told or ("Input/output error" in told and "\n" not in told)
    if (run / "recipe.toml").is_file():
        go_on(run)
    else:
        start(recipe(), run)
    assert result(run) == result(whole)


KILLED = """
import sys
from lram.agents.training.recipe_text import read_recipe
from lram.agents.training.run import Silent, Surroundings, start

class Telling(Silent):
    def update(self, update, loss, tokens):
        print(update, flush=True)

start(read_recipe(sys.argv[1]), sys.argv[2], Surroundings(Telling()))
"""


@pytest.mark.slow
def test_a_killed_trainer_leaves_neither_lock_nor_workers(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    from lram.agents.training.recipe_text import render_recipe

    settings = ("sampling.workers=2", "optimizer.updates=1000000", "saving.metrics_every=1000000")
    (tmp_path / "recipe.toml").write_text(render_recipe(recipe(*settings)))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "recipe.toml"), str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == "1\n"
        workers = Path(f"/proc/{trainer.pid}/task/{trainer.pid}/children").read_text().split()
        assert len(workers) == 2
        os.kill(trainer.pid, signal.SIGKILL)
        trainer.wait()
        Lock(tmp_path / "run" / "lock").close()
        for _ in range(100):
            if not any(_runs(worker) for worker in workers):
                break
            time.sleep(0.1)
        assert not any(_runs(worker) for worker in workers)


def _runs(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# --- trackers -------------------------------------------------------------------------------------------


class Leaving:
    """A tracker that ends the process wherever it is told to."""

    def __init__(self, moment: str) -> None:
        self._moment, self.name = moment, "leaving"

    def load(self) -> Any:
        self._leave("load")
        return lambda *arguments: self

    def write(self, line: Any) -> None:
        self._leave("write")

    def close(self) -> None:
        self._leave("close")

    def _leave(self, moment: str) -> None:
        if moment == self._moment:
            raise SystemExit(3)


@pytest.mark.parametrize("moment", ["load", "write", "close"])
def test_a_tracker_that_ends_the_process_does_not(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sinks, "entry_points", lambda group: [Leaving(moment)])
    if moment == "load":
        with pytest.raises(AgentError, match=r"tracker leaving cannot be opened .SystemExit: 3"):
            Trackers(["leaving"], tmp_path, {}, 0)
        return
    trackers = Trackers(["leaving"], tmp_path, {}, 0)
    trackers.write({"kind": "train", "update": 1})
    trackers.close()
    assert "the tracker leaving failed" in capsys.readouterr().err


def test_files_of_a_user_with_names_like_ours_stay(tmp_path: Path) -> None:
    between = tmp_path / "checkpoints"
    (tmp_path / "state").mkdir()
    files = [
        tmp_path / ".checkpoint-abcdefgh",
        tmp_path / ".partial-abcdefgh",
        tmp_path / ".recipe.toml.20240101",
        tmp_path / ".metrics.jsonl.1",
        *(between / name / "config.json" for name in ("step-007", "step-4", "step-5", "step-six")),
    ]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    folders._clear(tmp_path)
    folders.prune_checkpoints(tmp_path, 1)
    assert [file for file in files if not file.exists()] == [between / "step-4" / "config.json"]
