"""Perturbed protocols in reports: the unperturbed arm stands beside them, and nothing else mixes the two."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lram.harness.errors import LramError
from lram.harness.storage.records import Failure, WorkItem
from lram.harness.storage.run_folder import Run
from lram.reports.evidence import counting
from lram.reports.evidence.collect import collect
from lram.reports.evidence.perturbed import collect_apart
from lram.reports.sections.perturbed import section as perturbed_section
from lram.reports.sections.perturbed.section import section
from lram.reports.writing.export import write_report

TASKS = ("dmcontrol/walker-run", "dmcontrol/cheetah-run")
COST = {"lram": 0.0, "positions": 0.2, "delay-4": 0.4}


def run_of(synthetic: Any, protocol: str, agents: tuple[str, ...] = ("one", "two"), digest: str = "") -> Run:
    tasks = [synthetic.task(task) for task in TASKS]
    entries = [synthetic.agent(name, digest=digest) for name in agents]

    def outcome(item: WorkItem) -> float:
        luck = 0.05 * (item.episode % 4)  # of the initial state, with and without
        noise = 0.01 * (item.episode % 3) * (protocol != "lram")
        return 0.8 + luck - noise - COST[protocol] * (item.agent == "one")

    return synthetic.run(synthetic.plan(entries, tasks, 12, protocol=f"{protocol}@1"), outcome)


def test_a_perturbation_is_held_against_the_same_episodes_without_it(synthetic: Any) -> None:
    runs = [run_of(synthetic, "lram"), run_of(synthetic, "positions"), run_of(synthetic, "delay-4")]
    found = section(collect_apart(runs))
    assert found is not None
    rows = {(row["agent"], row["protocol"]): row for row in found.summary["rows"]}
    assert len(rows) == 4
    late = rows["one", "dmcontrol:delay-4@1"]
    assert (late["base"], late["tasks"]) == ("dmcontrol:lram@1", 2)
    assert late["without"] == pytest.approx(0.875)
    assert late["score"] == pytest.approx(0.875 - 0.4 - 0.01)
    assert late["difference"]["difference"]["value"] == pytest.approx(-0.41)
    assert late["difference"]["difference"]["interval"]["high"] < -0.35
    assert late["difference"]["p_holm"] >= late["difference"]["p"]
    assert rows["two", "dmcontrol:positions@1"]["difference"]["difference"]["value"] == pytest.approx(-0.01)
    assert not found.caveats


def test_a_base_without_noted_code_hides_no_two_sources_of_what_is_perturbed(synthetic: Any) -> None:
    runs = [run_of(synthetic, "lram", ("one",))]
    for protocol, code in (("positions", "1" * 64), ("delay-4", "2" * 64)):
        plan = run_of(synthetic, protocol, ("one",)).plan
        coded = replace(plan, agents=tuple(replace(agent, code={"mine": code}) for agent in plan.agents))
        runs.append(synthetic.run(coded, lambda _: 0.5))
    assert collect_apart(runs[:2]).perturbed
    with pytest.raises(LramError, match="stands for another agent under dmcontrol:delay-4@1"):
        collect_apart(runs)


def test_a_clear_cost_is_shown_however_many_rows_are_corrected_for(
    synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20 patterns the least p is 1 / 21, which a correction for two tests would lift above 0.05."""
    monkeypatch.setattr(perturbed_section, "RESAMPLES", 20)
    runs = [run_of(synthetic, protocol, tuple("abc")) for protocol in ("lram", "positions", "delay-4")]
    found = section(collect_apart(runs))
    assert found is not None
    assert [row["difference"]["p_holm"] < 0.05 for row in found.summary["rows"]] == [True] * 6


def test_the_order_of_the_runs_does_not_matter(synthetic: Any) -> None:
    base, late = run_of(synthetic, "lram"), run_of(synthetic, "delay-4")
    one, other = section(collect_apart([base, late])), section(collect_apart([late, base]))
    assert one is not None
    assert other is not None
    assert one.summary == other.summary


@pytest.mark.usefixtures("no_figures")
def test_all_else_of_the_report_is_about_the_unperturbed_run(synthetic: Any, tmp_path: Path) -> None:
    base, late = run_of(synthetic, "lram"), run_of(synthetic, "delay-4")
    write_report([base, late], tmp_path / "both")
    write_report([base], tmp_path / "base")
    both, alone = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("both", "base"))
    assert both["agents"] == alone["agents"]
    assert both["results"] == alone["results"]
    assert "perturbed" in both["chapters"]
    assert "perturbed" not in alone["chapters"]
    table = (tmp_path / "both" / "tables" / "perturbed_scores.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(table)))
    late_rows = [(row["agent"], row["protocol"]) for row in rows]
    assert late_rows == [(agent, "dmcontrol:delay-4@1") for agent in ("one", "two")]
    assert "What agents did not see" in (tmp_path / "both" / "index.html").read_text()


def test_without_its_base_a_perturbed_run_says_which_command_is_missing(synthetic: Any) -> None:
    found = section(collect_apart([run_of(synthetic, "delay-4")]))
    assert found is not None
    (caveat,) = found.caveats
    assert "--protocol dmcontrol=lram" in caveat.text
    assert not found.tables
    assert section(collect_apart([run_of(synthetic, "lram")])) is None


def test_protocols_that_perturb_nothing_are_still_refused_together(synthetic: Any) -> None:
    tasks = [synthetic.task("procgen/coinrun")]
    runs = [
        synthetic.run(synthetic.plan([synthetic.agent("a")], tasks, 2, protocol=name), lambda item: 1.0)
        for name in ("lram@1", "hard@1")
    ]
    with pytest.raises(LramError, match="under the protocols"):
        collect_apart(runs)
    with pytest.raises(LramError, match="under the protocols"):  # what others than reports read
        collect([run_of(synthetic, "lram"), run_of(synthetic, "delay-4")])


def test_a_label_is_one_agent_with_and_without(synthetic: Any) -> None:
    base, late = run_of(synthetic, "lram", digest="aa"), run_of(synthetic, "delay-4", digest="bb")
    with pytest.raises(LramError, match="another agent"):
        collect_apart([base, late])


@pytest.mark.parametrize("failing", ["lram", "delay-4"])
def test_failures_of_an_agent_are_not_left_out_of_a_difference(
    synthetic: Any, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "least_return", lambda task: None)
    tasks = [synthetic.task(task) for task in TASKS]

    def run(protocol: str) -> Run:
        def outcome(item: WorkItem) -> Any:
            bad = item.agent == "one" and item.task == TASKS[1] and protocol == failing
            if bad and item.episode < 8:
                return Failure("agent", "the action is NaN")
            return 0.5 + 0.05 * (item.episode % 4) + 0.01 * (item.episode % 3) * (protocol != "lram")

        entries = [synthetic.agent(name) for name in ("one", "two")]
        return synthetic.run(synthetic.plan(entries, tasks, 12, protocol=f"{protocol}@1"), outcome)

    found = section(collect_apart([run("lram"), run("delay-4")]))
    assert found is not None
    rows = {(row["agent"], row["protocol"]): row for row in found.summary["rows"]}
    one = rows["one", "dmcontrol:delay-4@1"]
    assert (one["difference"]["difference"], one["difference"]["p"], one["score"]) == (None, None, None)
    assert f"dmcontrol:{failing}@1 on {TASKS[1]}: 8 of 12 episodes failed" in one["difference"]["reason"]
    assert rows["two", "dmcontrol:delay-4@1"]["tasks"] == 2
    (caveat,) = found.caveats
    assert (caveat.kind, len(caveat.items)) == ("perturbed-failed", 1)
    (printed,) = [table.printed for table in found.tables]
    assert [row[-3].flag for row in printed.rows].count("not comparable") == 1


def test_agents_that_have_one_arm_only_are_shown_without_a_difference(synthetic: Any) -> None:
    base, late = run_of(synthetic, "lram", ("one",)), run_of(synthetic, "delay-4", ("one", "two"))
    evidence = collect_apart([base, late])
    found = section(evidence)
    assert found is not None
    rows = {row["agent"]: row for row in found.summary["rows"]}
    assert rows["two"]["difference"]["difference"] is None
    assert (rows["two"]["tasks"], rows["two"]["of_tasks"]) == (0, 2)
    assert replace(evidence, perturbed=()).perturbed == ()
