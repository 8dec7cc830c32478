"""Foreign agents are checked before they play: nobody is refused, and the run and its reports say it."""

from __future__ import annotations

import random
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.ready import ready_python

from lram.agents.experts.baselines import RandomAgent
from lram.agents.experts.noise import NoisyAgent, parse_noise
from lram.envs.registry import all_tasks
from lram.harness.evaluation import Machine, evaluate, resume
from lram.harness.gate.contract import contract_note, is_foreign
from lram.harness.storage.records import PlannedTask
from lram.reports import summarise

MACHINE = Machine(lanes=2, workers=1)
TASKS = [PlannedTask(all_tasks()[name], "toy:plain@1") for name in ("toy/steps", "toy/reach", "toy/blink")]


class Sound(RandomAgent):
    """A user's own class, though it does what another does."""


class FeelsNeighbours(RandomAgent):
    def act(self, state: Any, observations: Any, rewards: Any, lanes: Any) -> Any:
        actions, state = super().act(state, observations, rewards, lanes)
        shift = np.float32(3e-8 * (len(lanes) > 1))
        return [np.abs(a) - shift if isinstance(a, np.ndarray) else a for a in actions], state


class Unseeded(RandomAgent):
    def act(self, state: Any, observations: Any, rewards: Any, lanes: Any) -> Any:
        actions, state = super().act(state, observations, rewards, lanes)
        return [random.randrange(4) if isinstance(a, int) else a for a in actions], state


class Bewildered(RandomAgent):
    """Understands real observations only."""

    def act(self, state: Any, observations: Any, rewards: Any, lanes: Any) -> Any:
        if any(np.abs(seen).max() > 1.5 for seen in observations):
            raise ValueError("this cannot be seen")
        return super().act(state, observations, rewards, lanes)


def test_what_comes_along_is_not_checked_and_what_a_user_wrote_is() -> None:
    assert not is_foreign(RandomAgent())
    assert not is_foreign(NoisyAgent(RandomAgent(), parse_noise("0.5")))
    assert is_foreign(Sound())
    assert is_foreign(NoisyAgent(Sound(), parse_noise("0.5")))
    assert contract_note("random", RandomAgent(), TASKS) == ""


def test_a_sound_agent_is_noted_and_nothing_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = evaluate({"mine": Sound()}, "toy/steps,toy/reach", tmp_path / "run", episodes=1, machine=MACHINE)
    # In the order of the table, one task for each kind of observation and action.
    note = run.provenance()[0].settings["check of mine"]
    assert note == "contract@1: 19 checks passed on toy/reach, toy/steps"
    assert capsys.readouterr().err == ""
    assert not [one for one in summarise([run]).caveats if one.kind == "contract"]


def test_an_agent_that_feels_its_neighbours_plays_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agents: dict[str, Any] = {"mine": FeelsNeighbours(), "random": "random"}
    run = evaluate(agents, "toy/reach", tmp_path / "run", episodes=1, machine=MACHINE)
    assert [record.status for record in run.records()] == ["scored"] * 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "lram: results of agent mine depend on chance: 'a lane's neighbours do not matter' fails on "
        "toy/reach: differ from decision "
    )
    assert re.search(r"by up to [36]e-08 ", line)
    (caveat,) = [one for one in summarise([run]).caveats if one.kind == "contract"]
    assert caveat.text.startswith("1 agent does not act alike, bit for bit")
    (item,) = caveat.items
    assert item.startswith("mine: 'a lane's neighbours do not matter' fails on toy/reach")


def test_what_real_play_shows_is_left_to_play(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = evaluate({"mine": Bewildered()}, "toy/blink", tmp_path / "run", episodes=1, machine=MACHINE)
    assert [record.status for record in run.records()] == ["scored"]
    note = run.provenance()[0].settings["check of mine"]
    assert note.startswith("contract@1: could not be checked on made-up observations: ")
    assert "raised ValueError: this cannot be seen" in note
    assert capsys.readouterr().err == ""


def test_generators_are_left_as_they_were() -> None:
    import torch

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert "not kept: 'the same seed gives the same actions'" in contract_note("mine", Unseeded(), TASKS)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


class Counting(RandomAgent):
    def __init__(self) -> None:
        self.calls = 0

    def act(self, state: Any, observations: Any, rewards: Any, lanes: Any) -> Any:
        self.calls += 1
        return super().act(state, observations, rewards, lanes)


class Locked(Counting):
    """Cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def test_an_agent_is_as_it_was_before_and_one_that_cannot_be_copied_is_checked_too() -> None:
    counting, locked = Counting(), Locked()
    assert "checks passed" in contract_note("mine", counting, TASKS)
    assert "checks passed" in contract_note("mine", locked, TASKS)
    assert counting.calls == 0
    # Some thirty calls a kind: what the check costs.
    assert 40 <= locked.calls <= 60


def test_a_resumed_session_checks_again(tmp_path: Path) -> None:
    run = evaluate({"mine": Sound()}, "toy/reach", tmp_path / "run", episodes=2, machine=MACHINE)
    segment = run.path / "records" / "0001.jsonl"
    segment.write_bytes(segment.read_bytes().splitlines(keepends=True)[0])
    finished = resume(run, agents={"mine": FeelsNeighbours()}, machine=MACHINE)
    notes = [session.settings["check of mine"] for session in finished.provenance()]
    assert "passed" in notes[0]
    assert "not kept" in notes[1]
    (caveat,) = [one for one in summarise([finished]).caveats if one.kind == "contract"]
    assert len(caveat.items) == 1


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from lram.agents.experts.baselines import RandomAgent\n"
        "class Shifted(RandomAgent):\n"
        "    def act(self, state, observations, rewards, lanes):\n"
        "        actions, state = super().act(state, observations, rewards, lanes)\n"
        "        return [np.abs(a) - np.float32(3e-8 * (len(lanes) > 1)) for a in actions], state\n"
    )
    command = [*ready_python(), "-m", "lram.harness.cli", "eval", "mine:Shifted", "-t", "toy/reach"]
    answer = subprocess.run(
        [*command, "-n", "1", "-o", "run", "-q", "-w", "1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    (line,) = answer.stderr.splitlines()
    assert line.startswith("lram: results of agent mine:Shifted depend on chance: ")
