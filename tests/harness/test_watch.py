"""Every checkpoint of a training is scored from the same starts, as it appears, whatever comes between."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.agents.api import TaskSpec
from lram.agents.training.folder import kept_checkpoints
from lram.agents.training.recipe_text import read_recipe
from lram.agents.training.run import start
from lram.agents.trajectories import StoreWriter, Trajectory
from lram.harness.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED
from lram.harness.cli.options import MachineOptions
from lram.harness.cli.resume import resume
from lram.harness.cli.watch import watch
from lram.harness.errors import LramError
from lram.harness.machine import Machine
from lram.harness.progress import quiet
from lram.harness.storage.records import DomainSource
from lram.harness.storage.run_folder import Run
from lram.harness.storage.seeds import confirmation_seed
from lram.harness.watching.folder import WatchFolder
from lram.harness.watching.running import (
    ScoredCheckpoint,
    UnscoredCheckpoint,
    WatchRequest,
    confirm,
    follow,
    opened,
)

pytestmark = pytest.mark.slow
QUIET = MachineOptions(workers=1, quiet=True)
UPDATES = [2, 4, 6]


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that has ended, with a checkpoint every two updates."""
    folder = tmp_path_factory.mktemp("watched")
    task = TaskSpec("toy/reach", "toy", "vector", (6,), "continuous", 2, 25.0, 1.0)
    rng = np.random.default_rng(0)
    with StoreWriter(folder / "store") as writer:
        for _ in range(4):
            rewards = np.ones(8, np.float32)
            seen = rng.uniform(-1, 1, (9, 6)).astype(np.float32)
            actions = rng.uniform(-1, 1, (8, 2)).astype(np.float32)
            writer.append(Trajectory(task, seen, actions, rewards, rewards, False, True, policy="any"))
    settings = (
        f"data.stores={folder / 'store'}",
        "model.backbone=gru",
        "model.width=16",
        "model.layers=1",
        "sampling.sequences=2",
        "sampling.context=5",
        "optimizer.updates=6",
        "optimizer.learning_rate=1e-2",
        "validation.windows=0",
        "saving.checkpoint_updates=2",
        "saving.keep=all",
        "saving.trackers=[]",
    )
    start(read_recipe(None, settings), folder / "run")
    assert list(kept_checkpoints(folder / "run")) == UPDATES
    return folder / "run"


@pytest.fixture
def request_for() -> Callable[..., WatchRequest]:
    def make(training: Path, **more: Any) -> WatchRequest:
        return WatchRequest(training, "toy/reach", episodes=3, machine=Machine(workers=1, lanes=4), **more)

    return make


def outcomes(run: Run) -> list[dict[str, Any]]:
    """Return what a run recorded, without what depends on the machine."""
    return [asdict(replace(record, measured=None)) for record in run.records()]


def score(watched: Path, out: Path, request: WatchRequest) -> list[Any]:
    with opened(out, request) as folder:
        return list(follow(folder, request, once=True))


def test_checkpoints_are_scored_as_they_appear_until_the_training_has_ended(
    training: Path, tmp_path: Path, request_for: Callable[..., WatchRequest]
) -> None:
    growing = tmp_path / "growing"
    shutil.copytree(training, growing, ignore=shutil.ignore_patterns("checkpoint*"))
    left = [*sorted((training / "checkpoints").iterdir()), training / "checkpoint"]

    def appear(seconds: float) -> None:
        assert seconds == 5.0
        found = left.pop(0)
        shutil.copytree(found, growing / found.relative_to(training))

    request = request_for(growing)
    with opened(tmp_path / "out", request) as folder:
        found = []
        for one in follow(folder, request, poll_s=5.0, wait=appear):
            assert isinstance(one, ScoredCheckpoint)
            found.append(one.update)
            assert len(left) == 3 - len(found)  # as soon as it was there
    assert (found, left) == (UPDATES, [])
    runs = WatchFolder(tmp_path / "out").runs()
    assert [[agent.label for agent in run.plan.agents] for run in runs.values()] == [
        ["update-000002"],
        ["update-000004"],
        ["update-000006"],
    ]
    seeds = [[record.seed for record in run.records()] for run in runs.values()]
    assert seeds[0] == seeds[1] == seeds[2]
    assert len({run.plan.agents[0].info.digest for run in runs.values()}) == 3


def test_checkpoints_are_not_scored_by_two_contents_of_a_domains_file(
    training: Path,
    tmp_path: Path,
    request_for: Callable[..., WatchRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digest = "aa"

    def sources(domains: Any) -> dict[str, DomainSource]:
        return {name: DomainSource("/x.py", digest) for name in domains}

    for module in ("lram.harness.plan", "lram.harness.watching.running"):
        monkeypatch.setattr(f"{module}.sources", sources)
    score(training, tmp_path / "out", request_for(training))
    shutil.rmtree(WatchFolder(tmp_path / "out").runs()[6].path)
    request = request_for(training)
    with opened(tmp_path / "out", request) as folder:
        digest = "bb"
        [*_, last] = follow(folder, request, once=True)
    assert isinstance(last, UnscoredCheckpoint)
    assert "the source of domain toy has changed since" in last.reason
    with pytest.raises(LramError, match="give another folder"):
        score(training, tmp_path / "out", request)
    digest = "aa"
    assert isinstance(score(training, tmp_path / "out", request)[-1], ScoredCheckpoint)


def test_an_interrupted_watch_goes_on_to_the_same_records(
    training: Path, tmp_path: Path, request_for: Callable[..., WatchRequest]
) -> None:
    score(training, tmp_path / "whole", request_for(training))
    calls = 0

    def stopping(items: Any, planned: int) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return quiet(items, planned)

    with pytest.raises(KeyboardInterrupt):
        score(training, tmp_path / "cut", request_for(training, progress=stopping))
    cut = WatchFolder(tmp_path / "cut")
    assert [run.missing() == [] for run in cut.runs().values()] == [True, False]
    found = score(training, tmp_path / "cut", request_for(training))
    assert [one.update for one in found] == UPDATES
    whole = WatchFolder(tmp_path / "whole").runs()
    assert {k: outcomes(run) for k, run in cut.runs().items()} == {k: outcomes(r) for k, r in whole.items()}
    assert len(cut.runs()[2].provenance()) == 1  # what was whole was not played again


def test_a_checkpoint_that_cannot_be_played_is_named_and_the_others_are_scored(
    training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = shutil.copytree(training, tmp_path / "broken")
    weights = broken / "checkpoints" / "step-4" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    out = tmp_path / "out"
    more = {"tasks": ["toy/reach"], "output": out, "episodes": 3, "once": True, "machine": QUIET}
    assert watch(broken, **more) == EXIT_FAILED
    said = capsys.readouterr().out
    assert "update 4: not scored: " in said
    assert "without all episodes: update 4; the exit code is 1" in said
    assert list(WatchFolder(out).runs()) == [2, 6]
    weights.write_bytes(content)
    assert watch(broken, **more) == 0
    assert list(WatchFolder(out).runs()) == UPDATES
    assert f"next: lram report {out} -o {out}-report" in capsys.readouterr().out


def test_what_could_not_be_played_is_tried_again_at_the_end_of_the_training(
    training: Path, tmp_path: Path, request_for: Callable[..., WatchRequest]
) -> None:
    growing = shutil.copytree(training, tmp_path / "growing", ignore=shutil.ignore_patterns("checkpoint"))
    config = growing / "checkpoints" / "step-2" / "config.json"
    whole = config.read_bytes()
    config.write_bytes(b"{}")

    def mend(seconds: float) -> None:
        config.write_bytes(whole)
        shutil.copytree(training / "checkpoint", growing / "checkpoint")

    request = request_for(growing)
    with opened(tmp_path / "out", request) as folder:
        found = list(follow(folder, request, wait=mend))
    assert isinstance(found[0], UnscoredCheckpoint)
    assert [(one.update, type(one)) for one in found[1:]] == [
        (4, ScoredCheckpoint),
        (2, ScoredCheckpoint),
        (6, ScoredCheckpoint),
    ]


def test_the_best_is_confirmed_from_other_starts_once(
    training: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request_for: Callable[..., WatchRequest],
) -> None:
    out = tmp_path / "out"
    more = {"tasks": ["toy/reach"], "output": out, "episodes": 3, "once": True, "machine": QUIET}
    for _ in range(2):
        assert watch(training, **more, confirm=4) == 0
        assert "; from other starts " in capsys.readouterr().out
    ((update, run),) = WatchFolder(out).confirmations().items()
    assert (run.plan.seed, run.plan.episodes) == (confirmation_seed(0), 4)
    chose = {record.seed for record in WatchFolder(out).runs()[update].records()}
    assert not chose & {record.seed for record in run.records()}
    assert len(run.provenance()) == 1
    with pytest.raises(LramError, match="give --confirm 4"):
        watch(training, **more, confirm=5)

    request = request_for(training)
    with opened(out, request) as folder, pytest.raises(LramError, match="no longer has the checkpoint"):
        confirm(folder, request, 3, 4)


def test_a_confirmation_that_lacks_episodes_ends_with_1_and_says_what_to_do(
    training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    more = {"tasks": ["toy/reach"], "output": out, "episodes": 3, "once": True, "machine": QUIET}
    assert watch(training, **more, confirm=4) == 0
    ((update, run),) = WatchFolder(out).confirmations().items()
    (segment,) = (run.path / "records").glob("*.jsonl")
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:-1]))
    monkeypatch.setattr("lram.harness.watching.running.confirm", lambda *given: None)  # as if it errored
    capsys.readouterr()
    assert watch(training, **more, confirm=4) == EXIT_FAILED
    said = capsys.readouterr().out
    assert "(3 of 4 episodes: not confirmed yet)" in said
    assert f"not confirmed: 3 of 4 episodes of update {update} from other starts count; the exit" in said
    assert f"lram resume {run.path} --retry-errors" in said


def test_other_terms_and_a_second_watcher_are_refused(
    training: Path, tmp_path: Path, request_for: Callable[..., WatchRequest]
) -> None:
    out, request = tmp_path / "out", request_for(training)
    with (
        opened(out, request),
        pytest.raises(LramError, match="in use by another process"),
        opened(out, request),
    ):
        pass
    with pytest.raises(LramError, match=r"was begun with episodes = 3, and episodes = 4 is requested now"):
        score(training, out, replace(request, episodes=4))
    with pytest.raises(LramError, match=r"tasks = toy/reach, and tasks = toy/steps"):
        score(training, out, replace(request, tasks="toy/steps"))
    with pytest.raises(LramError, match="rows"):
        score(training, out, replace(request, machine=Machine(workers=1, rows=16)))
    with pytest.raises(LramError, match="is not an evaluation; continue with: lram watch"):
        resume(out)


def test_a_training_that_was_made_again_in_its_place_does_not_have_the_scores_of_the_first(
    training: Path, tmp_path: Path, request_for: Callable[..., WatchRequest]
) -> None:
    """Its recipe is the same where only the trajectories were exchanged."""
    here, out = tmp_path / "here", tmp_path / "out"
    shutil.copytree(training, here)
    score(here, out, request_for(here))
    # The weights of update 4 at update 2: another model, as sound as the first.
    shutil.rmtree(here / "checkpoints" / "step-2")
    shutil.copytree(here / "checkpoints" / "step-4", here / "checkpoints" / "step-2")
    shutil.rmtree(out / "runs" / "update-000004")
    with pytest.raises(LramError, match=r"update-000002 has the score of another model .*another folder"):
        score(here, out, request_for(here))
    assert list(WatchFolder(out).runs()) == [2, 6]  # refused before anything was played
    request = request_for(here)
    with opened(out, request) as folder, pytest.raises(LramError, match="score of another model"):
        confirm(folder, request, 2, 3)


def test_a_watch_goes_on_with_a_training_that_was_moved(
    training: Path, tmp_path: Path, request_for: Callable[..., WatchRequest]
) -> None:
    first, moved, out = tmp_path / "first", tmp_path / "moved", tmp_path / "out"
    shutil.copytree(training, first, ignore=shutil.ignore_patterns("checkpoint"))
    score(first, out, request_for(first))
    first.rename(moved)
    shutil.copytree(training / "checkpoint", moved / "checkpoint")

    def stopping(items: Any, planned: int) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(moved, out, request_for(moved, progress=stopping))
    assert WatchFolder(out).runs()[6].missing()
    assert [one.update for one in score(moved, out, request_for(moved))] == UPDATES
    runs = WatchFolder(out).runs()
    assert [len(run.provenance()) for run in runs.values()][:2] == [1, 1]
    request = request_for(moved)
    with opened(out, request) as folder:
        assert confirm(folder, request, 2, 3).missing() == []
    for update in (2, 4):
        shutil.rmtree(moved / "checkpoints" / f"step-{update}")
    shutil.rmtree(moved / "checkpoint")
    with pytest.raises(LramError, match="keeps none of the checkpoints that were scored"):
        score(moved, out, request_for(moved))


def test_what_cannot_be_watched_is_refused_before_anything_is_written(
    training: Path, tmp_path: Path, request_for: Callable[..., WatchRequest]
) -> None:
    with pytest.raises(LramError, match="is no training run"):
        score(tmp_path, tmp_path / "out", request_for(tmp_path))
    with pytest.raises(LramError, match="toy/nothing"):
        score(training, tmp_path / "out", replace(request_for(training), tasks="toy/nothing"))
    for wrong in ({"poll": 0.0}, {"poll": float("inf")}, {"confirm": 0}):
        with pytest.raises(LramError, match=next(iter(wrong))):
            watch(training, tasks=["toy/reach"], output=tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_ctrl_c_ends_with_a_word_on_how_to_go_on(
    training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    growing = shutil.copytree(training, tmp_path / "growing", ignore=shutil.ignore_patterns("checkpoint"))

    def interrupt(waiting: object, seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lram.harness.cli.watch._Waiting.__call__", interrupt)
    code = watch(growing, tasks=["toy/reach"], output=tmp_path / "out", episodes=1, machine=QUIET)
    assert code == EXIT_INTERRUPTED
    said = capsys.readouterr()
    assert said.out.count(" episode of 1 task") == 2
    assert "the same command continues with what is missing" in said.out
