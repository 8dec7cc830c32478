"""What simulators have started ends with the harness, however that ends; nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lram.envs.workers.reaping import Reaper

# A worker that is not the harness's own, and what a simulator may leave: a child, one in a session of its
# own, and one without its environment.
_WORKER = "sleep 300 & setsid sleep 300 & env -i sleep 300 & echo ready; wait"
_HARNESS = """
import os, subprocess, sys
from lram.envs.workers.reaping import Reaper

reaper = Reaper()
worker = subprocess.Popen(["sh", "-c", sys.argv[1]], env=os.environ | reaper.mark(1), start_new_session=True,
                          stdout=subprocess.PIPE)
reaper.started(1, worker.pid)
worker.stdout.readline()
if sys.argv[2] == "orphaned":
    worker.kill()
    worker.wait()
child = os.fork() if sys.argv[2] == "forked" else -1
if child == 0:  # of the harness's own, and it holds its pipes
    os.execvp("sleep", ["sleep", "5"])
print(reaper.pid, worker.pid, child, flush=True)
sys.stdin.read()
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def marked(text: str) -> set[int]:
    """Return the processes that have ``text`` in their environment."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (folder / "environ").read_bytes() and alive(int(folder.name)):
                found.add(int(folder.name))
        except OSError:
            continue
    return found


def sleepers(session: int) -> set[int]:
    """Return the living processes of a session."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[3]) == session and words[0] not in "ZX":
            found.add(int(folder.name))
    return found


def left_behind(mark: str, session: int, others: set[int], count: int) -> set[int]:
    """Return the ``count`` processes that have the mark or are of the session; one that is just beginning has
    no environment yet, so they are waited for."""
    end = time.monotonic() + 30
    while len(found := (marked(mark) | sleepers(session)) - others) != count:
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def gone(pids: set[int]) -> bool:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if not any(map(alive, pids)):
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def bystander() -> Iterator[int]:
    """A process that no worker has started."""
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as process:
        yield process.pid
        process.kill()


@pytest.mark.parametrize("how", ["killed", "orphaned", "forked", "ended"])
def test_nothing_outlives_the_harness(tmp_path: Path, bystander: int, how: str) -> None:
    mark = f"LRAM_TEST_MARK={tmp_path}"
    environment = {**os.environ, "LRAM_TEST_MARK": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", _HARNESS, _WORKER, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as harness:
        assert harness.stdout is not None
        reaper, worker, child = map(int, harness.stdout.readline().split())
        left = left_behind(mark, worker, {harness.pid, child}, count=4 if how == "orphaned" else 5)
        assert reaper in left
        if how == "ended":
            assert harness.stdin is not None
            harness.stdin.close()
        else:
            harness.kill()
        assert gone(left)
    assert alive(bystander)


def test_what_an_ended_worker_has_left_is_ended_and_no_other_workers_is() -> None:
    reaper = Reaper()
    workers = []
    for number in (1, 11):
        worker = subprocess.Popen(
            ["sh", "-c", "setsid sleep 300 & echo $!; wait"],
            env=os.environ | reaper.mark(number),
            start_new_session=True,
            stdout=subprocess.PIPE,
        )
        reaper.started(number, worker.pid)
        assert worker.stdout is not None
        workers.append((worker, int(worker.stdout.readline())))
    (first, first_child), (second, second_child) = workers
    first.kill()
    first.wait()
    reaper.ended(1)
    assert gone({first_child})
    assert alive(second.pid)
    assert alive(second_child)
    reaper.close()
    second.wait()
    assert second.returncode == -signal.SIGKILL
    assert gone({second_child, reaper.pid})
    for worker, _ in workers:
        assert worker.stdout is not None
        worker.stdout.close()
