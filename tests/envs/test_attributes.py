"""What a domain tells of its tasks is read without its simulator, and without the domain where it is gone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from lram.envs import attributes, returns
from lram.envs.attributes import task_attributes
from lram.envs.registry import all_tasks, benchmark_tasks, domain_names, load_domain
from lram.envs.returns import UNBOUNDED, least_return, return_range
from lram.envs.session import Domain
from lram.envs.task import Task


@pytest.mark.parametrize(
    ("task_id", "own"),
    [
        ("atari/freeway", {}),
        ("toy/steps", {}),
        (
            "composuite/IIWA_Box_None_PickPlace",
            {"robot": "IIWA", "object": "Box", "obstacle": "None", "objective": "PickPlace"},
        ),
        ("robosuite/Lift", {"robot": "Panda"}),
        ("robosuite/Lift-UR5e", {"robot": "UR5e"}),
        ("mimicgen/Stack_D1", {"robot": "Panda", "reset": "D1"}),
        ("mimicgen/PickPlace_D0", {"robot": "Sawyer", "reset": "D0"}),
        ("mimicgen/Stack_D0-IIWA", {"robot": "IIWA", "reset": "D0"}),
        ("darkroom/dense-80", {"reward": "dense"}),
    ],
)
def test_a_task_has_its_split_and_what_its_domain_tells(task_id: str, own: dict[str, str]) -> None:
    task = all_tasks()[task_id]
    assert list(task_attributes(task).items()) == [("split", task.split), *own.items()]


def test_a_task_of_a_domain_that_is_gone_has_its_split_only() -> None:
    gone = Task("no-such-domain", "one", "heldout", 10, "vector", 3, "continuous", 2, None, 1.0)
    assert task_attributes(gone) == {"split": "heldout"}
    assert least_return(gone) is None
    assert return_range(gone, "no-such-domain:plain@1") == UNBOUNDED


def _raises(*arguments: object) -> float:
    raise KeyError(arguments)


def test_a_task_that_its_domain_does_not_know_any_more_takes_no_report_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    domain = replace(load_domain("toy"), attributes=_raises, least_return=_raises, greatest_return=_raises)
    load: Callable[[str], Domain] = lambda name: domain  # noqa: E731
    monkeypatch.setattr(attributes, "load_domain", load)
    monkeypatch.setattr(returns, "load_domain", load)
    task = all_tasks()["toy/reach"]
    assert task_attributes(task) == {"split": "extra"}
    assert least_return(task) is None
    assert return_range(task, "toy:plain@1") == UNBOUNDED
    domain = replace(domain, least_return=lambda task: 1.0, greatest_return=lambda task, protocol: 3.0)
    assert return_range(task, "toy:plain@1") == (1.0, 3.0)


def test_the_task_that_a_domain_is_tried_with_is_one_of_its_tasks() -> None:
    for name in domain_names():
        domain = load_domain(name)
        own = {task.name for task in domain.tasks or benchmark_tasks() if task.domain == name}
        if domain.on_demand is not None:  # in no table, but made when it is named
            own.add(domain.on_demand(domain.trial_task).name)
        assert domain.trial_task in {"", *own}, name


def test_what_domains_tell_is_read_without_a_simulator() -> None:
    script = """
import sys
from lram.envs.attributes import task_attributes
from lram.envs.registry import all_tasks, domain_names, load_domain
from lram.envs.returns import least_return, return_range
for task in all_tasks().values():
    task_attributes(task), least_return(task), return_range(task, task.domain + ":lram@1")
wanted = {name for domain in map(load_domain, domain_names()) for name in domain.requires}
wanted |= {tree.module for domain in map(load_domain, domain_names()) for tree in domain.sources}
assert {"ale_py", "procgen", "metaworld", "dm_control", "robosuite", "composuite"} <= wanted
print(sorted((wanted | {"torch", "gymnasium"}) & sys.modules.keys()))
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
