"""A domain that another package brings is held to every field of its contract when it is loaded."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from lram.envs.announced import load
from lram.envs.errors import AnnouncedError
from lram.envs.registry import domain_names, load_domain
from lram.envs.session import Domain, EvaluationProtocol, InterpreterRecipe, SourceTree
from lram.envs.task import Task

TASK = Task("mine", "one", "extra", 10, "vector", 3, "continuous", 2, None, 1.0)
PROTOCOL = EvaluationProtocol("plain", 1, "As it is.")
SOURCE = SourceTree("gadget", "https://example.org", "abc", "MIT")
DOMAIN = Domain(
    "mine",
    (PROTOCOL,),
    make=lambda name, protocol: None,  # type: ignore[arg-type, return-value]
    tasks=(TASK,),
    sources=(SOURCE,),
    interpreter=InterpreterRecipe(("numpy==1.26.4",)),
)


def loaded(domain: object) -> Domain:
    return load("mine", SimpleNamespace(value="theirs:DOMAIN", load=lambda: domain))


def test_a_domain_as_the_contract_has_it_is_loaded() -> None:
    assert loaded(DOMAIN) is DOMAIN
    pairs = replace(TASK, sources=(("score", "measured"),), reference_name="one-v2")
    assert loaded(replace(DOMAIN, tasks=[pairs])).tasks == [pairs]
    whole = replace(
        DOMAIN,
        trial_task="one",
        attributes=lambda name: {"robot": "Panda"},
        least_return=lambda task: None,
        greatest_return=lambda task, protocol: None,
        clipped_data=True,
    )
    assert loaded(whole) is whole


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"protocols": (replace(PROTOCOL, version="1"),)}, "'plain' whose version is '1', no whole number"),
        ({"protocols": (replace(PROTOCOL, version=0),)}, "whose version is 0"),
        ({"protocols": (replace(PROTOCOL, summary=None),)}, "whose summary is no text"),
        ({"protocols": (replace(PROTOCOL, options=("a",)),)}, "whose options are no mapping by name"),
        (
            {"protocols": (replace(PROTOCOL, versions={"gym": 1}),)},
            "whose versions are no mapping of versions",
        ),
        ({"install": None}, "whose install is None, not a text"),
        ({"under": "x"}, "whose under cannot be called"),
        ({"sources": SOURCE}, "whose sources are no sequence of lram.envs.session.SourceTree"),
        ({"sources": (replace(SOURCE, commit=None),)}, "a source tree whose commit is None, not a text"),
        ({"sources": (replace(SOURCE, tasks="a*"),)}, "'?gadget'? whose tasks are no sequence of patterns"),
        ({"interpreter": ("numpy",)}, "whose interpreter is a tuple, not an InterpreterRecipe"),
        ({"interpreter": InterpreterRecipe("numpy")}, "requirements that are no sequence of texts"),
        ({"interpreter": InterpreterRecipe((), pythons="3.11")}, "pythons that are no sequence of texts"),
        ({"tasks": (replace(TASK, sources=("a",)),)}, "'one' whose sources are no pairs of texts"),
        ({"tasks": (replace(TASK, reference_name=None),)}, "'one' whose reference_name is no text"),
        (
            {"tasks": (replace(TASK, reward_scale=-1.0),)},
            "'one' whose reward_scale is no finite number above 0",
        ),
        ({"trial_task": "two"}, "whose trial_task 'two' is none of its tasks"),
        ({"trial_task": None}, "whose trial_task None is none of its tasks"),
        ({"clipped_data": "no"}, "whose clipped_data is 'no', not True or False"),
        ({"attributes": {"robot": "Panda"}}, "whose attributes cannot be called"),
        ({"attributes": lambda name: ["robot"]}, "attributes of the task 'one' are no mapping of texts"),
        ({"attributes": lambda name: {"robot": 7}}, "attributes of the task 'one' are no mapping of texts"),
        ({"attributes": lambda name: {"robot": ""}}, "attributes of the task 'one' are no mapping of texts"),
        ({"attributes": lambda name: {"split": "mine"}}, "attributes of the task 'one' hold a split"),
        ({"attributes": lambda name: {}["robot"]}, "cannot be read: KeyError: 'robot'"),
        ({"least_return": 0.0}, "whose least_return cannot be called"),
        ({"least_return": lambda task: "0"}, "least_return of the task 'one' is '0', no finite number"),
        ({"greatest_return": 1.0}, "whose greatest_return cannot be called"),
        (
            {"least_return": lambda task: 0, "greatest_return": lambda task, protocol: float("inf")},
            "greatest_return of the task 'one' is inf, no finite number",
        ),
        (
            {"least_return": lambda task: 2, "greatest_return": lambda task, protocol: 1},
            "greatest_return of the task 'one' is 1, the least 2",
        ),
        ({"greatest_return": lambda task, protocol: 1}, "is 1, the least None"),
    ],
)
def test_a_field_that_is_none_is_named_in_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AnnouncedError, match=sentence) as caught:
        loaded(replace(DOMAIN, **fields))
    assert "fix the package that brings it" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_domains_that_come_along_keep_the_same_contract() -> None:
    for name in domain_names():
        domain = load_domain(name)
        assert load(name, SimpleNamespace(value=name, load=lambda domain=domain: domain)) is domain
