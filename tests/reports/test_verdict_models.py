"""Two models against each other over their trainings: verdict, domains, sentences, the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from scipy import stats

from lram.harness.cli.compare import compare
from lram.harness.errors import LramError
from lram.harness.storage.records import Failure, WorkItem
from lram.harness.storage.run_folder import Run
from lram.reports.evidence.collect import collect
from lram.reports.evidence.evidence import Evidence
from lram.reports.seed_groups import SeedGroup
from lram.reports.verdict.model_cases import lines, model_cases
from lram.reports.verdict.models import judge_models

TASKS = ("metaworld/reach", "metaworld/push", "atari/pong")
NEW = SeedGroup("new", ("new-0", "new-1", "new-2"))
OLD = SeedGroup("old", ("old-0", "old-1", "old-2"))
LUCK = {"new-0": 0.0, "new-1": 0.02, "new-2": 0.01, "old-0": 0.0, "old-1": 0.03, "old-2": 0.03}


@pytest.fixture
def runs(synthetic: Any) -> Callable[..., list[Run]]:
    """A run a training seed; ``worth`` is what a model scores in a domain, and luck that of a training."""

    def make(worth: Callable[[str, str], float], failing: str = "") -> list[Run]:
        def outcome(item: WorkItem) -> Any:
            if item.agent == failing and item.task == "atari/pong":
                return Failure("agent", "NaN")
            model, domain = item.agent.partition("-")[0], item.task.partition("/")[0]
            return worth(model, domain) + LUCK[item.agent] + 0.1 * (item.episode % 2) - 0.05

        return [
            synthetic.run(
                synthetic.plan(
                    [synthetic.agent(f"{model}-{seed}") for model in ("new", "old")],
                    map(synthetic.task, TASKS),
                    4,
                    seed=seed,
                ),
                outcome,
            )
            for seed in range(3)
        ]

    return make


def ahead(model: str, domain: str) -> float:
    return 0.7 if model == "new" else 0.4


def test_the_verdict_is_over_trainings(runs: Callable[..., list[Run]]) -> None:
    verdict, parts = judge_models(collect(runs(ahead)), NEW, OLD)
    assert (verdict.word, verdict.tasks, verdict.domains) == ("better", 3, ("metaworld", "atari"))
    assert verdict.trainings == (("new-0", "old-0"), ("new-1", "old-1"), ("new-2", "old-2"))
    assert verdict.differences == pytest.approx((0.3, 0.29, 0.28))
    assert verdict.p == pytest.approx(stats.ttest_1samp(verdict.differences, 0).pvalue)
    assert [(part.domain, part.word) for part in parts] == [("metaworld", "better"), ("atari", "better")]
    assert parts[0].found.p_holm == pytest.approx(2 * (parts[0].found.p or 0))
    first, second, *_ = lines(verdict)
    assert first.startswith("better: new scores 0.290 more than old (0.290, 95% interval [0.265, 0.315], p ")
    assert second.startswith("rests on 3 pairs of trainings, 3 tasks of metaworld and atari")
    back, _ = judge_models(collect(runs(ahead)), OLD, NEW)
    assert (back.word, back.p) == ("worse", verdict.p)


def test_a_regression_in_one_domain_is_that_domain_s_case(runs: Callable[..., list[Run]]) -> None:
    def mixed(model: str, domain: str) -> float:
        return 0.5 + (model == "new") * (0.2 if domain == "metaworld" else -0.2)

    verdict, parts = judge_models(collect(runs(mixed)), NEW, OLD)
    assert verdict.word == "no difference shown"
    assert verdict.trainings_needed is not None
    cases = {case.name: case.outcome for case in model_cases(verdict, parts)}
    assert cases == {"new against old": "passed", "metaworld": "passed", "atari": "failure"}


def test_two_trainings_show_nothing(runs: Callable[..., list[Run]]) -> None:
    two = [SeedGroup(one.name, one.agents[:2]) for one in (NEW, OLD)]
    verdict, _ = judge_models(collect(runs(ahead)), *two)
    assert (verdict.word, verdict.p) == ("no difference shown", None)
    assert "nothing is shown below 3 trainings of each model: train with more seeds" in lines(verdict)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda found: replace(found, collected=True), "played to collect training data"),
        (lambda found: replace(found, realtime_hz={"old-1": 15.0}), "worlds that waited and at 15 Hz"),
        (lambda found: replace(found, tasks=()), "no task that all trainings have a score of"),
    ],
)
def test_what_does_not_compare_is_not_compared(
    runs: Callable[..., list[Run]], change: Callable[[Evidence], Evidence], reason: str
) -> None:
    verdict, parts = judge_models(change(collect(runs(ahead))), NEW, OLD)
    assert (verdict.word, parts) == ("not comparable", ())
    assert reason in verdict.reason
    assert lines(verdict)[0] == f"not comparable: {verdict.reason}"


def test_a_training_that_fails_is_not_left_out(runs: Callable[..., list[Run]]) -> None:
    verdict, _ = judge_models(collect(runs(ahead, failing="new-1")), NEW, OLD)
    assert verdict.word == "not comparable"
    assert "new-1" in verdict.reason


def test_the_command_says_it_to_people_programs_and_jobs(
    runs: Callable[..., list[Run]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [run.path for run in runs(ahead)]
    named = ["new=new-*", "old=old-0,old-1,old-2"]
    assert compare("new", "old", runs=folders, seeds_of=named) == 0
    assert capsys.readouterr().out.startswith("better: new scores 0.290 more than old")
    assert compare("old", "new", runs=folders, seeds_of=named, json=True, junit=tmp_path / "gate.xml") == 11
    printed = json.loads(capsys.readouterr().out)
    assert (printed["word"], printed["differences"]) == ("worse", pytest.approx([-0.3, -0.29, -0.28]))
    found = ElementTree.parse(tmp_path / "gate.xml").getroot().iter("testcase")
    assert [case.attrib["name"] for case in found] == ["old against new", "metaworld", "atari"]


@pytest.mark.parametrize(
    ("first", "second", "named", "message"),
    [
        ("new", "old-0", ["new=new-*"], "'old-0' is no model of --seeds-of, which names new"),
        ("new", "new", ["new=new-*"], "'new' is compared with itself"),
        ("new", "old", ["new=new-*", "old=x"], "no agent of these runs is called 'x'"),
    ],
)
def test_models_that_are_not_named_are_refused(
    runs: Callable[..., list[Run]], first: str, second: str, named: list[str], message: str
) -> None:
    with pytest.raises(LramError, match=message):
        compare(first, second, runs=[run.path for run in runs(ahead)], seeds_of=named)


def test_models_need_runs() -> None:
    with pytest.raises(LramError, match="name them with --runs"):
        compare("new", "old", seeds_of=["new=a", "old=b"])
