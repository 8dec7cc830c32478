"""``lram env check``: every task is built, reset twice and stepped, and what fails is named."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lram.harness.cli", "env", "check", *arguments]
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
    custom.write(tasks=("steady", "forgetful", "drifting"))
    answer = check("custom", "--json", "--workers", "1")
    assert answer.returncode == 1
    report = json.loads(answer.stdout)
    problems = {task["task"]: task["problem"] for task in report["tasks"]}
    assert problems == {
        "steady": "",
        "forgetful": "a second reset with the same seed gives another observation",
        "drifting": "the same seed and the same actions give another trajectory",
    }
    assert (report["failed"], report["protocol"]) == (2, "custom:plain@1")


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
    assert "1 of 1 tasks work" in answer.stdout
    assert "note: without gadget (MIT) 1 tasks of custom are left out (hard)" in answer.stderr
