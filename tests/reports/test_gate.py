"""A comparison as a gate of CI: JUnit XML that parses, a summary that only adds, and few false alarms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from lram.harness.cli.compare import compare
from lram.harness.cli.exits import VERDICTS
from lram.harness.cli.printing.ci import append_whole
from lram.harness.errors import LramError
from lram.harness.storage.records import Failure, WorkItem
from lram.harness.storage.run_folder import Run
from lram.reports.comparison.compare import over_tasks
from lram.reports.comparison.paired_episodes import PairedTask
from lram.reports.samples import Resampling
from lram.reports.verdict.gate import OUTCOMES, GateCase
from lram.reports.verdict.judging import Judged
from lram.reports.verdict.junit import junit_xml
from lram.reports.verdict.parts import judge_parts
from lram.reports.verdict.step_summary import SHOWN, step_summary

TASKS = ("metaworld/a", "metaworld/b", "dmcontrol/c")
HOSTILE = (
    ']]><x a="1">&amp;\'',
    "\x00\x1b[31m\ud800\uffff\u202e",
    "a|b`c`<script>[x](y)\n# h",
    "\U0001f600é",
)


def returns(shift: Callable[[WorkItem], float]) -> Callable[[WorkItem], float]:
    def outcome(item: WorkItem) -> float:
        luck = np.random.default_rng([ord(item.task[-1]), item.episode]).normal()
        own = np.random.default_rng([ord(item.agent[0]), ord(item.task[-1]), item.episode]).normal()
        return 0.5 + shift(item) + 0.3 * luck + 0.1 * own

    return outcome


@pytest.fixture
def run(synthetic: Any) -> Callable[..., Run]:
    def make(tasks: tuple[str, ...] = TASKS, labels: tuple[str, ...] = ("new", "old"), **more: Any) -> Run:
        """``new`` is worse on dmcontrol only, unless told otherwise."""
        shift = more.get("shift", lambda item: -0.5 * (item.agent == "new" and "dmc" in item.task))
        outcome = more.get("outcome", returns(shift))
        plan = synthetic.plan([synthetic.agent(one) for one in labels], map(synthetic.task, tasks), 12)
        return synthetic.run(plan, outcome)

    return make


def parsed(file: Path) -> tuple[ElementTree.Element, dict[str, str]]:
    """Return the one suite of a file, and what each of its cases is by its name."""
    root = ElementTree.parse(file).getroot()
    suites = root.findall("testsuite")
    assert (root.tag, len(suites)) == ("testsuites", 1)
    found = {}
    for case in suites[0].findall("testcase"):
        kinds = [one.tag for one in case if one.tag != "system-out"]
        assert len(kinds) <= 1
        found[case.attrib["name"]] = kinds[0] if kinds else "passed"
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suites[0].attrib[name]) == list(found.values()).count(tag)
    assert int(suites[0].attrib["tests"]) == len(found)
    return suites[0], found


def test_a_regression_of_one_domain_is_the_failure_of_its_case(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    file = tmp_path / "new folder" / "gate.xml"
    code = compare("new", "old", runs=[run().path], junit=file)
    suite, found = parsed(file)
    assert found == {"new against old": "failure", "metaworld": "passed", "dmcontrol": "failure"}
    assert code == VERDICTS["worse"]
    failure = suite.find("testcase[@name='dmcontrol']/failure")
    assert failure is not None
    assert failure.attrib["type"] == "worse"
    assert failure.attrib["message"].startswith("worse: new scores 0.5")
    assert failure.text is not None
    assert "rests on 1 task, 12 pairs of episodes" in failure.text
    level = suite.find("properties/property[@name='level']")
    assert level is not None
    assert level.attrib["value"] == "0.95"


def test_of_one_domain_the_cases_are_its_tasks_and_of_one_task_there_is_one(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    file = tmp_path / "gate.xml"
    same = {"shift": lambda item: 0.0}
    code = compare("new", "old", runs=[run(TASKS[:2], **same).path], junit=file)
    assert parsed(file)[1] == dict.fromkeys(("new against old", *TASKS[:2]), "passed")
    assert code == VERDICTS["no difference shown"]
    compare("new", "old", runs=[run(TASKS[:1], **same).path], junit=file)
    assert parsed(file)[1] == {"new against old": "passed"}


def test_a_better_agent_passes(run: Callable[..., Run], tmp_path: Path) -> None:
    file = tmp_path / "gate.xml"
    assert compare("old", "new", runs=[run().path], junit=file) == VERDICTS["better"]
    assert set(parsed(file)[1].values()) == {"passed"}


def test_what_cannot_be_compared_is_an_error_and_what_has_no_score_is_skipped(
    run: Callable[..., Run], synthetic: Any, tmp_path: Path
) -> None:
    file = tmp_path / "gate.xml"
    others = run(("metaworld/z",), ("other",), shift=lambda item: 0.0)
    code = compare(f"{run().path}:new", str(others.path), junit=file)
    assert code == VERDICTS["not comparable"]
    assert parsed(file)[1] == {"new against other": "error"}
    tasks = [
        synthetic.task("metaworld/a"),
        synthetic.task("atari/b", reference=None),
        synthetic.task("procgen/c"),
    ]
    plan = synthetic.plan([synthetic.agent("new"), synthetic.agent("old")], tasks, 8)
    crash = Failure("crash", "the worker died")
    broken = synthetic.run(plan, lambda item: crash if "procgen" in item.task else 0.1 * item.episode)
    compare("new", "old", runs=[broken.path], junit=file)
    assert parsed(file)[1] == {
        "new against old": "passed",
        "metaworld": "passed",
        "atari": "skipped",
        "procgen": "error",
    }


def test_bad_input_is_an_error_in_place_of_the_file_of_an_earlier_job(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    file = tmp_path / "gate.xml"
    compare("old", "new", runs=[run().path], junit=file)
    with pytest.raises(LramError, match="neither the folder of a run"):
        compare("old", "nobody", runs=[run().path], junit=file)
    suite, found = parsed(file)
    assert found == {"old against nobody": "error"}
    error = suite.find("testcase/error")
    assert error is not None
    assert "neither the folder of a run" in error.attrib["message"]


def test_the_file_is_well_formed_whatever_labels_and_messages_hold() -> None:
    found = [GateCase("domain", name, word, name, (name,)) for name in HOSTILE for word in OUTCOMES]
    content = junit_xml(found, {name: name for name in HOSTILE})
    suite = ElementTree.fromstring(content).find("testsuite")
    assert suite is not None
    assert [case.attrib["name"] for case in suite.findall("testcase")][: len(OUTCOMES)] == [HOSTILE[0]] * len(
        OUTCOMES
    )
    assert {one.tag for one in suite.iter()} == {
        "testsuite",
        "properties",
        "property",
        "testcase",
        "failure",
        "error",
        "skipped",
        "system-out",
    }
    assert b"\\ud800" in content
    assert b"\\u202e" in content
    assert content == junit_xml(found, {name: name for name in HOSTILE})


def test_the_summary_is_added_to_what_is_there_and_holds_labels_as_text(
    run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "summary.md"
    file.write_text("# before, without an end of line")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    compare("new", "old", runs=[run().path], github_summary=True)
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["# before, without an end of line", "### ❌ new against old: worse"]
    assert any(line.startswith("| ❌ | dmcontrol | worse: new scores 0.5") for line in lines)
    assert any(line.startswith("| ✅ | metaworld | no difference shown") for line in lines)
    shown = step_summary([GateCase("comparison", HOSTILE[2], "worse", HOSTILE[2]), *_many("<b>|x")]).decode()
    assert "<script>" not in shown
    assert "\n# h" not in shown
    assert f"{SHOWN} of {SHOWN + 5} are shown" in shown
    rows = [line for line in shown.splitlines() if line.startswith("| ") and "&lt;b&gt;" in line]
    assert len(rows) == SHOWN
    assert rows[0].startswith("| ❌")  # regressions first


def _many(name: str) -> list[GateCase]:
    passed = [GateCase("task", name, "better", "fine")] * (SHOWN + 4)
    return [*passed, GateCase("task", name, "worse", "not fine")]


def test_without_the_variable_the_summary_is_refused_and_nothing_is_compared(
    run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    with pytest.raises(LramError, match="GITHUB_STEP_SUMMARY names, and it is not set"):
        compare("new", "old", runs=[run().path], github_summary=True, junit=tmp_path / "x.xml")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "file"))
    with pytest.raises(LramError, match="cannot be a file here"):
        compare("new", "old", runs=[run().path], github_summary=True)
    with pytest.raises(LramError, match="is a folder"):
        compare("new", "old", runs=[run().path], junit=tmp_path)
    assert capsys.readouterr().out == ""


def test_a_summary_that_does_not_fit_leaves_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(LramError, match="cannot be written"):
        append_whole(Path("/dev/full"), b"some text")
    file = tmp_path / "summary.md"
    append_whole(file, b"one\n")
    append_whole(file, b"two\n")
    assert file.read_bytes() == b"one\ntwo\n"


@pytest.mark.slow
def test_of_two_agents_that_are_alike_a_part_fails_no_more_often_than_the_level_says(synthetic: Any) -> None:
    """Eight domains: about every third time one of them seems to differ, were each judged for itself."""
    rng = np.random.default_rng(5)
    tasks = [synthetic.task(f"d{number}/t") for number in range(8)]
    labels, failed, alone, times = ("a", "b"), 0, 0, 60
    evidence: Any = SimpleNamespace(
        tasks=[SimpleNamespace(task=task) for task in tasks],
        cells={(label, task.id): SimpleNamespace(planned=10) for label in labels for task in tasks},
    )
    about: Any = SimpleNamespace(level=0.95, seed=0)
    for _ in range(times):
        pairs = [PairedTask(task, *rng.normal(0.5, 0.2, (2, 10)), (False, False)) for task in tasks]
        pairing = over_tasks(*labels, pairs, Resampling(0, 10, 0.95))
        parts = judge_parts(Judged(about, evidence, pairing))
        assert len(parts) == len(tasks)
        failed += any(part.word in ("better", "worse") for part in parts)
        alone += any(part.comparison is not None and (part.comparison.p or 1) < 0.05 for part in parts)
    assert failed / times <= 0.05 + 2.5 * (0.05 * 0.95 / times) ** 0.5
    assert alone / times > 0.2  # what the correction is for
