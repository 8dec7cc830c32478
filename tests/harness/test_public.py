"""What the package offers by its short names."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.undrawn import undrawn

import lram.harness
import lram.reports
from lram.envs.registry import select
from lram.harness import LramError, Machine, Run, evaluate, resume
from lram.reports import load_trainings, summarise, summary_json, write_report
from lram.reports.evidence.collect import opened


@pytest.mark.parametrize("package", [lram.harness, lram.reports])
def test_every_public_name_is_there_and_documented(package: object) -> None:
    for name in package.__all__:  # type: ignore[attr-defined]
        value = getattr(package, name)
        assert inspect.isclass(value) or inspect.isfunction(value), name
        assert inspect.getdoc(value), name


@pytest.mark.slow
def test_the_short_names_stay_what_they_are_after_their_modules_are_imported() -> None:
    script = (
        "import lram.harness.evaluation, lram.reports.summary.summarise, lram.harness, lram.reports; "
        "assert callable(lram.harness.evaluate) and callable(lram.reports.summarise)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        lram.harness.nope  # noqa: B018


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "one"
    return evaluate("random", "toy/reach", folder, episodes=1, machine=Machine(workers=1))


@pytest.mark.slow
def test_reports_take_a_run_its_folder_or_a_list_of_them(run: Run, tmp_path: Path) -> None:
    expected = summarise([run])
    for given in (run, run.path, str(run.path), [run.path], (str(run.path),)):
        assert summarise(given) == expected
    with undrawn():
        write_report(run, tmp_path / "a")
        write_report(str(run.path), str(tmp_path / "b"))
    assert (tmp_path / "a/summary.json").read_bytes() == (tmp_path / "b/summary.json").read_bytes()
    assert [one.path for one in opened(iter([run, str(run.path)]))] == [run.path] * 2  # type: ignore[arg-type]


def test_reports_say_what_they_cannot_take(run: Run, tmp_path: Path) -> None:
    for call, sentence in (
        (lambda: summarise(3), "give a run, its folder or a list of these, not a int"),
        (lambda: summarise({"a": run}), "give a run, its folder or a list of these, not a dict"),
        (lambda: summarise([3]), "a run is named by its folder, not by a int"),
        (lambda: summarise(tmp_path), "is not a run: it has no run.json"),
        (lambda: write_report([[run]], tmp_path / "a"), "a run is named by its folder, not by a list"),
        (lambda: summary_json(run), "takes what lram.reports.summarise gives, not a Run"),
        (lambda: summarise(run, trainings=tmp_path), "is not a training run"),
        (lambda: load_trainings(str(tmp_path)), "is not a training run"),
        (lambda: load_trainings([3]), "a training is named by its folder, not by a int"),
    ):
        with pytest.raises(LramError, match=re.escape(sentence)):
            call()  # type: ignore[no-untyped-call]


def test_evaluations_say_what_they_cannot_take(run: Run, tmp_path: Path) -> None:
    for given, sentence in (
        ({"machine": {"workers": 2}}, "machine is a dict; give a lram.harness.Machine"),
        (
            {"executor": "ray"},
            "executor is 'ray'; leave it out, or give lram.harness.executors.ray.RayExecutor()",
        ),
        ({"episodes": "3"}, "episodes is '3'; give a whole number"),
        ({"seed": 1.5}, "seed is 1.5; give a whole number"),
        ({"protocols": "sticky"}, "protocols is 'sticky'; give them by domain"),
    ):
        with pytest.raises(LramError, match=re.escape(sentence)):
            evaluate("random", "toy/reach", tmp_path / "run", **given)
    with pytest.raises(LramError, match="a selection of tasks is a text, such as 'metaworld/\\*', not 3"):
        evaluate("random", 3, tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(LramError, match="a run is named by its folder, not by a list"):
        resume([run])  # type: ignore[arg-type]
    with pytest.raises(LramError, match="machine is a int"):
        resume(run, machine=3)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_a_selection_takes_tasks_as_they_were_selected() -> None:
    tasks = select("toy/reach,toy/steps")
    assert select(tasks) == tasks
    assert select(tasks[0]) == tasks[:1]
