"""Reports and verdicts by measured random play: scores recompute, and nothing is left out in silence."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cyclopts import CycloptsError

from lram.envs.random_play import RandomPlay, random_play
from lram.envs.registry import all_tasks
from lram.envs.task import Task
from lram.harness.cli import app
from lram.harness.storage.run_folder import Run
from lram.reports import summarise, write_report

PROTOCOL = "lram@1"
COINRUN = all_tasks()["procgen/coinrun"]
PLUNDER = all_tasks()["procgen/plunder"]


def play(task: Task) -> RandomPlay:
    found = random_play(task.id, f"{task.domain}:{PROTOCOL}")
    assert found is not None
    return found


@pytest.fixture
def run(synthetic: Any) -> Run:
    tasks = [COINRUN, PLUNDER, synthetic.task("procgen/unmeasured")]
    agents = [synthetic.agent("good"), synthetic.agent("bad")]
    plan = synthetic.plan(agents, tasks, 12)
    return synthetic.run(plan, lambda item: (8.0 if item.agent == "good" else 2.0) + item.episode % 3)


def test_scores_recompute_from_the_measured_mean(run: Run) -> None:
    summary = summarise([run], normaliser="measured-random")
    assert summary.normaliser == "measured-random"
    result = summary.result("good", COINRUN.id)
    assert result.score is not None
    random = play(COINRUN).mean
    assert COINRUN.score_reference is not None
    expected = (9.0 - random) / (COINRUN.score_reference - random)
    assert result.score.value == pytest.approx(expected, rel=1e-9)
    paper = summarise([run]).result("good", COINRUN.id).score
    assert paper is not None
    assert paper.value == pytest.approx(9.0 / COINRUN.score_reference, rel=1e-9)


def test_tasks_without_a_measurement_are_left_out_by_name_and_counted(run: Run) -> None:
    summary = summarise([run], normaliser="measured-random")
    rests_on = summary.agent("good").mean_of_domain_means.rests_on
    left_out = {left.task: left.reason for left in rests_on.left_out}
    assert left_out["procgen/unmeasured"] == "random play was not measured under procgen:lram@1"
    caveats = [one for one in summary.caveats if one.kind == "reference"]
    assert any("procgen/unmeasured" in one.items for one in caveats)
    assert rests_on.of_tasks == 3 - len(left_out)


@pytest.mark.parametrize("normaliser", ["paper", "measured-random"])
def test_a_task_where_random_play_reaches_half_of_the_reference_is_named(run: Run, normaliser: Any) -> None:
    (caveat,) = [one for one in summarise([run], normaliser=normaliser).caveats if one.kind == "random play"]
    (item,) = caveat.items
    assert PLUNDER.score_reference is not None
    assert item.startswith(f"procgen/plunder: {play(PLUNDER).mean / PLUNDER.score_reference:.2f} [0.")
    assert ("--normaliser" in caveat.text) == (normaliser == "paper")


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_the_normaliser_stands_on_the_page_in_the_summary_and_in_every_table_of_scores(
    run: Run, tmp_path: Path
) -> None:
    for normaliser in ("paper", "measured-random"):
        folder = write_report([run], tmp_path / normaliser, normaliser=normaliser).parent
        assert json.loads((folder / "summary.json").read_text())["normaliser"] == normaliser
        for name in ("per_task", "per_domain", "per_group", "aggregates", "comparisons", "episodes", "audit"):
            rows = list(csv.DictReader(io.StringIO((folder / "tables" / f"{name}.csv").read_text())))
            assert rows
            assert {row["normaliser"] for row in rows} == {normaliser}
    page, text = (folder / "index.html").read_text(), (folder / "summary.md").read_text()
    assert "normaliser measured-random" in page
    for content in (page, text):
        # The lead, and the captions of headline, domains, tasks and comparisons.
        assert content.count("Scores by measured-random: 0 is random play as measured here") >= 5
    default = (tmp_path / "paper" / "index.html").read_text()
    assert "Scores by measured-random" not in default
    row = next(
        row
        for row in csv.DictReader(io.StringIO((folder / "tables" / "audit.csv").read_text()))
        if row["task"] == PLUNDER.id
    )
    assert float(row["measured_random"]) == play(PLUNDER).mean
    assert float(row["measured_random_score"]) > 0.5


def test_the_commands_take_the_option_and_say_it(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    def lram(*arguments: str) -> str:
        with suppress(SystemExit):
            app([*arguments, "--normaliser", "measured-random"], exit_on_error=False, print_error=False)
        return capsys.readouterr().out

    summary = json.loads(lram("report", str(run.path), "--json"))
    assert summary["normaliser"] == "measured-random"
    told = lram("compare", "good", "bad", "--runs", str(run.path))
    assert "note: normaliser measured-random: 0 is random play as measured here" in told
    assert "procgen/unmeasured: random play was not measured under procgen:lram@1" in told
    verdict = json.loads(lram("compare", "good", "bad", "--runs", str(run.path), "--json"))
    assert verdict["normaliser"] == "measured-random"
    assert "procgen/unmeasured" in verdict["unscored"]
    span = (COINRUN.score_reference or 0) - play(COINRUN).mean
    if verdict["tasks"] == 1:
        assert verdict["difference"]["value"] == pytest.approx(6 / span, rel=1e-9)


def test_an_unknown_normaliser_is_bad_input(run: Run) -> None:
    with pytest.raises(CycloptsError, match="measured-random"):
        app(
            ["compare", "good", "bad", "--runs", str(run.path), "--normaliser", "best"],
            exit_on_error=False,
            print_error=False,
        )
