"""Environments of Gymnasium through the whole path: played, collected, and reported without a score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("gymnasium", reason="needs lram-bench[gym]")

from lram.agents.trajectories import TrajectoryStore
from lram.envs.registry import load_domain
from lram.harness.collection.collect import collect
from lram.harness.evaluation import Machine, evaluate
from lram.harness.storage.records import EpisodeRecord, Measured
from lram.harness.storage.run_folder import Run
from lram.reports import summarise

PENDULUM = "gym/Pendulum-v1?g=9.0&max_episode_steps=12"
SELECTION = f"gym:FrozenLake-v1,{PENDULUM.replace('/', ':', 1)}"


def played(run: Run) -> list[EpisodeRecord]:
    return [replace(record, measured=Measured(0, 0, 0, 0, 0, 0)) for record in run.records()]


def test_the_same_seed_is_the_same_episode_and_tasks_without_references_are_named(tmp_path: Path) -> None:
    alone = evaluate(["random"], SELECTION, tmp_path / "a", episodes=2, machine=Machine(lanes=1, workers=1))
    spread = evaluate(["random"], SELECTION, tmp_path / "b", episodes=2, machine=Machine(lanes=4, workers=2))
    assert len(played(alone)) == 4
    assert played(alone) == played(spread)
    assert [record.length for record in played(alone) if record.task == PENDULUM] == [12, 12]
    summary = summarise(tmp_path / "a")
    assert {task.id: task.audit for task in summary.tasks} == dict.fromkeys(
        ["gym/FrozenLake-v1", PENDULUM], "no score reference"
    )


def test_a_store_keeps_what_was_played(tmp_path: Path) -> None:
    collect(["random"], SELECTION, tmp_path, episodes=1, machine=Machine(lanes=2, workers=1))
    found = {episode.task: episode for episode in TrajectoryStore(tmp_path).episodes}
    assert set(found) == {"gym/FrozenLake-v1", PENDULUM}
    assert found[PENDULUM].protocol == load_domain("gym").protocol().id("gym")
