"""Do the precisions of a checkpoint act alike? On the same stored observations, decision by decision.

Trajectories part after the first action that differs, and from there on the two are asked different
questions. So every precision is shown the observations and rewards of an episode that was played before,
and has taken the actions that were taken there, whatever it would have done (teacher forcing).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import Action, Episode
from lram.agents.model.tokens import BINS
from lram.agents.trajectories import Trajectory, TrajectoryStore
from lram.harness.machine import threads
from lram.harness.studies.precision.records import TaskAgreement

_LANES = 8
"""Episodes that are read at once, as many as share a pass."""

_SAME_BIN = 1 / BINS
"""Half of a bin's width: actions are centres or edges of bins, so that two in one bin are equal but for
rounding."""


def agreement(
    agent: ModelAgent, store: TrajectoryStore, say: Callable[[str], object] = lambda line: None
) -> tuple[TaskAgreement, ...]:
    """Return how the agent's actions compare with those that were taken in the store's episodes, by task.

    Args:
        agent: Nobody else plays with it meanwhile.
        store: Of the checkpoint's own play in the first precision.
        say: Told which task is read.
    """
    by_task: dict[str, list[int]] = {}
    for episode in store.episodes:
        by_task.setdefault(store.tasks[episode.task].id, []).append(episode.number)
    found = []
    with threads(1):
        for task, numbers in by_task.items():
            say(task)
            pairs = []
            for first in range(0, len(numbers), _LANES):
                trajectories = [store.trajectory(number) for number in numbers[first : first + _LANES]]
                pairs += list(zip(forced_actions(agent, trajectories), trajectories, strict=True))
            found.append(_compared(task, pairs))
    return tuple(found)


def forced_actions(agent: ModelAgent, trajectories: Sequence[Trajectory]) -> list[npt.NDArray[np.float64]]:
    """Return what the agent would have done at each decision of each episode: (T,) or (T, dimensions)."""
    given: list[list[Action]] = [[] for _ in trajectories]
    state = agent.start(len(trajectories))
    for timestep in range(max(len(one.actions) for one in trajectories)):
        lanes = [lane for lane, one in enumerate(trajectories) if timestep < len(one.actions)]
        begun = [lane for lane in lanes if timestep in trajectories[lane].context_starts]
        agent.reset(state, begun, [Episode(trajectories[lane].task, lane) for lane in begun])
        seen = [np.array(trajectories[lane].observations[timestep]) for lane in lanes]
        earned = [float(trajectories[lane].signals[timestep - 1]) if timestep else 0.0 for lane in lanes]
        actions, state = agent.act(state, seen, earned, lanes)
        for lane, action in zip(lanes, actions, strict=True):
            given[lane].append(action)
        agent.took(state, lanes, [_taken(trajectories[lane], timestep) for lane in lanes])
    return [np.asarray(actions, dtype=np.float64) for actions in given]


def _taken(trajectory: Trajectory, timestep: int) -> Action:
    action = trajectory.actions[timestep]
    return int(action) if trajectory.task.action == "discrete" else np.asarray(action, np.float32)


def _compared(task: str, pairs: Sequence[tuple[npt.NDArray[np.float64], Trajectory]]) -> TaskAgreement:
    continuous = pairs[0][1].task.action == "continuous"
    apart = np.concatenate([_apart(given, taken, continuous=continuous) for given, taken in pairs])
    equal = (apart < _SAME_BIN).all(axis=1) if continuous else apart[:, 0] == 0
    return TaskAgreement(
        task,
        continuous,
        len(apart),
        int(equal.sum()),
        float(apart.mean(axis=1).sum()),
        float(apart.max()),
    )


def _apart(
    given: npt.NDArray[np.float64], trajectory: Trajectory, *, continuous: bool
) -> npt.NDArray[np.float64]:
    """Return |difference| in each dimension of each decision: (T, dimensions); of discrete ones 0 or 1."""
    taken = np.asarray(trajectory.actions, dtype=np.float64)
    if continuous:
        return np.asarray(np.abs(given - taken))
    return np.asarray(given != taken, dtype=np.float64)[:, None]
