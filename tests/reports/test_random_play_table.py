"""The script that makes the table of random play: what it takes from runs, and what it leaves out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.envs.random_play import parse
from lram.envs.registry import all_tasks
from lram.harness.storage.records import WorkItem
from lram.harness.storage.run_folder import Run

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "random_play.py"
COINRUN = all_tasks()["procgen/coinrun"]
PLUNDER = all_tasks()["procgen/plunder"]


def script(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def played(
    synthetic: Any, tasks: Any, unfinished: str = "", label: str = "random", spec: str = "random"
) -> Run:
    plan = synthetic.plan([synthetic.agent("random", trained=None, spec=spec)], tasks, 20, seed=7)

    def outcome(item: WorkItem) -> float | None:
        if item.task == unfinished and item.episode > 10:
            return None
        return float(item.episode % 4 + 2 * (item.task == PLUNDER.id))

    return synthetic.run(plan, outcome)


@pytest.mark.slow
def test_rows_are_the_runs_returns_and_what_is_unfinished_is_left_out_and_named(
    synthetic: Any, tmp_path: Path
) -> None:
    table, page = tmp_path / "table.csv", tmp_path / "page.md"
    run = played(synthetic, [COINRUN, PLUNDER], unfinished=COINRUN.id)
    answer = script(run.path, "-o", table, "--markdown", page, "--episodes", 20)
    assert answer.returncode == 0, answer.stderr
    assert "not all episodes are there: procgen/coinrun (11 of 20)" in answer.stderr
    ((key, row),) = parse(table.read_text()).items()
    assert key == (PLUNDER.id, "procgen:lram@1")
    returns = [episode % 4 + 2.0 for episode in range(20)]
    assert (row.episodes, row.seed, row.mean) == (20, 7, 3.5)
    assert row.deviation == pytest.approx(np.std(returns, ddof=1), rel=1e-5)
    assert row.low is not None
    assert row.high is not None
    assert row.low < 3.5 < row.high
    assert row.source.startswith(
        "lram eval random -t 'procgen/coinrun,procgen/plunder' -n 20 -s 7 (lram-bench "
    )
    # 3.5 of 4.9095: more than half.
    assert "| procgen/plunder | 3.5 [" in page.read_text()
    assert "| unfinished |" in page.read_text()

    again = played(synthetic, [COINRUN])
    assert script(again.path, "-o", table, "--episodes", 20).returncode == 0
    assert list(parse(table.read_text())) == [
        (COINRUN.id, "procgen:lram@1"),
        (PLUNDER.id, "procgen:lram@1"),
    ]


@pytest.mark.slow
def test_a_run_of_another_agent_is_refused(synthetic: Any, tmp_path: Path) -> None:
    run = played(synthetic, [COINRUN], spec="scripted")
    answer = script(run.path, "-o", tmp_path / "table.csv")
    assert answer.returncode != 0
    assert "has not the agent random" in answer.stderr
    assert not (tmp_path / "table.csv").exists()
