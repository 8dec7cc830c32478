"""Reports of many agents: comparisons are asked for, what is shown is bounded, nothing goes unsaid."""

from __future__ import annotations

import csv
import io
import json
import zlib

import numpy as np
import pytest

from lram.harness.cli import main
from lram.harness.errors import LramError
from lram.reports import summarise, write_report
from lram.reports.bounds import DRAWN_AGENTS, TABLE_CELLS, shown, shown_together
from lram.reports.comparison.pairs import ALL_PAIRS, Pairs, read_pairs
from lram.reports.sections.scores.figures import draw
from lram.reports.table import Table, words


@pytest.fixture
def many(synthetic):
    def made(agents, tasks=1, episodes=2):
        entries = [synthetic.agent(f"a{place}") for place in range(agents)]
        chosen = [synthetic.task(f"dmcontrol/t{place}") for place in range(tasks)]
        plan = synthetic.plan(entries, chosen, episodes)
        return synthetic.run(plan, lambda item: int(item.agent[1:]) / agents + 0.01 * item.episode)

    return made


def test_all_pairs_are_compared_while_there_are_few_agents(many):
    summary = summarise([many(ALL_PAIRS)])
    assert len(summary.comparisons) == ALL_PAIRS * (ALL_PAIRS - 1) // 2
    assert not [caveat for caveat in summary.caveats if caveat.kind == "comparisons"]


def test_of_many_agents_none_is_compared_unasked_and_the_report_says_so(many):
    summary = summarise([many(ALL_PAIRS + 1)])
    (said,) = [caveat.text for caveat in summary.caveats if caveat.kind == "comparisons"]
    assert summary.comparisons == ()
    assert said.startswith("None of the 78 pairs of agents is compared")
    assert "--baseline LABEL" in said
    assert "--compare A,B" in said


@pytest.mark.slow
def test_what_is_asked_for_is_compared_and_corrected_for_no_more_than_that(many):
    run = many(20)
    base = summarise([run], pairs=Pairs(baselines=("a3",))).comparisons
    assert [(pair.first, pair.second) for pair in base] == [(f"a{i}", "a3") for i in range(20) if i != 3]
    (one,) = summarise([run], pairs=Pairs(named=(("a5", "a1"),))).comparisons
    assert (one.first, one.second) == ("a5", "a1")
    assert one.difference.value == pytest.approx(0.2)
    assert one.p_holm == one.p
    assert len(summarise([run], pairs=Pairs(every=True)).comparisons) == 190
    twice = Pairs(named=(("a3", "a5"),), baselines=("a3",)).of(["a3", "a5", "a7"])
    assert twice == [("a3", "a5"), ("a7", "a3")]


@pytest.mark.slow
def test_differences_of_many_pairs_survive_the_correction(synthetic):
    """2,000 sign patterns give no p below 0.0005, which 120 pairs make 0.06."""
    labels = [f"a{place}" for place in range(121)]
    plan = synthetic.plan([synthetic.agent(label) for label in labels], [synthetic.task("x/1")], 20)

    def outcome(item):
        own = np.random.default_rng(zlib.crc32(item.id.encode())).normal(0, 0.1)
        return own + (item.agent == "a0")

    found = summarise([synthetic.run(plan, outcome)], pairs=Pairs(baselines=("a0",))).comparisons
    assert len(found) == 120
    assert max(pair.p_holm for pair in found) < 0.05


def test_labels_with_commas_are_read_and_unknown_ones_are_refused():
    labels = ["a", "b,c", "a,b", "c"]
    assert read_pairs(["a , a,b"], (), labels).named == (("a", "a,b"),)
    with pytest.raises(LramError, match="can be read as several pairs"):
        read_pairs(["a,b,c"], (), labels)
    with pytest.raises(LramError, match="is no pair of agents; write --compare A,B with two labels"):
        read_pairs(["a,x"], (), labels)
    with pytest.raises(LramError, match="no agent of these runs is called 'x'"):
        read_pairs((), ["x"], labels)
    with pytest.raises(LramError, match="cannot be compared with itself"):
        read_pairs(["a,a"], (), labels)
    assert read_pairs(["all"], (), labels).every


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_the_command_takes_comparisons(many, tmp_path, monkeypatch):
    given = [str(many(15).path), "-o", str(tmp_path / "r"), "--baseline", "a0", "--compare", "a1,a2"]
    monkeypatch.setattr("sys.argv", ["lram", "report", *given])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    rows = list(csv.DictReader((tmp_path / "r/tables/comparisons.csv").read_text().splitlines()))
    assert len(rows) == 15
    assert "15 of the 105 pairs of agents are compared" in (tmp_path / "r/index.html").read_text()
    assert "for the 15 pairs that this report compares" in (tmp_path / "r/summary.md").read_text()


@pytest.mark.slow
def test_figures_of_many_agents_are_bounded_and_say_what_they_leave_out(many):
    summary = summarise([many(DRAWN_AGENTS + 10)])
    for drawing in draw(summary):
        assert drawing.figure.get_size_inches()[1] < 20
        assert f"{DRAWN_AGENTS} of {DRAWN_AGENTS + 10} agents are drawn" in drawing.caption
    assert "Not all" not in draw(summarise([many(DRAWN_AGENTS)]))[0].caption


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_tables_of_many_agents_are_complete_and_no_wider_than_the_tasks(many, tmp_path):
    write_report([many(30, tasks=2)], tmp_path / "r")
    page = (tmp_path / "r/index.html").read_text()
    assert page.count('scope="row"') >= 30 * 4  # headline, domains, matrix, tasks
    assert ">dmcontrol/t1</th>" in page
    assert ">a29</th>" in page
    rows = list(csv.DictReader(io.StringIO((tmp_path / "r/tables/per_task.csv").read_text())))
    assert len(rows) == 60
    assert len(json.loads((tmp_path / "r/summary.json").read_text())["agents"]) == 30


def test_a_table_beyond_the_bound_shows_its_first_rows_and_says_so():
    columns = [words("a", "", str), words("b", "", lambda row: "")]
    table = Table("t", "Caption.", columns, range(100)).printed
    assert shown(table) is table
    cut = shown(table, 20)
    assert cut.rows == table.rows[:10]
    assert cut.caption == "Caption. Shown are the first 10 of 100 rows; the CSV files in tables/ hold all."
    assert [len(one.rows) for one in shown_together([table, table, table], 250)] == [100, 25, 1]
    assert TABLE_CELLS >= 6 * 469 * 9  # six agents on all tasks are shown whole
