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
    (row,) = [line for line in lines[1:3] if line.startswith("random")]
    assert row.startswith(f"random    {random.score.estimate.value:.3f} [")
    assert row.endswith("2 of 2")
    (row,) = [line for line in lines if line.startswith("constant  toy/noscore")]
    assert row.split()[2:4] == ["–", "–"], "no reference, no success; a return all the same"
    returns = constant.tasks[-1].returns
    assert returns is not None
    assert row.split()[4] == f"{returns.value:.3f}"
    assert not any("missing" in line for line in lines), "all were scored: nobody asked for counts"
    assert conclude_run(run, counts=True) == 0
    assert "agent     scored  errored  missing  what it is" in capsys.readouterr().out.splitlines()
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
    assert not any(line.startswith("agent") for line in lines[1:])


def test_the_highest_score_stands_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agents = ["constant=-1", "scripted", "random"]
    run = evaluate(agents, "toy/reach", tmp_path / "run", episodes=3, machine=MACHINE)
    conclude_run(run)
    lines = capsys.readouterr().out.splitlines()[1:4]
    scores = [float(line.split()[1].replace("−", "-")) for line in lines]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]


def test_episodes_without_a_score_are_a_failure_unless_they_are_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = evaluate("random", "toy/reach", tmp_path / "run", episodes=4, machine=MACHINE)
    assert conclude_run(run) == 0
    [segment] = (tmp_path / "run/records").glob("*.jsonl")
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:-1]))
    capsys.readouterr()
    assert conclude_run(run) == 1
    said = capsys.readouterr().out
    assert "1 of 4 planned episodes have no score; the exit code is 1 (0 with --allow-errors)" in said
    assert "agent   scored  errored  missing  what it is" in said, "counts are told where something is lost"
    assert conclude_run(run, allow_errors=True) == 0
    segment.write_bytes(b"")
    assert conclude_run(run, allow_errors=True) == 1
    assert "no episode was scored of random on toy/reach; the exit code is 1" in capsys.readouterr().out
