"""The table that 'lram eval' and 'lram resume' end with."""

from __future__ import annotations

from pathlib import Path

import pytest

from lram.harness import evaluate
from lram.harness.cli.printing import closing
from lram.harness.cli.printing.closing import conclude_run
from lram.harness.machine import Machine
from lram.harness.storage.run_folder import Run
from lram.reports import summarise
from lram.reports.evidence.collect import collect
from lram.reports.standing import standings

MACHINE = Machine(workers=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two agents on tasks with and without success, one of them without a score reference."""
    folder = tmp_path_factory.mktemp("closing") / "run"
    tasks = "toy/reach,toy/lives,toy/noscore"
    return evaluate(["random", "constant"], tasks, folder, episodes=3, machine=MACHINE)


def test_agents_stand_where_the_report_puts_them(run: Run) -> None:
    summary, found = summarise([run]), list(standings(collect([run])))
    assert [one.name for one in found] == [agent.name for agent in summary.agents]
    assert [one.score for one in found] == [agent.mean_of_domain_means for agent in summary.agents]
    assert [one.success for one in found] == [agent.domains[0].success_any for agent in summary.agents]
    here = {(a.name, t.task): (t.score, t.success, t.returns) for a in found for t in a.tasks}
    there = {(r.agent, r.task): (r.score, r.success_any, r.mean_return) for r in summary.results}
    assert here == there


def test_the_last_table_says_score_success_and_return_with_intervals(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert conclude_run(run) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["agent", "score", "success", "tasks", "with", "a", "score"]
    (random, constant) = list(standings(collect([run])))
    assert random.score.estimate is not None
    assert lines[1].startswith(f"random    {random.score.estimate.value:.3f} [")
    assert lines[1].endswith("2 of 2")
    (row,) = [line for line in lines if line.startswith("constant  toy/noscore")]
    assert row.split()[2:4] == ["–", "–"], "no reference, no success; a return all the same"
    returns = constant.tasks[-1].returns
    assert returns is not None
    assert row.split()[4] == f"{returns.value:.3f}"
    assert "agent     scored  errored  missing  what it is" in lines
    monkeypatch.setattr(closing, "_MOST_ROWS", 5)
    conclude_run(run)
    said = capsys.readouterr().out
    assert "toy/noscore" not in said
    assert "6 results by agent and task, with returns, are in the report" in said


def test_one_task_is_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conclude_run(evaluate("random", "toy/reach", tmp_path / "run", episodes=2, machine=MACHINE))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["agent", "score", "success", "return"]
    assert lines[2].startswith("In brackets: 95% intervals.")
    assert lines[4].split()[:2] == ["agent", "scored"]
