"""The dataclasses of the agent's contract: what they take, and one sentence for what they do not."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from lram.agents.acting.padded import BatchedPolicy
from lram.agents.api import Agent, AgentError, AgentInfo, CompletedAgent, Episode, TaskSpec, checked_agent
from lram.agents.experts.baselines import ConstantAgent, RandomAgent, ScriptedAgent
from lram.agents.experts.learner import LearnerAgent
from lram.agents.experts.noise import Noise, NoisyAgent
from lram.agents.experts.planning import PlanningAgent

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
        (
            "reward_scale",
            -2.0,
            "TaskSpec.reward_scale is -2, and rewards are divided by it; give a number above",
        ),
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


class Minimal:
    """An agent of five methods, as people write them."""

    info = AgentInfo("mlp", "minimal")

    def refuses(self, task: TaskSpec) -> str | None:
        return "no" if task.domain == "none" else None

    def start(self, lanes: int) -> list[object]:
        return [lanes]

    def reset(self, state: list[object], lanes: object, episodes: object) -> None:
        state.append((lanes, episodes))

    def act(
        self, state: list[object], seen: object, rewards: object, lanes: list[int]
    ) -> tuple[object, object]:
        return [2 for _ in lanes], [*state, (seen, rewards)]

    def state_bytes(self, state: list[object]) -> int:
        return len(state)


def test_an_agent_of_five_methods_is_given_the_rest_of_the_contract() -> None:
    agent = checked_agent(Minimal(), "mine")
    assert isinstance(agent, CompletedAgent)
    assert (agent.info, agent.rows) == (Minimal.info, None)
    task = TaskSpec(**{**FIELDS, "id": "none/task", "domain": "none"})  # type: ignore[arg-type]
    assert agent.refuses(task) == "no"
    state = agent.start(3)
    agent.reset(state, [0], [])
    actions, state = agent.act(state, ["seen"], [0.5], [0])  # type: ignore[list-item]
    assert (actions, state) == ([2], [3, ([0], []), (["seen"], [0.5])])
    agent.took(state, [0], [1])
    assert agent.state_bytes(state) == 3
    assert checked_agent(agent, "mine") is agent


def test_what_an_agent_has_of_the_rest_is_its_own() -> None:
    class Remembers(Minimal):
        rows = 4

        def took(self, state: list[object], lanes: object, actions: object) -> None:
            state.append(actions)

    class InPasses(Minimal):
        rows = 4

    whole, part = Remembers(), checked_agent(InPasses(), "mine")
    assert checked_agent(whole, "mine") is whole
    assert NoisyAgent(part, Noise(1.0)).rows == part.rows == 4
    state: list[object] = []
    part.took(state, [0], [1])
    assert state == []
    for inner, taken in ((Remembers(), 3), (Minimal(), 2)):
        noisy = NoisyAgent(checked_agent(inner, "mine"), Noise(1.0))
        play = noisy.start(1)
        noisy.reset(play, [0], [Episode(TaskSpec(**FIELDS), 0)])  # type: ignore[arg-type]
        _, play = noisy.act(play, ["seen"], [0.0], [0])  # type: ignore[list-item]
        assert len(play.inner) == taken + 1


def test_rows_that_cannot_be_read_are_named() -> None:
    class Broken(Minimal):
        @property
        def rows(self) -> int:
            raise OSError("no file")

    with pytest.raises(AgentError, match="mine: its rows cannot be read: OSError: no file"):
        checked_agent(Broken(), "mine")


def test_agents_of_the_package_have_the_whole_contract() -> None:
    policy = BatchedPolicy(
        lambda seen: seen, observation_shape=(3,), action="discrete", action_size=4, info=Minimal.info
    )
    baselines = RandomAgent(), ConstantAgent(), ScriptedAgent(), PlanningAgent(), LearnerAgent()
    noisy = NoisyAgent(policy, Noise(0.5))
    for agent in (*baselines, policy, noisy):
        assert isinstance(agent, Agent)
        assert checked_agent(agent, "mine") is agent
    assert {agent.rows for agent in baselines} == {None}
    assert noisy.rows == policy.rows == 8


def test_what_is_no_agent_is_told_by_what_it_lacks() -> None:
    assert isinstance(checked_agent(RandomAgent(), "mine"), RandomAgent)
    for wrong, sentence in (
        (RandomAgent, "mine is the class RandomAgent; give an object of it"),
        ("random", "mine is a str without info, refuses, start, reset, act, state_bytes"),
    ):
        with pytest.raises(AgentError, match=sentence):
            checked_agent(wrong, "mine")
