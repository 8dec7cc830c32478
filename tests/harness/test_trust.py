"""Folders of others: what they name is not run unless somebody here vouches for it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.ready import ready_python

from lram.agents.checksums import sign_file
from lram.agents.own_code import source_digests
from lram.harness import evaluate, resume
from lram.harness.collection.collect import collect, resume_collection
from lram.harness.errors import LramError
from lram.harness.machine import Machine
from lram.harness.storage.json_files import encode
from lram.harness.storage.records import RunPlan
from lram.harness.storage.run_folder import PLAN_FILE, Run
from lram.harness.trust import ALL, Trust, foreign

_AGENT = """
import pathlib
import numpy as np
from lram.agents.api import AgentInfo
import {helper}

pathlib.Path({mark!r}).touch()

class Mine:
    info = AgentInfo(kind="baseline", description="mine")
    def refuses(self, task): return None
    def start(self, lanes): return {{}}
    def reset(self, state, lanes, episodes): pass
    def act(self, state, observations, rewards, lanes):
        return [np.full(2, {helper}.VALUE, np.float32) for _ in lanes], state
    def state_bytes(self, state): return 0
"""


@pytest.fixture
def mine(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an agent of the user's own, for commands; ``mark`` appears when it is run."""
    folder = tmp_path / "work"
    folder.mkdir()
    name = f"helper_{tmp_path.name}".replace("-", "_")
    (folder / f"{name}.py").write_text("VALUE = 0.1\n")
    (folder / f"agent_{name}.py").write_text(_AGENT.format(helper=name, mark=str(folder / "mark")))
    monkeypatch.chdir(folder)
    return folder


def spec(folder: Path) -> str:
    [file] = folder.glob("agent_*.py")
    return f"{file.stem}:Mine"


def lram(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ready_python(), "-m", "lram.harness.cli", *arguments], cwd=folder, capture_output=True, text=True
    )


def change(run: Path, **changes: object) -> RunPlan:
    """Let the plan ask for more, as somebody would who may sign what he wrote."""
    plan = replace(Run(run).plan, **changes)  # type: ignore[arg-type]
    (run / PLAN_FILE).write_bytes(sign_file(encode(plan)))
    return plan


def test_a_module_that_only_the_folder_names_is_not_imported(mine: Path) -> None:
    evaluate("random", "toy/reach", mine / "run", episodes=1)
    plan = Run(mine / "run").plan
    change(mine / "run", episodes=2, agents=(replace(plan.agents[0], spec=spec(mine)),))
    for form in ("{}", "{}~0.3", "{}@window=5", "{}~0.1~0.2"):
        named = replace(plan.agents[0], spec=form.format(spec(mine)))
        change(mine / "run", agents=(named,))
        with pytest.raises(LramError, match=r"would run the module .*repeat with --trust: lram resume"):
            resume(mine / "run")
    assert not (mine / "mark").exists()
    change(mine / "run", agents=(replace(plan.agents[0], spec=spec(mine)),))
    finished = resume(mine / "run", trust=ALL)
    assert (mine / "mark").exists()
    assert not finished.missing()


def test_a_program_that_only_the_folder_names_is_not_started(mine: Path) -> None:
    evaluate("random", "toy/reach", mine / "run", episodes=1)
    program = mine / "run" / "python"
    program.write_text(f'#!/bin/sh\ntouch {mine}/mark\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    for named in (str(program), "run/python", f"{mine}/home/interpreters/../../run/python"):
        change(mine / "run", episodes=2, interpreters={"toy": named})
        with pytest.raises(LramError, match=r"would run the program .* \(for the domain toy\)"):
            resume(mine / "run")
    assert not (mine / "mark").exists()
    change(mine / "run", interpreters={"toy": str(program)})
    resume(mine / "run", machine=Machine(interpreters={"toy": str(program)}))  # named now
    assert (mine / "mark").exists()


@pytest.mark.slow
def test_a_run_that_was_begun_here_is_resumed_without_a_question(mine: Path) -> None:
    begun = lram(mine, "eval", spec(mine), "-t", "toy/reach", "-n", "2", "-o", "run", "-q")
    assert begun.returncode == 0, begun.stderr
    segment = mine / "run" / "records" / "0001.jsonl"
    segment.write_bytes(segment.read_bytes().splitlines(keepends=True)[0])
    (mine / "run").rename(mine / "moved")
    resumed = lram(mine, "resume", "moved", "-q")
    assert resumed.returncode == 0, resumed.stderr
    assert not Run(mine / "moved").missing()


@pytest.mark.slow
def test_an_agent_whose_source_changed_is_another_agent(mine: Path) -> None:
    begun = lram(mine, "eval", f"me={spec(mine)}", "-t", "toy/reach", "-n", "2", "-o", "run", "-q")
    assert begun.returncode == 0, begun.stderr
    [helper] = mine.glob("helper_*.py")
    assert set(Run(mine / "run").plan.agents[0].code) == {helper.stem, f"agent_{helper.stem}"}
    segment = mine / "run" / "records" / "0001.jsonl"
    segment.write_bytes(segment.read_bytes().splitlines(keepends=True)[0])
    before = helper.read_text()
    helper.write_text("VALUE = 0.9\n")
    (mine / "mark").unlink()
    refused = lram(mine, "resume", "run", "-q")
    assert refused.returncode == 2
    assert f"the source of {helper.stem} has changed" in refused.stderr
    assert not (mine / "mark").exists()  # nothing was imported to find out
    helper.write_text(before)
    assert lram(mine, "resume", "run", "-q").returncode == 0


@pytest.mark.slow
def test_a_collection_continues_with_agents_that_the_command_names(mine: Path) -> None:
    collect(spec(mine), "toy/reach", mine / "store", episodes=1)
    run = mine / "store" / "runs" / "0001"
    change(run, threads=1, realtime_hz=0.0, skipped=())
    (run / "records" / "0001.jsonl").unlink()
    assert Run(run).missing()
    change(run, episodes=2)
    with pytest.raises(LramError, match=r"lram collect --resume \S+ --trust"):
        resume_collection(mine / "store")
    assert not collect(spec(mine), "toy/reach", mine / "store", episodes=2).missing()


def test_a_study_that_names_code_asks_first(mine: Path) -> None:
    (mine / "study.toml").write_text(
        f"""
name = "x"
seeds = [0]
recipe = {{}}
axes = [{{name = "a", levels = [{{name = "0", changes = {{}}}}, {{name = "1", changes = {{}}}}]}}]
[data]
collect = [{{agents = ["me={spec(mine)}"], tasks = ["toy/reach"], episodes = 1}}]
[evaluation]
tasks = ["toy/reach"]
"""
    )
    refused = lram(mine, "ablate", "study.toml", "-o", "study")
    assert refused.returncode == 2
    assert "would import the module" in refused.stderr
    assert not (mine / "mark").exists()
    assert not (mine / "study").exists()


def test_a_policy_of_lerobot_that_only_the_folder_names_starts_no_program() -> None:
    name = "lerobot:/data/act(python='/data/python')~0.1"
    (told,) = foreign(["random", name], {}, Trust())
    assert name in told
    assert foreign([name], {}, Trust(specs=[name])) == []


def test_names_that_are_no_code_ask_for_nothing() -> None:
    specs = ["random", "constant=0.5", "xlstm[7:1]-16M", "small-mamba@reset=50~0.3", "/a/checkpoint", "C:/x"]
    assert foreign(specs, {"toy": sys.executable}) == []
    assert foreign(["m:f"], {}, Trust(specs=["m:f"])) == []


def test_the_source_of_an_agent_is_what_python_would_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "parts").mkdir(parents=True)
    (tmp_path / "mine.py").write_text("never imported: the package of this name goes before")
    (tmp_path / "mine" / "__init__.py").write_text("")
    (tmp_path / "mine" / "agent.py").write_text("def make():\n    from .parts import table\n")
    (tmp_path / "mine" / "parts" / "__init__.py").write_text("import beside, json")
    (tmp_path / "mine" / "parts" / "table.py").write_text("ROWS = 1")
    (tmp_path / "beside.py").write_text("def broken(:")
    found = source_digests("mine.agent")
    assert set(found) == {"beside", "mine", "mine.agent", "mine.parts", "mine.parts.table"}
    (tmp_path / "mine.py").write_text("changed")
    assert source_digests("mine.agent") == found
    (tmp_path / "mine" / "parts" / "table.py").write_text("ROWS = 2")
    assert source_digests("mine.agent") != found
