"""What is learned at a stored decision: the action that was taken, or the one the scripted policy would take.

Noise in what is *played* shows states that the policy alone never meets, and the way back from them. Noise in
what is *learned* teaches the noise: a state that only a burst of random actions led to has a random action as
its target. So windows can show the policy's own action instead, at every decision of whoever acted, as DART
does (Laskey et al. 2017, arXiv 1703.09327); over trajectories that a trained model has played, that is one
round of DAgger (Ross et al. 2011, arXiv 1011.0686).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from lram.agents.api import Episode, TaskSpec
from lram.agents.experts.baselines import ScriptedAgent
from lram.agents.trajectories.store import CACHE_BYTES, TrajectoryStore, Window
from lram.agents.trajectories.trajectory import Actions


class LabelledStore(TrajectoryStore):
    """A store whose windows have the scripted policy's actions, for tasks that it can be asked about.

    Those are tasks with a scripted policy that are observed as vectors; of others, the taken actions are
    shown. The policy reads an episode from its beginning, and `took` gives it the actions that were
    taken instead of its own.

    Args:
        path, cache_bytes: See :class:`lram.agents.trajectories.store.TrajectoryStore`.
    """

    def __init__(self, path: str | Path, *, cache_bytes: int = CACHE_BYTES) -> None:
        super().__init__(path, cache_bytes=cache_bytes)
        self._policy = ScriptedAgent()
        self._labels: dict[int, Actions] = {}

    def labelled(self, tasks: Iterable[str]) -> list[str]:
        """Return those of ``tasks`` that are in the store and that the policy can be asked about, sorted."""
        return sorted(task for task in set(tasks) & self.tasks.keys() if self._knows(self.tasks[task]))

    def window(self, number: int, start: int, stop: int) -> Window:
        """See :meth:`lram.agents.trajectories.store.TrajectoryStore.window`."""
        window = super().window(number, start, stop)
        task = self.tasks[self.episodes[number].task]
        if not self._knows(task):
            return window
        if number not in self._labels:  # kept: a few numbers a decision, that took a policy's time
            self._labels[number] = self._asked(task, super().window(number, 0, self.episodes[number].length))
        return replace(window, actions=self._labels[number][start:stop])

    def _knows(self, task: TaskSpec) -> bool:
        return task.observation == "vector" and self._policy.refuses(task) is None

    def _asked(self, task: TaskSpec, played: Window) -> Actions:
        state = self._policy.start(1)
        self._policy.reset(state, [0], [Episode(task, 0)])
        rewards = np.concatenate([[0.0], played.signals[:-1]]).tolist()
        actions = []
        for seen, reward, taken in zip(played.observations, rewards, played.actions, strict=True):
            (action,), state = self._policy.act(state, [seen], [reward], [0])
            actions.append(action)
            self._policy.took(state, [0], [taken])
        labels = np.asarray(actions).reshape(played.actions.shape).astype(played.actions.dtype)
        return cast(Actions, labels)
