"""The dataclasses of the agent's contract: what they take, and one sentence for what they do not."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from lram.agents.api import AgentError, AgentInfo, Episode, TaskSpec, checked_agent
from lram.agents.experts.baselines import RandomAgent

FIELDS = {
    "id": "some/task",
    "domain": "some",
    "observation": "vector",
    "observation_shape": (3,),
    "action": "discrete",
    "action_size": 4,
    "target_return": None,
    "reward_scale": 1.0,
}


def test_an_agent_may_be_of_any_kind_and_what_it_says_can_be_read_again() -> None:
    info = AgentInfo(
        "mlp",
        "two layers",
        trained=np.bool_(True),  # type: ignore[arg-type]
        parameters=np.int64(5),  # type: ignore[arg-type]
        details={"optimizer": "adam", "note": ""},  # type: ignore[arg-type]
        training_tasks=["some/task"],  # type: ignore[arg-type]
    )
    assert info.details == (("optimizer", "adam"), ("note", ""))
    assert info.training_tasks == ("some/task",)
    assert msgspec.json.decode(msgspec.json.encode(info), type=AgentInfo) == info


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("kind", 3, "AgentInfo.kind is 3; give a string"),
        ("kind", " ", "AgentInfo.kind is empty; give a few words"),
        ("description", None, "AgentInfo.description is None; give a string"),
        ("description", "", "AgentInfo.description is empty"),
        ("description", "\udc80", "AgentInfo.description holds characters that UTF-8 cannot write"),
        ("trained", "yes", "AgentInfo.trained is 'yes'; give True or False"),
        ("parameters", -1, "AgentInfo.parameters is -1; give a whole number, 0 or more"),
        ("parameters", 1.5e6, "AgentInfo.parameters is 1500000.0; give a whole number"),
        ("parameters", 1 << 64, "AgentInfo.parameters is 18446744073709551616; give a whole number"),
        ("digest", b"abc", "AgentInfo.digest is b'abc'; give a string"),
        ("details", "adam", "AgentInfo.details is 'adam'; give pairs of strings"),
        ("details", [("a", 1)], "AgentInfo.details is 1; give a string"),
        ("details", ["ab"], "AgentInfo.details holds 'ab'; give pairs of strings"),
        ("training_tasks", "some/task", "AgentInfo.training_tasks is 'some/task'; give a tuple of strings"),
        ("training_tasks_complete", 1, "AgentInfo.training_tasks_complete is 1; give True or False"),
    ],
)
def test_what_an_agent_cannot_say_of_itself_is_one_sentence(field: str, value: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=field) as caught:
        AgentInfo(**{"kind": "baseline", "description": "x", field: value})  # type: ignore[arg-type]
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("id", "task", "TaskSpec.id is 'task'; give the domain, 'some', a slash and a name"),
        ("id", "other/task", "TaskSpec.id is 'other/task'; give the domain"),
        ("observation", "state", "TaskSpec.observation is 'state'; give one of 'image', 'vector'"),
        ("observation_shape", 39, "TaskSpec.observation_shape is 39; give a tuple"),
        ("observation_shape", (0,), "TaskSpec.observation_shape is 0; give a whole number, 1 or more"),
        ("action", "box", "TaskSpec.action is 'box'; give one of 'discrete', 'continuous'"),
        ("action_size", 0, "TaskSpec.action_size is 0; give a whole number, 1 or more"),
        ("action_size", True, "TaskSpec.action_size is True; give a whole number"),
        ("target_return", math.inf, "TaskSpec.target_return is inf; give a finite number"),
        ("reward_scale", 0, "TaskSpec.reward_scale is 0, and rewards are divided by it"),
        ("reward_scale", math.nan, "TaskSpec.reward_scale is nan; give a finite number"),
    ],
)
def test_a_task_that_none_can_be_is_one_sentence(field: str, value: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=field) as caught:
        TaskSpec(**{**FIELDS, field: value})  # type: ignore[arg-type]
    assert sentence in str(caught.value)


def test_an_episode_is_of_a_task_and_a_seed() -> None:
    task = TaskSpec(**{**FIELDS, "observation_shape": [np.int32(3)]})  # type: ignore[arg-type]
    assert task.observation_shape == (3,)
    assert Episode(task, np.int64(4)).seed == 4  # type: ignore[arg-type]
    for wrong, sentence in (
        (("some/task", 0), "Episode.task is a str"),
        ((task, -1), "Episode.seed is -1"),
        ((task, "0"), "Episode.seed is '0'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Episode(*wrong)  # type: ignore[arg-type]


def test_what_is_no_agent_is_told_by_what_it_lacks() -> None:
    assert isinstance(checked_agent(RandomAgent(), "mine"), RandomAgent)
    for wrong, sentence in (
        (RandomAgent, "mine is the class RandomAgent; give an object of it"),
        ("random", "mine is a str without info, refuses, start, reset, act, state_bytes"),
    ):
        with pytest.raises(AgentError, match=sentence):
            checked_agent(wrong, "mine")
