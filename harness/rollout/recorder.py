"""What a rollout notes of an episode while it is played, when somebody wants its trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import msgspec
import numpy as np
import numpy.typing as npt

from lram.agents.api import Action, TaskSpec
from lram.agents.trajectories.trajectory import Actions, Observations, Trajectory
from lram.envs.session import Observation, Step
from lram.harness.storage.records import EpisodeRecord

Successes: TypeAlias = npt.NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class TrajectoryRecorder:
    """The observations, actions and steps of one episode, in order."""

    task: TaskSpec
    observations: list[Observation]
    actions: list[Action] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    signals: list[float] = field(default_factory=list)
    successes: list[bool | None] = field(default_factory=list)
    boundaries: list[int] = field(default_factory=list)

    def add(self, step: Step) -> None:
        """Take what the last of ``actions`` has led to."""
        # A copy: what an agent makes of the array it is given must not reach what is stored.
        self.observations.append(step.observation.copy())
        self.rewards.append(step.reward)
        self.signals.append(step.signal)
        self.successes.append(step.success)
        if step.context_reset:
            self.boundaries.append(len(self.rewards))

    def trajectory(self, record: EpisodeRecord) -> Trajectory:
        """Return the whole episode, with its record; who acted, and in which run, its keeper adds."""
        length = len(self.rewards)
        observations, actions = cast(Observations, np.stack(self.observations)), self._actions()
        rewards = np.array(self.rewards, dtype=np.float64)
        signals = np.array(self.signals, dtype=np.float32)
        for array in (observations, actions, rewards, signals):
            array.flags.writeable = False  # so that the store's writer needs no copies
        return Trajectory(
            task=self.task,
            observations=observations,
            actions=actions,
            rewards=rewards,
            signals=signals,
            terminated=record.terminated,
            truncated=record.truncated,
            success=_successes(self.successes),
            context_starts=(0, *(start for start in self.boundaries if start < length)),
            seed=record.seed,
            protocol=record.protocol,
            record=msgspec.json.encode(record).decode(),
        )

    def _actions(self) -> Actions:
        if self.task.action == "discrete":
            return np.array(self.actions, dtype=np.int64)
        return np.array(self.actions, dtype=np.float32)


def _successes(values: Sequence[bool | None]) -> Successes | None:
    """Return the values as an array; None where the task has no such notion."""
    known = [value for value in values if value is not None]
    return np.array(known, dtype=np.bool_) if len(known) == len(values) else None
