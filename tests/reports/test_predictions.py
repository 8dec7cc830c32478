"""Predictions of studies: what a file says beforehand is checked, kept, and held against what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.described import write_card

from lram.agents.api import AgentInfo
from lram.envs.domains.memory.domain import task as memory_task
from lram.harness.errors import LramError
from lram.harness.storage.records import AgentEntry
from lram.harness.storage.run_folder import RunWriter
from lram.harness.storage.seeds import evaluation_seed
from lram.harness.studies.folder import CellFolder, StudyFolder, write_plan
from lram.harness.studies.records import SCHEMA, CellEntry, StudyPlan
from lram.harness.studies.running import _earlier_predictions
from lram.harness.studies.study import MEASURE_KEYS, Axis, Data, Evaluation, Level, Statement, Study, study_of
from lram.reports.samples import Resampling
from lram.reports.sections.study.cells import MEASURES, CellValues, StudyValues, by_reach
from lram.reports.sections.study.prediction import judge, sentence
from lram.reports.sections.study.section import section
from lram.reports.sections.study.tables import prediction_of, prediction_rows

HOW = Resampling(0, 200, 0.95)
LEVELS = ("plain", "linear", "gated")
DIALS = (10, 20, 80)


def study(*statements: Statement, seeds: int = 4) -> Study:
    return Study(
        name="a study",
        question="Which?",
        seeds=tuple(range(seeds)),
        recipe={},
        axes=(Axis("cell", tuple(Level(level) for level in LEVELS)),),
        data=Data(("/store",)),
        evaluation=Evaluation(("toy/one",), 5),
        prediction=statements,
    )


def measured(asked: Study, means: dict[str, float], noise: float = 0.02) -> StudyValues:
    """Return cells whose scores are their level's mean and noise by seed."""
    rng = np.random.default_rng(1)
    cells = []
    for seed in asked.seeds:
        for level in LEVELS:
            score = means[level] + noise * rng.standard_normal()
            found = {
                "score": {"toy/one": dict.fromkeys(range(5), score)},
                "decision_ms": {"": {0: 2.0 + means[level] + 0.01 * seed}},
            }
            starts = {("toy/one", episode): episode for episode in range(5)}
            cells.append(CellValues((level,), seed, level, "", "", 1, found, simulator_seeds=starts))
    return StudyValues(Path(), asked, tuple(cells), "", ())


def verdicts(asked: Study, means: dict[str, float], **more: Any) -> list[str]:
    return [one.verdict for one in judge(measured(asked, means, **more), HOW)]


def test_a_statement_is_as_predicted_where_the_difference_is_shown_on_its_side() -> None:
    asked = study(
        Statement("gated", "score", "better"),
        Statement("gated", "score", "worse"),
        Statement("linear", "score", "better", against="gated"),
        Statement("gated", "decision_ms", "worse"),
    )
    found = verdicts(asked, {"plain": 0.0, "linear": 0.01, "gated": 0.9})
    assert found == ["as predicted", "not as predicted", "not as predicted", "as predicted"]


@pytest.mark.parametrize("against", ["chance", "plain"])
def test_a_level_without_a_score_by_its_own_fault_fulfils_no_prediction(against: str) -> None:
    asked = study(Statement("gated", "score", "better", against=against))
    found = measured(asked, {"plain": 0.0, "linear": 0.1, "gated": 0.9})
    cells = tuple(
        replace(cell, values={}, uncounted={"toy/one": "it failed"})
        if (cell.levels, cell.seed) == (("gated",), 3)
        else cell
        for cell in found.cells
    )
    (judged,) = judge(replace(found, cells=cells), HOW)
    assert (judged.value, judged.verdict) == (None, "cannot tell")
    assert judged.reason == "not comparable: gated (toy/one: it failed)"


def test_equal_takes_more_than_no_difference_that_is_seen() -> None:
    asked = study(
        Statement("linear", "score", "equal", within=0.1),
        Statement("plain", "score", "equal", against="chance", within=0.1),
    )
    near = {"plain": 0.01, "linear": 0.02, "gated": 0.9}
    assert verdicts(asked, near) == ["as predicted", "as predicted"]
    assert verdicts(asked, near, noise=0.3) == ["cannot tell", "cannot tell"]  # not shown is not equal
    assert verdicts(asked, {**near, "linear": 0.6, "plain": 0.4}) == ["not as predicted", "not as predicted"]


def test_times_of_a_decision_are_told_as_ratios() -> None:
    """The level takes 2.9 ms and the base 2 ms."""
    asked = study(
        Statement("gated", "decision_ms", "worse"),
        Statement("gated", "decision_ms", "equal", within=0.5),
        Statement("gated", "score", "better"),
    )
    found = measured(asked, {"plain": 0.0, "linear": 0.0, "gated": 0.9})
    judged = judge(found, HOW)
    table = prediction_of(found, judged, "study")
    place = [column.heading for column in table.printed.columns].index("Difference")
    worse, equal, score = (row[place] for row in table.printed.rows)
    assert worse.text == equal.text == "×1.45"
    assert worse.small == "[×1.44, ×1.45]"
    assert equal.small.endswith(", margin ×0.61 to ×1.65")
    assert score.text == "0.91"
    assert "Of times of a decision: level over what it is held against" in table.caption
    assert judged[0].value == pytest.approx(np.log(1.45), abs=0.01)
    rows = list(prediction_rows([(found, judged)]).records())
    assert [row["scale"] for row in rows] == ["log ratio", "log ratio", "difference"]
    assert list(rows[0])[-1] == "scale"


def test_two_seeds_tell_nothing() -> None:
    asked = study(Statement("gated", "score", "better"), seeds=2)
    (found,) = judge(measured(asked, {"plain": 0.0, "linear": 0.0, "gated": 0.9}), HOW)
    assert (found.verdict, found.reason) == ("cannot tell", "2 seeds")
    assert found.value == pytest.approx(0.9, abs=0.1)


def test_holm_is_over_the_statements_and_over_all_where_they_came_afterwards() -> None:
    means = {"plain": 0.0, "linear": 0.03, "gated": 0.9}
    asked = study(Statement("linear", "score", "better"))
    (alone,) = judge(measured(asked, means), HOW, others=20)
    assert alone.p_holm == alone.p
    late = replace(measured(asked, means), earlier_predictions=((),))
    (corrected,) = judge(late, HOW, others=20)
    assert corrected.p_holm == pytest.approx(min(1.0, 21 * alone.p))


def test_false_predictions_are_confirmed_no_more_often_than_promised() -> None:
    """Three statements of levels without any effect: one in twenty studies may say something of one."""
    rng = np.random.default_rng(5)
    asked = study(
        Statement("linear", "score", "better"),
        Statement("gated", "score", "better"),
        Statement("gated", "score", "worse", against="linear"),
    )
    wrong = 0
    for _ in range(300):
        cells = [
            CellValues(
                (level,),
                seed,
                level,
                "",
                "",
                1,
                {"score": {"toy/one": {0: rng.standard_normal()}}},
                simulator_seeds={("toy/one", 0): 0},
            )
            for seed in asked.seeds
            for level in LEVELS
        ]
        found = judge(StudyValues(Path(), asked, tuple(cells), "", ()), HOW)
        wrong += any(one.verdict != "cannot tell" for one in found)
    assert wrong <= 0.05 * 300 + 2 * np.sqrt(300 * 0.05 * 0.95)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ({"level": "other", "measure": "score", "says": "better"}, "other"),
        ({"level": "gated", "measure": "score", "says": "better", "against": "nothing"}, "nothing"),
        ({"level": "gated", "measure": "decision_ms", "says": "equal", "against": "chance"}, "decision_ms"),
        ({"level": "gated", "measure": "repeated_in_play", "says": "better"}, "higher or lower"),
        ({"level": "plain", "measure": "score", "says": "better"}, "plain"),
        ({"level": "gated", "measure": "luck", "says": "better"}, "luck"),
    ],
)
def test_a_statement_of_nothing_that_is_there_is_refused_in_one_sentence(
    statement: dict[str, str], named: str, tmp_path: Path
) -> None:
    plain = {
        "name": "a study",
        "seeds": [0],
        "axes": [{"name": "cell", "levels": [{"name": level} for level in LEVELS]}],
        "data": {"stores": ["store"]},
        "evaluation": {"tasks": ["toy/one"]},
        "prediction": [statement],
    }
    with pytest.raises(LramError, match=named) as caught:
        study_of(plain, "a file", tmp_path)
    assert "\n" not in str(caught.value)


def test_what_can_be_predicted_is_what_is_measured() -> None:
    assert set(MEASURE_KEYS) == {measure.key for measure in MEASURES}


# From a folder, with dials


class Trained:
    """A study's folder with evaluations on a family of tasks with a dial."""

    def __init__(self, path: Path, synthetic: Any, prediction: Sequence[Statement] = ()) -> None:
        self.path, self.synthetic = path, synthetic
        tasks = tuple(f"memory/parity-{dial}" for dial in DIALS)
        asked = replace(study(*prediction, seeds=3), evaluation=Evaluation(tasks, 6))
        cells = tuple(
            CellEntry(
                (level,),
                seed,
                f"{level}, seed {seed}",
                f"{level}{seed}",
                f"{level}-seed{seed}",
                {"model": {}},
                evaluation_seed(0, seed),
            )
            for seed in asked.seeds
            for level in LEVELS
        )
        path.mkdir(parents=True, exist_ok=True)
        self.plan = StudyPlan(SCHEMA, asked, {"/store": "aa"}, ("memory:dense@1",), cells)
        write_plan(path, self.plan)
        for entry in cells:
            self._make(CellFolder(path, entry))

    def _make(self, cell: CellFolder) -> None:
        cell.checkpoint.mkdir(parents=True)
        write_card(cell.checkpoint)
        (cell.train / "metrics.jsonl").write_text("")
        info = AgentInfo(
            "model",
            "synthetic",
            trained=True,
            parameters=1,
            digest="d",
            training_tasks=("memory/parity-10", "memory/parity-20"),
        )
        agent = AgentEntry(cell.entry.title, "spec", info)
        tasks = [memory_task(f"parity-{dial}") for dial in DIALS]
        seed = cell.evaluation_seed(self.plan.study.evaluation)
        plan = self.synthetic.plan([agent], tasks, 6, seed, protocol="dense@1")
        RunWriter.create(cell.eval, plan).close()
        with RunWriter(CellFolder(self.path, cell.entry).run()) as writer:
            for item in plan.items():
                dial = int(item.task.rpartition("-")[2])
                holds = {"plain": 10, "linear": 20, "gated": 80}[cell.entry.levels[0]]
                luck = 0.01 * cell.entry.seed + 0.001 * item.episode
                writer.append(self.synthetic.record(plan, item, (0.97 if dial <= holds else 0.5) + luck))


def test_scores_are_told_apart_at_the_trained_values_and_beyond(tmp_path: Path, synthetic: Any) -> None:
    made = section(
        [
            Trained(
                tmp_path / "study", synthetic, [Statement("gated", "score_beyond", "better", because="gates")]
            ).path
        ]
    )
    [summary] = made.summary
    by_key = {(e["measure"], e["level"]): e["value"] for e in summary["effects"]}
    assert by_key["score_beyond", "gated"] == pytest.approx(2 * 0.47)
    assert by_key["score_beyond", "linear"] == pytest.approx(0.0)
    assert by_key["score_trained", "linear"] == pytest.approx(0.47)
    cell = next(cell for cell in summary["cells"] if cell["cell"] == "plain, seed 0")
    assert cell["score_trained"] == pytest.approx((2 * 0.97 - 1 + 0) / 2 + 0.005, abs=0.01)
    table = next(table for table in made.printed if table.id.endswith("-dials"))
    fails = {row[1].text: row[-1].text for row in table.rows} if table.columns[0].heading == "Family" else {}
    assert fails == {
        "plain": "20, 20, 20",
        "linear": "80, 80, 80",
        "gated": "beyond 80, beyond 80, beyond 80",
    }
    assert made.drawings[0].name.endswith("-dials-memory")
    assert made.csv["study_dials.csv"].count(b"\n") == 1 + 9 * len(DIALS)


def test_the_report_says_what_was_predicted_and_what_became_of_it(tmp_path: Path, synthetic: Any) -> None:
    folder = Trained(tmp_path / "study", synthetic, [Statement("gated", "score", "better", because="gates")])
    made = section([folder.path])
    [summary] = made.summary
    assert [one["statement"]["level"] for one in summary["prediction"]] == ["gated"]
    table = next(table for table in made.printed if table.id.endswith("-prediction"))
    assert "gates" in [cell.text for cell in table.rows[0]]
    assert "study_predictions.csv" in made.csv
    assert any("written before the result" in line for line in made.lead)
    assert not [caveat for caveat in made.caveats if caveat.kind == "study_prediction"]


def test_a_prediction_that_was_replaced_after_the_first_training_is_said(
    tmp_path: Path, synthetic: Any
) -> None:
    first, second = Statement("gated", "score", "worse"), Statement("gated", "score", "better")
    folder = Trained(tmp_path / "study", synthetic, [first])
    changed = replace(folder.plan.study, prediction=(second,))
    earlier = _earlier_predictions(folder.path, changed)
    assert earlier == ((first,),)
    assert _earlier_predictions(folder.path, folder.plan.study) == ()
    write_plan(folder.path, replace(folder.plan, study=changed, earlier_predictions=earlier))
    assert StudyFolder(folder.path).plan.earlier_predictions == ((first,),)
    assert _earlier_predictions(folder.path, changed) == ((first,),)  # kept when the study goes on
    made = section([folder.path])
    (caveat,) = [caveat for caveat in made.caveats if caveat.kind == "study_prediction"]
    assert "gated worse than plain" in caveat.text
    assert any("statements that replaced others after the first training" in line for line in made.lead)
    table = next(table for table in made.printed if table.id.endswith("-prediction"))
    assert "before the result" not in table.caption


def test_families_that_were_not_trained_on_are_in_neither_part() -> None:
    within, beyond = by_reach(
        ["memory/parity-8", "memory/parity-20", "memory/parity-21", "memory/mod3-8", "toy/one"],
        ["memory/parity-20"],
    )
    assert (within, beyond) == ({"memory/parity-8", "memory/parity-20"}, {"memory/parity-21"})
    assert by_reach(["memory/parity-8"], None) == (set(), set())


def test_no_prediction_makes_no_table() -> None:
    assert sentence(()) == ""
    assert judge(measured(study(), {"plain": 0.0, "linear": 0.0, "gated": 0.0}), HOW) == ()
