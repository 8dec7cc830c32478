"""Environments of Gymnasium through the whole path: played, collected, and reported without a score."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
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


@pytest.mark.slow
def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    (toml,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "scores.toml").write_text(toml)
    commands = re.findall(r"^\$ lram (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        ready(tmp_path, "-m", "lram.harness.cli", *shlex.split(command), LRAM_SCORES="scores.toml")
    tasks = summarise(tmp_path / "runs" / "gym").tasks
    assert {task.id: task.audit for task in tasks} == {
        "gym/CartPole-v1": "no score reference",
        "gym/Pendulum-v1?g=9.0": "",
    }
    assert "gym/CartPole-v1" in (tmp_path / "gym-report" / "summary.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["one_episode", "train_ppo"])
def test_the_code_of_the_page_runs(name: str, tmp_path: Path) -> None:
    (code,) = re.findall(rf"^```python\n# {name}\.py\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    if name == "train_ppo":
        pytest.importorskip("stable_baselines3", reason="needs stable-baselines3")
        code = code.replace("n_steps=512", "n_steps=64").replace("10_000", "64")
    said = ready(tmp_path, "-c", code)
    if name == "one_episode":
        assert said.split("\n")[0] in ("(64, 64, 3) False", "(64, 64, 3) True")
        assert said.split("\n")[1] == "(4, 6)"
    else:
        assert (tmp_path / "ppo-reach.zip").is_file()
