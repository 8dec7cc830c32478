"""The section on precisions: verdicts by corrected p, bounds that hold as printed, what is checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lram.harness.storage.json_files import write_json
from lram.harness.storage.records import Failure
from lram.harness.storage.run_folder import Run, RunWriter
from lram.harness.studies.precision.folder import STUDY_FILE, PrecisionFolder
from lram.harness.studies.precision.records import (
    SCHEMA,
    PrecisionAgreement,
    PrecisionCell,
    PrecisionPlan,
    PrecisionPoint,
    PrecisionTimes,
    TaskAgreement,
)
from lram.harness.studies.precision.study import PrecisionStudy
from lram.harness.studies.study import Evaluation
from lram.reports.model import Comparison, ConfidenceInterval, Estimate
from lram.reports.section import SectionSettings
from lram.reports.sections.precision import section as precision_section
from lram.reports.sections.precision.model import PrecisionResult, _costs, _judged, _up
from lram.reports.sections.precision.section import section

CELL = PrecisionCell("m", "m", "int8", "m, int8", "m-int8", "")


TASKS = ("toy/reach", "metaworld/reach-v3")


def write(synthetic: Any, path: Path, *, worse: float = 0.3, narrow: tuple[str, ...] = ("int8",)) -> Path:
    """Write a study as 'lram ablate' does, without what acted; ``narrow`` is ``worse`` by so much."""
    study = PrecisionStudy(
        "weights", "Do they matter?", ("m",), ("float32", *narrow), Evaluation(TASKS, episodes=6)
    )
    cells = tuple(
        PrecisionCell("m", "m", precision, f"m, {precision}", f"m-{precision}", "ab")
        for precision in study.precisions
    )
    path.mkdir(parents=True)
    write_json(path / STUDY_FILE, PrecisionPlan(SCHEMA, study, ("toy:lram@1",), cells, {"torch": "2"}))
    opened = PrecisionFolder(path)
    for cell in cells:
        lost = 0.0 if cell is cells[0] else worse
        tasks = [synthetic.task(task) for task in TASKS]
        plan = synthetic.plan([synthetic.agent(cell.title)], tasks, 6)
        RunWriter.create(opened.eval(cell), plan).close()
        with RunWriter(Run(opened.eval(cell))) as writer:
            for item in plan.items():
                value = 0.5 + 0.05 * item.episode - lost * (1 + 0.1 * item.episode)
                writer.append(synthetic.record(plan, item, value))
        equal = 100 if cell is cells[0] else 60
        actions = tuple(TaskAgreement(task, True, 100, equal, 0.01 * (100 - equal), 0.5) for task in TASKS)
        write_json(opened.agreement_file(cell), PrecisionAgreement(SCHEMA, cell.title, actions))
    points = tuple(
        PrecisionPoint(precision, 1, 50, (2.0, 2.0), (cpu, cpu), 1000, int(2e6 * cpu))
        for precision, cpu in zip(study.precisions, (2.0, 1.0, 1.0), strict=False)
    )
    file = opened.times_file("m")
    file.parent.mkdir()
    steps = dict.fromkeys(study.precisions, "fused")
    write_json(file, PrecisionTimes(SCHEMA, "m", "ab", steps, 0.2, points, synthetic.provenance()))
    return path


def test_a_precision_that_scores_worse_is_called_so(synthetic: Any, tmp_path: Path) -> None:
    made = section([write(synthetic, tmp_path / "worse")])
    assert "m in int8: worse" in made.lead[1]
    assert not made.caveats
    (summary,) = made.summary
    base, narrow = summary["scores"]
    assert base["verdict"] == ""
    assert narrow["difference"] == pytest.approx(-0.375)
    assert summary["costs"][1]["cpu_ratio"] == pytest.approx(0.5)
    assert "60.0% of the continuous ones equal" in made.lead[2]
    same = section([write(synthetic, tmp_path / "same", worse=0.0)])
    assert "m in int8: no difference shown" in same.lead[1]


def test_a_clear_verdict_stands_however_many_rows_are_corrected_for(
    synthetic: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20 patterns the least p is 1 / 21, which a correction for two tests would lift above 0.05."""
    monkeypatch.setattr(precision_section, "RESAMPLES", 20)
    made = section([write(synthetic, tmp_path / "study", narrow=("bfloat16", "int8"))])
    assert "m in bfloat16: worse; m in int8: worse" in made.lead[1]


def test_a_precision_that_fails_a_task_is_not_compared_by_the_others(
    synthetic: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Atari no least return is known that an episode with NaN could count with; on Meta-World it is 0."""
    record = synthetic.record

    def failing(plan: Any, item: Any, value: float) -> Any:
        if "int8" in item.agent and item.episode < 2 and item.task == "toy/reach":
            return record(plan, item, Failure("crash", "it crashed"))
        if "int8" in item.agent and item.episode < 4 and item.task in nan:
            return record(plan, item, Failure("agent", "the action is NaN"))
        return record(plan, item, value)

    monkeypatch.setattr(synthetic, "record", failing)
    monkeypatch.setitem(globals(), "TASKS", ("toy/reach", "metaworld/reach-v3", "atari/freeway"))
    nan: tuple[str, ...] = ("atari/freeway",)
    made = section([write(synthetic, tmp_path / "atari", worse=-0.1)])
    assert "m in int8: not comparable: m, int8 on atari/freeway: 4 of 6 episodes failed" in made.lead[1]
    row = made.summary[0]["scores"][1]
    assert (row["verdict"], row["difference"], row["p"]) == ("not comparable", None, None)
    caveats = {caveat.kind: caveat.items for caveat in made.caveats}
    assert caveats == {
        "precision_failed": ("m, int8 on atari/freeway: 4 episodes, no score there",),
        "precision_errored": ("m, int8: 2 episodes",),
    }
    nan = ("metaworld/reach-v3",)
    made = section([write(synthetic, tmp_path / "metaworld", worse=-0.1)])
    assert made.summary[0]["scores"][1]["difference"] is not None
    caveats = {caveat.kind: caveat.items for caveat in made.caveats}
    assert caveats["precision_failed"] == ("m, int8 on metaworld/reach-v3: 4 episodes",)


def test_the_summary_names_the_normaliser_of_its_scores_and_the_doubts_of_intervals(
    synthetic: Any, tmp_path: Path
) -> None:
    path = write(synthetic, tmp_path / "study")
    made = section([path], SectionSettings(normaliser="measured-random"))
    (summary,) = made.summary
    for rows in (summary["scores"], summary["tasks"]):
        assert {row["normaliser"] for row in rows} == {"measured-random"}
    base, narrow = section([path]).summary[0]["scores"]
    assert (base["score_interval"], base["score_doubt"]) == ("t", "few episodes")
    assert (narrow["difference_interval"], narrow["difference_doubt"]) == ("sign flips", "")
    assert list(narrow)[-5] == "normaliser"


def test_a_first_precision_that_does_not_repeat_its_play_is_warned_of(synthetic: Any, tmp_path: Path) -> None:
    path = write(synthetic, tmp_path / "study")
    opened = PrecisionFolder(path)
    base = opened.cells()[0]
    parted = PrecisionAgreement(SCHEMA, base.title, (TaskAgreement("toy/reach", True, 100, 99, 0.1, 0.1),))
    write_json(opened.agreement_file(base), parted)
    opened.agreement_file(opened.cells()[1]).unlink()
    caveats = {caveat.kind: caveat.items for caveat in section([path]).caveats}
    assert caveats["precision_replay"] == ("m, float32 on toy/reach: 1 of 100",)
    assert caveats["precision_unfinished"] == ("m, int8: agreement is to do",)


def row(value: float, p: float, low: float = -0.1, high: float = 0.1) -> PrecisionResult:
    interval = ConfidenceInterval(low, high, "sign flips")
    found = Comparison("m, int8", "m, float32", Estimate(value, interval), p, None, 2, 20, ("toy",))
    return PrecisionResult(CELL, "", comparison=found)


def test_verdicts_go_by_the_p_that_is_corrected_for_the_whole_study() -> None:
    alone = _judged([row(-0.2, 0.03)], 0.95)
    assert [one.verdict for one in alone] == ["worse"]
    both = _judged([row(-0.2, 0.03), row(0.3, 0.001), row(0.0, 0.9, -0.0421, 0.03)], 0.95)
    assert [one.word for one in both] == ["no difference shown", "better", "no difference shown"]
    assert both[2].verdict == "no difference shown, smaller than 0.043"
    base = replace(row(0.0, 1.0), comparison=None)
    assert _judged([base], 0.95)[0].verdict == ""


@pytest.mark.parametrize(("value", "shown"), [(0.0421, "0.043"), (0.042, "0.042"), (0.0, "0.000")])
def test_a_bound_holds_as_it_is_printed(value: float, shown: str) -> None:
    assert _up(value) == shown


def test_shares_count_tasks_alike_and_kinds_of_actions_apart() -> None:
    tasks = (
        TaskAgreement("toy/a", False, 100, 50, 50.0, 1.0),
        TaskAgreement("toy/b", True, 10, 10, 0.0, 0.0),
        TaskAgreement("toy/c", True, 1000, 0, 20.0, 0.3),
    )
    found = replace(row(0, 1), actions=tasks)
    assert found.share(continuous=False) == 0.5
    assert found.share(continuous=True) == 0.5
    assert found.difference == pytest.approx(0.01)
    assert found.largest == 0.3


def test_the_ratio_of_times_is_of_the_same_turns() -> None:
    def point(precision: str, cpu: tuple[float, ...]) -> PrecisionPoint:
        return PrecisionPoint(precision, 1, 50, cpu, cpu, 1, 2)  # type: ignore[arg-type]

    points = (point("float32", (1.0, 10.0, 100.0)), point("int8", (0.5, 90.0, 50.0)))
    (cost,) = _costs(points, CELL)
    assert cost.ratio == 0.5
    (first,) = _costs(points, replace(CELL, precision="float32"))
    assert first.ratio is None
