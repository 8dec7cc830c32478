"""The learner finds Dark-Room's goal, remembers it over a trial, and forgets it after."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lram.agents.api import AgentError, Episode, TaskSpec
from lram.agents.experts.learner import LearnerAgent
from lram.agents.factory import create_agent, list_agents
from lram.envs.domains.darkroom import DOMAIN, SIDE, distance, goal_cell, make

SHORT = DOMAIN.protocol("short")


def room(name: str) -> TaskSpec:
    return TaskSpec(f"darkroom/{name}", "darkroom", "vector", (21,), "discrete", 5, None, 1.0)


def play(agent, names: Sequence[str], seed: int = 0, state=None) -> tuple[list[list[list[tuple]]], object]:
    """Play one trial of each room in lanes beside each other.

    Returns:
        Of each lane its inner episodes: (cell, action, reward) of each step; and the agent's state.
    """
    sessions = [make(name, SHORT) for name in names]
    lanes = list(range(len(names)))
    state = agent.start(len(names)) if state is None else state
    agent.reset(state, lanes, [Episode(room(name), seed) for name in names])
    seen = [session.reset(seed) for session in sessions]
    rewards, parts = [0.0] * len(names), [[[]] for _ in names]
    while lanes:
        actions, state = agent.act(state, [seen[i] for i in lanes], [rewards[i] for i in lanes], lanes)
        for lane, action in zip(list(lanes), actions, strict=True):
            cell = SIDE * int(seen[lane][:SIDE].argmax()) + int(seen[lane][SIDE : 2 * SIDE].argmax())
            step = sessions[lane].step(action)
            seen[lane], rewards[lane] = step.observation, step.signal
            parts[lane][-1].append((cell, action, step.reward))
            if step.truncated:
                lanes.remove(lane)
            elif step.inner_episode_ends:
                parts[lane].append([])
    return parts, state


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_every_goal_is_found_in_time_and_then_taken_by_the_shortest_way(kind: str) -> None:
    names = [f"{kind}-{number:02d}" for number in range(100)]
    trials, _ = play(LearnerAgent(), names)
    found = []
    for number, parts in enumerate(trials):
        earned = [sum(reward for *_, reward in part) for part in parts]
        first = next(place for place, value in enumerate(earned) if value)
        found.append(first)
        for part in parts[first + 1 :]:
            way = distance(part[0][0], goal_cell(number))
            paid = [reward for *_, reward in part]
            assert paid == [0.0] * (way - 1) + [1.0] * (1 if kind == "sparse" else 20 - way + 1)
    assert np.mean(found) < 4
    assert max(found) <= 7


def test_before_it_knows_the_goal_it_goes_where_it_has_not_been() -> None:
    [parts], _ = play(LearnerAgent(), ["sparse-13"])
    assert len(parts) >= 2
    for part in parts:
        if not any(reward for *_, reward in part):
            # Twenty steps of a sweep: few of the cells are seen twice.
            assert len({cell for cell, *_ in part}) >= 12


def test_a_new_trial_knows_nothing_of_the_last() -> None:
    agent = LearnerAgent()
    _, state = play(agent, ["sparse-13"], seed=3)
    again, _ = play(agent, ["sparse-60"], seed=8, state=state)
    assert again == play(LearnerAgent(), ["sparse-60"], seed=8)[0]


def test_a_lane_does_not_depend_on_its_neighbours() -> None:
    names = ["sparse-13", "dense-60", "sparse-99"]
    together, _ = play(LearnerAgent(), names)
    assert together == [play(LearnerAgent(), [name])[0][0] for name in names]


def test_it_knows_where_a_random_action_led() -> None:
    """With noise it would else take a wrong cell for the goal, and never come back to the right one."""
    names = [f"dense-{number:02d}" for number in range(0, 100, 5)]
    trials, _ = play(create_agent("learner~0.2"), names)
    last = [sum(reward for *_, reward in parts[-1]) for parts in trials]
    assert min(last) > 3


def test_it_refuses_what_is_no_room() -> None:
    task = TaskSpec("toy/steps", "toy", "vector", (4,), "discrete", 4, None, 1.0)
    agent = create_agent("learner")
    assert "darkroom" in str(agent.refuses(task))
    with pytest.raises(AgentError, match="darkroom"):
        agent.reset(agent.start(1), [0], [Episode(task, 0)])
    assert agent.refuses(room("sparse-00")) is None


def test_it_is_listed_and_takes_no_value() -> None:
    assert "learner" in [row.name for row in list_agents()]
    with pytest.raises(AgentError, match="takes no value"):
        create_agent("learner=1")
