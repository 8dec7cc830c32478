"""One run over two interpreters: Meta-World and Atari in this one, robosuite on MuJoCo 2.3.2 in another."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from lram.envs.workers.pool import Pool
from lram.envs.workers.process import Event, Stepped
from lram.harness.evaluation import Machine, evaluate
from lram.harness.storage.records import EpisodeRecord, Measured
from lram.harness.storage.run_folder import Run

TASKS = "metaworld/reach-v3,atari/breakout,robosuite/Lift"
KILLED_AT = 10  # decisions in robosuite, of 500 an episode


def play(folder: Path, python: str) -> Run:
    machine = Machine(workers=2, interpreters={"robosuite": python})
    return evaluate(["random"], TASKS, folder, episodes=1, machine=machine)


def comparable(run: Run) -> list[EpisodeRecord]:
    """Return the records without what depends on the machine, the moment and the kill."""
    blank = Measured(0, 0, 0, 0, 0, 0)
    return [replace(record, failures=0, measured=blank) for record in run.records()]


def kill_a_busy_worker(patch: pytest.MonkeyPatch) -> list[int]:
    """Let the worker that plays robosuite be killed in the middle of an episode; return whom it struck."""
    killed: list[int] = []
    steps = 0
    wait = Pool.wait

    def watched(pool: Pool, timeout: float) -> list[Event]:
        nonlocal steps
        events = wait(pool, timeout)
        for event in events:
            if isinstance(event, Stepped) and event.worker.domain == "robosuite":
                steps += 1
                if steps == KILLED_AT:
                    os.kill(event.worker.pid, signal.SIGKILL)
                    killed.append(event.worker.pid)
        return events

    patch.setattr(Pool, "wait", watched)
    return killed


@pytest.mark.slow
def test_a_run_mixes_interpreters_and_survives_the_death_of_an_isolated_worker(
    tmp_path: Path, isolated_robosuite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = play(tmp_path / "whole", isolated_robosuite)
    assert [record.status for record in whole.records()] == ["scored"] * 3
    (session,) = whole.provenance()
    assert session.workers["robosuite"]["mujoco"] == "2.3.2"
    assert session.workers["metaworld"]["mujoco"] == "3.3.0"
    assert {planned.protocol for planned in whole.plan.tasks} == {
        "atari:lram@1",
        "metaworld:lram@1",
        "robosuite:mujoco2@1",
    }
    killed = kill_a_busy_worker(monkeypatch)
    disturbed = play(tmp_path / "disturbed", isolated_robosuite)
    assert len(killed) == 1
    incidents = [note for record in disturbed.records() for note in record.measured.incidents]
    assert any("robosuite worker died (signal 9, SIGKILL)" in note for note in incidents)
    assert comparable(disturbed) == comparable(whole)
