"""The script that makes the table of published numbers: what it copies from repositories, and as what."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lram.reports.literature import parse

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "literature.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("literature_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def repository(script: ModuleType, folder: Path, files: dict[str, str]) -> Any:
    """Return the snapshot of a new repository with ``files``."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")

    def git(*words: str) -> str:
        author = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(folder), *author, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "all")
    return script.Snapshot(folder / ".git", "some/body", git("rev-parse", "HEAD"))


def test_the_last_row_of_three_runs_is_a_mean_with_their_range(script: ModuleType, tmp_path: Path) -> None:
    files = {
        f"{script.PROCGEN}{run}/progress-{game}-{levels}.csv": f"length,eprewmean\n9,1.0\n9,{run + start}\n"
        for run in range(3)
        for game in ("coinrun", "bigfish")
        for levels, start in (("train", 4.0), ("test", 2.0))
    }
    cells = list(script.procgen(repository(script, tmp_path, files)))
    found = {(cell.task, cell.agrees_with): (cell.low, cell.value, cell.high) for cell in cells}
    assert found == {
        ("procgen/bigfish", "procgen:lram@1"): (4.0, 5.0, 6.0),
        ("procgen/bigfish", "procgen:unseen@2"): (2.0, 3.0, 4.0),
        ("procgen/coinrun", "procgen:lram@1"): (4.0, 5.0, 6.0),
        ("procgen/coinrun", ""): (2.0, 3.0, 4.0),
    }
    assert {cell.interval for cell in cells} == {"range of 3 training runs"}


def test_each_seeds_last_evaluation_counts_and_only_tasks_of_the_suite(
    script: ModuleType, tmp_path: Path
) -> None:
    returns = "step,reward,seed\n0,1,1\n200,9,1\n100,5,1\n0,1,2\n100,7,2\n"
    names = ("cup-catch", "finger-turn-easy", "finger-spin", "cup-spin", "cheetah-run-back", "pick-cube")
    files = {f"results/tdmpc2/{name}.csv": returns for name in names}
    files["results/tdmpc2/mw-door-open.csv"] = returns.replace("reward", "success").replace("9", "1")
    cells = {cell.task: cell for cell in script.tdmpc2(repository(script, tmp_path, files))}
    assert set(cells) == {
        "dmcontrol/ball_in_cup-catch",
        "dmcontrol/finger-turn_easy",
        "dmcontrol/finger-spin",
        "metaworld/door-open-v3",
    }
    catch, door = cells["dmcontrol/ball_in_cup-catch"], cells["metaworld/door-open-v3"]
    assert (catch.low, catch.value, catch.high) == (7.0, 8.0, 9.0)
    assert (catch.agrees_with, catch.interval) == ("dmcontrol:lram@1", "range of 2 training seeds")
    assert (door.metric, door.comparable) == ("success_rate", False)


def test_experts_and_references_keep_their_numbers_and_agree_with_nothing(
    script: ModuleType, tmp_path: Path
) -> None:
    scores = {
        "atari-mspacman": {"expert": {"mean": 9.0, "std": 2.0}, "random": {"mean": 1.0}},
        "metaworld-reach": {"expert": {"mean": 5.0, "std": 1.0}, "random": {"mean": 2.0, "std": 0.5}},
        "mujoco-ant": {"expert": {"mean": 5.0, "std": 1.0}},
    }
    table = 'ENVID_TO_HNS = {"ms-pacman": (3.0, 7.0), "zaxxon": (0.0, 1.0), "coinrun": (5, 10)}\n'
    files = {"jat/eval/rl/scores_dict.json": json.dumps(scores), script.HUMAN_SCORES: table}
    source = repository(script, tmp_path, files)
    games = script.atari_games(source)
    cells = [*script.jat(source, games), *script.atari_references(source, games)]
    assert {(cell.system, cell.task): cell.value for cell in cells} == {
        ("JAT experts", "atari/ms-pacman"): 9.0,
        ("JAT experts", "metaworld/reach-v3"): 5.0,
        ("random actions (JAT)", "metaworld/reach-v3"): 2.0,
        ("human tester", "atari/ms-pacman"): 7.0,
        ("random actions (DQN Zoo)", "atari/ms-pacman"): 3.0,
        ("human tester", "atari/zaxxon"): 1.0,
        ("random actions (DQN Zoo)", "atari/zaxxon"): 0.0,
    }
    assert not any(cell.comparable for cell in cells)
    assert parse(script.text_of(cells)) == tuple(cells)


def test_a_repository_without_the_commit_is_refused(script: ModuleType, tmp_path: Path) -> None:
    source = repository(script, tmp_path, {"a": "b"})
    with pytest.raises(SystemExit, match="is not some/body at 0000"):
        list(script.tdmpc2(script.Snapshot(source.folder, source.name, "0" * 40)))


def test_the_script_was_the_shipped_tables_only_hand(script: ModuleType) -> None:
    """What ships is what the script writes: nothing was typed in afterwards."""
    text = script.TABLE.read_text(encoding="utf-8")
    assert script.text_of(list(parse(text))) == text
