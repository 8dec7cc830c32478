"""Scores against the dial: curves say what the records say, failing points what is known of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lram.envs import registry
from lram.envs.domains.memory.domain import task as memory_task
from lram.harness.storage.records import AgentEntry, RunPlan, WorkItem
from lram.harness.storage.run_folder import Run
from lram.reports.drawing import render
from lram.reports.model import Estimate
from lram.reports.sections.dials.failing import HALF, failing_point, is_above
from lram.reports.sections.dials.model import DialCurve, DialFamily, DialPoint
from lram.reports.sections.dials.section import _where, section
from lram.reports.sections.study.dials import LevelCurve, LevelCurves, dial_gaps, dial_table
from lram.reports.writing.export import write_report

DIALS = (10, 20, 40, 80)
HOLDS = {"long": 40, "short": 10, "none": 0, "all": 80}
"""Up to which value an agent answers everything; beyond it half of the answers are right."""


def entry(synthetic: Any, label: str, trained: Sequence[int] | None = (10, 20)) -> AgentEntry:
    made = synthetic.agent(label)
    tasks = None if trained is None else tuple(f"memory/parity-{dial}" for dial in trained)
    return replace(made, info=replace(made.info, training_tasks=tasks))


def plan_of(
    synthetic: Any, agents: Sequence[AgentEntry], episodes: int = 40, dials: Sequence[int] = DIALS
) -> RunPlan:
    tasks = [memory_task(f"parity-{dial}") for dial in dials]
    return synthetic.plan(agents, tasks, episodes, protocol="dense@1")


def outcome(item: WorkItem) -> float:
    dial = int(item.task.rpartition("-")[2])
    if dial <= HOLDS[item.agent.partition("@")[0]]:
        return 1.0
    return (0.4, 0.5, 0.6)[item.episode % 3]


@pytest.fixture
def made(synthetic: Any) -> Run:
    agents = [
        entry(synthetic, "long"),
        entry(synthetic, "short", None),
        entry(synthetic, "none"),
        entry(synthetic, "all"),
    ]
    return synthetic.run(plan_of(synthetic, agents), outcome)


def curves(run: Run) -> dict[str, dict[str, Any]]:
    found = section([run])
    assert found is not None
    return {curve["agent"]: curve for curve in found.summary["curves"]}


def test_a_curve_is_the_mean_score_at_each_value(made: Run) -> None:
    points = curves(made)["long"]["points"]
    assert [point["dial"] for point in points] == list(DIALS)
    at_80 = np.mean([2 * (0.4, 0.5, 0.6)[n % 3] - 1 for n in range(40)])
    assert [point["score"]["value"] for point in points] == pytest.approx([1, 1, 1, at_80])
    assert [point["episodes"] for point in points] == [40] * 4


def test_an_agent_fails_at_the_first_value_below_half(made: Run) -> None:
    found = {agent: curve["failing"] for agent, curve in curves(made).items()}
    assert (found["long"]["held"], found["long"]["at"]) == (40, 80)
    assert (found["short"]["held"], found["short"]["at"]) == (10, 20)
    assert (found["none"]["held"], found["none"]["at"]) == (None, 10)
    assert (found["all"]["held"], found["all"]["at"]) == (80, None)
    # Forty episodes without doubt leave no other value.
    assert (found["long"]["low"], found["long"]["high"]) == (80, 80)
    assert (found["all"]["low"], found["all"]["high"]) == (None, None)


def test_what_is_beyond_and_what_fails_at_once_is_said(made: Run) -> None:
    found = section([made])
    assert found is not None
    table = next(table for table in found.printed if table.id == "dials-reach")
    heads = [column.heading for column in table.columns]
    told = {row[heads.index("Agent")].text: row[heads.index("Fails at")].text for row in table.rows}
    assert told == {"long": "80", "short": "20", "none": "already at 10", "all": "beyond 80"}
    (line,) = [line for line in found.lead if line.startswith("parity:")]
    assert "none fails already at the smallest value, 10" in line
    assert "all holds up to the largest value, 80" in line


def led(dials: Sequence[int], scores: Sequence[Sequence[float]]) -> str:
    """Return what the lead says of an agent with such scores, between 0 and 1, at each value."""
    values = [np.array(one) for one in scores]
    points = tuple(
        DialPoint(dial, "memory/t", len(one), len(one), None, Estimate(float(one.mean()), None))
        for dial, one in zip(dials, values, strict=True)
    )
    point = failing_point(dials, values, [(0.0, 1.0)] * len(dials), 0.95)
    return _where(DialCurve("m", "m", 0, 0, None, points, point))


def test_the_lead_calls_no_value_a_fact_that_is_not_shown() -> None:
    """One episode a value shows nothing, four of five a little, forty all."""
    three = (10, 20, 40)
    assert led(three, ([0.0], [1.0], [1.0])) == (
        "cannot tell (mean below 0.5 first at 10, with a mean of 0.5 or more again at 20)"
    )
    assert led(three, ([1.0], [1.0], [1.0])) == "cannot tell (no mean is below 0.5)"
    assert led(three, ([1.0] * 40, [1.0, 0.0], [1.0, 0.0])) == (
        "seems to hold up to the largest value, 40 (20 to beyond 40)"
    )
    assert (
        led(three, ([1.0] * 40, [0.0], [0.0] * 40)) == "seems to hold up to 10 and to fail at 20 (20 to 40)"
    )
    assert led(three, ([0.0], [0.0] * 40, [0.0] * 40)) == (
        "seems to fail already at the smallest value, 10 (10 to 20)"
    )
    assert led(three, ([1.0] * 40, [0.0] * 40, [1.0] * 40)) == (
        "holds up to 10 and fails at 20, with a mean of 0.5 or more again at 40"
    )


def curve_of_seeds(*seeds: tuple[int, ...]) -> LevelCurves:
    """Return a level's curves, all scores above one half, of trainings that were measured at ``seeds``."""
    dials = (10, 20, 40)
    family = DialFamily("memory", "parity", "bits", "", "", dials, tuple(f"memory/p-{d}" for d in dials))
    scores = tuple((seed, tuple((dial, 0.9) for dial in one)) for seed, one in enumerate(seeds))
    return LevelCurves((family,), (LevelCurve(("level",), 0, (10,), (), scores),))


def test_a_training_of_a_study_fails_beyond_what_it_was_measured_at() -> None:
    study: Any = SimpleNamespace(study=SimpleNamespace(name="s"))
    found = curve_of_seeds((10,), (10, 20), (10, 20, 40))
    table = dial_table(study, found, "study").printed
    assert table.rows[0][-1].text == "beyond 10, beyond 20, beyond 40"
    [caveat] = dial_gaps(study, found)
    assert caveat.items == ("level, seed 0 on parity: 20 and 40", "level, seed 1 on parity: 40")
    assert not dial_gaps(study, curve_of_seeds((10, 20, 40)))


def test_values_that_were_trained_on_are_the_cards(made: Run) -> None:
    found = curves(made)
    assert found["long"]["trained"] == (10, 20)
    assert [point["trained"] for point in found["long"]["points"]] == [True, True, False, False]
    assert found["short"]["trained"] is None
    assert [point["trained"] for point in found["short"]["points"]] == [None] * 4


def test_limited_contexts_are_agents_of_their_own(synthetic: Any) -> None:
    agents = [entry(synthetic, name) for name in ("long", "short@window=16", "none@reset=8")]
    found = curves(synthetic.run(plan_of(synthetic, agents), outcome))
    assert [curve["failing"]["at"] for curve in found.values()] == [80, 20, 10]
    assert list(found) == ["long", "short@window=16", "none@reset=8"]


def test_one_value_makes_no_section(synthetic: Any) -> None:
    run = synthetic.run(plan_of(synthetic, [entry(synthetic, "long")], 2, dials=(10,)), outcome)
    assert section([run]) is None
    other = synthetic.run(
        synthetic.plan([synthetic.agent("a")], [synthetic.task("toy/a-1"), synthetic.task("toy/a-2")], 2),
        lambda item: 1.0,
    )
    assert section([other]) is None


def test_a_score_of_two_values_has_wilsons_interval(synthetic: Any) -> None:
    tasks = [memory_task("tmaze-10"), memory_task("tmaze-20")]
    plan = synthetic.plan([entry(synthetic, "long")], tasks, 20, protocol="dense@1")
    run = synthetic.run(plan, lambda item: float(item.episode % 4 > 0) if item.task.endswith("20") else 1.0)
    always, often = curves(run)["long"]["points"]
    assert (always["score"]["interval"]["method"], often["score"]["interval"]["method"]) == ("score", "score")
    # Wilson (1927): of 20 of 20 the lower end is n / (n + z^2), as a rate.
    rate = 20 / (20 + 1.959964**2)
    assert always["score"]["interval"]["low"] == pytest.approx(2 * rate - 1, abs=1e-4)
    assert always["score"]["interval"]["high"] == 1.0


def test_a_domain_that_is_not_installed_costs_one_sentence(
    made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = registry.load_domain

    def lacking(name: str) -> Any:
        if name == "memory":
            from lram.envs.errors import SelectionError

            raise SelectionError("there is no domain memory")
        return real(name)

    for module in ("lram.envs.dials", "lram.envs.returns", "lram.envs.attributes"):
        monkeypatch.setattr(f"{module}.load_domain", lacking)
    found = section([made])
    assert found is not None
    assert not found.tables
    (line,) = found.lead
    assert "memory" in line
    assert "not installed" in line


def test_a_third_partys_dial_is_drawn_too(synthetic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from lram.envs.registry import load_domain
    from lram.envs.task import Dial

    own = replace(
        load_domain("toy"),
        dial=lambda name: Dial("maze", int(name[4:]), "rooms") if name.startswith("maze") else None,
    )
    monkeypatch.setattr("lram.envs.dials.load_domain", lambda name: own)
    tasks = [synthetic.task("toy/maze3"), synthetic.task("toy/maze9"), synthetic.task("toy/other")]
    run = synthetic.run(
        synthetic.plan([synthetic.agent("a")], tasks, 5),
        lambda item: float(item.task != "toy/maze9") + 0.01 * item.episode,
    )
    found = section([run])
    assert found is not None
    (family,) = found.summary["families"]
    assert (family["family"], family["dials"], family["unit"]) == ("maze", (3, 9), "rooms")


@pytest.mark.usefixtures("no_figures")
def test_the_report_has_page_figure_tables_and_numbers(made: Run, tmp_path: Path) -> None:
    write_report([made], tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Score against the dial" in page
    assert "What these models can remember and track" in page
    assert "both bounds come from a test by betting (Waudby-Smith and Ramdas 2024)" in page
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["chapters"]["dials"]["families"][0]["family"] == "parity"
    rows = list(
        csv.DictReader(io.StringIO((tmp_path / "report" / "tables" / "dials_points.csv").read_text()))
    )
    assert len(rows) == 4 * len(DIALS)
    assert (tmp_path / "report" / "tables" / "dials_reach.csv").is_file()
    assert list((tmp_path / "report" / "figures").glob("dials-memory.*"))


def test_the_figure_marks_what_was_trained_on(made: Run) -> None:
    found = section([made])
    assert found is not None
    (drawing,) = found.drawings
    axes = drawing.figure.axes[0]
    marks = [line for line in axes.lines if line.get_marker() == "|"]
    assert [list(line.get_xdata()) for line in marks] == [[10, 20]]
    assert (
        len([line for line in axes.lines if line.get_marker() in "osD^" and len(line.get_xdata()) == 4]) == 4
    )
    assert render(drawing, "png")[:4] == b"\x89PNG"


LAWS = (
    ((0.95, 0.9, 0.7, 0.45, 0.2, 0.0), 20, 8),
    ((0.52, 0.52, 0.52, 0.52, 0.2), 30, 1),
    ((0.51,) * 6, 30, 10),
    ((1.0, 1.0, 0.98, 0.49, 0.0), 10, 20),
    ((0.49, 0.6, 0.0), 40, 4),
)
"""True scores by value, episodes, and questions of an episode."""


@pytest.mark.parametrize(("scores", "episodes", "asked"), LAWS)
def test_the_interval_holds_the_true_point_as_often_as_it_says(
    scores: tuple[float, ...], episodes: int, asked: int
) -> None:
    rng = np.random.default_rng(7)
    dials = list(range(1, len(scores) + 1))
    true = next((d for d, score in zip(dials, scores, strict=True) if score < HALF), len(dials) + 1)
    held = 0
    for _ in range(400):
        drawn = [2 * rng.binomial(asked, (score + 1) / 2, episodes) / asked - 1 for score in scores]
        found = failing_point(dials, drawn, [(-1.0, 1.0)] * len(dials), 0.95)
        low, high = found.low or len(dials) + 1, found.high or len(dials) + 1
        held += low <= true <= high
    assert held >= 0.95 * 400


def test_a_single_test_keeps_its_error_at_the_bar() -> None:
    """A law on the ends of the range, the worst there is, with a mean just at the bar."""
    rng = np.random.default_rng(3)
    wrong = sum(
        is_above(rng.choice([-1.0, 1.0], 25, p=[0.25, 0.75]), HALF, (-1.0, 1.0), 0.05) for _ in range(4000)
    )
    assert wrong <= 0.05 * 4000
    assert is_above(np.ones(25), HALF, (-1.0, 1.0), 0.025)


def test_a_range_that_is_not_told_leaves_students_bound() -> None:
    unbounded = (-np.inf, np.inf)
    rng = np.random.default_rng(0)
    assert is_above(rng.normal(2.0, 0.1, 20), HALF, unbounded, 0.025)
    assert not is_above(rng.normal(0.5, 0.1, 20), HALF, unbounded, 0.001)
    assert not is_above(np.ones(20), HALF, unbounded, 0.025)  # without noise nothing tells how far it is
