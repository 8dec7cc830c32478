"""Domains from plain files through the command line: played, resumed, collected; never a stranger's."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.ready import ready_python

from lram.agents.own_code import file_digests
from lram.envs import registry
from lram.envs.registry import file_of
from lram.harness.cli.tasks import tasks
from lram.harness.domain_files import recall, sources, with_absolute_files
from lram.harness.errors import LramError
from lram.harness.storage.records import DomainSource, RunPlan
from lram.harness.storage.run_folder import Run
from lram.harness.trust import remember

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "extending.md").read_text(encoding="utf-8")
[EXAMPLE] = re.findall(r"^```python\n(# number_line.py\n.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "number_line.py").write_text(EXAMPLE)
    return tmp_path


def lram(folder: Path, *words: str, user: str = "me", **variables: str) -> subprocess.CompletedProcess[str]:
    surroundings = {**os.environ, "LRAM_HOME": str(folder / user), **variables}
    return subprocess.run(
        [*ready_python(), "-m", "lram.harness.cli", *words],
        cwd=folder,
        env=surroundings,
        capture_output=True,
        text=True,
    )


def interrupt(run: Path) -> None:
    """Leave the first record of a run only."""
    segment = run / "records" / "0001.jsonl"
    segment.write_bytes(segment.read_bytes().splitlines(keepends=True)[0])


def test_a_file_is_played_resumed_and_reported(home: Path) -> None:
    begun = lram(home, "eval", "random", "-t", "number_line.py:st*", "-n", "2", "-o", "run", "-q")
    assert begun.returncode == 0, begun.stderr
    plan = Run(home / "run").plan
    assert [planned.task.id for planned in plan.tasks] == ["number_line/stay"]
    assert plan.domain_files["number_line"].path == str(home / "number_line.py")

    interrupt(home / "run")
    stranger = lram(home, "resume", "run", "-q", user="stranger")
    assert stranger.returncode == 2
    assert "would run the file" in stranger.stderr
    assert "repeat with --trust" in stranger.stderr

    (home / "number_line.py").write_text(EXAMPLE + "# changed\n")
    changed = lram(home, "resume", "run", "-q")
    assert changed.returncode == 2
    assert f"number_line.py in {home} changed since" in changed.stderr

    (home / "number_line.py").unlink()
    gone = lram(home, "resume", "run", "-q")
    assert "which is not there; put it back" in gone.stderr

    (home / "moved.py").write_text(EXAMPLE)
    resumed = lram(home, "resume", "run", "-q", user="stranger", LRAM_DOMAINS="moved.py")
    assert resumed.returncode == 0, resumed.stderr
    assert not Run(home / "run").missing()


def test_a_report_knows_the_domain_of_a_run_that_began_here(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "_in_files", {})
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("LRAM_HOME", str(home))
    file, plan_file = home / "number_line.py", home / "run.json"
    plan_file.write_text("{}")
    source = DomainSource(str(file), hashlib.sha256(file.read_bytes()).hexdigest())
    plan = RunPlan(1, 0, 1, (), (), domain_files={"number_line": source})
    recall(plan_file, plan)
    assert file_of("number_line") is None  # a stranger's
    remember(plan_file, [], {}, {"number_line": str(file)})
    file.write_text(EXAMPLE + "# changed\n")
    recall(plan_file, plan)
    assert file_of("number_line") is None
    assert "number_line.py in" in capsys.readouterr().err
    file.write_text(EXAMPLE)
    recall(plan_file, plan)
    assert file_of("number_line") is not None
    for cached in (registry.all_tasks, registry.load_domain, registry._faulty):
        cached.cache_clear()


def test_modules_beside_two_files_with_one_name_are_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_in_files", {})
    monkeypatch.setattr(sys, "path", [*sys.path])
    beside = f"beside_{abs(hash(home)) % 10**9}"
    for number in (1, 2):
        (home / str(number)).mkdir()
        (home / str(number) / f"{beside}.py").write_text(f"WIND = {number}\n")
        text = f"from {beside} import WIND\n" + EXAMPLE.replace('"number_line"', f'"line_{number}"')
        (home / str(number) / "line.py").write_text(text)
        registry.add_file(home / str(number) / "line.py")
    assert set(sources(["line_1"])["line_1"].modules) == {beside}
    with pytest.raises(LramError) as error:
        sources(["line_2"])
    first, second = (home / str(number) / f"{beside}.py" for number in (1, 2))
    assert f"line.py would run the module {beside} from {first} and not from {second}" in str(error.value)
    sys.modules.pop(beside)
    for cached in (registry.all_tasks, registry.load_domain, registry._faulty):
        cached.cache_clear()


def test_the_variable_makes_it_known_to_every_command(home: Path) -> None:
    shown = lram(home, "domains", LRAM_DOMAINS="number_line.py:none.py")
    assert "Fifty steps against the wind." in shown.stdout
    assert "none.py, named as the file of a domain, is not there" in shown.stdout
    done = lram(
        home,
        "collect",
        "random",
        "-t",
        "number_line",
        "-n",
        "2",
        "-o",
        "data",
        "-q",
        LRAM_DOMAINS="number_line.py",
    )
    assert done.returncode == 0, done.stderr
    assert "number_line/stay" in done.stdout


def test_tasks_are_listed_with_a_word_on_a_file_that_gives_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LRAM_DOMAINS", str(tmp_path / "none.py"))
    tasks(["toy/reach"], json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out)[0]["id"] == "toy/reach"
    wrong = f"LRAM_DOMAINS: {tmp_path}/none.py, named as the file of a domain, is not there"
    assert f"lram: {wrong}" in printed.err


def test_files_in_selections_are_found_from_the_folder_of_the_evaluation(home: Path) -> None:
    assert with_absolute_files(["toy/reach,number_line.py:stay", "!number_line.py"], home) == (
        f"toy/reach,{home}/number_line.py:stay",
        f"!{home}/number_line.py",
    )
    (home / "play.toml").write_text('agents = ["random"]\ntasks = ["number_line.py"]\nepisodes = 1\n')
    (home / "elsewhere").mkdir()
    done = lram(home / "elsewhere", "eval", "../play.toml", "-o", "run", "-q")
    assert done.returncode == 0, done.stderr


def test_modules_beside_a_file_belong_to_its_code(home: Path) -> None:
    (home / "wind_of_mine.py").write_text("STRONG = 1\n")
    (home / "number_line.py").write_text("import numpy\nimport wind_of_mine\n")
    assert set(file_digests(home / "number_line.py")) == {"number_line", "wind_of_mine"}
