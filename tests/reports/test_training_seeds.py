"""Trainings of one model: named, averaged, compared between models, with the noise between trainings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lram.harness.cli import app
from lram.harness.errors import LramError
from lram.harness.storage.records import Failure, WorkItem
from lram.harness.storage.run_folder import Run
from lram.reports.evidence.collect import collect
from lram.reports.evidence.evidence import Evidence
from lram.reports.section import Section, SectionSettings
from lram.reports.sections.training_seeds.model import SeedsResult, estimate_seeds
from lram.reports.sections.training_seeds.section import section
from lram.reports.seed_groups import SeedGroup, read_seed_groups
from lram.reports.statistics import over_seeds
from lram.reports.text import SCALE

TASKS = ("metaworld/reach", "metaworld/push", "atari/pong")
GROUPS = (SeedGroup("one", ("one-0", "one-1", "one-2")), SeedGroup("two", ("two-0", "two-1", "two-2")))
WORTH = {"one-0": 0.7, "one-1": 0.72, "one-2": 0.71, "two-0": 0.4, "two-1": 0.43, "two-2": 0.43}


def runs_of(synthetic: Any, own_starts: bool = True, without: str = "", digest: str = "") -> list[Run]:
    """A run a training seed, or one of all."""
    tasks = [synthetic.task(task) for task in TASKS]

    def outcome(item: WorkItem) -> Any:
        luck = 0.1 * (item.episode % 2) - 0.05
        value = WORTH[item.agent] + luck
        if item.task == without and item.agent == "two-1":
            return Failure("agent", "NaN")
        return (value, item.episode % 2 == 0, False) if item.task.startswith("metaworld") else value

    def entries(*labels: str) -> list[Any]:
        return [synthetic.agent(label, digest=digest) for label in labels]

    if not own_starts:
        return [synthetic.run(synthetic.plan(entries(*WORTH), tasks, 4), outcome)]
    return [
        synthetic.run(synthetic.plan(entries(f"one-{seed}", f"two-{seed}"), tasks, 4, seed=seed), outcome)
        for seed in range(3)
    ]


def estimated(runs: list[Run], groups: tuple[SeedGroup, ...] = GROUPS) -> SeedsResult:
    return estimate_seeds(collect(runs), groups, 0.95)


def late(found: Evidence, *labels: str) -> Evidence:
    return replace(found, realtime_hz=dict.fromkeys(labels, 50.0))


def test_trainings_in_worlds_of_different_rates_are_not_compared(synthetic: Any) -> None:
    found = late(collect(runs_of(synthetic)), *GROUPS[1].agents)
    result = estimate_seeds(found, GROUPS, 0.95)
    [one] = result.differences
    assert (one.difference, one.p, one.verdict) == (None, None, "cannot tell")
    assert one.reason == "not comparable: their trainings acted in worlds that waited and at 50 Hz"
    assert all(mean.mean is not None for mean in result.means), "each model has its number"
    shown = section(found, SectionSettings(seed_groups=GROUPS))
    assert shown is not None
    assert shown.headline.startswith("one scores 0.71 [")
    assert shown.headline.endswith(" two cannot be compared.")
    assert {caveat.kind: caveat.items for caveat in shown.caveats}["seeds-real-time"] == ("one against two",)


def test_trainings_of_one_model_in_worlds_of_different_rates_make_no_number(synthetic: Any) -> None:
    found = late(collect(runs_of(synthetic)), "one-1")
    result = estimate_seeds(found, GROUPS, 0.95)
    assert {(mean.group, mean.mean is None) for mean in result.means} == {("one", True), ("two", False)}
    assert result.differences[0].difference is None
    shown = section(found, SectionSettings(seed_groups=GROUPS))
    assert shown is not None
    kinds = {caveat.kind: caveat.items for caveat in shown.caveats}
    assert kinds["seeds-real-time"] == ("one",)
    assert "seeds-failed" not in kinds


def made(runs: list[Run], groups: tuple[SeedGroup, ...] = GROUPS) -> Section:
    found = section(runs, SectionSettings(seed_groups=groups))
    assert found is not None
    return found


def test_a_model_s_mean_is_that_of_its_trainings_with_a_t_interval_over_them(synthetic: Any) -> None:
    result = estimated(runs_of(synthetic))
    means = {(mean.group, mean.domain, mean.measure): mean for mean in result.means}
    one = means["one", "", "score"]
    assert one.trainings == (("one-0", 0.7), ("one-1", 0.72), ("one-2", 0.71))
    assert one.mean is not None
    assert one.mean.interval is not None
    assert one.mean.value == pytest.approx(0.71)
    low, high = stats.t.interval(0.95, 2, 0.71, 0.01 / np.sqrt(3))
    assert (one.mean.interval.low, one.mean.interval.high) == pytest.approx((low, high))
    assert means["two", "metaworld", "success_any"].tasks == 2
    solved = means["two", "metaworld", "success_any"].mean
    assert solved is not None
    assert (solved.value, solved.interval, solved.note) == (0.5, None, "seeds do not differ")
    assert ("two", "atari", "success_any") not in means


def test_models_are_compared_by_pairs_of_their_trainings(synthetic: Any) -> None:
    runs = runs_of(synthetic)
    [found] = estimated(runs).differences
    assert found.pairs == pytest.approx((0.3, 0.29, 0.28))
    assert found.difference is not None
    assert found.difference.value == pytest.approx(0.29)
    assert found.p == pytest.approx(stats.ttest_1samp([0.3, 0.29, 0.28], 0).pvalue)
    assert (found.p_holm, found.verdict) == (found.p, "better")
    [back] = estimated(runs, GROUPS[::-1]).differences
    assert (back.verdict, back.pairs) == ("worse", pytest.approx((-0.3, -0.29, -0.28)))


def test_two_trainings_have_an_interval_and_no_verdict_and_one_has_neither(synthetic: Any) -> None:
    runs = runs_of(synthetic)
    two = tuple(SeedGroup(group.name, group.agents[:2]) for group in GROUPS)
    [found] = estimated(runs, two).differences
    assert (found.p, found.verdict, found.reason) == (None, "cannot tell", "2 seeds")
    assert found.difference is not None
    assert found.difference.interval is not None
    one = SeedGroup("one", ("one-0",))
    mean = estimated(runs, (one,)).means[0].mean
    assert mean is not None
    assert (mean.interval, mean.note) == (None, "1 seed")
    kinds = {caveat.kind: caveat for caveat in made(runs, (one, GROUPS[1])).caveats}
    assert kinds["seeds-few"].items == ("one",)
    assert kinds["seeds-unpaired"].items == ("one: 1 training", "two: 3 trainings")


def test_shared_initial_states_are_said(synthetic: Any) -> None:
    assert estimated(runs_of(synthetic)).shared == ()
    runs = runs_of(synthetic, own_starts=False)
    assert estimated(runs).shared == ("one", "two")
    assert [caveat.kind for caveat in made(runs).caveats] == ["seeds-shared-starts"]


def test_a_training_that_fails_a_task_keeps_its_model_from_being_compared(synthetic: Any) -> None:
    found = made(runs_of(synthetic, without="atari/pong"))
    means = {(one["group"], one["measure"], one["domain"]): one for one in found.summary["means"]}
    two = means["two", "score", "metaworld"]
    assert two["reason"].startswith("not comparable: two-1 (atari/pong: 4 of 4")
    assert two["mean"] is None
    assert means["one", "score", "metaworld"]["tasks"] == 2
    [difference] = found.summary["differences"]
    assert (difference["difference"], difference["verdict"]) == (None, "cannot tell")
    assert {caveat.kind for caveat in found.caveats} == {"seeds-failed", "seeds-left-out"}
    assert any("two has no score: not comparable" in line for line in found.lead)


def test_episodes_that_a_training_lost_to_errors_are_said(synthetic: Any) -> None:
    def outcome(item: WorkItem) -> Any:
        crashed = item.agent == "one-1" and (item.task == "atari/pong" or item.episode < 3)
        return Failure("crash", "the worker died") if crashed else WORTH[item.agent]

    tasks = [synthetic.task(task) for task in TASKS]
    run = synthetic.run(synthetic.plan([synthetic.agent(label) for label in WORTH], tasks, 4), outcome)
    section = made([run])
    caveats = {caveat.kind: caveat.items for caveat in section.caveats}
    assert caveats["seeds-lost"] == (
        "one-1 on metaworld/reach: 1 of 4 episodes",
        "one-1 on metaworld/push: 1 of 4 episodes",
    )
    assert caveats["seeds-left-out"] == ("atari/pong: 4 episodes of one-1 errored, and no other is there",)


def test_one_training_under_two_labels_is_not_two(synthetic: Any) -> None:
    with pytest.raises(LramError, match="'one-0' and 'one-1' have the same weights"):
        estimated(runs_of(synthetic, digest="7" * 64))


def test_intervals_over_trainings_hold_the_truth_and_equal_models_are_rarely_told_apart() -> None:
    """Each training's noise, and on top of it that of its own episodes."""
    rng = np.random.default_rng(7)
    trainings = (
        0.6 + 0.05 * rng.normal(size=(4000, 2, 3)) + 0.03 * rng.normal(size=(4000, 2, 3, 10)).mean(axis=-1)
    )
    spans = [over_seeds(one[0], 0.95)[0] for one in trainings]
    held = np.mean([span is not None and span[0] <= 0.6 <= span[1] for span in spans])
    told = np.mean([(over_seeds(one[0] - one[1], 0.95)[1] or 1.0) < 0.05 for one in trainings])
    error = np.sqrt(0.05 * 0.95 / 4000)
    assert abs(held - 0.95) < 4 * error
    assert abs(told - 0.05) < 4 * error


def test_the_headline_is_about_models_and_says_no_more_than_the_tests(synthetic: Any) -> None:
    runs = runs_of(synthetic)
    assert made(runs, GROUPS[:1]).headline == f"one scores 0.71 [0.69, 0.73] over 3 trainings {SCALE}."
    two = tuple(SeedGroup(group.name, group.agents[:2]) for group in GROUPS)
    unclear = f"over 2 trainings {SCALE}, but is not shown to be better than two."
    assert made(runs, two).headline.endswith(unclear)
    failing = made(runs_of(synthetic, without="atari/pong"))
    assert failing.headline.startswith("one scores 0.71")
    assert failing.headline.endswith("two cannot be compared.")


def test_without_groups_there_is_no_section(synthetic: Any) -> None:
    assert section(runs_of(synthetic)) is None


def test_labels_are_named_one_by_one_or_by_patterns() -> None:
    labels = ["a-0", "a-1", "b,1", "c=2", "c"]
    assert read_seed_groups(["A=a-*", "B = b,1,c=2"], labels) == (
        SeedGroup("A", ("a-0", "a-1")),
        SeedGroup("B", ("b,1", "c=2")),
    )
    for texts, message in (
        (["A"], "is no group of trainings; write"),
        (["=a-0"], "is no group"),
        (["A="], "is no group"),
        (["A=a-0,nobody"], "no agent of these runs is called 'nobody'; they have a-0, a-1"),
        (["A=a-0", "A=a-1"], "names 'A' twice"),
        (["A=a-0", "B=a-*"], "counts 'a-0' as a training of 'A' and of 'B'"),
        (["A\n# x=a-0"], "a name that cannot be printed"),
        (["a-0=a-*"], "calls a model as an agent of these runs is called"),
    ):
        with pytest.raises(LramError, match=message):
            read_seed_groups(texts, labels)


def test_the_command_reports_them(synthetic: Any, tmp_path: Path) -> None:
    folders = [str(run.path) for run in runs_of(synthetic)]
    out = str(tmp_path / "report")
    code = app(
        ["report", *folders, "--seeds-of", "One=one-*", "--seeds-of", "Two=two-*", "-o", out],
        exit_on_error=False,
        result_action="return_value",
    )
    assert code == 0
    said = (tmp_path / "report" / "summary.md").read_text()
    assert "One scores higher than Two, also between trainings: +0.290" in said
    assert said.splitlines()[2] == (
        "**One has the highest score of the models, 0.71 \\[0.69, 0.73\\] over 3 trainings on a scale from "
        "random play (0) to the reference (1), and is shown to be better than Two.**"
    )
    assert "Of single agents: one-1 has the highest score" in said
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.index("One has the highest score of the models") < page.index("Of single agents: one-1")
    kept = json.loads((tmp_path / "report" / "summary.json").read_text())["chapters"]["seeds"]
    assert [group["name"] for group in kept["groups"]] == ["One", "Two"]
    assert (tmp_path / "report" / "tables" / "seeds_differences.csv").is_file()
    assert (tmp_path / "report" / "figures" / "seeds-scores.svg").is_file()
    with pytest.raises(LramError, match="no agent of these runs is called 'x'"):
        app(["report", *folders, "--seeds-of", "One=x", "-o", out], result_action="return_value")
