"""What is said while somebody waits."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from lram.agents.training.recipe import OptimizerSection, Recipe, ValidationSection
from lram.harness import progress as playing
from lram.harness import training, waiting
from lram.harness.cli.tasks import tasks
from lram.harness.waiting import Pace, duration, left, remaining, still


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (playing, training):
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (-3, "0 s"), (89, "89 s"), (120, "2 min"), (3570, "1 h 0 min"), (4260, "1 h 11 min")],
)
def test_a_duration_reads_as_people_say_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_pace_leaves_the_warm_up_and_later_compilations_out() -> None:
    pace = Pace()
    assert pace.seconds is None
    pace.add(400.0)
    pace.add(1.0)
    assert pace.seconds is None
    pace.add(2.0)
    assert pace.seconds == 1.5
    pace.add(90.0)
    assert pace.seconds == 1.5


def test_what_remains_is_known_once_something_is_done() -> None:
    assert remaining(100, 0, 16, 50.0) is None
    assert remaining(100, 50, 0, 10.0) == 10.0
    assert remaining(20, 10, 4, 12.0) == 8.0
    assert remaining(10, 10, 0, 5.0) == 0.0
    assert left(None) == "time left: measuring"


def trainer(updates: int, every: int) -> Any:
    recipe = Recipe(
        optimizer=OptimizerSection(updates=updates, warmup_updates=3), validation=ValidationSection(every)
    )
    model = SimpleNamespace(config=SimpleNamespace(describe=lambda: "a model"), parameter_count=7)
    data = SimpleNamespace(windows=SimpleNamespace(cycle=["toy"], tasks=["toy/reach"]), facts={})
    return SimpleNamespace(recipe=recipe, model=model, data=data, accumulate=1, update=0, origin={})


def validated(update: int, seconds: float) -> dict[str, Any]:
    return {"kind": "validation", "update": update, "loss": 1.0, "domains": {}, "time": {"seconds": seconds}}


def test_the_time_left_of_a_training_does_not_count_compilation(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    observer = training.Progress()
    observer.begin(trainer(100, 0))
    assert "100 updates, the first 3 of them warm-up" in capsys.readouterr().err
    clock.now += 300.0  # kernels are compiled
    observer.update(1, 1.0, 10)
    assert capsys.readouterr().err == "update 1/100, loss 1.0000, time left: measuring\n"
    for update in range(2, 12):
        clock.now += 1.0
        observer.update(update, 1.0, 10)
    assert capsys.readouterr().err == "update 11/100, loss 1.0000, 10 tokens/s, about 89 s left\n"


def test_the_time_left_of_a_training_counts_the_validations_to_come(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    observer = training.Progress()
    observer.begin(trainer(100, 50))
    clock.now += 500.0
    observer.line(validated(0, 500.0))
    for update in range(1, 52):
        clock.now += 1.0
        observer.update(update, 1.0, 10)
        if update == 50:
            clock.now += 60.0
            observer.line(validated(50, 60.0))
    # 49 updates of a second, and the validation at the end.
    assert capsys.readouterr().err.splitlines()[-1].endswith("10 tokens/s, about 2 min left")
    assert observer._seconds_left(51) == 49 + 60
    assert observer._seconds_left(40) == 60 + 2 * 60


def test_plain_lines_of_a_run_say_the_time_left_without_the_start_of_simulators(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = playing._Lines(100)
    clock.now += 60.0
    lines.heartbeat(0, 0)
    assert capsys.readouterr().err.endswith("time left: measuring\n")
    lines.heartbeat(16, 1)
    lines.done = 42
    clock.now += 50.0
    lines.heartbeat(16, 1000)
    assert "42/100 episodes, 16 in flight" in (said := capsys.readouterr().err)
    assert said.endswith("about 50 s left\n")


def test_a_long_silence_is_broken_and_a_short_one_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with still("reading", every=0.01):
        deadline = time.monotonic() + 30
        while not (said := capsys.readouterr().err) and time.monotonic() < deadline:
            time.sleep(0.005)
    assert said.startswith("reading: 0 s so far\n")
    with still("reading", every=30.0), still("hidden", quiet=True, every=0.0):
        pass
    assert capsys.readouterr().err == ""


def test_what_was_said_just_now_is_no_silence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_said", time.monotonic() + 3600)
    with still("reading", every=0.01):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_a_listing_says_which_tasks_its_pattern_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    tasks(["toy/*"], json=True)
    said = capsys.readouterr()
    assert said.err.startswith("lram: left out, because they are made to fail: toy/crash, ")
    assert '"toy/hang"' not in said.out
    tasks(["toy/hang"], json=True)
    said = capsys.readouterr()
    assert (said.err, '"toy/hang"' in said.out) == ("", True)
