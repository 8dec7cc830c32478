"""The table of exit codes: of every command, as the page has it, and true."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cyclopts import App

from lram.agents.api import AgentError, TaskSpec
from lram.agents.trajectories import StoreWriter, Trajectory
from lram.envs.errors import SelectionError
from lram.harness.cli import app, main
from lram.harness.cli.exits import ALWAYS, OWN, markdown
from lram.harness.errors import LramError

PAGE = Path(__file__).parents[2] / "docs/reference/exit-codes.md"

pytestmark = pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens")

Code = Callable[..., int]

ELSEWHERE = {
    ("demo", 0): "test_interruption",
    ("demo", 1): "test_interruption",
    ("bench model", 0): "test_bench",
    ("bench train", 0): "test_bench_train",
    ("train", 0): "test_cli_train",
    ("finetune", 0): "test_cli_train",
    ("cast", 0): "test_cli_train",
    ("import-checkpoint", 0): "test_cli_train",
    ("export", 0): "test_cli_export",
    ("embed", 0): "test_embedding",
    ("data export", 0): "test_cli_lerobot",
    ("reference", 0): "test_references",
    ("reference", 1): "test_references",
    ("serve", 0): "test_serving",
    ("latency", 0): "test_latency_sweep",
    ("latency", 1): "test_latency_sweep",
    ("extrapolate", 0): "test_extrapolation",
    ("extrapolate", 1): "test_extrapolation",
    ("watch", 0): "test_watch",
    ("watch", 1): "test_watch",
    ("paper", 0): "test_paper",
    ("paper", 1): "test_paper",
    ("ablate", 0): "test_ablation",
    ("ablate", 1): "test_ablation",
    ("env install", 0): "test_interpreters",
    ("env remove", 0): "test_interpreters",
    ("env check", 0): "test_interpreter_check",
    ("env check", 1): "test_interpreter_check",
    ("doctor", 0): "test_interpreters",
    ("film", 0): "test_film",
    ("film", 1): "test_film",
    ("verify", 0): "test_replay",
    ("verify", 1): "test_replay",
    ("verify", 12): "test_replay",
}
"""Codes that take minutes or machinery to reach, and the module of tests that reaches them."""


def walk(commands: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, App]]:
    """Yield every command that does something, by its words."""
    for name in commands:
        if name.startswith("-"):
            continue
        inner = commands[name]
        if any(not one.startswith("-") for one in inner):
            yield from walk(inner, (*path, name))
        else:
            yield " ".join((*path, name)), inner


COMMANDS = dict(walk(app))


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Code]:
    """Runs the command line in this process, in an empty folder, and returns its exit code."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for name in ("MPLBACKEND", "PYTHONSAFEPATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["lram", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_every_command_has_its_codes_in_the_table_and_the_page_is_the_table() -> None:
    assert set(COMMANDS) == set(OWN)
    assert markdown() in PAGE.read_text(encoding="utf-8")
    assert not any(set(codes) & set(ALWAYS) for codes in OWN.values())


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_0_and_an_option_that_is_none_with_2(command: str, code: Code) -> None:
    assert code(*command.split(), "--help") == 0
    assert code(*command.split(), "--no-such-option") == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_whatever_a_command_meets_ends_with_the_code_of_the_table(
    command: str, code: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, expected in (
        (LramError("no"), 2),
        (AgentError("no"), 2),
        (SelectionError("no"), 2),
        (MemoryError(), 2),
        (OSError(28, "No space left on device"), 2),
        (KeyboardInterrupt(), 130),
    ):

        def failing(error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(COMMANDS[command], "default_command", failing)
        assert code(*command.split()) == expected
        assert expected in ALWAYS


def store(folder: Path, trajectory: Trajectory) -> Path:
    """Write a store with two parts."""
    with StoreWriter(folder) as writer:
        writer.append(trajectory)
        writer.append(replace(trajectory, task=replace(trajectory.task, id="toy/other")))
    return folder


def damaged(folder: Path) -> Path:
    part = next(folder.glob("parts/toy/reach/*.hdf5"))
    part.write_bytes(part.read_bytes()[:-100])
    return folder


@pytest.fixture
def some() -> Trajectory:
    task = TaskSpec("toy/reach", "toy", "vector", (6,), "continuous", 2, 25.0, 1.0)
    return Trajectory(
        task=task,
        observations=np.zeros((3, 6), np.float32),
        actions=np.zeros((3, 2), np.float32),
        rewards=np.ones(3, np.float32),
        signals=np.ones(3, np.float32),
        terminated=True,
        truncated=False,
    )


@pytest.mark.slow
def test_the_codes_of_plain_commands(code: Code, some: Trajectory) -> None:
    """Each code of the table that a second reaches, by the command that ends with it."""
    reached: set[tuple[str, int]] = set()

    def ends(expected: int, *words: object) -> None:
        command = next(name for name in OWN if tuple(name.split()) == words[: len(name.split())])
        assert code(*words) == expected, words
        reached.add((command, expected))

    play = ("-n", 1, "-w", 1, "-q", "-t")
    for listing in ("tasks", "suites", "domains", "agents", "literature", "env list"):
        ends(0, *listing.split())
    ends(0, "eval", "random", "constant", "low=constant=-1", *play, "toy/reach", "-o", "run")
    ends(0, "resume", "run", "-q")
    ends(1, "eval", "random", *play, "toy/raise", "-o", "failing")
    ends(1, "resume", "failing", "-q")
    ends(1, "collect", "random", *play, "toy/raise", "-o", "no-data")
    ends(0, "collect", "random", *play, "toy/reach", "-o", "data")
    ends(0, "report", "run", "-o", "report")
    ends(0, "publish", "run", "-o", "published")
    ends(0, "leaderboard", "published", "run", "-o", "site", "--no-reports")
    ends(0, "check", "random")
    ends(0, "create", "mamba-1M", "-o", "checkpoint")
    ends(0, "data", "info", "data")
    ends(0, "data", "verify", "data")
    ends(0, "data", "rebuild", "data")
    ends(0, "data", "import", "data", "-o", "copy")
    damaged(store(Path("other"), some))
    ends(1, "data", "verify", "other")
    both = Path("both")
    both.mkdir()
    Path("data").rename(both / "whole")
    Path("other").rename(both / "bad")
    ends(1, "data", "import", both, "-o", "rest", "--skip-bad")
    ends(1, "data", "rebuild", both / "bad")
    Path("wrong_agent.py").write_text(
        "from lram.agents.experts.baselines import ConstantAgent\n"
        "class Agent(ConstantAgent):\n"
        "    def act(self, *given):\n"
        "        raise RuntimeError('never')\n"
    )
    ends(1, "check", "wrong_agent:Agent")
    missing = {(c, n) for c, codes in OWN.items() for n in codes} - reached - ELSEWHERE.keys()
    assert {command for command, _ in missing} == {"compare"}  # below


@pytest.mark.slow
def test_the_codes_of_a_comparison_are_its_verdicts(code: Code) -> None:
    play = ("-n", 10, "-w", 1, "-q", "-t")
    assert code("eval", "random", "constant", "scripted", *play, "toy/reach,toy/steps", "-o", "run") == 0
    assert code("eval", "other=random", *play, "toy/lives", "-o", "apart") == 0
    reached = {
        code("compare", *agents, "--runs", "run", "--runs", "apart")
        for agents in (
            ("scripted", "random"),
            ("random", "constant"),
            ("random", "scripted"),
            ("random", "other"),
        )
    }
    assert reached == set(OWN["compare"])


@pytest.mark.parametrize("module", sorted(set(ELSEWHERE.values())))
def test_what_is_shown_elsewhere_is_a_module_of_tests(module: str) -> None:
    assert (Path(__file__).parent / f"{module}.py").is_file()
