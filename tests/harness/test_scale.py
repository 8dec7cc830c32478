"""One run of very many episodes: nothing is lost, played twice or kept, and to resume it does nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lram.harness import resume
from lram.harness.storage.run_folder import Run

EPISODES = 20_000

MOST_BYTES = 450
"""That the driver may keep of an episode: its work item takes 250, a record that is kept 500 more."""

_PLAY = """
import resource, sys
from lram.harness.evaluation import Machine, evaluate

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

folder, episodes, machine = sys.argv[1], int(sys.argv[2]), Machine(lanes=32, workers=2)
evaluate("random", "toy/blink", folder + "/first", episodes=100, machine=machine)
before = peak()
evaluate("random", "toy/blink", folder + "/run", episodes=episodes, machine=machine)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_thousand_episodes_are_each_recorded_once_in_little_memory(tmp_path: Path) -> None:
    # A process of its own: this one's highest memory is that of the tests before.
    command = [sys.executable, "-c", _PLAY, str(tmp_path), str(EPISODES)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MOST_BYTES * EPISODES

    folder = tmp_path / "run"
    texts = [file.read_text() for file in (folder / "records").iterdir()]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    assert len(lines) == EPISODES
    assert {(one["agent"], one["task"], one["episode"]) for one in lines} == {
        ("random", "toy/blink", episode) for episode in range(EPISODES)
    }
    assert {one["status"] for one in lines} == {"scored"}
    assert {one["length"] for one in lines} == {1, 2, 3}

    run = Run(folder)
    assert run.missing() == []
    assert [record.episode for record in run.records()] == list(range(EPISODES))
    before = _contents(folder)
    resume(run)
    assert _contents(folder) == before


def _contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of every file of a run."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != "lock")
    return {
        file.relative_to(folder).as_posix(): (file.stat().st_size, file.stat().st_mtime_ns) for file in files
    }
