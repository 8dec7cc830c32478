"""The contract's checks: sound agents pass, and each fault is found by the check that names it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from lram.agents.api import Action, AgentInfo, Episode, Observation, TaskSpec
from lram.agents.checks.contract import IMAGE_TASK, VECTOR_TASK, Check, contract_checks
from lram.agents.experts.baselines import ConstantAgent, RandomAgent, ScriptedAgent


class Careful:
    """Acts by all that it may: seed, time, observation, last reward. Its subclasses do one thing wrong."""

    info = AgentInfo("baseline", "careful")

    def refuses(self, task: TaskSpec) -> str | None:
        return None

    def start(self, lanes: int) -> dict[int, dict[str, Any]]:
        return {lane: {} for lane in range(lanes)}

    def reset(self, state: Any, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        for lane, episode in zip(lanes, episodes, strict=True):
            state[lane] = {"task": episode.task, "rng": np.random.default_rng(episode.seed), "sum": None}

    def act(
        self,
        state: Any,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], Any]:
        actions = []
        for lane, seen, reward in zip(lanes, observations, rewards, strict=True):
            own = state[lane]
            own["sum"] = self.first(reward) if own["sum"] is None else own["sum"] + reward
            number = float(own["rng"].normal() + seen.mean() + own["sum"] + self.noise(lane, observations))
            actions.append(self.action(own["task"], number))
        return actions, state

    def state_bytes(self, state: Any) -> int:
        return 40 * len(state)

    def first(self, reward: float) -> float:
        return 0.0

    def noise(self, lane: int, observations: Sequence[Observation]) -> float:
        return 0.0

    def action(self, task: TaskSpec, number: float) -> Any:
        if task.action == "discrete":
            return int(1000 * abs(number)) % task.action_size
        return np.full(task.action_size, np.sin(number), np.float32)


def failed(checks: Sequence[Check]) -> set[str]:
    return {check.name for check in checks if check.status == "failed"}


@pytest.mark.parametrize("agent", [Careful(), RandomAgent(), ConstantAgent(), ConstantAgent(0.5)])
def test_agents_that_keep_the_contract_pass(agent: Any) -> None:
    checks = contract_checks(agent)
    assert not failed(checks)
    assert sum(check.status == "passed" for check in checks) >= 10


def test_the_checked_agent_can_tell_the_arrangements_apart() -> None:
    """Otherwise nothing below would show anything."""
    agent, state = Careful(), {}
    agent.reset(state, [0, 1], [Episode(IMAGE_TASK, 0), Episode(IMAGE_TASK, 1)])
    seen = np.zeros((3, 64, 64), np.uint8)
    rewards = (0.0, 0.0, 3.0)
    played = [agent.act(state, [seen, seen], [reward] * 2, [0, 1])[0] for reward in rewards]
    assert len({tuple(actions) for actions in played}) == 3
    assert all(one != other for one, other in played)


class Unseeded(Careful):
    def noise(self, lane: int, observations: Sequence[Observation]) -> float:
        return random.random()


class KnowsItsLane(Careful):
    def noise(self, lane: int, observations: Sequence[Observation]) -> float:
        return 1e-6 * lane


class KnowsItsBlock(Careful):
    """Right for the first 8 lanes."""

    def noise(self, lane: int, observations: Sequence[Observation]) -> float:
        return 1e-6 * (lane // 8)


class LooksAtNeighbours(Careful):
    def noise(self, lane: int, observations: Sequence[Observation]) -> float:
        return 0.001 * len(observations)


class ResetsEverybody(Careful):
    def reset(self, state: Any, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        super().reset(state, lanes, episodes)
        for own in state.values():
            own["sum"] = None


class ForgetsTheReset(Careful):
    def reset(self, state: Any, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        past = [state[lane].get("sum") for lane in lanes]
        super().reset(state, lanes, episodes)
        for lane, total in zip(lanes, past, strict=True):
            state[lane]["sum"] = total


class ReadsTheFirstReward(Careful):
    def first(self, reward: float) -> float:
        return reward


class Scribbles(Careful):
    def act(self, state: Any, observations: Any, rewards: Any, lanes: Any) -> tuple[list[Action], Any]:
        for seen in observations:
            seen.flat[0] = 7
        return super().act(state, observations, rewards, lanes)


class CountsNothing(Careful):
    def state_bytes(self, state: Any) -> int:
        return -1


class Wrong(Careful):
    """Returns no action of the task: ``make`` says what."""

    def __init__(self, make: Callable[[TaskSpec, Any], Any]) -> None:
        self.make = make

    def action(self, task: TaskSpec, number: float) -> Any:
        return self.make(task, super().action(task, number))


FAULTS = {
    "unseeded": (Unseeded(), "the same seed gives the same actions"),
    "knows its lane": (KnowsItsLane(), "a lane's number does not matter"),
    "knows its block": (KnowsItsBlock(), "a lane's number does not matter"),
    "looks at its neighbours": (LooksAtNeighbours(), "a lane's neighbours do not matter"),
    "resets everybody": (ResetsEverybody(), "a lane's neighbours do not matter"),
    "forgets the reset": (ForgetsTheReset(), "a reset lane is fresh"),
    "reads the first reward": (ReadsTheFirstReward(), "a fresh lane's reward is not read"),
    "scribbles": (Scribbles(), "observations are left as they were"),
    "counts nothing": (CountsNothing(), "the state's bytes are counted"),
    "float64": (Wrong(lambda task, a: np.asarray(a, np.float64)), "actions are valid"),
    "too large": (Wrong(lambda task, a: a + 99), "actions are valid"),
    "NaN": (Wrong(lambda task, a: np.nan * np.float32(a)), "actions are valid"),
    "bool": (Wrong(lambda task, a: True), "actions are valid"),
}


@pytest.mark.parametrize(("agent", "name"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found_by_the_check_that_names_it(agent: Any, name: str) -> None:
    found = failed(contract_checks(agent, [VECTOR_TASK]))
    # Whose noise is new each time differs in every arrangement.
    if isinstance(agent, Unseeded):
        assert name in found
        return
    # A lane among neighbours is another one than alone, too.
    knows_lanes = isinstance(agent, KnowsItsLane | KnowsItsBlock)
    assert found == {name} | ({"a lane's neighbours do not matter"} if knows_lanes else set())


def test_what_differs_is_told_with_its_size_and_place() -> None:
    (check,) = (c for c in contract_checks(ForgetsTheReset(), [VECTOR_TASK]) if c.status == "failed")
    assert "differ from decision 1 of 8 on, by up to " in check.measured
    assert "chance" in check.reason


class Raises(Careful):
    def __init__(self, where: str, error: BaseException) -> None:
        self.where, self.error = where, error

    def __getattribute__(self, name: str) -> Any:
        if name == object.__getattribute__(self, "where"):
            raise object.__getattribute__(self, "error")
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("where", ["info", "refuses", "start", "reset", "act", "state_bytes"])
@pytest.mark.parametrize("error", [ValueError("no such knee"), SystemExit(3)], ids=["error", "exit"])
def test_an_agent_that_raises_has_failed_with_its_message(where: str, error: BaseException) -> None:
    checks = contract_checks(Raises(where, error))
    broken = [check for check in checks if check.status == "failed"]
    assert broken
    assert all(f"raised {type(error).__name__}: {error}" in check.measured for check in broken)
    assert all("test_check.py, line" in check.measured for check in broken)
    assert all(check.raised for check in broken)


def test_too_few_actions_are_told() -> None:
    class Lazy(Careful):
        def act(self, state: Any, *rest: Any) -> tuple[list[Action], Any]:
            return [], state

    (check,) = (c for c in contract_checks(Lazy(), [VECTOR_TASK]) if c.status == "failed")
    assert "act gave 0 actions for 1 lanes" in check.measured


def test_an_agent_that_refuses_all_is_told_not_to_have_acted() -> None:
    checks = contract_checks(ScriptedAgent())
    assert not failed(checks)
    assert "it has not acted" in checks[-1].reason
    refusing = type("Refusing", (Careful,), {"refuses": lambda self, task: ""})()
    assert failed(contract_checks(refusing)) == {"the agent says what it plays"}
