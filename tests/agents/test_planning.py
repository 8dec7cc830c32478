"""The planner reads the state from the observation alone, keeps the Agent contract, and scores."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from lram.agents.api import AgentError, Episode, TaskSpec
from lram.agents.experts.planning import PlanningAgent
from lram.agents.experts.planning.problems import PROBLEMS
from lram.agents.experts.planning.search import SearchOptions, interpolation, search, shifted
from lram.agents.factory import create_agent, list_agents

IMAGE = TaskSpec("atari/breakout", "atari", "image", (3, 64, 64), "discrete", 18, 10.0, 20.0)


def needs_the_suite() -> None:
    pytest.importorskip("dm_control", reason="needs lram-bench[dmcontrol]")


def make(task_id: str) -> tuple[Any, TaskSpec]:
    from lram.envs.registry import load_domain

    domain = load_domain("dmcontrol")
    session = domain.make(task_id.removeprefix("dmcontrol/"), domain.protocol())
    spec = session.spec
    return session, TaskSpec(
        task_id, "dmcontrol", spec.observation, spec.observation_shape, spec.action, spec.action_size, None, 1
    )


def seen_in(task_id: str, seed: int, count: int) -> tuple[TaskSpec, list[Any]]:
    """Return what random play sees in ``count`` decisions."""
    session, task = make(task_id)
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (count - 1, task.action_size))
    observations = [session.reset(seed), *(session.step(action).observation for action in actions)]
    session.close()
    return task, observations


def decided(agent: PlanningAgent, plan: dict[int, tuple[Episode, Sequence[Any]]]) -> dict[int, Any]:
    """Return the actions of lanes that are shown fixed observations."""
    state = agent.start(8)
    agent.reset(state, list(plan), [episode for episode, _ in plan.values()])
    out: dict[int, Any] = {lane: [] for lane in plan}
    for seen in zip(*(observations for _, observations in plan.values()), strict=True):
        actions, state = agent.act(state, seen, [0.0] * len(plan), list(plan))
        for lane, action in zip(plan, actions, strict=True):
            out[lane].append(action)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("task_id", list(PROBLEMS))
def test_the_state_read_from_an_observation_leads_to_the_environments_next_one(task_id: str) -> None:
    needs_the_suite()
    from dataclasses import replace

    from lram.agents.experts.planning.simulator import Simulator

    problem = replace(PROBLEMS[task_id], coarseness=1)
    simulator = Simulator(problem)
    session, task = make(task_id)
    rng = np.random.default_rng(3)
    for seed in (1100, 1101):
        observation = session.reset(seed)
        for index in range(60):
            action = rng.uniform(-1, 1, task.action_size).astype(np.float32)
            futures = simulator.futures(observation.astype(np.float64), action[None, None].astype(np.float64))
            observation = session.step(action).observation
            qpos, qvel = problem.state(observation.astype(np.float64))
            told = f"{task_id}, seed {seed}, decision {index}"
            hidden = {"cheetah": [0], "walker": [1]}.get(problem.model, [])
            gone = np.delete(futures.qpos[0, 0] - qpos, hidden)
            np.testing.assert_allclose(np.sin(gone / 2), 0, atol=1e-5, err_msg=told)
            np.testing.assert_allclose(futures.qvel[0, 0], qvel, rtol=1e-4, atol=1e-3, err_msg=told)
    session.close()


@pytest.mark.slow
def test_actions_depend_neither_on_other_lanes_nor_on_threads_nor_on_what_was_played_before() -> None:
    needs_the_suite()
    cup, cups = seen_in("dmcontrol/ball_in_cup-catch", 5, 6)
    finger, fingers = seen_in("dmcontrol/finger-spin", 6, 6)
    agent = PlanningAgent()
    alone = decided(agent, {0: (Episode(cup, 5), cups)})[0]
    beside = decided(agent, {3: (Episode(finger, 6), fingers), 1: (Episode(cup, 5), cups)})
    threaded = decided(
        PlanningAgent(threads=2), {3: (Episode(finger, 6), fingers), 2: (Episode(cup, 5), cups)}
    )
    for a, b, c in zip(alone, beside[1], threaded[2], strict=True):
        assert a.dtype == np.float32
        assert a.tobytes() == b.tobytes() == c.tobytes()
    assert np.array(beside[3]).tobytes() == np.array(threaded[3]).tobytes()
    other = decided(agent, {0: (Episode(cup, 7), cups)})[0]
    assert np.array(other).tobytes() != np.array(alone).tobytes()


def test_a_lane_that_is_reset_is_exactly_fresh() -> None:
    needs_the_suite()
    task, observations = seen_in("dmcontrol/reacher-easy", 5, 4)
    agent = PlanningAgent()
    state = agent.start(1)
    plays = []
    for _ in range(2):
        agent.reset(state, [0], [Episode(task, 5)])
        plays.append([agent.act(state, [seen], [0.0], [0])[0][0] for seen in observations])
    np.testing.assert_array_equal(plays[0], plays[1])
    assert agent.state_bytes(state) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task_id", "least"),
    [
        ("dmcontrol/ball_in_cup-catch", 900),
        ("dmcontrol/finger-spin", 800),
        ("dmcontrol/pendulum-swingup", 600),
        ("dmcontrol/point_mass-easy", 700),
        ("dmcontrol/reacher-hard", 800),
    ],
)
def test_the_planner_scores(task_id: str, least: float) -> None:
    needs_the_suite()
    session, task = make(task_id)
    agent = PlanningAgent()
    state = agent.start(1)
    agent.reset(state, [0], [Episode(task, 1100)])
    observation, total, done = session.reset(1100), 0.0, False
    while not done and total <= least:
        (action,), state = agent.act(state, [observation], [0.0], [0])
        step = session.step(action)
        observation, done = step.observation, step.terminated or step.truncated
        assert step.reward >= 0  # so that more only adds to it
        total += step.reward
    session.close()
    assert total > least


def test_tasks_without_a_problem_are_refused_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = PlanningAgent()
    reason = agent.refuses(IMAGE)
    assert reason is not None
    assert "atari/breakout" in reason
    assert "ball_in_cup-catch" in reason
    with pytest.raises(AgentError, match="atari/breakout"):
        agent.reset(agent.start(1), [0], [Episode(IMAGE, 0)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    known = TaskSpec("dmcontrol/cheetah-run", "dmcontrol", "vector", (204,), "continuous", 6, None, 100.0)
    assert "lram-bench[dmcontrol]" in (agent.refuses(known) or "")


def test_the_planner_is_listed_and_made_by_name() -> None:
    assert "planner" in [row.name for row in list_agents()]
    agent = create_agent("planner")
    assert agent.info.kind == "baseline"
    assert agent.info.trained is None
    with pytest.raises(AgentError, match="takes no value"):
        create_agent("planner=3")


def quadratic(best: float, calls: list[int] | None = None) -> Callable[[Any], Any]:
    def evaluate(plans: Any) -> Any:
        if calls is not None:
            calls.append(len(plans))
        return ((plans - best) ** 2).mean(axis=(1, 2))

    return evaluate


def test_a_search_comes_close_to_the_best_plan_and_never_leaves_the_bounds() -> None:
    options = SearchOptions(horizon=12, knots=4, samples=64, rounds=3)
    knots = np.zeros((4, 2))
    for _ in range(4):
        knots = search(knots, quadratic(0.6), options, np.random.default_rng(0))
    np.testing.assert_allclose(knots, 0.6, atol=0.1)
    for _ in range(20):
        knots = search(knots, quadratic(3.0), options, np.random.default_rng(0))
    assert knots.max() <= 1
    assert knots.mean() > 0.95


def test_a_plan_that_is_good_enough_is_kept_without_a_search() -> None:
    options = SearchOptions(horizon=12, knots=4, contented=0.01)
    calls: list[int] = []
    knots = np.full((4, 2), 0.5)
    kept = search(knots, quadratic(0.5, calls), options, np.random.default_rng(0))
    assert (kept == knots).all()
    assert calls == [2]


def test_a_plan_moves_on_with_time() -> None:
    options = SearchOptions(horizon=13, knots=4, every=4)
    knots = np.array([[0.0], [0.4], [0.8], [1.0]])
    moved = shifted(knots, options)
    np.testing.assert_allclose(moved, [[0.4], [0.8], [1.0], [1.0]])
    basis = interpolation(options)
    np.testing.assert_allclose(basis.sum(axis=1), 1)
    np.testing.assert_allclose((basis @ moved)[0], (basis @ knots)[4])
