"""Studies of precisions: what is measured of one checkpoint in several, how it continues, what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from support.undrawn import undrawn

from lram.agents.api import AgentError
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.checkpoints.folder import save_checkpoint
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model
from lram.agents.trajectories import TrajectoryStore
from lram.harness.cli import app
from lram.harness.errors import LramError
from lram.harness.storage.json_files import read_json, write_json
from lram.harness.studies.precision import running
from lram.harness.studies.precision.agreement import agreement, forced_actions
from lram.harness.studies.precision.folder import PrecisionFolder
from lram.harness.studies.precision.records import PrecisionAgreement
from lram.harness.studies.precision.running import ablate_precisions
from lram.harness.studies.precision.study import (
    PrecisionStudy,
    read_any_study,
    shipped_precision_studies,
)
from lram.harness.studies.precision.timing import model_agent
from lram.reports import write_report
from lram.reports.sections.registry import load_folders

CONFIG = ModelConfig(32, 1, actions_in_context=True, backbone=XLSTMConfig(heads=2))
STUDY = """
name = "tiny"
question = "Does rounding cost anything?"
checkpoints = ["tiny=CHECKPOINT"]
precisions = ["float32", "int8"]
[evaluation]
tasks = ["toy/reach", "toy/lives"]
episodes = 6
[agreement]
episodes = 2
[timing]
contexts = [3]
batch = [1]
decisions = 3
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("precision")
    save_checkpoint(folder / "model", build_model(CONFIG, 0), CONFIG, trained=False, card={})
    (folder / "tiny.toml").write_text(STUDY.replace("CHECKPOINT", str(folder / "model")))
    return folder / "tiny.toml"


@pytest.fixture(scope="module")
def study(file: Path) -> PrecisionStudy:
    found = read_any_study(file)
    assert isinstance(found, PrecisionStudy)
    return found


@pytest.fixture(scope="module")
def made(study: PrecisionStudy, tmp_path_factory: pytest.TempPathFactory) -> PrecisionFolder:
    opened, failed = ablate_precisions(study, tmp_path_factory.mktemp("made") / "study")
    assert not failed, failed
    return opened


def lram(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        app([str(argument) for argument in arguments], exit_on_error=False, print_error=False)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@pytest.mark.slow
def test_every_precision_is_evaluated_compared_and_timed(made: PrecisionFolder) -> None:
    assert [made.to_do(cell) for cell in made.cells()] == ["", ""]
    runs = [made.run(cell) for cell in made.cells()]
    assert [dict(run.plan.agents[0].info.details)["precision"] for run in runs if run] == ["float32", "int8"]
    seeds = [{(one.task, one.episode): one.seed for one in run.records()} for run in runs if run]
    assert seeds[0] == seeds[1]
    times = made.times("tiny")
    assert times is not None
    whole, narrow = times.points
    assert narrow.weight_bytes < whole.weight_bytes
    assert narrow.state_bytes == whole.state_bytes > 0
    assert len(narrow.ms) == len(narrow.cpu_ms) == 3


def test_the_first_precision_decides_again_what_it_decided_in_play(made: PrecisionFolder) -> None:
    """With past actions in the context and contexts that begin anew within an episode."""
    base = made.agreement(made.cells()[0])
    assert base is not None
    assert {task.task for task in base.tasks} == {"toy/reach", "toy/lives"}
    assert all(task.equal == task.decisions and task.largest == 0 for task in base.tasks)


def test_actions_that_differ_are_counted_and_the_past_is_forced(made: PrecisionFolder) -> None:
    cell = made.cells()[0]
    store, agent = TrajectoryStore(made.play("tiny")), model_agent(cell.spec, "float32")
    number = next(episode.number for episode in store.episodes if episode.task == "toy/reach")
    played = store.trajectory(number)
    moved = np.array(played.actions)
    moved[2, 0] = -moved[2, 0] - 0.5 if abs(moved[2, 0]) < 0.5 else -moved[2, 0]
    (given,) = forced_actions(agent, [dataclasses.replace(played, actions=moved)])
    assert np.array_equal(given[:3], np.asarray(played.actions[:3], np.float64))
    assert not np.array_equal(given[3:], np.asarray(played.actions[3:], np.float64))

    class Moved(TrajectoryStore):
        def trajectory(self, number: int):  # type: ignore[no-untyped-def]
            found = super().trajectory(number)
            changed = np.array(found.actions)
            changed[-1] = (changed[-1] + 1) % 4 if found.task.action == "discrete" else -changed[-1]
            return dataclasses.replace(found, actions=changed)

    for task in agreement(agent, Moved(made.play("tiny"))):
        assert task.decisions - task.equal == 2, task  # the last decision of both episodes
        assert task.largest > 0


def test_a_context_that_begins_anew_is_read_from_nothing(made: PrecisionFolder) -> None:
    store, agent = TrajectoryStore(made.play("tiny")), model_agent(made.cells()[0].spec, "float32")
    number = next(episode.number for episode in store.episodes if episode.task == "toy/reach")
    played = store.trajectory(number)
    tail = dataclasses.replace(
        played,
        observations=played.observations[4:],
        actions=played.actions[4:],
        rewards=played.rewards[4:],
        signals=played.signals[4:],
        success=None,
    )
    anew = dataclasses.replace(played, context_starts=(0, 4))
    whole, given, expected = forced_actions(agent, [played, anew, tail])
    assert np.array_equal(given[:4], whole[:4])
    assert np.array_equal(given[4:], expected)
    assert not np.array_equal(given[4:], whole[4:])


def test_a_whole_study_is_left_as_it_is(
    study: PrecisionStudy, made: PrecisionFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("evaluate", "resume", "collect_trajectories"):
        monkeypatch.setattr(running, name, None)
    assert ablate_precisions(study, made.path)[1] == []


def test_another_study_or_other_weights_are_refused_in_its_folder(
    study: PrecisionStudy, made: PrecisionFolder, tmp_path: Path
) -> None:
    more = dataclasses.replace(study, precisions=("float32", "bfloat16-weights"))
    with pytest.raises(LramError, match="asks for something else; give another folder"):
        ablate_precisions(more, made.path)
    (tmp_path / "mine").write_text("x")
    with pytest.raises(LramError, match="holds something else than a study of precisions"):
        ablate_precisions(study, tmp_path)
    file = made.path / "cells" / made.cells()[1].folder / "agreement.json"
    before = read_json(file, PrecisionAgreement)
    write_json(file, dataclasses.replace(before, title="tiny, float32"))
    try:
        with pytest.raises(LramError, match="is not of 'tiny, int8'"):
            made.agreement(made.cells()[1])
    finally:
        write_json(file, before)


def test_the_command_prints_verdicts_and_the_report_has_the_section(
    file: Path, made: PrecisionFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lram("ablate", file, "-o", made.path) == 0
    shown = capsys.readouterr().out
    assert "no difference shown" in shown
    assert f"next: lram report {made.path}" in shown
    runs, others = load_folders([made.path])
    with undrawn():
        page = write_report(runs, tmp_path / "report", others=others)
    (found,) = json.loads((page.parent / "summary.json").read_text())["chapters"]["precision"]
    narrow = next(row for row in found["scores"] if row["precision"] == "int8")
    ends = [abs(narrow["difference_low"]), abs(narrow["difference_high"])]
    assert narrow["smaller_than"] == pytest.approx(max(ends))
    tasks = (page.parent / "tables" / "precision_tasks.csv").read_text().splitlines()
    assert len(tasks) == 1 + 4
    text = page.read_text()
    assert "no difference shown, smaller than" in text
    assert "Equal continuous actions" in text


def test_what_a_killed_beginning_left_is_begun_again_and_nothing_else(
    study: PrecisionStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_plan", planned)
    for name in (".precision-study.json.4711.lram-new", ".DS_Store", "lock"):
        (tmp_path / name).touch()
    with pytest.raises(KeyboardInterrupt):
        ablate_precisions(study, tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(LramError, match="holds something else than a study of precisions"):
        ablate_precisions(study, tmp_path)


def test_what_is_no_study_of_precisions_is_refused(file: Path, tmp_path: Path) -> None:
    def refused(*arguments: str | Path) -> str:
        with pytest.raises((LramError, AgentError)) as found:
            lram("ablate", *arguments, "-o", tmp_path / "out")
        return str(found.value)

    assert "--only has no meaning" in refused(file, "--only", "int8")
    assert "is for studies of precisions" in refused("slstm-ratio", "--checkpoint", "small-mamba")
    assert "random is no action model" in refused(file, "--checkpoint", "random")
    other = tmp_path / "other.toml"
    other.write_text(file.read_text().replace('"int8"', '"int4"'))
    assert "precisions" in refused(other)
    other.write_text(file.read_text().replace('"int8"', '"float32"'))
    assert "the precision 'float32' is there twice" in refused(other)
    other.write_text(file.read_text().replace('"tiny=', '"mine:make", "tiny='))
    assert "would import the module mine" in refused(other)
    with pytest.raises(AgentError, match="without noise"):
        model_agent("small-mamba~0.1", "float32")


def test_the_shipped_study_asks_of_eight_tasks_or_more(capsys: pytest.CaptureFixture[str]) -> None:
    found = read_any_study("precision")
    assert isinstance(found, PrecisionStudy)
    assert found.precisions == ("float32", "bfloat16-weights", "int8")
    assert len(found.evaluation.tasks) >= 8
    assert set(shipped_precision_studies()) == {"precision"}
    assert lram("ablate", "--list") == 0
    assert "precision: float32, bfloat16-weights, int8" in capsys.readouterr().out
