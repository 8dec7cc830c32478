"""Runs that are killed, workers that are killed or stopped: nothing is lost, doubled or left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from support.ready import ready_python

from lram.harness.storage.records import EpisodeRecord, Measured
from lram.harness.storage.run_folder import Run

TASKS = "toy/slow,toy/reach,toy/image,toy/lives"
ARGUMENTS = ["eval", "random", "--tasks", TASKS, "-n", "20", "-s", "5", "-l", "6", "-w", "2", "-q"]


# A shell that starts the tests in the background has them ignore Ctrl-C, and children inherit that.
HEED_CTRL_C = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    "from lram.harness.cli import main; main()"
)

MARK = "LRAM_TEST_COMMAND"
"""Tells in the environment of a worker which command it belongs to."""


def lram(*arguments: str) -> subprocess.Popen[str]:
    """Start a command; its workers are known by its arguments."""
    return started(ready_python(), *arguments)


def new_lram(*arguments: str, **options: object) -> subprocess.Popen[str]:
    """Start a command in a process of its own number, as the leader of a group or not."""
    return started([sys.executable], *arguments, **options)


def started(python: list[str], *arguments: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*python, "-c", HEED_CTRL_C, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, MARK: " ".join(arguments)},
        **options,  # type: ignore[call-overload]
    )


def finished(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the worker processes of a command that was started here, while they live."""
    words = list(process.args)  # type: ignore[arg-type]
    mark = f"{MARK}={' '.join(words[words.index(HEED_CTRL_C) + 1 :])}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"lram.envs.workers.worker" not in (folder / "cmdline").read_bytes().split(b"\0"):
                continue
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_for(condition: object, what: str) -> None:
    end = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


def recorded(folder: Path) -> int:
    return sum(part.read_bytes().count(b"\n") for part in (folder / "records").glob("*.jsonl"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("whole") / "run"
    finished(lram(*ARGUMENTS, "-o", str(folder)))
    return Run(folder)


def comparable(run: Run) -> list[EpisodeRecord]:
    """Return the records without what depends on the machine and the moment."""
    blank = Measured(0, 0, 0, 0, 0, 0)
    return [replace(record, failures=0, measured=blank) for record in run.records()]


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(2))
def test_a_run_killed_at_a_random_moment_resumes_to_the_same_summary(
    tmp_path: Path, whole: Run, moment: int
) -> None:
    folder = tmp_path / "run"
    draw = random.Random(moment)
    process = lram(*ARGUMENTS, "-o", str(folder))
    target = draw.randrange(1, 40)
    wait_for(lambda: (folder / "records").is_dir() and recorded(folder) >= target, "records")
    time.sleep(draw.random() * 0.05)
    playing = workers_of(process)
    process.kill()
    process.communicate()
    assert playing, "the run was killed before it had workers"
    wait_for(lambda: not workers_of(process), "the workers to follow their parent")
    assert recorded(folder) < 80, "the run was over before it was killed"

    finished(lram("resume", str(folder), "-q", "-l", "3", "-w", "1"))

    lines = [line for part in (folder / "records").glob("*.jsonl") for line in part.read_bytes().splitlines()]
    counts = Counter(msgspec.json.decode(line, type=EpisodeRecord).item for line in lines)
    assert set(counts.values()) == {1}
    assert comparable(Run(folder)) == comparable(whole)
    summaries = [finished(lram("report", str(path), "--json")) for path in (folder, whole.path)]
    assert summaries[0] == summaries[1]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_is_killed_or_stopped_costs_a_repetition_and_the_record_says_so(
    tmp_path: Path, whole: Run, how: signal.Signals
) -> None:
    folder = tmp_path / "run"
    # The worker may be stopped between a step and a reset; either deadline must then end the wait.
    process = lram(*ARGUMENTS, "-o", str(folder), "--step-deadline", "1", "--begin-deadline", "10")
    wait_for(lambda: len(workers_of(process)) == 2, "workers")
    wait_for(lambda: recorded(folder) >= 3, "records")
    os.kill(workers_of(process)[0], how)
    finished(process)
    assert comparable(Run(folder)) == comparable(whole)
    notes = [note for record in Run(folder).records() for note in record.measured.incidents]
    assert any("SIGKILL" in note if how == signal.SIGKILL else "no answer within 1" in note for note in notes)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_and_sigterm_leave_a_run_that_resumes_and_say_how(
    tmp_path: Path, whole: Run, how: signal.Signals
) -> None:
    folder = tmp_path / "run"
    process = new_lram(*ARGUMENTS, "-o", str(folder), start_new_session=True)
    wait_for(lambda: (folder / "records").is_dir() and recorded(folder) >= 3, "records")
    os.killpg(process.pid, how)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"lram resume {folder}" in output
    assert not workers_of(process)
    finished(lram("resume", str(folder), "-q"))
    assert comparable(Run(folder)) == comparable(whole)


@pytest.mark.slow
def test_a_second_writer_is_refused_while_the_first_plays(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    long = ["3000" if word == "20" else word for word in ARGUMENTS]  # until it is ended here
    process = lram(*long, "-o", str(folder))
    wait_for(lambda: (folder / "records").is_dir() and recorded(folder) >= 1, "records")
    second = lram("resume", str(folder))
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 2
    assert "in use by another process" in errors
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 130
