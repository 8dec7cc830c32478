"""The section on extrapolation: its numbers from records that a test knows, and what it says of them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.agents.acting.contexts import MODES
from lram.agents.api import AgentInfo
from lram.envs import random_play
from lram.envs.random_play import RandomPlay
from lram.envs.scores import NORMALISERS
from lram.harness.errors import LramError
from lram.harness.extrapolation.folder import SCORES, Extrapolation, Writer
from lram.harness.extrapolation.records import (
    Candidate,
    EquivalencePoint,
    ExtrapolationPlan,
    LossItem,
    LossRecord,
    Source,
    Stretch,
    ValidityRecord,
)
from lram.harness.storage.records import AgentEntry, WorkItem
from lram.reports.drawing import render
from lram.reports.section import Section, SectionSettings
from lram.reports.sections.extrapolation import section as extrapolation_section
from lram.reports.sections.extrapolation.section import section

TRAINED, LENGTH = 20, 100
TASKS = ("dmcontrol/cartpole-balance", "dmcontrol/cheetah-run")
Predict = Callable[[LossItem, Stretch], np.ndarray]


def _candidate(label: str, trained: int | None = TRAINED, digest: str = "") -> Candidate:
    info = AgentInfo("model", f"{label}, synthetic", True, 1_000_000, digest or label)
    return Candidate(label, f"spec:{label}", info, trained, "the recipe in its card")


def _plan(*agents: Candidate, trajectories: int = 3, **more) -> ExtrapolationPlan:
    stretches = tuple(
        Stretch(0, number, task, "expert", 0, LENGTH)
        for number, task in enumerate(task for task in TASKS for _ in range(trajectories))
    )
    fields = {
        "schema": 1,
        "seed": 0,
        "agents": agents or (_candidate("a"), _candidate("b")),
        "contexts": (10, 20, 40),
        "modes": (),
        "stores": (Source("store", "d" * 64),),
        "stretches": stretches,
        "unseen": "stores that no card names",
    }
    return ExtrapolationPlan(**{**fields, **more})


def _rises(item: LossItem, stretch: Stretch) -> np.ndarray:
    """Loss 2, falling to 1 past the trained length; read whole, b loses 0.25 there, and some noise."""
    loss = np.full(stretch.length, 2.0)
    loss[TRAINED:] = 1.0
    if item.reading == "whole" and item.agent == "b":
        loss[TRAINED:] += 0.25 + 0.01 * stretch.number
    return loss + 0.1 * stretch.number


def _write(path: Path, plan: ExtrapolationPlan, predict: Predict = _rises, backwards: bool = False) -> Path:
    records: list[LossRecord | ValidityRecord] = [
        ValidityRecord(
            agent=agent.label,
            read="dmcontrol/cartpole-balance, episode 0 of the store dddddddddddd",
            form="fused kernels",
            scale=5.0,
            allowed=2e-5,
            why="rounding of float32 weights",
            points=(EquivalencePoint(20, 1e-6, 3.0), EquivalencePoint(100, 2e-6, 4.0)),
        )
        for agent in plan.agents
    ]
    for item in plan.readings():
        loss = predict(item, plan.stretches[item.stretch])
        within = TRAINED if item.reading == "within" else 0
        sums = tuple(np.round(2 * loss, 5).tolist())  # over two dimensions
        right, error = (1,) * len(loss), tuple(np.round(loss / 5, 7).tolist())
        records.append(LossRecord(item.agent, item.stretch, item.reading, within, 2, sums, right, error))
    with Writer.create(path, plan) as writer:
        for record in records[::-1] if backwards else records:
            writer.append(record)
    return path


def _again(path: Path, change: Callable[[Any], Any]) -> None:
    """Write the losses and validities of ``path`` again, each as ``change`` makes it."""
    found = Extrapolation(path)
    records = [*found.losses(), *found.validity()]
    for part in ("loss", "validity"):
        shutil.rmtree(path / part)
    with Writer(found) as writer:
        for record in records:
            writer.append(change(record))


def _rows(made: Section, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(made.csv[name].decode())))


def test_what_the_length_does_is_told_from_what_the_phase_of_the_episode_does(tmp_path: Path) -> None:
    made = section([_write(tmp_path / "x", _plan())])
    found = {(row["agent"], row["measure"]): row for row in _rows(made, "extrapolation_losses.csv")}
    a, b = found["a", "loss"], found["b", "loss"]
    # Means over two tasks of trajectories 0, 1, 2 and 3, 4, 5: their level is 0.25 on average.
    assert float(a["at"]) == float(b["at"]) == pytest.approx(2.25)
    assert float(a["past"]) == pytest.approx(1.25)
    assert float(a["past_minus_at"]) == pytest.approx(-1.0)
    assert float(b["past_minus_at"]) == pytest.approx(-0.725)
    assert float(a["whole_minus_within"]) == 0.0
    assert float(b["whole_minus_within"]) == pytest.approx(0.275)
    low, high = (float(b[f"whole_minus_within_{end}"]) for end in ("low", "high"))
    assert 0.25 < low < 0.275 < high < 0.3
    assert (a["tasks"], a["trajectories"]) == ("2", "6")
    table = next(table for table in made.printed if table.id == "extrapolation-losses")
    flags = {(row[0].text, row[2].text): row[7].flag for row in table.rows}
    assert flags == {
        ("a", "loss"): "",
        ("b", "loss"): "harm",
        ("a", "action error"): "",
        ("b", "action error"): "harm",
    }
    assert float(found["b", "action error"]["at"]) == pytest.approx(2.25 / 10)


def test_positions_are_means_of_bins_with_each_task_alike(tmp_path: Path) -> None:
    plan = _plan(_candidate("a"))
    first = [stretch for stretch in plan.stretches if stretch.task == TASKS[0]]
    plan = replace(plan, stretches=(*first, plan.stretches[-1]))  # three of one task, one of the other

    def predict(item: LossItem, stretch: Stretch) -> np.ndarray:
        return np.arange(1.0, LENGTH + 1) + (100.0 if stretch.task == TASKS[1] else 0.0)

    rows = _rows(section([_write(tmp_path / "x", plan, predict)]), "extrapolation_positions.csv")
    whole = [row for row in rows if row["reading"] == "whole"]
    assert [(row["first_timestep"], row["last_timestep"]) for row in whole[:2]] == [("1", "2"), ("3", "4")]
    assert [float(row["loss"]) for row in whole[:2]] == [51.5, 53.5]
    assert whole[-1]["last_timestep"] == str(LENGTH)
    assert float(whole[0]["top1"]) == 0.5


def _scored(synthetic: Any, path: Path, plan: ExtrapolationPlan, length: int, seed: int = 0) -> Path:
    """Write an extrapolation whose scores fall by 0.2 where the context is beyond the trained length."""
    _write(path, plan)
    tasks = [synthetic.task(name, 0.0, 1.0, horizon=length) for name in TASKS]
    entries = [
        AgentEntry(agent.variant(context), f"{agent.spec}{context.suffix}", agent.info)
        for agent in plan.agents
        for context in plan.variants()
    ]

    def outcome(item: WorkItem) -> float:
        luck = np.random.default_rng(item.episode).normal(0, 0.05)
        beyond = item.agent.startswith("b") and item.agent.endswith(("@carry", "=40"))
        return float(0.6 + luck - 0.2 * beyond + 0.001 * item.episode * beyond)

    synthetic.folder = path
    run = synthetic.run(replace(synthetic.plan(entries, tasks, 8), seed=seed), outcome, name=SCORES)
    assert Extrapolation(path).scores is not None
    assert run.path == path / SCORES
    return path


def test_scores_are_compared_with_the_trained_length_on_equal_starts(tmp_path: Path, synthetic: Any) -> None:
    plan = _plan(modes=MODES, tasks=TASKS, episodes=8)
    made = section([_scored(synthetic, tmp_path / "x", plan, 200)])
    scores = _rows(made, "extrapolation_scores.csv")
    assert len(scores) == 2 * 7
    assert {(row["score_interval"], row["score_doubt"]) for row in scores} == {("t", "few episodes")}
    assert made.summary["scores"][0]["score"]["doubts"] == ["few episodes"]
    losses = _rows(made, "extrapolation_losses.csv")
    assert "few episodes" in {row["past_minus_at_doubt"] for row in losses}
    assert "t" in {row["whole_minus_within_interval"] for row in losses}
    assert {row["context"] for row in scores if row["mode"] == "carry"} == {""}
    pairs = {
        (row["agent"], row["context"], row["against"]): row for row in _rows(made, "extrapolation_pairs.csv")
    }
    assert set(pairs) == {
        (agent, context, against)
        for agent in "ab"
        for context, against in (
            ("carry", "window=20"),
            ("window=40", "window=20"),
            ("carry", "reset=20"),
            ("reset=40", "reset=20"),
        )
    }
    lost = pairs["b", "carry", "window=20"]
    assert float(lost["difference"]) == pytest.approx(-0.1965)
    assert float(lost["difference_high"]) < -0.19  # paired: the luck of the starts has gone
    assert lost["episode_pairs"] == "16"
    assert float(lost["p_holm"]) < 0.01
    assert float(pairs["a", "carry", "window=20"]["difference"]) == 0.0
    table = next(table for table in made.printed if table.id == "extrapolation-pairs")
    verdicts = {(row[0].text, row[4].flag) for row in table.rows}
    assert verdicts == {("a", ""), ("b", "worse")}
    names = [drawing.name for drawing in made.drawings]
    assert names == [
        "extrapolation-scores-dmcontrol",
        "extrapolation-loss",
        "extrapolation-error",
        "extrapolation-gap",
    ]


def test_a_clear_loss_is_told_however_many_pairs_are_corrected_for(
    tmp_path: Path, synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20 patterns the least p is 1 / 21, which a correction for two tests would lift above 0.05."""
    monkeypatch.setattr(extrapolation_section, "RESAMPLES", 20)
    plan = _plan(modes=MODES, tasks=TASKS, episodes=8)
    made = section([_scored(synthetic, tmp_path / "x", plan, 200)])
    pairs = [row for row in _rows(made, "extrapolation_pairs.csv") if row["agent"] == "b"]
    assert [float(row["p_holm"]) < 0.05 for row in pairs] == [True] * 4


def test_where_no_episode_outlasts_the_trained_length_nothing_is_compared(
    tmp_path: Path, synthetic: Any
) -> None:
    agents = tuple(_candidate(label, 200) for label in "ab")
    plan = _plan(*agents, contexts=(10, 200), modes=MODES, tasks=TASKS, episodes=8, stretches=(), stores=())
    made = section([_scored(synthetic, tmp_path / "x", plan, 200)])  # its episodes have 200 decisions
    assert "extrapolation_pairs.csv" not in made.csv
    assert "extrapolation-pairs" not in {table.id for table in made.printed}


@pytest.mark.slow
def test_equal_records_give_equal_bytes_in_whatever_order_they_were_written(tmp_path: Path) -> None:
    one = section([_write(tmp_path / "x", _plan())])
    other = section([_write(tmp_path / "y", _plan(), backwards=True)])
    assert one.csv == other.csv
    assert one.summary == other.summary
    assert one.printed == other.printed
    assert [render(d, "svg") for d in one.drawings] == [render(d, "svg") for d in other.drawings]


@pytest.mark.slow
def test_several_folders_are_one_body_of_evidence(tmp_path: Path) -> None:
    _write(tmp_path / "a", _plan(_candidate("a")))
    _write(tmp_path / "b", _plan(_candidate("b")))
    together = section([tmp_path / "a", tmp_path / "b"])
    assert together.csv == section([_write(tmp_path / "both", _plan())]).csv
    twice = section([tmp_path / "a", shutil.copytree(tmp_path / "a", tmp_path / "again")])
    assert twice.csv == section([tmp_path / "a"]).csv


def test_one_label_for_two_models_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a", _plan(_candidate("a")))
    _write(tmp_path / "b", _plan(_candidate("a", digest="other")))
    _write(tmp_path / "c", _plan(_candidate("a", trained=50)))
    with pytest.raises(LramError, match="'a' has two models"):
        section([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(LramError, match="the trained lengths 20 and 50"):
        section([tmp_path / "a", tmp_path / "c"])


def test_what_a_reader_must_know_stands_first(tmp_path: Path) -> None:
    agents = _candidate("a"), _candidate("b", trained=None), replace(_candidate("c"))
    agents = (*agents[:2], replace(agents[2], info=replace(agents[2].info, trained=False)))
    path = _write(tmp_path / "x", _plan(*agents))
    assert [caveat.kind for caveat in section([path]).caveats] == [
        "extrapolation-trained-length",
        "extrapolation-untrained",
    ]
    worse = (EquivalencePoint(20, 1e-6, 3.0), EquivalencePoint(100, 1.0, None))

    def spoil(one: Any) -> Any:
        return replace(one, points=worse) if isinstance(one, ValidityRecord) and one.agent == "a" else one

    _again(path, spoil)
    (segment,) = (path / "loss").glob("*.jsonl")
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:-2]))
    told = section([path])
    caveats = {caveat.kind: caveat for caveat in told.caveats}
    assert caveats["extrapolation-not-valid"].items == ("a",)
    assert "2 of 30 readings are missing" in caveats["extrapolation-unfinished"].text
    table = next(table for table in told.printed if table.id == "extrapolation-validity")
    assert [row[5].flag for row in table.rows] == ["more than allowed", "", ""]
    assert table.rows[0][4].text == "not finite"


def test_a_single_trajectory_has_no_interval(tmp_path: Path) -> None:
    made = section([_write(tmp_path / "x", _plan(trajectories=1))])
    for row in _rows(made, "extrapolation_losses.csv"):
        assert row["whole_minus_within_low"] == ""


def test_what_is_not_finite_is_said_and_spoils_nothing_else(tmp_path: Path) -> None:
    path = _write(tmp_path / "x", _plan())

    def broken(record: Any) -> Any:
        if isinstance(record, ValidityRecord) and record.agent == "a":
            return replace(record, scale=None, points=(EquivalencePoint(100, None, None),))
        if record.agent == "a" and isinstance(record, LossRecord) and record.stretch == 0:
            return (
                replace(record, loss=(*record.loss[:60], *[None] * 40))
                if record.reading == "whole"
                else record
            )
        return record

    _again(path, broken)
    made = section([path])
    assert "extrapolation-not-valid" in {caveat.kind for caveat in made.caveats}
    tables = {table.id: table for table in made.printed}
    assert [row[0].text for row in tables["extrapolation-validity"].rows] == ["a", "b"]
    assert [cell.text for cell in tables["extrapolation-validity"].rows[0][4:]] == ["not finite"] * 3
    losses = {(row[0].text, row[2].text): row for row in tables["extrapolation-losses"].rows}
    assert [cell.text for cell in losses["a", "loss"][4:8]] == ["2.250", *["not finite"] * 3]
    assert [cell.text for cell in losses["a", "action error"][5:8]] == ["not finite"] * 3
    assert losses["b", "loss"][7].flag == "harm"
    rows = _rows(made, "extrapolation_positions.csv")
    whole = [row for row in rows if (row["agent"], row["reading"]) == ("a", "whole")]
    for column in ("loss", "action_error", "top1"):
        assert [row[column] == "" for row in whole] == [int(row["last_timestep"]) > 60 for row in whole]
    assert json.dumps(made.summary, allow_nan=False)
    assert all(render(drawing, "svg") for drawing in made.drawings)
    caption = next(d.caption for d in made.drawings if d.name == "extrapolation-loss")
    assert "gaps where a prediction is not finite" in caption


def test_of_two_checks_the_one_that_fails_counts(tmp_path: Path) -> None:
    paths = [_write(tmp_path / name, _plan(_candidate("a"))) for name in ("x", "y")]
    shorter = (EquivalencePoint(20, 1.0, 3.0),)
    _again(paths[0], lambda one: replace(one, points=shorter) if isinstance(one, ValidityRecord) else one)
    for folders in (paths, paths[::-1]):
        caveats = {caveat.kind: caveat.items for caveat in section(folders).caveats}
        assert caveats["extrapolation-not-valid"] == ("a",)


def test_a_model_that_was_moved_is_the_same_and_one_without_digest_is_not(tmp_path: Path) -> None:
    known = _candidate("a")
    _write(tmp_path / "a", _plan(known))
    _write(tmp_path / "b", _plan(replace(known, spec="elsewhere")))
    assert section([tmp_path / "a", tmp_path / "b"]).csv == section([tmp_path / "a"]).csv
    unknown = replace(known, info=replace(known.info, digest=""))
    _write(tmp_path / "c", _plan(unknown))
    _write(tmp_path / "d", _plan(replace(unknown, spec="elsewhere")))
    with pytest.raises(LramError, match="'a' has two models"):
        section([tmp_path / "c", tmp_path / "d"])


def test_the_caption_promises_equal_starts_only_within_one_seed(tmp_path: Path, synthetic: Any) -> None:
    plan = _plan(_candidate("a"), modes=MODES, tasks=TASKS, episodes=8)
    one = _scored(synthetic, tmp_path / "x", plan, 200)
    other = _scored(synthetic, tmp_path / "y", replace(plan, seed=1), 200, seed=1)
    captions = [
        next(d.caption for d in section(folders).drawings if d.name.startswith("extrapolation-scores"))
        for folders in ([one], [one, other])
    ]
    assert "Contexts meet the same initial states" in captions[0]
    assert "Contexts meet the same initial states" not in captions[1]
    assert "contexts may have met other initial states" in captions[1]


@pytest.mark.slow
def test_scores_without_the_trained_length_among_the_contexts_are_named(
    tmp_path: Path, synthetic: Any
) -> None:
    plan = _plan(contexts=(10, 40), modes=MODES, tasks=TASKS, episodes=8)
    made = section([_scored(synthetic, tmp_path / "x", plan, 200)])
    assert "extrapolation_pairs.csv" not in made.csv
    caveats = {caveat.kind: caveat.items for caveat in made.caveats}
    assert caveats["extrapolation-no-base"] == ("a", "b")
    whole = replace(plan, contexts=(10, 20, 40))
    made = section([_scored(synthetic, tmp_path / "y", whole, 200)])
    assert "extrapolation-no-base" not in {caveat.kind for caveat in made.caveats}


def test_trajectories_that_end_early_are_counted_in_every_bin(tmp_path: Path) -> None:
    plan = _plan(_candidate("a"))
    stretches = tuple(replace(s, stop=50) if s.number == 1 else s for s in plan.stretches)
    made = section([_write(tmp_path / "x", replace(plan, stretches=stretches))])
    rows = [r for r in _rows(made, "extrapolation_positions.csv") if r["reading"] == "whole"]
    assert {row["trajectories"] for row in rows} == {"6"}
    there = [row["trajectories_there"] for row in rows]
    assert there == ["6" if int(row["last_timestep"]) <= 50 else "5" for row in rows]
    assert "Trajectories that end early" in made.drawings[0].caption
    whole = section([_write(tmp_path / "y", plan)])
    assert "Trajectories that end early" not in whole.drawings[0].caption


def test_a_model_that_cannot_read_whole_trajectories_is_named(tmp_path: Path) -> None:
    plan = _plan(replace(_candidate("a"), reach=60), _candidate("b"))
    stretches = tuple(replace(s, stop=50) if s.number % 3 else s for s in plan.stretches)
    made = section([_write(tmp_path / "x", replace(plan, stretches=stretches))])
    (caveat,) = made.caveats
    assert (caveat.kind, caveat.items) == ("extrapolation-not-read", ("a",))
    assert "a those beyond 60 timesteps" in caveat.text
    found = {row["agent"]: row["trajectories"] for row in _rows(made, "extrapolation_losses.csv")}
    assert found == {"a": "4", "b": "6"}


def test_damaged_records_are_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "x", _plan())
    segment = path / "loss" / "0001.jsonl"
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([lines[0][:50] + b"\n", *lines[1:]]))
    with pytest.raises(LramError, match="line 1 is damaged"):
        section([path])
    with pytest.raises(LramError, match="is no extrapolation"):
        section([tmp_path])


@pytest.mark.parametrize("name", ["extrapolation-loss", "extrapolation-gap"])
def test_captions_say_what_a_figure_shows_and_does_not(tmp_path: Path, name: str) -> None:
    made = section([_write(tmp_path / "x", _plan())])
    drawing = next(drawing for drawing in made.drawings if drawing.name == name)
    assert "trained" in drawing.caption
    assert ("phase of the episode" if name.endswith("loss") else "only scores tell") in drawing.caption


@pytest.mark.slow
def test_scores_follow_the_normaliser_and_say_so(
    tmp_path: Path, synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan(modes=MODES, tasks=TASKS, episodes=8)
    folder = _scored(synthetic, tmp_path / "x", plan, 200)
    protocol = f"{TASKS[0].partition('/')[0]}:lram@1"
    measured = {
        (task, protocol): RandomPlay(task, protocol, 100, 0, 0.2, 0.1, 0.1, 0.3, "made up") for task in TASKS
    }
    monkeypatch.setattr(random_play, "measurements", lambda: measured)
    lost = []
    for normaliser in NORMALISERS:
        made = section([folder], SectionSettings(normaliser=normaliser))
        (row,) = [
            row
            for row in _rows(made, "extrapolation_pairs.csv")
            if (row["agent"], row["context"], row["against"]) == ("b", "carry", "window=20")
        ]
        assert row["normaliser"] == normaliser
        assert ("Scores by measured-random" in " ".join(made.lead)) == (normaliser != "paper")
        lost.append(float(row["difference"]))
    assert lost[1] == pytest.approx(lost[0] / 0.8)
