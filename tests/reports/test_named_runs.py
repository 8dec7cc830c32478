"""Runs as a user names them for a report: parts of them, under other labels, several as one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lram.harness.cli import app
from lram.harness.errors import LramError
from lram.harness.gate.contract_note import BROKEN
from lram.harness.storage.records import CHECK_OF, Failure, given_up_words
from lram.harness.storage.run_folder import RunWriter
from lram.reports import summarise
from lram.reports.evidence.collect import collect
from lram.reports.evidence.named_runs import named_folder, open_named


@pytest.fixture
def run(synthetic):
    agents = [synthetic.agent("a"), synthetic.agent("b:c")]
    plan = synthetic.plan(agents, [synthetic.task("d/x")], 3)
    values = {"a": 0.25, "b:c": 0.75}
    computes = ({"a": {"device": "cpu"}, "b:c": {"device": "cpu"}},)
    return synthetic.run(plan, lambda item: values[item.agent], computes=computes)


def labels(*texts: str) -> list[list[str]]:
    return [[a.label for a in one.plan.agents] for one in open_named([named_folder(text) for text in texts])]


def test_a_run_is_named_whole_in_part_and_under_other_labels(run) -> None:
    path = str(run.path)
    assert labels(path) == [["a", "b:c"]]
    assert labels(f"{path}:a") == [["a"]]
    assert labels(f"{path}:b:c") == [["b:c"]]
    assert labels(f"new={path}:a") == [["new"]]
    assert labels(f"new={path}:a", f"{path}:b:c") == [["new", "b:c"]]
    assert labels(path, f"new={path}:a") == [["new", "b:c"]], "one run, one label of it another"


def test_numbers_of_a_relabelled_agent_are_those_of_the_run(run) -> None:
    [part] = open_named([named_folder(f"new={run.path}:b:c")])
    whole, found = summarise(run), summarise(part)
    assert found.agent("new").mean_of_domain_means == whole.agent("b:c").mean_of_domain_means
    assert [one.agent for one in found.results] == ["new"]
    assert [session.compute for session in part.provenance()] == [{"new": {"device": "cpu"}}]
    assert [record.agent for record in part.records()] == ["new"] * 3
    assert [(item.agent, failure) for item, failure in part.outcomes()] == [("new", None)] * 3
    assert part.missing() == []


def test_what_is_noted_of_a_check_follows_the_label(run) -> None:
    with RunWriter(run) as writer:
        settings = {f"{CHECK_OF}{label}": f"{BROKEN}{label} repeats nothing" for label in ("a", "b:c")}
        writer.write_provenance(replace(run.provenance()[0], settings=settings))
    [part] = open_named([named_folder(f"a={run.path}:b:c")])
    assert collect([part]).broken_promises == {"a": "b:c repeats nothing"}


def test_one_label_stands_for_no_two_rates_of_the_world(synthetic) -> None:
    tasks = [synthetic.task("d/x")]
    waiting, fast, faster = (
        synthetic.run(
            replace(synthetic.plan([synthetic.agent("a")], tasks, 1, seed), realtime_hz=hz), lambda _: 1
        )
        for seed, hz in enumerate((0.0, 10.0, 20.0))
    )
    assert collect([fast, fast]).realtime_hz == {"a": 10.0}
    with pytest.raises(LramError, match=r"'a' waits in .* takes 10 steps a second in"):
        collect([waiting, fast])
    with pytest.raises(LramError, match=f"give one of them another label, such as 'NEW={faster.path}:AGENT'"):
        collect([fast, faster])


@pytest.mark.parametrize("by_agent", [None, True])
def test_a_relabelled_agent_keeps_its_fault_at_what_was_given_up(synthetic, by_agent) -> None:
    given_up = Failure("quarantine", f"{given_up_words('toy/t', 'b')}its first 3 errored", by_agent)
    plan = synthetic.plan([synthetic.agent("b")], [synthetic.task("toy/t", reference=10.0)], 4)
    run = synthetic.run(plan, lambda item: 10.0 if item.episode == 3 else given_up)
    [part] = open_named([named_folder(f"new={run.path}")])
    whole, found = summarise(run).result("b", "toy/t"), summarise(part).result("new", "toy/t")
    assert (found.failed_by_agent, found.score) == (whole.failed_by_agent, whole.score)
    assert found.failed_by_agent == 3


@pytest.mark.usefixtures("no_figures")
def test_runs_of_two_days_with_equal_labels_stand_side_by_side(synthetic, tmp_path) -> None:
    runs = []
    for number, value in enumerate((0.2, 0.8)):
        plan = synthetic.plan([synthetic.agent("mine", digest=str(number))], [synthetic.task("d/x")], 3)
        runs.append(synthetic.run(plan, lambda item, value=value: value).path)
    with pytest.raises(LramError, match="mine"):
        app(["report", *map(str, runs), "-o", str(tmp_path / "x")], exit_on_error=False, print_error=False)
    words = ["report", f"may={runs[0]}", f"june={runs[1]}", "-o", str(tmp_path / "report")]
    app(words, exit_on_error=False, print_error=False, result_action="return_value")
    found = json.loads((tmp_path / "report/summary.json").read_text())
    assert [agent["label"] for agent in found["agents"]] == ["may", "june"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{run}:x", "has no agent 'x'; it has a, b:c"),
        ("new={run}", "has 2 agents .*write new={run}:AGENT"),
        (" ={run}:a", "cannot label an agent"),
        ("x|y={run}:a", "cannot label an agent"),
        ("b:c={run}:a", "two agents .* would be called 'b:c'"),
    ],
)
def test_what_names_no_agent_is_one_sentence(run, text, words) -> None:
    with pytest.raises(LramError, match=words.format(run=run.path)):
        open_named([named_folder(str(run.path)), named_folder(text.format(run=run.path))])


@pytest.mark.usefixtures("no_figures")
def test_the_report_of_one_run_lies_in_it(run) -> None:
    ended = {"exit_on_error": False, "print_error": False, "result_action": "return_value"}
    before = sorted(file.name for file in run.path.iterdir())
    assert app(["report", str(run.path)], **ended) == 0
    assert (run.path / "report/index.html").is_file()
    assert sorted(file.name for file in run.path.iterdir()) == sorted([*before, "report"])
    assert app(["report", str(run.path)], **ended) == 0, "an earlier report is replaced"
    with pytest.raises(LramError, match="give a folder for the report with -o"):
        app(["report", str(run.path), str(Path(run.path).parent)], **ended)


def test_one_agent_under_two_labels_is_refused_and_none_is_dropped(run) -> None:
    twice = [named_folder(f"{label}={run.path}:a") for label in ("X", "Y")]
    with pytest.raises(LramError, match=r"'a' of .* is named twice, as 'X' and as 'Y'; name it once"):
        open_named(twice)
    [whole] = open_named([named_folder(str(run.path)), twice[0]])
    assert [agent.label for agent in whole.plan.agents] == ["X", "b:c"]
