"""``lram env check``: every task is built, reset twice and stepped, and what fails is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.ready import ready_python

from lram.envs.workers.pool import Pool
from lram.harness.errors import LramError
from lram.harness.interpreters.readiness import adapter
from lram.harness.interpreters.trial import check_domain, try_task


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*ready_python(), "-m", "lram.harness.cli", "env", "check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_tasks_that_work_are_timed(home: object) -> None:
    answer = check("toy", "--tasks", "toy/reach,toy/steps,toy/image,toy/lives,toy/slow", "--workers", "2")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "5 of 5 tasks work; 0 fail" in answer.stdout
    assert answer.stdout.splitlines()[0].split() == ["time", "median", "worst", "in"]
    assert [line.split(",")[0] for line in answer.stdout.splitlines()[1:3]] == ["build", "reset"]
    assert answer.stdout.splitlines()[3].split()[-1] == "slow"
    assert "5 tasks of toy:plain@1 in" in answer.stderr


def test_every_failing_task_is_named_and_the_exit_says_so(home: object) -> None:
    answer = check("toy", "--tasks", "toy/crash,toy/nan,toy/raise,toy/steps", "--workers", "2")
    assert answer.returncode == 1
    lines = answer.stdout.splitlines()
    assert lines[0].startswith("toy/crash: the toy worker died (signal 9, SIGKILL)")
    assert lines[1].startswith("toy/nan: the observation is not finite")
    assert lines[2].startswith("toy/raise: RuntimeError")
    assert lines[-1] == "1 of 4 tasks work; 3 fail"


def test_a_task_that_does_not_repeat_itself_fails(custom: Any) -> None:
    custom.write(tasks=("steady", "forgetful", "drifting", "haunted"))
    answer = check("custom", "--json", "--workers", "1")
    assert answer.returncode == 1
    report = json.loads(answer.stdout)
    problems = {task["task"]: task["problem"] for task in report["tasks"]}
    assert problems == {
        "steady": "",
        "forgetful": "a second reset with the same seed gives another observation",
        "drifting": "the same seed and the same actions give another trajectory",
        "haunted": "a second reset with the same seed gives another observation",
    }
    assert (report["failed"], report["protocol"]) == (3, "custom:plain@1")
    # Away from a terminal, failures are told while the rest is played.
    for task in ("forgetful", "drifting", "haunted"):
        assert f"custom/{task}: {problems[task]}\n" in answer.stderr


def test_away_from_a_terminal_every_fifty_tasks_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    from lram.harness.cli.env.check import _Progress
    from lram.harness.interpreters.trial import TaskCheck

    progress = _Progress("custom", 120)
    for number in range(120):
        progress(TaskCheck(f"task-{number}", "it fell over" if number == 60 else ""))
    assert capsys.readouterr().err.splitlines() == [
        "50/120 tasks",
        "custom/task-60: it fell over",
        "100/120 tasks",
    ]


def test_python_and_protocol_are_told_as_messages_tell_them(home: object) -> None:
    python = f"toy={sys.executable}"
    answer = check("toy", "-t", "toy/steps", "--python", python, "--protocol", "toy=plain")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.splitlines()[0] == f"1 task of toy:plain@1 in {sys.executable}"
    assert "1 of 1 task works; 0 fail" in answer.stdout
    answer = check("toy", "-t", "toy/steps", "--python", "atari=main")
    assert answer.returncode == 2
    assert answer.stderr == "lram: --python atari=main is about atari, and toy is checked\n"


def test_a_worker_that_cannot_be_started_is_one_sentence(
    home: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("lram.envs.workers.pool.Pool._start", no_memory)
    with pytest.raises(LramError, match="toy cannot be started: Cannot allocate memory; free what it lacks"):
        check_domain(
            adapter("toy"), ["steps"], "plain", interpreters={}, workers=1, steps=1, log_folder=tmp_path
        )
    with Pool(log_folder=tmp_path) as pool:  # as an install and doctor try a task
        problem = try_task(pool, "toy", "steps", "plain")
    assert problem == "a worker for the domain toy cannot be started: Cannot allocate memory"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("toy", "--tasks", "atari/freeway"), "atari/freeway is not a task of toy"),
        (("nonsense",), "there is no domain 'nonsense'"),
        (("toy", "--steps", "0"), "must be 1 or more"),
        (("toy", "--python", "/no/such/python"), "/no/such/python for the domain toy cannot be run"),
    ],
)
def test_bad_input_is_one_sentence(home: object, arguments: tuple[str, ...], words: str) -> None:
    answer = check(*arguments)
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert words in line


def test_tasks_whose_checkout_is_not_there_are_left_out_aloud(custom: Any) -> None:
    custom.write(
        tasks=("hard", "steady"),
        sources="SourceTree('gadget', 'https://git.example/gadget', '1' * 40, 'MIT', ('hard',)),",
    )
    answer = check("custom")
    assert answer.returncode == 0, answer.stderr
    assert "1 of 1 task works" in answer.stdout
    assert "note: without gadget (MIT) 1 task of custom is left out (hard)" in answer.stderr
