"""lram eval --dry-run: what would be played and what it would cost, and nothing is written."""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.files import edit

from lram.envs.registry import select
from lram.harness.cli import app
from lram.harness.errors import LramError
from lram.harness.forecast import forecast as forecasting
from lram.harness.forecast.costs import MeasuredSession, Range, episode_cost, measured_session
from lram.harness.forecast.forecast import Forecast, forecast
from lram.harness.machine import Machine
from lram.harness.plan import RunRequest
from lram.harness.storage.records import EpisodeRecord, Measured
from lram.harness.storage.run_folder import Run

LANES = ("-l", "2", "-w", "1")


def lram(*words: object) -> int:
    command, bound, _ = app.parse_args([str(word) for word in words], exit_on_error=False, print_error=False)
    return command(*bound.args, **bound.kwargs) or 0


def told(
    past: Path | None, agents: Sequence[str] = ("random",), tasks: str = "toy/reach", **more: int
) -> Forecast:
    request = RunRequest(agents=agents, tasks=tasks, episodes=3, **more)  # type: ignore[arg-type]
    return forecast(request, Machine(lanes=2, workers=1), past, silent=True)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    return tmp_path


def test_a_dry_run_says_what_would_be_played_and_writes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("random", "low=constant=-0.5", "-t", "toy/reach,toy/steps", "-n", 3, *LANES, "-q")
    assert lram("eval", *words, "-o", "runs/x", "--dry-run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["agents"] == ["random", "low"]
    assert (found["tasks"], found["episodes"], found["planned"]) == (2, 3, 9)
    assert [(one["agent"], one["task"]) for one in found["skipped"]] == [("low", "toy/steps")]
    assert [(one["domain"], one["protocol"], one["problem"]) for one in found["domains"]] == [
        ("toy", "toy:plain@1", "")
    ]
    assert [part["measured"] for part in found["parts"]] == ["trial: 2 episodes of toy/reach"] * 2
    assert 0 < found["seconds"]["low"] < found["seconds"]["high"]
    assert [path.name for path in here.rglob("*")] == ["temporary"]
    assert lram("eval", *words, "-o", "runs/x") == 0  # it is as it was said
    run = Run("runs/x")
    assert len(run.records()) == found["planned"]
    size = sum(file.stat().st_size for file in (run.path / "run.json", *(run.path / "records").iterdir()))
    assert found["bytes"]["low"] * 0.97 < size < found["bytes"]["high"] * 1.03


def test_the_words_say_what_was_measured_and_that_ranges_are_no_intervals(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lram("eval", "random", "-t", "toy/reach,toy/lives", "-n", 3, *LANES, "-q", "--dry-run") == 0
    printed = capsys.readouterr().out
    words = printed.splitlines()[1].split()
    assert words == ["toy", "2", "toy:plain@1", "lram's", "own", "Python", "yes"]
    assert "trial: 2 episodes of toy/" in printed
    assert "6 episodes: 3 of each agent on each task that it can play, 2 at the same time" in printed
    assert "ranges, not intervals of a known probability" in printed


def test_a_domain_that_cannot_be_played_is_said_and_refused_as_the_command_does(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("eval", "random", "-t", "toy/reach,composuite16", "--python", "toy=main", "-q", "-o", "run")
    with pytest.raises(LramError, match="not installed: composuite") as dry:
        lram(*words, "--dry-run", "--json")
    found = json.loads(capsys.readouterr().out)
    assert [bool(one["problem"]) for one in found["domains"]] == [True, False]
    assert found["planned"] == 10
    with pytest.raises(LramError) as played:
        lram(*words)
    assert str(played.value).startswith(str(dry.value))


def test_what_is_refused_without_it_is_refused_with_it(here: Path) -> None:
    (here / "full").mkdir()
    (here / "full" / "notes.txt").touch()
    play = ("eval", "random", "-t", "toy/reach", "--dry-run")
    for words, message in (
        ((*play, "-o", "full"), "full"),
        ((*play, "-n", 0), "must be 1 or more"),
        ((*play, "--print"), "give one of them"),
        ((*play, "--backend", "ray"), "leave --backend out"),
        ((*play[:-1], "-o", "run", "--json"), "--json belongs to --dry-run"),
        (("eval", "scripted", "-t", "procgen/heist", "--dry-run"), "can play none"),
    ):
        with pytest.raises(LramError, match=message):
            lram(*words)


def test_past_runs_of_the_same_agent_on_this_machine_are_what_is_measured(here: Path) -> None:
    play = ("-t", "toy/reach", "-n", 3, *LANES, "-q")
    assert lram("eval", "random", "low=constant=-0.5", *play, "-o", "runs/first") == 0
    runs = here / "runs"
    agents = ("mine=random", "half=constant=0.5", "other=constant=-0.5")
    found = told(runs, agents)
    where = [part.measured.partition(":")[0] for part in found.parts]
    assert where == [f"run {runs / 'first'}", "trial", f"run {runs / 'first'}"]
    assert told(None, ("random",)).parts[0].measured.startswith("trial")
    (provenance,) = (runs / "first" / "provenance").iterdir()

    def elsewhere(made: dict[str, object]) -> None:
        made["cpu"] = "another processor"

    edit(provenance, elsewhere)
    assert told(runs, ("random",)).parts[0].measured.startswith("trial")


def test_a_past_run_that_cannot_be_read_is_named_and_left_out(here: Path) -> None:
    (here / "runs" / "broken").mkdir(parents=True)
    (here / "runs" / "broken" / "run.json").write_text("{")
    found = told(here / "runs")
    assert found.parts[0].measured.startswith("trial")
    assert len(found.unread) == 1
    assert "broken" in found.unread[0]


def test_what_fails_in_a_trial_is_not_measured_and_says_why(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(None, tasks="toy/raise")
    assert found.seconds is None
    assert found.parts[0].seconds is None
    assert found.parts[0].problem
    assert lram("eval", "random", "-t", "toy/raise", "-q", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert f"not measured: {found.parts[0].problem}" in printed
    assert "nothing could be measured" in printed


def record(task: str, length: int, wall_s: float, started: float = 0.0, worker: int = 1) -> EpisodeRecord:
    measured = Measured(started, wall_s, wall_s / 2, wall_s / 4, 0, worker)
    return EpisodeRecord(
        *(
            1,
            "random",
            task,
            0,
            0,
            "toy:plain@1",
            "scored",
            1.0,
            length,
            None,
            None,
            True,
            False,
            "",
            0,
            None,
        ),
        measured,
    )


def test_an_episode_is_reckoned_from_the_shortest_to_the_longest_measured() -> None:
    (reach,) = select("toy/reach")
    task = replace(reach, horizon=100)
    few = MeasuredSession("", 1, 1, 1.0, [record("toy/reach", 10, 1.0), record("toy/reach", 20, 2.0)], 0.0)
    assert episode_cost(task, few).wall_s == Range(1.0, 10.0)
    many = replace(few, records=[*few.records, *(record("toy/reach", 15, 1.5) for _ in range(3))])
    assert episode_cost(task, many).wall_s == Range(1.0, 2.0)
    other = replace(task, name="else")
    assert episode_cost(other, many).wall_s == Range(1.0, 10.0)
    assert episode_cost(replace(other, horizon=None), many).wall_s == Range(1.0, 2.0)


def test_the_first_episode_of_a_process_is_its_start_and_no_cost_of_the_next() -> None:
    played = [
        record("toy/reach", 10, 30.0, 0.0),
        *(record("toy/reach", 10, 1.0, 30.0 + at) for at in range(3)),
    ]
    session = measured_session("", 1, 1, played, played)
    assert session is not None
    assert session.start_s == 30.0
    assert [one.measured.wall_s for one in session.records] == [1.0] * 3
    assert measured_session("", 1, 1, played, [replace(played[0], status="errored", length=None)]) is None


def makespan(walls: Sequence[float], lanes: int) -> tuple[float, list[float]]:
    """Play episodes in lanes that do not disturb each other; return the end, and when each began."""
    free, begun = [0.0] * lanes, []
    for wall in walls:
        at = heapq.heappop(free)
        begun.append(at)
        heapq.heappush(free, at + wall)
    return max(free), begun


@pytest.mark.parametrize("lanes_then", [1, 4, 8])
@pytest.mark.parametrize("lanes_now", [1, 4, 8])
def test_simulated_runs_end_within_the_range(lanes_then: int, lanes_now: int) -> None:
    """Lanes that share nothing, and lanes that share one resource wholly, are what the range lies between."""
    (task,) = select("toy/reach")
    for seed in range(40):
        draw = random.Random(seed)
        walls = [draw.uniform(1.0, 3.0) for _ in range(40)]
        _, begun = makespan(walls, lanes_then)
        for shared in (False, True):
            # Where all is shared, an episode takes as many times longer as there are lanes.
            slow = lanes_then if shared else 1
            played = [
                record("toy/reach", 10, wall * slow, at * slow, worker=0)
                for wall, at in zip(walls, begun, strict=True)
            ]
            session = measured_session("", lanes_then, 1, played, played)
            assert session is not None
            # What a simulator needs by itself is not simulated here.
            free = [
                replace(one, measured=replace(one.measured, simulator_s=0.0, agent_s=0.0))
                for one in session.records
            ]
            sums = forecasting._Sums(lanes_now, 1, 8)
            sums.add("toy", [task], 60, replace(session, records=free))
            new = [draw.uniform(1.0, 3.0) for _ in range(60)]
            end = makespan(new, lanes_now)[0] * (lanes_now if shared else 1)
            seconds = sums.seconds()
            assert seconds is not None
            assert seconds.low <= end <= seconds.high, (seed, shared, end, seconds)
