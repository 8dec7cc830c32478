"""Agents as they are named: on the command line and in Python alike, each label one agent."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lram.agents.api import AgentInfo
from lram.agents.checks.contract import contract_checks
from lram.agents.experts.baselines import ConstantAgent, RandomAgent
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, evaluate, resume
from lram.harness.plan import labelled_specs
from lram.harness.storage.run_folder import Run
from lram.harness.trust import ALL

MACHINE = Machine(lanes=2, workers=1)

OWN = """
from lram.agents.api import AgentInfo
from lram.agents.experts.baselines import ConstantAgent


class Agent(ConstantAgent):
    def __init__(self, value, kind):
        super().__init__(value)
        self.kind = kind

    @property
    def info(self):
        return AgentInfo(self.kind, "always the same")


def make(value=0.0, kind="mlp"):
    return Agent(value, kind)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"labelled_{abs(hash(tmp_path)) % 10**9}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return name


def test_an_agent_of_a_kind_of_its_own_is_checked_played_and_continued(own: str, tmp_path: Path) -> None:
    run = evaluate(f"{own}:make(0.5)", "toy/reach", tmp_path / "run", episodes=2, machine=MACHINE)
    assert [agent.info.kind for agent in run.plan.agents] == ["mlp"]
    for file in (tmp_path / "run/records").glob("*.jsonl"):
        file.unlink()
    assert len(resume(tmp_path / "run", machine=MACHINE, trust=ALL).records()) == 2


def test_a_factorys_arguments_are_part_of_its_label_its_run_and_its_code(own: str, tmp_path: Path) -> None:
    texts = [f"{own}:make(0.5)", f"{own}:make(value=-0.5)", f"mine={own}:make(kind='a=b')", f"{own}:make"]
    run = evaluate(texts, "toy/reach", tmp_path / "run", episodes=1, machine=MACHINE)
    labels = [f"{own}:make(0.5)", f"{own}:make(value=-0.5)", "mine", f"{own}:make"]
    assert [agent.label for agent in run.plan.agents] == labels
    assert [agent.spec for agent in run.plan.agents] == [*labels[:2], f"{own}:make(kind='a=b')", labels[3]]
    assert len({json.dumps(agent.code) for agent in run.plan.agents}) == 1
    assert run.plan.agents[0].code
    assert len({record.trajectory for record in run.records()}) == 3  # 'mine' and the last play alike


def test_a_label_is_what_stands_before_the_first_equals_sign_outside_of_arguments(own: str) -> None:
    assert labelled_specs(f"{own}:make(value=1)") == {f"{own}:make(value=1)": f"{own}:make(value=1)"}
    assert labelled_specs(f"a (b)={own}:make(value=1)~0.5") == {"a (b)": f"{own}:make(value=1)~0.5"}
    assert labelled_specs("x:y(z)=random") == {"x:y(z)": "random"}
    with pytest.raises(LramError, match="no plain values"):
        evaluate(f"{own}:make(value=other)", "toy/reach", "run", machine=MACHINE)


def test_labels_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(LramError, match=r"the labels 'A' and 'a' differ in upper and lower case only"):
        labelled_specs(["A=random", "a=constant"])
    with pytest.raises(LramError, match="2 agents are called 'a'"):
        labelled_specs(["a=random", "a=constant"])


def test_paths_name_folders_in_lists_and_by_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("random/checkpoint").mkdir(parents=True)
    there = str(tmp_path / "random")
    assert labelled_specs(Path("random")) == {"random": there}
    assert labelled_specs([Path("random/checkpoint"), "mine=random"]) == {
        "random": f"{there}/checkpoint",
        "mine": "random",
    }
    assert labelled_specs({"a": Path("random"), "b": "./random", "c": "random"}) == {
        "a": there,
        "b": there,
        "c": "random",
    }


def test_what_names_no_agent_is_told_in_one_sentence() -> None:
    for wrong, sentence in (
        (RandomAgent(), r"or objects by label, such as \{'mine': agent\}, not RandomAgent"),
        ([RandomAgent()], "not RandomAgent"),
        (3, "give agents as texts, such as 'random'"),
        ({"mine": RandomAgent}, "agent mine is the class RandomAgent; give an object of it"),
        ({"mine": 3}, "agent mine is a int without info"),
        ({3: "random"}, "an agent's label is 3; give a text"),
        ({}, "no agent is given"),
    ):
        with pytest.raises(LramError, match=sentence):
            labelled_specs(wrong)  # type: ignore[arg-type]


def test_an_object_whose_info_is_none_leaves_no_run_behind(tmp_path: Path) -> None:
    class Silent(ConstantAgent):
        info = None  # type: ignore[assignment]

    agent = Silent(0.0)
    assert [one.status for one in contract_checks(agent) if one.subject == "info"] == ["failed"]
    with pytest.raises(LramError, match="agent mine: its info is a NoneType; give a "):
        evaluate({"mine": agent}, "toy/reach", tmp_path / "run", episodes=1, machine=MACHINE)
    assert not (tmp_path / "run").exists()


def test_a_run_of_the_kinds_of_before_is_read_as_it_was(tmp_path: Path) -> None:
    run = evaluate("random", "toy/reach", tmp_path / "run", episodes=1, machine=MACHINE)
    assert run.plan.agents[0].info == AgentInfo("baseline", run.plan.agents[0].info.description)
    assert Run(tmp_path / "run").plan == run.plan


@pytest.mark.parametrize(
    ("named", "label", "spec"),
    [
        ("short=small-mamba@window=16", "short", "small-mamba@window=16"),
        ("short=small-mamba@reset=16~0.1", "short", "small-mamba@reset=16~0.1"),
        ("small-mamba@window=16", "small-mamba@window=16", "small-mamba@window=16"),
        ("small-mamba@win=16", "small-mamba@win=16", "small-mamba@win=16"),  # refused by name, later
    ],
)
def test_an_agent_with_a_context_has_a_label_or_none(named: str, label: str, spec: str) -> None:
    assert labelled_specs(named) == {label: spec}
