"""Trackers of evaluations: told of progress and scores, in the package's own words, and never in the way."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lram.agents.training import sinks
from lram.agents.training.sinks import BUILT_IN, EXTRAS, numbers_of, open_tracker
from lram.harness import tracking
from lram.harness.cli import app
from lram.harness.errors import LramError
from lram.harness.storage.run_folder import Run

PLAY = ("random", "low[a]=constant=-0.5", "-t", "toy/reach,toy/steps", "-n", 2, "-l", 2, "-w", 1, "-q")


def lram(*words: object) -> int:
    command, bound, _ = app.parse_args([str(word) for word in words], exit_on_error=False, print_error=False)
    return command(*bound.args, **bound.kwargs) or 0


class Noted:
    """A tracker that keeps what it is told, and fails where it is told to."""

    made: list[Noted]
    fails_at = ""
    hangs = False

    def __init__(self, folder: Path, settings: Mapping[str, Any], update: int) -> None:
        self.folder, self.settings, self.update = folder, settings, update
        self.lines: list[Mapping[str, Any]] = []
        self.closed = False
        type(self).made.append(self)
        self._fail("open")

    def write(self, line: Mapping[str, Any]) -> None:
        self.lines.append(line)
        if self.hangs:
            time.sleep(60)
        self._fail("write")

    def close(self) -> None:
        self._fail("close")
        self.closed = True

    def _fail(self, place: str) -> None:
        if self.fails_at == place:
            sys.exit(f"no more of it\nat {place}")


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Noted]:
    monkeypatch.chdir(tmp_path)
    kind = type("Kept", (Noted,), {"made": []})
    point = SimpleNamespace(name="noted", load=lambda: kind)
    monkeypatch.setattr(sinks, "entry_points", lambda group: [point])
    return kind


def test_a_tracker_is_told_the_evaluation_its_progress_and_its_scores(
    noted: type[Noted], tmp_path: Path
) -> None:
    assert lram("eval", *PLAY, "-o", tmp_path / "run", "--tracker", "noted") == 0
    (made,) = noted.made
    assert (made.folder, made.update, made.closed) == (tmp_path / "run", 0, True)
    assert made.settings["tasks"] == ["toy/reach,toy/steps"]
    assert made.settings["machine"] == {"lanes": 2, "workers": 1}
    *progress, scores = made.lines
    assert [line["kind"] for line in progress] == ["progress"] * len(progress)
    assert (progress[-1]["update"], progress[-1]["planned"], progress[-1]["errored"]) == (6, 6, 0)
    assert (scores["kind"], scores["update"]) == ("scores", 6)
    assert set(scores["agents"]) == {"random", "low[a]"}
    assert set(scores["agents"]["random"]["tasks"]) == {"toy/reach", "toy/steps"}
    assert set(scores["agents"]["low[a]"]["tasks"]) == {"toy/reach"}
    frame = Run(tmp_path / "run").episodes()
    mean = frame[(frame.agent == "random") & (frame.task == "toy/steps")].episode_return.mean()
    assert scores["agents"]["random"]["tasks"]["toy/steps"]["return"] == pytest.approx(mean)
    low, middle, high = (scores["agents"]["random"][name] for name in ("score_low", "score", "score_high"))
    assert low < middle < high
    assert scores["agents"]["random"]["score_doubts"] == 1, "three episodes a task are few"


def test_progress_comes_while_it_is_played(
    noted: type[Noted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "LINE_EVERY_S", 0.0)
    assert lram("eval", *PLAY, "-o", tmp_path / "run", "--tracker", "noted") == 0
    done = [line["update"] for line in noted.made[0].lines[:-1]]
    assert done == sorted(done)
    assert len(set(done)) > 2


@pytest.mark.parametrize("place", ["open", "write", "close"])
def test_a_failing_tracker_costs_one_warning_and_no_episode(
    noted: type[Noted], tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    noted.fails_at = place
    assert lram("eval", *PLAY, "-o", tmp_path / "run", "--tracker", "noted") == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "tracker" in line]
    assert len(warnings) == 1
    assert "the tracker noted" in warnings[0]
    assert f"SystemExit: no more of it\\nat {place}" in warnings[0]
    assert [record.status for record in Run(tmp_path / "run").records()] == ["scored"] * 6


def test_a_tracker_that_hangs_keeps_nobody_waiting(
    noted: type[Noted], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    noted.hangs = True
    monkeypatch.setattr(tracking, "CLOSE_S", 0.2)
    monkeypatch.setattr(tracking, "LINE_EVERY_S", 0.0)
    began = time.monotonic()
    assert lram("eval", *PLAY, "-o", tmp_path / "run", "--tracker", "noted") == 0
    assert time.monotonic() - began < 50
    assert "has not taken everything" in capsys.readouterr().err


def test_a_tracker_that_is_not_there_is_refused_before_anything_is_played(
    noted: type[Noted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        LramError, match=r"there is no tracker 'nothing'; known: tensorboard, wandb, .*, noted"
    ):
        lram("eval", *PLAY, "-o", tmp_path / "run", "--tracker", "nothing")
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(LramError, match=r"needs the package wandb, .*: pip install 'lram-bench\[wandb\]'"):
        lram("eval", *PLAY, "-o", tmp_path / "run", "--tracker", "wandb")
    assert not (tmp_path / "run").exists()


def test_no_tracker_is_imported_unless_it_is_named(noted: type[Noted], tmp_path: Path) -> None:
    before = set(sys.modules)
    assert lram("eval", *PLAY, "-o", tmp_path / "run") == 0
    assert not {name.partition(".")[0] for name in set(sys.modules) - before} & {"wandb", "mlflow", "trackio"}
    assert noted.made == []


def test_extras_bring_the_packages_that_trackers_need() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for name, extra in EXTRAS.items():
        packages = project["optional-dependencies"][extra]
        assert any(one.startswith(BUILT_IN[name][1]) for one in packages), name


LINE = {
    "kind": "scores",
    "update": 6,
    "agents": {"low[a]": {"score": 0.5, "tasks": {"toy/reach": {"return": 2.0}}}, "low(a)": {"score": 1}},
}


def test_the_numbers_of_a_line_have_names() -> None:
    assert dict(numbers_of(LINE)) == {
        "scores/agents/low[a]/score": 0.5,
        "scores/agents/low[a]/tasks/toy/reach/return": 2.0,
        "scores/agents/low(a)/score": 1.0,
    }


class Call:
    """Notes every call of anything in it, by its dotted name."""

    def __init__(self, calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]], name: str = "") -> None:
        self._calls, self._name = calls, name

    def __getattr__(self, name: str) -> Call:
        return Call(self._calls, f"{self._name}.{name}".lstrip("."))

    def __call__(self, *args: Any, **options: Any) -> Call:
        self._calls.append((self._name, args, options))
        return Call(self._calls, f"{self._name}()")


Fake = Callable[..., list[tuple[str, tuple[Any, ...], dict[str, Any]]]]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    def install(*names: str, **values: Any) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
        calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        for name in names:
            module = ModuleType(name)
            module.__getattr__ = Call(calls).__getattr__  # type: ignore[method-assign]
            vars(module).update(values)
            monkeypatch.setitem(sys.modules, name, module)
        return calls

    return install


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_wandb_and_trackio_are_spoken_to_in_their_words(fake: Fake, tmp_path: Path, name: str) -> None:
    calls = fake(name)
    tracker = open_tracker(name, tmp_path / "run", {"episodes": 2}, 0)
    tracker.write(LINE)
    tracker.close()
    (init,) = [options for called, _, options in calls if called == "init"]
    assert (init["name"], init["config"]) == ("run", {"episodes": 2})
    assert init["project"] == "lram-bench"
    assert [call for call in calls if call[0] == "init().log"] == [
        ("init().log", (dict(numbers_of(LINE)),), {"step": 6})
    ]
    assert calls[-1] == ("init().finish", (), {})


def test_mlflow_is_given_names_that_it_takes_and_no_two_alike(fake: Fake, tmp_path: Path) -> None:
    calls = fake(
        "mlflow",
        "mlflow.entities",
        Metric=lambda key, value, now, step: (key, value, step),
        Param=lambda key, value: (key, value),
    )
    tracker = open_tracker("mlflow", tmp_path / "run", {"episodes": 2, "machine": {"lanes": 3}}, 0)
    tracker.write(LINE)
    tracker.close()
    batches = [options for called, _, options in calls if called == "MlflowClient().log_batch"]
    assert batches[0] == {"params": [("episodes", "2"), ("machine.lanes", "3")]}
    assert batches[1] == {
        "metrics": [
            ("scores/agents/low_a_/score", 0.5, 6),
            ("scores/agents/low_a_/tasks/toy/reach/return", 2.0, 6),
            ("scores/agents/low_a_/score_2", 1.0, 6),
        ]
    }
    assert calls[-1][0] == "MlflowClient().set_terminated"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="the package wandb is not installed")
def test_wandb_takes_an_evaluation_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    assert lram("eval", *PLAY, "-o", tmp_path / "run", "--tracker", "wandb") == 0
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(Run(tmp_path / "run").records()) == 6
    assert lram("report", tmp_path / "run", "-o", tmp_path / "report") == 0


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="the package mlflow is not installed")
def test_mlflow_takes_an_evaluation_into_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/store")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    assert lram("eval", *PLAY, "-o", tmp_path / "run", "--tracker", "mlflow") == 0
    mlflow = importlib.import_module("mlflow")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("lram-bench").experiment_id])
    assert run.data.metrics["progress/episodes"] == 6
    assert "scores/agents/low_a_/score" in run.data.metrics
    assert json.loads(run.data.params["episodes"]) == 2
    assert run.info.status == "FINISHED"
