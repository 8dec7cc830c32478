"""Episodes of an agent in a simulator of this process, without a runner."""

from __future__ import annotations

from collections.abc import Iterable

from lram.agents.api import Agent, Episode, TaskSpec
from lram.envs.registry import load_domain


def play(agent: Agent, task_id: str, seeds: Iterable[int]) -> list[float]:
    """Return the return of an episode from each seed."""
    return [total for total, _ in played(agent, task_id, seeds)]


def played(
    agent: Agent, task_id: str, seeds: Iterable[int], *, until_solved: bool = False
) -> list[tuple[float, bool]]:
    """Return the return of an episode from each seed, and whether it was solved at any step."""
    domain = load_domain(task_id.split("/")[0])
    session = domain.make(task_id.split("/")[1], domain.protocol())
    spec = session.spec
    task = TaskSpec(
        task_id, domain.name, spec.observation, spec.observation_shape, spec.action, spec.action_size, None, 1
    )
    assert agent.refuses(task) is None
    state = agent.start(1)
    results = []
    for seed in seeds:
        agent.reset(state, [0], [Episode(task, seed)])
        observation, reward, total, solved, over = session.reset(seed), 0.0, 0.0, False, False
        while not over:
            (action,), state = agent.act(state, [observation], [reward], [0])
            step = session.step(action)
            observation, reward = step.observation, step.signal
            total += step.reward
            solved = solved or bool(step.success)
            over = step.terminated or step.truncated or (solved and until_solved)
        results.append((total, solved))
    session.close()
    return results
