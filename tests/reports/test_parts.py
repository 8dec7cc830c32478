"""Scores by inner episode: the curves say what the records say, and a gain is told only where it is shown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.envs.task import Task
from lram.harness.storage.records import EpisodeRecord, Failure, RunPlan, WorkItem
from lram.harness.storage.run_folder import Run, RunWriter
from lram.harness.storage.seeds import own_seeds, simulator_seed
from lram.reports.drawing import render
from lram.reports.evidence import counting
from lram.reports.sections.inner_episodes import model
from lram.reports.sections.inner_episodes.section import section
from lram.reports.writing.export import write_report

PARTS = 4
GOALS = 8


def rooms(synthetic: Any, kind: str, split: str) -> list[Task]:
    return [
        synthetic.task(f"darkroom/{kind}-{n:02d}", random=0.4, reference=4.0, split=split)
        for n in range(GOALS)
    ]


def returns(item: WorkItem) -> tuple[float, ...]:
    """A student that earns 0, 1, 2, 3 and a habit that earns 1 throughout, both shifted by the trial."""
    shift = 0.1 * item.episode + 0.01 * int(item.task[-2:])
    return tuple(shift + (place if item.agent == "student" else 1.0) for place in range(PARTS))


class Trials:
    """Writes runs of trials."""

    def __init__(self, synthetic: Any) -> None:
        self.synthetic = synthetic

    def plan(
        self, agents: tuple[str, ...] = ("student", "habit"), episodes: int = 3, seed: int = 0
    ) -> RunPlan:
        entries = [self.synthetic.agent(name) for name in agents]
        return self.synthetic.plan(entries, rooms(self.synthetic, "sparse", "heldout"), episodes, seed=seed)

    def write(self, plan: RunPlan, of=returns, name: str = "trials", order=list) -> Run:
        path = self.synthetic.folder / name
        with RunWriter.create(path, plan) as writer:
            for item in order(plan.items()):
                writer.append(self.record(plan, item, of(item)))
        return Run(path)

    def record(self, plan: RunPlan, item: WorkItem, parts: tuple[float, ...] | Failure) -> EpisodeRecord:
        if isinstance(parts, Failure):
            return self.synthetic.record(plan, item, parts)
        return replace(self.synthetic.record(plan, item, sum(parts)), parts=parts)


@pytest.fixture
def trials(synthetic: Any) -> Trials:
    return Trials(synthetic)


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_episodes_without_parts_make_no_section(synthetic: Any) -> None:
    run = synthetic.run(
        synthetic.plan([synthetic.agent("a")], [synthetic.task("toy/a")], 2), lambda item: 1.0
    )
    assert section([run]) is None


def test_a_curve_is_the_mean_of_the_tasks_means(trials: Trials) -> None:
    made = section([trials.write(trials.plan())])
    curve = made.summary["curves"][0]
    expected = 0.1 + 0.01 * 3.5
    assert curve["agent"] == "student"
    assert [part["value"] for part in curve["parts"]] == pytest.approx([expected + k for k in range(PARTS)])
    assert (curve["tasks"], curve["trials"], curve["of_trials"]) == (GOALS, 24, 24)
    assert curve["whole"]["value"] == pytest.approx(expected + 1.5)


def test_a_task_with_more_trials_does_not_weigh_more(trials: Trials) -> None:
    plan = trials.plan(("habit",))
    lost = Failure("session", "it broke")

    def of(item: WorkItem) -> tuple[float, ...] | Failure:
        if item.task.endswith("00"):
            return (7.0,) * PARTS
        return lost if item.episode else (1.0,) * PARTS

    [curve] = section([trials.write(plan, of)]).summary["curves"]
    assert curve["parts"][0]["value"] == pytest.approx((7 + 7 * 1) / 8)
    assert (curve["trials"], curve["of_trials"]) == (3 + 7, 24)


def test_trials_that_are_lost_are_told(trials: Trials) -> None:
    plan = trials.plan(("habit",))
    lost = Failure("session", "it broke")
    made = section([trials.write(plan, lambda item: lost if item.episode == 0 else returns(item))])
    [caveat] = made.caveats
    assert "habit 16 of 24" in caveat.text
    assert not section([trials.write(plan, name="whole")]).caveats


def test_a_gain_is_told_of_the_one_that_has_one(trials: Trials) -> None:
    noise = np.random.default_rng(0)

    def of(item: WorkItem) -> tuple[float, ...]:
        return tuple(value + noise.normal(0, 0.5) for value in returns(item))

    made = section([trials.write(trials.plan(), of)])
    student, habit = made.summary["curves"]
    assert student["gain"]["interval"]["low"] > 1.5
    assert habit["gain"]["interval"]["low"] < 0 < habit["gain"]["interval"]["high"]
    assert student["gain_p"] == 2 / 2**GOALS
    assert student["gain_p_holm"] == 2 * student["gain_p"]
    assert "student (darkroom heldout" in made.lead[1]
    assert "habit (" not in made.lead[1]


def test_the_interval_is_that_of_other_goals(trials: Trials) -> None:
    """Many trials of few goals that differ: only other goals could make it narrower."""

    def of(item: WorkItem) -> tuple[float, ...]:
        return (float(item.task[-2:]),) * PARTS

    widths = []
    for episodes in (2, 20):
        run = trials.write(trials.plan(("habit",), episodes), of, name=f"run-{episodes}")
        interval = section([run]).summary["curves"][0]["whole"]["interval"]
        widths.append(interval["high"] - interval["low"])
    assert widths[0] == widths[1]
    # 2.365 (t, 7 degrees of freedom) standard errors of the mean of 0, 1, .. 7, either side.
    assert widths[0] == pytest.approx(2 * 2.3646 * np.sqrt(6 / 8), rel=1e-4)


def test_equal_values_have_no_interval_of_no_width(trials: Trials) -> None:
    made = section([trials.write(trials.plan(("habit",)), lambda item: (1.0,) * PARTS)])
    [curve] = made.summary["curves"]
    assert curve["parts"][0] == {"value": 1.0, "interval": None, "note": "all equal"}


def test_models_are_compared_on_the_trials_that_both_have(trials: Trials) -> None:
    plan = trials.plan()
    lost = Failure("session", "it broke")

    def of(item: WorkItem) -> tuple[float, ...] | Failure:
        return lost if item.agent == "habit" and item.episode == 2 else returns(item)

    [pair] = section([trials.write(plan, of)]).summary["differences"]
    assert (pair["first"], pair["second"], pair["trials"]) == ("student", "habit", 16)
    assert pair["whole"]["value"] == pytest.approx(0.5)
    assert pair["last"]["value"] == pytest.approx(2.0)


def test_a_model_that_fails_trials_is_not_compared_by_the_others(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    nan = Failure("agent", "the action is NaN")

    def fails(item: WorkItem) -> Any:
        bad = item.agent == "student" and item.episode == 0 and item.task.endswith("-00")
        return nan if bad else returns(item)

    run = trials.write(trials.plan(), fails)
    counted = section([run])  # with the least return of Dark-Room, 0
    assert len(counted.summary["differences"]) == 1
    monkeypatch.setattr(counting, "least_return", lambda task: None)
    made = section([run])
    assert not made.summary["differences"]
    (caveat,) = [caveat for caveat in made.caveats if caveat.kind == "parts-failed"]
    (item,) = caveat.items
    assert item.startswith("student against habit (darkroom ")
    assert "failed by the agent's own errors" in item


def test_trials_of_a_collection_whose_agents_begin_elsewhere_are_not_paired(trials: Trials) -> None:
    plan = replace(trials.plan(), collected=True)
    seeds = own_seeds(plan)
    with RunWriter.create(trials.synthetic.folder / "collected", plan) as writer:
        for item in plan.items():
            seed = simulator_seed(seeds[item.agent], item.task, item.episode)
            writer.append(replace(trials.record(plan, item, returns(item)), seed=seed))
    summary = section([Run(trials.synthetic.folder / "collected")]).summary
    assert [curve["trials"] for curve in summary["curves"]] == [24, 24]
    assert not summary["differences"]


def noisy(spread: float, shift: float = 0.0) -> Callable[[WorkItem], tuple[float, ...]]:
    """Return what gives both agents the same mean, up to ``shift``, and each goal its own luck."""

    def of(item: WorkItem) -> tuple[float, ...]:
        luck = np.random.default_rng([ord(item.agent[0]), int(item.task[-2:])]).normal(0, spread)
        return (1.0 + luck + shift * (item.agent == "student"),) * PARTS

    return of


def test_models_are_told_apart_by_a_test_that_is_corrected_for_the_rows_shown(trials: Trials) -> None:
    agents = ("student", "habit", "other")
    summary = section([trials.write(trials.plan(agents), noisy(0.3, 2.0))]).summary
    pairs = {(one["first"], one["second"]): one for one in summary["differences"]}
    shown = pairs["student", "habit"]
    assert (shown["p"], shown["p_holm"]) == (2 / 2**GOALS, 3 * 2 / 2**GOALS)
    assert pairs["habit", "other"]["p_holm"] >= pairs["habit", "other"]["p"] > 0.05
    for one in pairs.values():
        interval = one["whole"]["interval"]
        assert (interval["low"] > 0 or interval["high"] < 0) == (one["p"] < 0.05)


def test_what_is_clear_is_shown_however_many_rows_are_corrected_for(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20 patterns the least p is 1 / 21, which a correction for two tests would lift above 0.05."""
    monkeypatch.setattr(model, "PATTERNS", 20)
    monkeypatch.setitem(globals(), "GOALS", 12)

    def of(item: WorkItem) -> tuple[float, ...]:
        level = 3.0 * "abcd".index(item.agent)
        luck = np.random.default_rng([ord(item.agent), int(item.task[-2:])]).normal(0, 0.1, PARTS)
        return tuple(float(level + place + value) for place, value in enumerate(luck))

    made = section([trials.write(trials.plan(tuple("abcd"), 1), of)])
    assert [one["p_holm"] < 0.05 for one in made.summary["differences"]] == [True] * 6
    assert {row[-1].text for row in made.printed[1].rows} == {"worse"}
    assert [curve["gain_p_holm"] < 0.05 for curve in made.summary["curves"]] == [True] * 4


def test_few_goals_cannot_tell_models_apart(trials: Trials, synthetic: Any) -> None:
    """Five goals whose intervals would all leave out 0: the least p is 0.0625."""
    agents = [synthetic.agent(name) for name in ("student", "habit")]
    plan = synthetic.plan(agents, rooms(synthetic, "sparse", "heldout")[:5], 3)
    made = section([trials.write(plan, noisy(0.1, 3.0))])
    [pair] = made.summary["differences"]
    assert (pair["p"], pair["whole"]["interval"]) == (2 / 2**5, None)
    assert made.printed[1].rows[0][-1].text == "cannot tell"
    assert made.printed[0].rows[0][6].value == 0.0


def test_baselines_are_not_compared(trials: Trials, synthetic: Any) -> None:
    agents = [synthetic.agent("student"), synthetic.agent("random", trained=None)]
    plan = synthetic.plan(agents, rooms(synthetic, "dense", "train"), 2)
    assert not section([trials.write(plan)]).summary["differences"]


def test_groups_keep_rewards_and_splits_apart_and_have_their_references(
    trials: Trials, synthetic: Any
) -> None:
    tasks = [*rooms(synthetic, "sparse", "heldout"), *rooms(synthetic, "dense", "train")[:2]]
    made = section([trials.write(synthetic.plan([synthetic.agent("habit")], tasks, 1))])
    groups = made.summary["groups"]
    assert [group["name"] for group in groups] == ["darkroom, heldout, sparse", "darkroom, train, dense"]
    assert [group["tasks"] for group in groups] == [8, 2]
    assert groups[0]["random"] == pytest.approx(0.1)
    assert groups[0]["reference"] == pytest.approx(1.0)


def test_the_tables_for_programs_hold_every_trial(trials: Trials) -> None:
    plan = trials.plan()
    made = section([trials.write(plan)])
    told = rows(made.csv["parts_trials.csv"])
    assert len(told) == len(plan.items()) * PARTS
    one = next(
        row for row in told if row["task"].endswith("03") and row["episode"] == "2" and row["part"] == "4"
    )
    assert one["agent"] == "student"
    assert float(one["return"]) == pytest.approx(3 + 0.2 + 0.03)
    curve = [float(row["return"]) for row in rows(made.csv["parts_curves.csv"]) if row["agent"] == "student"]
    assert curve == [part["value"] for part in made.summary["curves"][0]["parts"]]


def test_equal_records_give_equal_bytes_in_any_order(trials: Trials) -> None:
    plan = trials.plan()
    one = section([trials.write(plan)])
    other = section([trials.write(plan, name="again", order=lambda items: items[::-1])])
    assert one.csv == other.csv
    assert one.summary == other.summary
    assert render(one.drawings[0], "svg") == render(other.drawings[0], "svg")


def test_two_runs_of_other_seeds_add_up(trials: Trials) -> None:
    runs = [trials.write(trials.plan(seed=seed), name=f"seed-{seed}") for seed in (0, 1)]
    assert section(runs).summary["curves"][0]["trials"] == 48


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_the_report_has_the_section(trials: Trials, tmp_path: Path) -> None:
    write_report([trials.write(trials.plan())], tmp_path / "report")
    summary = json.loads((tmp_path / "report/summary.json").read_text())
    assert summary["chapters"]["parts"]["curves"][0]["agent"] == "student"
    assert (tmp_path / "report/figures/parts-curves.svg").is_file()
    assert "Score by episode within the context" in (tmp_path / "report/summary.md").read_text()
