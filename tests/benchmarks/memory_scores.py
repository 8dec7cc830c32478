"""Are the scores that the rows of ``memory`` state the true ones? Random play and controllers, on each row.

    python tests/benchmarks/memory_scores.py [EPISODES] [EPISODES OF CONTROLLERS]

Random play: 10,000 episodes a task. Streams are drawn as sessions draw them, and uniform actions compared
with their answers; bandits and Dark Key-Door are played in arrays, by another program than the sessions'.
Printed is the distance between mean return and the stated chance, in standard errors; of 75 distances, 0.2
are expected beyond 3. Controllers: 20 episodes through the session.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from lram.agents.api import Episode, TaskSpec
from lram.agents.experts.baselines import ScriptedAgent
from lram.envs.domains.memory import bandit, keydoor
from lram.envs.domains.memory.domain import DOMAIN, parsed
from lram.envs.domains.memory.layout import WIDTH
from lram.envs.domains.memory.questions import NOT_ASKED, QuestionSession
from lram.envs.task import Task

SEED = 20260
PROTOCOL = DOMAIN.protocol()


def main() -> None:
    """Print a line a task, and the largest distance."""
    episodes = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    played = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    largest, short = 0.0, []
    print(
        f"{'task':<26}{'chance':>9}{'random':>10}{'error':>9}{'z':>7}{'scripted':>11}{'optimum':>9}{'s':>9}"
    )
    for task in DOMAIN.tasks:
        began = time.perf_counter()
        returns = random_returns(task, episodes)
        assert task.score_random is not None
        assert task.score_reference is not None
        error = returns.std(ddof=1) / np.sqrt(episodes)
        distance = (returns.mean() - task.score_random) / error
        largest = max(largest, abs(distance))
        best = [controlled(task, seed) for seed in range(played)]
        family, _ = parsed(task.name)
        if family.kind != "in-context" and min(best) < task.score_reference:
            short.append(task.name)
        print(
            f"{task.name:<26}{task.score_random:>9.4f}{returns.mean():>10.4f}{error:>9.4f}{distance:>7.2f}"
            f"{np.mean(best):>11.3f}{task.score_reference:>9.2f}{time.perf_counter() - began:>9.1f}",
            flush=True,
        )
    print(f"largest distance: {largest:.2f} standard errors; short of the optimum: {short or 'none'}")


def random_returns(task: Task, episodes: int) -> np.ndarray:
    """Return what uniformly random actions earned in each episode."""
    rng = np.random.default_rng((SEED, hash_of(task.name)))
    family, value = parsed(task.name)
    if family.name == "bandit":
        means = rng.random((episodes, 1, value))
        pays = rng.random((episodes, bandit.PULLS, value)) < means
        pulled = rng.integers(value, size=(episodes, bandit.PULLS, 1))
        return np.take_along_axis(pays, pulled, axis=2).sum(axis=(1, 2)).astype(float)
    if family.name == "keydoor":
        return keydoor_returns(value, episodes, rng)
    session = DOMAIN.make(task.name, PROTOCOL)
    assert isinstance(session, QuestionSession)
    returns = np.zeros(episodes)
    for episode in range(episodes):
        answers = session._draw(session._options.generator(episode), value, "random").answers
        asked = answers[answers != NOT_ASKED]
        returns[episode] = (rng.integers(task.action_size or 0, size=len(asked)) == asked).mean()
    return returns


def keydoor_returns(side: int, episodes: int, rng: np.random.Generator) -> np.ndarray:
    """Return what random walkers earn: all inner episodes of all episodes at once."""
    walkers = episodes * keydoor.INNER_EPISODES
    places = np.repeat(rng.permuted(np.tile(np.arange(side**2), (episodes, 1)), axis=1)[:, :2], 10, axis=0)
    key, door = places[:, 0], places[:, 1]
    cell = (key + rng.integers(1, side**2, size=walkers)) % side**2
    row, column = cell // side, cell % side
    has_key, over = np.zeros(walkers, bool), np.zeros(walkers, bool)
    earned = np.zeros(walkers)
    moves = np.array(keydoor.MOVES)
    for _ in range(side**2):
        down, right = moves[rng.integers(5, size=walkers)].T
        row, column = np.clip(row + down, 0, side - 1), np.clip(column + right, 0, side - 1)
        cell = side * row + column
        opened = ~over & has_key & (cell == door)
        found = ~over & ~has_key & (cell == key)
        earned += opened | found
        has_key |= found
        over |= opened
    return earned.reshape(episodes, -1).sum(axis=1)


def controlled(task: Task, seed: int) -> float:
    """Return what ``scripted`` earns in the episode of that seed."""
    session, agent = DOMAIN.make(task.name, PROTOCOL), ScriptedAgent()
    spec = TaskSpec(task.id, "memory", "vector", (WIDTH,), "discrete", task.action_size or 0, None, 1.0)
    state = agent.start(1)
    agent.reset(state, [0], [Episode(spec, 0)])
    seen, reward, total, over = session.reset(seed), 0.0, 0.0, False
    while not over:
        (action,), state = agent.act(state, [seen], [reward], [0])
        step = session.step(action)
        seen, reward, over = step.observation, step.reward, step.terminated
        total += reward
    return total


def hash_of(name: str) -> int:
    """Return a number that is the same in every process."""
    return int.from_bytes(name.encode(), "little")


if __name__ == "__main__":
    main()
