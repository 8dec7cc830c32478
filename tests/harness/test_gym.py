"""Environments of Gymnasium through the whole path: played, collected, and reported without a score."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from support.ready import ready_python

pytest.importorskip("gymnasium", reason="needs lram-bench[gym]")

from lram.agents.trajectories import TrajectoryStore
from lram.envs.registry import load_domain
from lram.harness.collection.collect import collect
from lram.harness.evaluation import Machine, evaluate
from lram.harness.interpreters.trial import trial_task
from lram.harness.storage.records import EpisodeRecord, Measured
from lram.harness.storage.run_folder import Run
from lram.reports import summarise

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "gymnasium.md").read_text(encoding="utf-8")
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


def test_the_doctor_has_a_task_to_try() -> None:
    assert trial_task(load_domain("gym")) == "CartPole-v1"


def ready(folder: Path, *words: str, **variables: str) -> str:
    answer = subprocess.run(
        [*ready_python(), *words], cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


COMMANDS = re.findall(r"^\$ lram (.*)$", PAGE, re.MULTILINE)


def run(folder: Path, command: str) -> None:
    ready(folder, "-m", "lram.harness.cli", *shlex.split(command), LRAM_SCORES="scores.toml")


@pytest.mark.slow
def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    (toml,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "scores.toml").write_text(toml)
    commands = COMMANDS[:4]
    assert commands[-1].startswith("report runs/gym ")
    for command in commands:
        run(tmp_path, command)
    tasks = summarise(tmp_path / "runs" / "gym").tasks
    assert {task.id: task.audit for task in tasks} == {
        "gym/CartPole-v1": "no score reference",
        "gym/Pendulum-v1?g=9.0": "",
    }
    assert "gym/CartPole-v1" in (tmp_path / "gym-report" / "summary.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_environment_of_ones_own_becomes_scores_of_a_trained_model(tmp_path: Path) -> None:
    """The page's second list of commands, with fewer episodes and updates."""
    (rules,) = re.findall(r"^```python\n(# controllers.py\n.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "controllers.py").write_text(rules)
    (tmp_path / "scores.toml").touch()
    commands = COMMANDS[4:]
    assert [command.split()[0] for command in commands] == [
        "eval",
        "reference",
        "collect",
        "train",
        "eval",
        "report",
    ]
    for command in commands:
        fewer = re.sub(r"-n \d+", "-n 2", command)
        fewer = fewer.replace("updates=300", "updates=3").replace("warmup_updates=30", "warmup_updates=1")
        run(tmp_path, fewer)
    entries = tomllib.loads((tmp_path / "scores.toml").read_text())
    assert set(entries) == {"gym/Pendulum-v1", "gym/MountainCarContinuous-v0"}
    summary = summarise(tmp_path / "runs" / "model")
    assert {task.id: task.audit for task in summary.tasks} == dict.fromkeys(entries, "")
    assert {agent.label for agent in summary.agents} == {"random", "rule", "model"}
