"""Actors: small networks that soft actor-critic has trained on one task each, for tasks nobody scripted.

They act without noise, by the mean of what they would draw, so what they do is a function of the observation:
data of theirs can be learned, and they can be asked what they would have done in states of somebody else's
(``data.labels`` of a recipe). ``tox run -e actors`` makes them by :file:`tests/support/train_actor.py`: soft
actor-critic (Haarnoja et al. 2018, arXiv 1801.01290) as stable-baselines3 has it.

They read the task's own entries of the observation and no more. Measured under the default protocol over
30 episodes (seeds 1100 to 1129, for simulator and agent alike; mean return and its standard error; dm_control
1.0.28 with mujoco 3.3.0), with the timesteps that they were trained for; the last one's memory began with 16
episodes of the planner, which come on top:

===========================  ==============  ==============  =========
task                         random          sac             timesteps
===========================  ==============  ==============  =========
dmcontrol/walker-stand       132.6 +- 2.8    962.3 +- 4.1    100,000
dmcontrol/walker-run         23.5 +- 0.4     380.1 +- 5.7    100,000
dmcontrol/cheetah-run        3.5 +- 0.3      498.9 +- 8.6    160,000
dmcontrol/ball_in_cup-catch  151.2 +- 62.8   918.4 +- 10.4   50,000
===========================  ==============  ==============  =========

Tried without success, in 40,000 to 100,000 timesteps: fish-upright (406 where random play has 277),
finger-turn_easy (nothing in two or three episodes of three, also beside episodes of the planner) and
hopper-stand (10).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load

from lram.agents.api import Action, Agent, AgentError, AgentInfo, Episode, Observation, TaskSpec

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Actor:
    """Two hidden layers and a squashed mean: tanh(W3 relu(W2 relu(W1 x))), each with its bias.

    Attributes:
        entries: (n,) int64, which numbers of the observation the network reads: those that the task uses.
        layers: Weights (out, in) and bias (out,) of each layer.
    """

    entries: npt.NDArray[np.int64]
    layers: tuple[tuple[Array, Array], ...]

    @classmethod
    def of(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> Actor:
        """Return the actor that a file's tensors are: ``entries``, ``weight0``, ``bias0`` and so on."""
        count = sum(name.startswith("weight") for name in tensors)
        # Kept as float16; products of float32 numbers are what every machine is fast at.
        layers = [
            (tensors[f"weight{n}"].astype(np.float32), tensors[f"bias{n}"].astype(np.float32))
            for n in range(count)
        ]
        return cls(tensors["entries"], tuple(layers))

    def __call__(self, observation: Observation) -> Action:
        """Return the action (action size,), float32 in [-1, 1], for an observation vector."""
        x = np.asarray(observation, np.float32)[self.entries]
        for weight, bias in self.layers[:-1]:
            x = np.maximum(weight @ x + bias, 0.0)
        weight, bias = self.layers[-1]
        action: Array = np.tanh(weight @ x + bias)
        return action


@cache
def actor_tasks() -> Mapping[str, Traversable]:
    """Return the file of each task that has an actor; looked up once, for labels ask at every window."""
    return {
        f"{domain.name}/{file.name.removesuffix('.safetensors')}": file
        for domain in sorted((files("lram.agents") / "data/actors").iterdir(), key=lambda one: one.name)
        for file in sorted(domain.iterdir(), key=lambda one: one.name)
    }


@cache
def load_actor(task: str) -> Actor:
    """Return a task's actor; KeyError where it has none."""
    return Actor.of(load(actor_tasks()[task].read_bytes()))


class ActorAgent(Agent):
    """Plays the tasks that an actor was trained for."""

    @property
    def info(self) -> AgentInfo:
        """What a report says of this agent."""
        return AgentInfo("baseline", "sac: networks trained by soft actor-critic, one a task")

    def refuses(self, task: TaskSpec) -> str | None:
        """Tell where no actor was trained for the task."""
        if task.id in actor_tasks():
            return None
        return f"no actor was trained for {task.id}; sac plays {', '.join(actor_tasks())}"

    def start(self, lanes: int) -> dict[int, Actor]:
        """Return a state without episodes."""
        return {}

    def reset(self, state: dict[int, Actor], lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Give each lane its task's actor; AgentError where ``refuses`` tells why."""
        for lane, episode in zip(lanes, episodes, strict=True):
            if (reason := self.refuses(episode.task)) is not None:
                raise AgentError(reason)
            state[lane] = load_actor(episode.task.id)

    def act(
        self,
        state: dict[int, Actor],
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], dict[int, Actor]]:
        """Ask each lane's actor."""
        return [state[lane](seen) for lane, seen in zip(lanes, observations, strict=True)], state

    def state_bytes(self, state: dict[int, Actor]) -> int:
        """Return 0: nothing is remembered of an episode."""
        return 0
