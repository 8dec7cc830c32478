"""The gate: models that fail are not played, nothing else changes, and the run says what was found."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.ready import ready_python

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.checks import equivalence as parity
from lram.agents.checks.contract import Check
from lram.agents.compute import Compute
from lram.agents.experts.baselines import RandomAgent
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, evaluate, resume
from lram.harness.executors import local as local_executor
from lram.harness.gate.equivalence import pass_gate, remedy
from lram.harness.storage.records import EpisodeRecord, Measured
from lram.harness.storage.run_folder import Run

MACHINE = Machine(lanes=2, workers=1)
MODEL = ModelConfig(32, 2, backbone=XLSTMConfig(slstm_at=(1,)))


def model_agent(*, sound: bool = True) -> ModelAgent:
    compute = Compute(step="torch")
    agent = ModelAgent(build_model(MODEL, 0), trained=False, description="small", digest="", compute=compute)
    if not sound:
        agent.model.backbone.reset = lambda state, rows: None  # type: ignore[method-assign]
    return agent


def records(run: Run) -> list[EpisodeRecord]:
    blank = Measured(0, 0, 0, 0, 0, 0)
    return [replace(record, measured=blank) for record in run.records()]


@pytest.mark.slow
def test_the_run_says_what_the_gate_found(tmp_path: Path) -> None:
    agents: dict[str, Any] = {"random": "random", "small": model_agent()}
    run = evaluate(agents, "toy/steps", tmp_path / "run", episodes=1, machine=MACHINE)
    (provenance,) = run.provenance()
    text = provenance.settings["check of small"]
    assert text.startswith("parity@4: 19 checks passed; step (torch) and forward come nearest to ")
    assert re.search(r": [1-9]\.\de-0[678] of the output's scale \(allowed [1-4]e-05\)$", text)
    assert "check of random" not in provenance.settings


@pytest.mark.slow
def test_a_model_without_parity_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    agents = {"sound": model_agent(), "broken": model_agent(sound=False)}
    with pytest.raises(LramError) as refusal:
        evaluate(agents, "toy/steps", tmp_path / "run", episodes=1, machine=MACHINE)
    text = str(refusal.value)
    assert text.startswith("agent broken does not act as its model was trained, so nothing was played: ")
    assert "'a reset row is fresh' failed on its state: " in text
    assert "numbers differ from a fresh row, 0 changed in the rows beside it (allowed: equal bit" in text
    assert "more checks failed; " in text
    assert text.endswith("fix its code ('lram check' shows all checks)")
    assert not (tmp_path / "run").exists()


def test_what_is_noted_is_the_check_of_step_and_forward_that_is_nearest_to_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def found(name: str, subject: str, difference: float, limit: float) -> Check:
        return Check(name, subject, "passed", "", difference=difference, limit=limit)

    checks = [
        found("step equals forward", "the largest", 3e-5, 1e-2),
        found("step equals forward", "the nearest", 1e-5, 2e-5),
        found("actions are the likeliest", "another matter", 1.9e-5, 2e-5),
        found("a row's place does not matter", "another matter", 1.9e-5, 2e-5),
    ]
    monkeypatch.setattr(parity, "model_checks", lambda model: checks)
    (text,) = pass_gate({"m": model_agent()}).values()
    assert "nearest to what is allowed on the nearest: 1.0e-05 of the output's scale (allowed 2e-05)" in text


@pytest.mark.parametrize("form", ["torch", "fused"])
def test_a_check_that_could_not_be_made_says_nothing_about_the_model(tmp_path: Path, form: Any) -> None:
    agent = model_agent()

    def call(*arguments: Any) -> Any:
        raise OSError("No space left on device")

    agent = agent.with_stepper(replace(agent.stepper, form=form, call=call))
    with pytest.raises(LramError) as refusal:
        evaluate({"m": agent}, "toy/steps", tmp_path / "run", episodes=1, machine=MACHINE)
    text = str(refusal.value)
    assert "does not act" not in text
    assert text.startswith(
        "whether agent m acts as its model was trained could not be checked, so nothing was played: "
        "'step equals forward' on passes of 3 raised OSError: No space left on device (test_gate.py, line "
    )
    advice = "see to what was raised ('lram check' shows all checks)"
    assert text.endswith(f"; {advice}" if form == "torch" else f"; try --step torch, or {advice}")


def test_what_is_known_to_be_wrong_is_told_though_other_checks_raised() -> None:
    agent = model_agent(sound=False)
    step = agent.stepper.call

    def call(x: torch.Tensor, state: Any, valid: Any) -> Any:
        if x.shape[1] != 3:
            raise OSError("No space left on device")
        return step(x, state, valid)

    agent = agent.with_stepper(replace(agent.stepper, call=call))
    with pytest.raises(LramError, match=r"m does not act as its model was trained, .*'a reset row is fresh'"):
        pass_gate({"m": agent})


def test_the_remedy_goes_to_the_plainest_form() -> None:
    model = build_model(MODEL, 0)
    options: dict[str, Any] = {"trained": False, "description": "small", "digest": ""}
    assert remedy(ModelAgent(model, **options, compute=Compute(step="torch"))) == "fix its code"
    half = ModelAgent(model.bfloat16(), **options)
    assert remedy(half) == "try --precision float32, or fix its code"
    half = half.with_stepper(replace(half.stepper, form="compile"))
    assert remedy(half) == "try --step torch and --precision float32, or fix its code"


@pytest.mark.slow
def test_a_run_is_not_resumed_with_a_model_that_has_lost_its_parity(tmp_path: Path) -> None:
    run = evaluate({"m": model_agent()}, "toy/steps", tmp_path / "run", episodes=2, machine=MACHINE)
    segment = run.path / "records" / "0001.jsonl"
    segment.write_bytes(segment.read_bytes().splitlines(keepends=True)[0])
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(LramError, match="agent m does not act as its model was trained"):
        resume(run, agents={"m": model_agent(sound=False)}, machine=MACHINE)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    finished = resume(run, agents={"m": model_agent()}, machine=MACHINE)
    assert len(finished.records()) == 2
    assert all("check of m" in provenance.settings for provenance in finished.provenance())


@pytest.mark.slow
def test_what_has_nothing_left_to_play_is_not_checked_again(tmp_path: Path) -> None:
    agents = {"done": model_agent(), "other": model_agent()}
    run = evaluate(agents, "toy/steps", tmp_path / "run", episodes=1, machine=MACHINE)
    segment = run.path / "records" / "0001.jsonl"
    kept = [line for line in segment.read_bytes().splitlines(keepends=True) if b'"done"' in line]
    segment.write_bytes(b"".join(kept))
    finished = resume(run, agents={**agents, "done": model_agent(sound=False)}, machine=MACHINE)
    assert len(finished.records()) == 2
    assert "check of done" not in finished.provenance()[-1].settings


@pytest.mark.slow
def test_records_are_the_same_with_the_gate_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shallow: dict[str, str]
) -> None:
    agents = [f"xlstm={shallow['xlstm']}", "random"]
    runs = []
    for place in ("with", "without"):
        runs.append(evaluate(agents, "toy/reach,toy/lives", tmp_path / place, episodes=2, machine=MACHINE))
        monkeypatch.setattr(local_executor, "pass_gate", lambda agents: {})
    assert records(runs[0]) == records(runs[1])
    assert "check of xlstm" in runs[0].provenance()[0].settings
    assert "check of xlstm" not in runs[1].provenance()[0].settings


def test_other_agents_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def act(*arguments: Any) -> Any:
        raise AssertionError("ran")

    for method in ("start", "reset", "act", "state_bytes"):
        monkeypatch.setattr(RandomAgent, method, act)
    assert pass_gate({"random": RandomAgent()}) == {}


def test_threads_and_generator_are_left_as_they_were() -> None:
    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    assert list(pass_gate({"m": model_agent()})) == ["m"]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


BROKEN = """
import random
from lram.agents.experts.baselines import RandomAgent

class Unseeded(RandomAgent):
    def act(self, state, observations, rewards, lanes):
        actions, state = super().act(state, observations, rewards, lanes)
        return [random.randrange(15) if isinstance(a, int) else a for a in actions], state

def model():
    from lram.agents.factory import create_agent
    from lram.agents.compute import Compute
    agent = create_agent({mamba!r}, compute=Compute(step="torch"))
    agent.model.backbone.reset = lambda state, rows: None
    return agent
"""


def lram(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*ready_python(), "-m", "lram.harness.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder, check=False)


def rows(answer: subprocess.CompletedProcess[str], result: str) -> list[str]:
    return [line for line in answer.stdout.splitlines() if line.startswith(result)]


@pytest.mark.slow
def test_the_command_shows_every_check_of_every_agent(tmp_path: Path, shallow: dict[str, str]) -> None:
    more = ("--tokens", "150", "--tasks", "toy/steps", "--step", "torch")
    answer = lram(tmp_path, "check", "random", f"small={shallow['mamba']}", *more)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("random: random: uniform over the task's actions\n")
    assert re.search(r"\nsmall: Mamba, [0-9.]+M, untrained \(checkpoint mamba\)\n", answer.stdout)
    assert len([row for row in rows(answer, "passed") if "toy/steps" in row]) == 2 * 9
    assert any("150 tokens in passes of 3" in row for row in rows(answer, "passed"))
    assert any("after 1000 decisions" in row for row in rows(answer, "passed"))
    assert not rows(answer, "FAILED")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "name", "advice"),
    [
        (
            "mine:Unseeded",
            "the same seed gives the same actions",
            "lram.agents.api says what the contract is",
        ),
        (
            "mine:model",
            "a reset row is fresh",
            "'lram eval' refuses a model without step/forward equivalence",
        ),
    ],
)
def test_the_command_ends_with_1_and_names_what_failed(
    tmp_path: Path, shallow: dict[str, str], agent: str, name: str, advice: str
) -> None:
    (tmp_path / "mine.py").write_text(BROKEN.format(mamba=shallow["mamba"]))
    answer = lram(tmp_path, "check", "random", agent, "--tokens", "150")
    assert answer.returncode == 1, answer.stderr
    assert any(name in row for row in rows(answer, "FAILED"))
    assert "checks FAILED (" in answer.stdout
    assert advice in answer.stdout.splitlines()[-2]
    said = [line for line in answer.stderr.splitlines() if not line.endswith(" s so far")]
    assert said == []


def test_the_command_speaks_json(tmp_path: Path, shallow: dict[str, str]) -> None:
    (tmp_path / "mine.py").write_text(BROKEN.format(mamba=shallow["mamba"]))
    answer = lram(tmp_path, "check", "random", "mine:Unseeded", "--json")
    assert answer.returncode == 1
    sound, broken = json.loads(answer.stdout)
    assert (sound["agent"], sound["passed"], broken["passed"]) == ("random", True, False)
    failed = {check["name"] for check in broken["checks"] if check["status"] == "failed"}
    assert "the same seed gives the same actions" in failed
    assert set(sound["checks"][0]) >= {"name", "subject", "status", "measured", "allowed", "reason"}


def test_an_agent_that_refuses_every_task_is_not_passed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from lram.agents.experts.baselines import ConstantAgent\n"
        "class Choosy(ConstantAgent):\n"
        "    def refuses(self, task):\n"
        "        return 'it plays nothing'\n"
    )
    answer = lram(tmp_path, "check", "mine:Choosy")
    assert answer.returncode == 1
    assert "NOT CHECKED: mine:Choosy could not be tried on any task" in answer.stdout
    assert json.loads(lram(tmp_path, "check", "mine:Choosy", "--json").stdout)[0]["passed"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rondom"], "random"),
        (["random", "--tokens", "0"], "must be 1 or more"),
        (["random", "--tasks", "nowhere"], "nowhere"),
        (["xlstm-1M", "--rows", "3"], "multiple of 8"),
        (["xlstm-1M", "--device", "abacus"], "abacus"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, arguments: Sequence[str], words: str) -> None:
    answer = lram(tmp_path, "check", *arguments)
    assert answer.returncode == 2
    assert answer.stderr.startswith("lram: ")
    assert words in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
