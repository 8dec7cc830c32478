"""What is learned at a stored decision: the action that was taken, or the one that an expert would take.

Noise in what is *played* shows states that the policy alone never meets, and the way back from them. Noise in
what is *learned* teaches the noise: a state that only a burst of random actions led to has a random action as
its target. So windows can show an expert's own action instead, at every decision of whoever acted, as DART
does (Laskey et al. 2017, arXiv 1703.09327); over trajectories that a trained model has played, that is one
round of DAgger (Ross et al. 2011, arXiv 1011.0686).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from lram.agents.api import Agent, Episode, TaskSpec
from lram.agents.experts.actors import ActorAgent
from lram.agents.experts.baselines import ScriptedAgent
from lram.agents.trajectories.store import CACHE_BYTES, TrajectoryStore, Window
from lram.agents.trajectories.trajectory import Actions

EXPERTS: Mapping[str, Mapping[str, Callable[[], Agent]]] = {
    "scripted": {"scripted": ScriptedAgent},
    "experts": {"scripted": ScriptedAgent, "sac": ActorAgent},
}
"""Whom each value of ``data.labels`` asks, by name: the first that plays a task is asked about it."""


class LabelledStore(TrajectoryStore):
    """A store whose windows have experts' actions, for tasks that they can be asked about.

    Those are tasks that an expert plays and that are observed as vectors; of others, the taken actions are
    shown. An expert reads an episode from its beginning, and `took` gives it the actions that were
    taken instead of its own.

    Args:
        path, cache_bytes: See :class:`lram.agents.trajectories.store.TrajectoryStore`.
        labels: Whom to ask, a key of :data:`EXPERTS`.
    """

    def __init__(self, path: str | Path, *, labels: str = "scripted", cache_bytes: int = CACHE_BYTES) -> None:
        super().__init__(path, cache_bytes=cache_bytes)
        self._whom = labels
        self._experts = {name: make() for name, make in EXPERTS[labels].items()}
        self._labels: dict[int, Actions] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "labels": self._whom}

    def labelled(self, tasks: Iterable[str]) -> dict[str, list[str]]:
        """Return those of ``tasks`` that are in the store and have labels, sorted, by the expert's name."""
        found: dict[str, list[str]] = {}
        for task in sorted(set(tasks) & self.tasks.keys()):
            if (name := self._expert(self.tasks[task])) is not None:
                found.setdefault(name, []).append(task)
        return found

    def window(self, number: int, start: int, stop: int) -> Window:
        """See :meth:`lram.agents.trajectories.store.TrajectoryStore.window`."""
        window = super().window(number, start, stop)
        task = self.tasks[self.episodes[number].task]
        if (name := self._expert(task)) is None:
            return window
        if number not in self._labels:  # kept: a few numbers a decision, that took a policy's time
            played = super().window(number, 0, self.episodes[number].length)
            self._labels[number] = _asked(self._experts[name], task, played)
        return replace(window, actions=self._labels[number][start:stop])

    def _expert(self, task: TaskSpec) -> str | None:
        """Return the name of the expert who is asked about a task; None where there is none."""
        if task.observation != "vector":
            return None
        return next((name for name, one in self._experts.items() if one.refuses(task) is None), None)


def _asked(expert: Agent, task: TaskSpec, played: Window) -> Actions:
    state = expert.start(1)
    expert.reset(state, [0], [Episode(task, 0)])
    rewards = np.concatenate([[0.0], played.signals[:-1]]).tolist()
    actions = []
    for seen, reward, taken in zip(played.observations, rewards, played.actions, strict=True):
        (action,), state = expert.act(state, [seen], [reward], [0])
        actions.append(action)
        expert.took(state, [0], [taken])
    labels = np.asarray(actions).reshape(played.actions.shape).astype(played.actions.dtype)
    return cast(Actions, labels)
