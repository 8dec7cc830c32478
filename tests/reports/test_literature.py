"""Published numbers: the table that ships, what may stand beside a report's own, and where it is shown."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lram.envs import registry
from lram.envs.registry import all_tasks
from lram.envs.scores import NORMALISERS, normalise, normalised_by
from lram.harness.cli import app
from lram.harness.errors import LramError
from lram.reports import literature, summarise, write_report
from lram.reports.evidence.collect import collect
from lram.reports.literature import (
    COLUMNS,
    PublishedCell,
    ReportTask,
    beside,
    beside_summary,
    matching,
    parse,
    published,
)
from lram.reports.sections.literature.section import section
from lram.reports.sections.scores.figures import domains_figure
from lram.reports.sections.scores.tables import tasks as task_tables

TASKS = all_tasks()
COINRUN, BIGFISH = TASKS["procgen/coinrun"], TASKS["procgen/bigfish"]
CATCH, UPRIGHT = TASKS["dmcontrol/ball_in_cup-catch"], TASKS["dmcontrol/fish-upright"]
REACH = TASKS["metaworld/reach-v3"]

CELL = PublishedCell(
    system="somebody",
    task=COINRUN.id,
    metric="score",
    value=0.75,
    low=None,
    high=None,
    interval="",
    normaliser="paper",
    protocol="as here",
    agrees_with="procgen:lram@1",
    reason="it is the same",
    source="a paper",
    file="table 1",
    commit="",
)


def run_of(
    synthetic: Any, tasks: Any, protocol: str = "lram@1", agents: Any = ("a", "b"), outcome: Any = None
) -> Any:
    plan = synthetic.plan([synthetic.agent(name) for name in agents], tasks, 3, protocol=protocol)
    return synthetic.run(plan, outcome or (lambda item: 5.0 + item.episode))


def lines_of(summary: Any, systems: Any = ("PPO (train-procgen)", "TD-MPC2", "somebody")) -> dict[str, float]:
    """Return where the figure of domains has a line of a published system."""
    drawing = domains_figure(summary)
    assert drawing is not None
    names = {f"_{system}": system for system in systems}
    lines = [line for axes in drawing.figure.axes for line in axes.get_lines()]
    return {names[name]: line.get_xdata()[0] for line in lines if (name := line.get_label()) in names}


def value_of(task: str, agrees_with: str) -> float:
    (found,) = [cell.value for cell in published() if (cell.task, cell.agrees_with) == (task, agrees_with)]
    return found


# The table that ships


def test_every_number_has_its_source_and_agrees_with_a_protocol_that_there_is() -> None:
    protocols = {
        one.id(name) for name in registry.domain_names() for one in registry.load_domain(name).protocols
    }
    assert len(published()) >= 300
    for cell in published():
        assert cell.source.startswith("https://github.com/")
        assert re.fullmatch("[0-9a-f]{40}", cell.commit)
        assert not cell.agrees_with or cell.agrees_with in protocols
        assert cell.task in TASKS or cell.domain in ("atari", "dmcontrol")


def test_the_pages_tell_how_many_there_are() -> None:
    root = Path(__file__).parents[2]
    for page in ("README.md", "docs/explanation/literature.md"):
        assert re.search(rf"\b{len(published())}\b", (root / page).read_text(encoding="utf-8")), page


def test_the_humans_scores_are_those_that_the_tasks_refer_to() -> None:
    found = {(cell.system, cell.task): cell.value for cell in published()}
    compared = 0
    for task in TASKS.values():
        if task.domain == "atari" and task.score_reference is not None:
            assert found["human tester", task.id] == task.score_reference
            assert found["random actions (DQN Zoo)", task.id] == task.score_random
            compared += 1
    assert compared == 44


def test_meta_world_and_atari_agree_with_no_protocol_and_say_why() -> None:
    others = [cell for cell in published() if cell.domain in ("metaworld", "atari")]
    assert others
    assert not any(cell.comparable for cell in others)
    assert {"v3" in cell.reason or "27,000" in cell.reason for cell in others} == {True}


def as_text(**changes: object) -> str:
    row = {name: getattr(CELL, name, "yes") for name in COLUMNS} | {"comparable": "yes"} | changes
    raw = io.StringIO()
    writer = csv.DictWriter(raw, COLUMNS)
    writer.writeheader()
    writer.writerow({name: "" if value is None else value for name, value in row.items()})
    return raw.getvalue()


def test_a_table_reads_back() -> None:
    assert parse(as_text()) == (CELL,)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"value": "nan"}, "no finite number"),
        ({"value": "much"}, "could not convert"),
        ({"metric": "height"}, "none of return, score, success_rate"),
        ({"low": 0.5}, "two ends and a kind"),
        ({"low": 0.5, "high": 0.6, "interval": "range"}, "outside"),
        ({"normaliser": ""}, "a score, and nothing else, has a normaliser"),
        ({"metric": "return"}, "a score, and nothing else, has a normaliser"),
        ({"comparable": "no"}, "comparable is 'yes' where"),
        ({"agrees_with": "procgen"}, "is no id of a protocol"),
        ({"agrees_with": "atari:lram@1"}, "another domain"),
        ({"metric": "success_rate", "normaliser": ""}, "no report shows"),
        ({"source": ""}, "source is empty"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused_with_its_line(changes: Any, why: str) -> None:
    with pytest.raises(LramError, match=f"line 2: .*{why}"):
        parse(as_text(**changes))


def test_two_numbers_of_one_system_on_one_task_are_refused() -> None:
    second = as_text(metric="return", normaliser="", protocol="as there").splitlines()[1]
    with pytest.raises(LramError, match="line 3: somebody has two numbers"):
        parse(as_text() + second)


# What may stand beside a report's own


def matched(cell: PublishedCell, protocol: str = "procgen:lram@1", normaliser: Any = "paper") -> Any:
    return beside([ReportTask(COINRUN.id, protocol, (2.0, 10.0))], normaliser, [cell])


def test_a_score_stands_where_protocol_and_normaliser_agree_and_nowhere_else() -> None:
    assert [one.score for one in matched(CELL).scores] == [0.75]
    other = matched(CELL, protocol="procgen:unseen@2")
    assert (other.scores, other.unmatched[0].reason) == (
        (),
        "agrees with procgen:lram@1, and the task was played under procgen:unseen@2",
    )
    newer = matched(CELL, protocol="procgen:lram@2")
    assert not newer.scores
    by_random = matched(CELL, normaliser="measured-random")
    assert not by_random.scores
    assert "a score by the normaliser paper" in by_random.unmatched[0].reason


def test_a_raw_return_is_normalised_by_the_reports_references() -> None:
    raw = replace(CELL, metric="return", normaliser="", value=6.0)
    for normaliser in NORMALISERS:
        assert [one.score for one in matched(raw, normaliser=normaliser).scores] == [0.5]
    without = beside([ReportTask(COINRUN.id, "procgen:lram@1", None)], "paper", [raw])
    assert [one.score for one in without.scores] == [None]
    assert without.means("procgen") == []


def test_what_agrees_with_nothing_keeps_the_sources_reason() -> None:
    found = matched(replace(CELL, agrees_with="", reason="another game"))
    assert not found.scores
    assert found.unmatched[0].reason == "another game"


def test_a_mean_names_the_tasks_that_it_lacks() -> None:
    tasks = [ReportTask(id_, "procgen:lram@1", (0.0, 1.0)) for id_ in (COINRUN.id, BIGFISH.id)]
    (mean,) = beside(tasks, "paper", [CELL]).means("procgen")
    assert (mean.score, mean.tasks, mean.lacking) == (0.75, (COINRUN.id,), (BIGFISH.id,))
    assert not mean.complete


# Where a report shows it


def test_a_line_stands_at_the_mean_of_the_published_scores_of_the_reports_tasks(synthetic: Any) -> None:
    summary = summarise([run_of(synthetic, [COINRUN, BIGFISH])], resamples=100)
    scores = [normalise(task, value_of(task.id, "procgen:lram@1")) for task in (COINRUN, BIGFISH)]
    assert lines_of(summary) == {"PPO (train-procgen)": pytest.approx(sum(scores) / 2)}  # type: ignore[arg-type]
    assert "PPO (train-procgen) in procgen, all 2 tasks" in domains_figure(summary).caption  # type: ignore[union-attr]


def test_another_protocol_takes_the_line_away_and_says_why(synthetic: Any) -> None:
    run = run_of(synthetic, [COINRUN], protocol="unseen@2")
    summary = summarise([run], resamples=100)
    assert lines_of(summary) == {}
    assert "Lines across the rows" not in domains_figure(summary).caption  # type: ignore[union-attr]
    found = section([run])
    assert found is not None
    told = str([cell.text for table in found.printed for row in table.rows for cell in row])
    assert "agrees with procgen:lram@1, and the task was played under procgen:unseen@2" in told
    assert "unseen leaves those out" in told
    assert "PPO (train-procgen) (procgen, 1 task)" in found.lead[-1]


def test_levels_of_the_test_stand_beside_unseen_ones_where_none_repeats(synthetic: Any) -> None:
    summary = summarise([run_of(synthetic, [BIGFISH], protocol="unseen@2")], resamples=100)
    expected = normalise(BIGFISH, value_of(BIGFISH.id, "procgen:unseen@2"))
    assert lines_of(summary) == {"PPO (train-procgen)": pytest.approx(expected)}


def test_another_normaliser_takes_away_scores_and_moves_returns(
    synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = replace(CELL, system="PPO (train-procgen)", metric="return", normaliser="", value=6.0)
    monkeypatch.setattr(matching, "published", lambda: (CELL, raw))
    run = run_of(synthetic, [COINRUN])
    by_paper = lines_of(summarise([run], resamples=100))
    assert by_paper == {"somebody": 0.75, "PPO (train-procgen)": pytest.approx(normalise(COINRUN, 6.0))}
    by_random = lines_of(summarise([run], resamples=100, normaliser="measured-random"))
    row = normalised_by("measured-random", COINRUN, "procgen:lram@1")
    assert by_random == {"PPO (train-procgen)": pytest.approx(normalise(row, 6.0))}
    assert by_random["PPO (train-procgen)"] != pytest.approx(by_paper["PPO (train-procgen)"])


def test_a_line_on_fewer_tasks_is_thin_and_the_section_compares_on_shared_tasks(synthetic: Any) -> None:
    returns = {CATCH.id: 500.0, UPRIGHT.id: 900.0}
    run = run_of(synthetic, [CATCH, UPRIGHT], agents=["a"], outcome=lambda item: returns[item.task])
    summary = summarise([run], resamples=100)
    drawing = domains_figure(summary)
    assert drawing is not None
    assert "TD-MPC2 in dmcontrol, 1 of 2 tasks, without fish-upright" in drawing.caption
    assert "A thin line rests on fewer tasks than the points" in drawing.caption
    found = section([run])
    assert found is not None
    (row,) = csv.DictReader(io.StringIO(found.csv["literature_means.csv"].decode()))
    assert (row["tasks"], row["of_tasks"], row["which_tasks"]) == ("1", "2", CATCH.id)
    assert float(row["agent_score"]) == pytest.approx(summary.result("a", CATCH.id).score.value)  # type: ignore[union-attr]
    expected = normalise(CATCH, value_of(CATCH.id, "dmcontrol:lram@1"))
    assert float(row["published_score"]) == pytest.approx(expected)


def test_an_agent_without_a_score_has_no_mean_to_compare(synthetic: Any) -> None:
    run = run_of(synthetic, [CATCH], outcome=lambda item: None if item.agent == "b" else 500.0)
    found = section([run])
    assert found is not None
    means = {one["agent"]: one for one in found.summary["means"]}
    assert (means["b"]["tasks"], means["b"]["measured"], means["b"]["published"]) == ((), None, None)
    assert means["a"]["measured"] is not None


def test_an_agent_for_which_the_world_did_not_wait_stands_beside_no_published_number(synthetic: Any) -> None:
    plan = replace(synthetic.plan([synthetic.agent("late")], [CATCH], 3), realtime_hz=15.0)
    late = synthetic.run(plan, lambda item: 500.0 + item.episode)
    found = section([run_of(synthetic, [CATCH]), late])
    assert found is not None
    row = next(row for row in found.printed[0].rows if row[2].text == "late")
    assert row[2].flag == "the world did not wait"
    means = {one["agent"]: one for one in found.summary["means"]}
    assert (means["late"]["tasks"], means["late"]["measured"], means["late"]["published"]) == ((), None, None)
    assert means["a"]["measured"] is not None
    assert beside_summary(summarise([run_of(synthetic, [CATCH]), late], resamples=100)).scores
    alone = section([late])
    assert alone is not None
    assert (alone.summary["means"], alone.summary["tasks"]) == ([], ())
    reasons = [one["reason"] for one in alone.summary["not_shown"]]
    assert any("in a world that waits" in reason for reason in reasons)
    assert not beside_summary(summarise([late], resamples=100)).scores


def test_the_table_of_tasks_has_columns_of_what_agrees_and_only_there(synthetic: Any) -> None:
    run = run_of(synthetic, [COINRUN, CATCH, UPRIGHT])
    by_id = {table.id: table.printed for table in task_tables(summarise([run], resamples=100))}
    heads = {name: [one.heading for one in table.columns] for name, table in by_id.items()}
    assert heads["tasks-procgen"][-2:] == [
        "PPO (train-procgen), return (published)",
        "PPO (train-procgen), score (published)",
    ]
    rows = {row[0].text: row[-2] for row in by_id["tasks-dmcontrol"].rows}
    assert rows["ball_in_cup-catch"].value == value_of(CATCH.id, "dmcontrol:lram@1")
    assert rows["ball_in_cup-catch"].small == "[979.9, 986.5]"
    assert rows["fish-upright"].text == "–"
    unseen = task_tables(summarise([run_of(synthetic, [COINRUN], protocol="unseen@2")], resamples=100))
    assert not any("published" in one.heading for one in unseen[0].printed.columns)


def test_tasks_without_published_numbers_make_no_section(synthetic: Any) -> None:
    assert section(collect([run_of(synthetic, [TASKS["toy/reach"]])])) is None


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_report_has_them_in_every_form(synthetic: Any, tmp_path: Any) -> None:
    write_report([run_of(synthetic, [COINRUN, REACH])], tmp_path / "report")
    files = {file.name: file for file in (tmp_path / "report").rglob("*") if file.is_file()}
    number = f"{value_of(COINRUN.id, 'procgen:lram@1'):g}"
    assert number in files["literature_tasks.csv"].read_text()
    assert "1a2ae2194a61f76a733a39339530401c024c3ad8" in files["literature_tasks.csv"].read_text()
    assert "PPO (train-procgen)" in files["tasks-procgen.tex"].read_text()
    assert "here play the v3 tasks" in files["summary.md"].read_text()
    assert 'href="#literature"' in files["index.html"].read_text()
    told = json.loads(files["summary.json"].read_text())["chapters"]["literature"]
    assert [one["cell"]["task"] for one in told["tasks"]] == [COINRUN.id]
    assert {one["domain"] for one in told["not_shown"]} == {"metaworld", "procgen"}
    assert told["normaliser"] == "paper"


# The command


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    app(["literature", *words], result_action="return_value")
    return capsys.readouterr().out


def test_the_command_lists_numbers_with_sources_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    text = listed(
        capsys, "--task", "metaworld/reach-v3,procgen/bigfish", "--system", "ppo*", "--system", "td-mpc2"
    )
    assert text.count("procgen/bigfish") == 2
    assert "agrees with procgen:lram@1: the same levels" in text
    assert "agrees with none: v2 tasks and a step more at the start" in text
    assert "source: https://github.com/nicklashansen/tdmpc2" in text
    assert text.endswith("3 numbers, 2 of them agree with a protocol\n")


def test_the_command_gives_programs_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(listed(capsys, "--json"))
    assert len(rows) == len(literature.published())
    assert set(rows[0]) == set(COLUMNS)


def test_the_command_names_what_there_is_where_nothing_fits() -> None:
    with pytest.raises(
        LramError, match=r"no published number has the task 'procgen/nothing'; there are atari/"
    ):
        app(["literature", "--task", "procgen/nothing"], result_action="return_value")
    with pytest.raises(LramError, match="has the system 'td-mpc2'; there are PPO"):
        app(["literature", "--task", "procgen/*", "--system", "td-mpc2"], result_action="return_value")
