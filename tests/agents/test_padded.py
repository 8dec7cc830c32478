"""Policies that act for a batch: with a fixed number of rows, a lane does not feel its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lram.agents.acting.padded import ROWS, BatchedPolicy, fixed_rows, whole_action
from lram.agents.api import AgentError, AgentInfo, TaskSpec
from lram.agents.checks.contract import contract_checks

TASK = TaskSpec("check/vector", "check", "vector", (39,), "continuous", 4, 100.0, 10.0)
IMAGE = TaskSpec("check/image", "check", "image", (3, 64, 64), "discrete", 15, 100.0, 10.0)
INFO = AgentInfo("model", "a network", trained=False)


def torch_policy() -> Callable[[Any], Any]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((256, 39), (256, 256), (4, 256))
    weights = [torch.randn(*shape, generator=generator) / shape[1] ** 0.5 for shape in shapes]

    def predict(observations: Any) -> Any:
        x = torch.from_numpy(np.ascontiguousarray(observations))
        for weight in weights:
            x = torch.tanh(torch.nn.functional.linear(x, weight))
        return x.numpy()

    return predict


def numpy_policy() -> Callable[[Any], Any]:
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape).astype(np.float32) / 16 for shape in ((39, 256), (256, 4))]

    def predict(observations: Any) -> Any:
        return np.tanh(np.tanh(observations @ weights[0]) @ weights[1])

    return predict


class AllAtOnce(BatchedPolicy):
    """What a first try looks like: all lanes that are ready in one pass."""

    def __init__(self, predict: Callable[[Any], Any], **more: Any) -> None:
        super().__init__(predict, **more)
        self._predict = predict


def policy(kind: type[BatchedPolicy], predict: Callable[[Any], Any]) -> BatchedPolicy:
    return kind(predict, observation_shape=(39,), action="continuous", action_size=4, info=INFO)


def failed(agent: BatchedPolicy) -> set[str]:
    return {check.name for check in contract_checks(agent, (TASK,)) if check.status == "failed"}


def test_a_policy_that_acts_for_all_lanes_at_once_feels_its_neighbours_and_a_padded_one_does_not() -> None:
    assert failed(policy(AllAtOnce, torch_policy())) == {"a lane's neighbours do not matter"}
    assert failed(policy(BatchedPolicy, torch_policy())) == set()


@pytest.mark.parametrize("make", [torch_policy, numpy_policy])
def test_an_action_does_not_depend_on_its_place_or_on_what_stands_beside_it(make: Any) -> None:
    padded = fixed_rows(make())
    rng = np.random.default_rng(1)
    seen = rng.standard_normal(39).astype(np.float32)
    alone = padded(seen[None])[0]
    for _ in range(200):
        lanes = int(rng.integers(1, 20))
        place = int(rng.integers(lanes))
        beside = 10 * rng.standard_normal((lanes, 39)).astype(np.float32)
        beside[place] = seen
        assert np.array_equal(padded(beside)[place], alone)


def test_the_policy_only_ever_sees_the_same_number_of_rows_at_the_same_place() -> None:
    shapes, places = set(), set()

    def predict(observations: Any) -> Any:
        shapes.add(observations.shape)
        places.add(observations.ctypes.data)
        assert np.isfinite(observations).all()
        return observations[:, 0] * 2

    padded = fixed_rows(predict, 8)
    for lanes in (1, 7, 8, 9, 19):
        seen = np.arange(lanes * 3, dtype=np.float32).reshape(lanes, 3)
        kept = seen.copy()
        assert np.array_equal(padded(seen), 2 * seen[:, 0])
        assert np.array_equal(seen, kept)
    assert shapes == {(8, 3)}
    (place,) = places
    assert place % 64 == 0


def test_a_policy_that_answers_with_its_input_is_copied() -> None:
    padded = fixed_rows(lambda observations: observations, 8)
    one = padded(np.ones((1, 2), np.float32))
    padded(np.zeros((1, 2), np.float32))
    assert one.tolist() == [[1, 1]]


def test_discrete_actions_and_images() -> None:
    def predict(observations: Any) -> Any:
        return observations.reshape(len(observations), -1).astype(np.int64).sum(1) % 15

    agent = BatchedPolicy(
        predict, observation_shape=(3, 64, 64), action="discrete", action_size=15, info=INFO
    )
    checks = contract_checks(agent, (IMAGE,))
    assert all(check.status == "passed" for check in checks)
    assert agent.rows == ROWS


@pytest.mark.parametrize("answer", [2.9, np.nan, np.inf])
def test_a_discrete_action_that_is_no_whole_number_is_refused(answer: float) -> None:
    agent = BatchedPolicy(
        lambda seen: np.full(len(seen), answer),
        observation_shape=(2,),
        action="discrete",
        action_size=4,
        info=INFO,
    )
    with pytest.raises(AgentError, match=f"the discrete action {answer}, which is no whole number"):
        agent.act(None, [np.zeros(2, np.float32)], [0.0], [0])
    assert [whole_action(value) for value in (np.float32(3), np.int64(2), np.array([1]))] == [3, 2, 1]


def test_other_tasks_are_refused_in_a_sentence() -> None:
    agent = policy(BatchedPolicy, numpy_policy())
    assert agent.refuses(TASK) is None
    assert agent.refuses(IMAGE) == (
        "check/image has observations (3, 64, 64), 15 discrete actions, and the policy knows observations "
        "(39,), 4 continuous actions"
    )


def test_an_answer_of_another_length_is_one_sentence() -> None:
    padded = fixed_rows(lambda observations: np.zeros(3), 8)
    with pytest.raises(AgentError, match=r"answered 8 observations with an array of shape \(3,\)"):
        padded(np.zeros((2, 39), np.float32))
    with pytest.raises(ValueError, match="must be 1 or more"):
        fixed_rows(lambda observations: observations, 0)
