"""An agent around a network from outside: passes of a fixed size, memory and draws by lane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lram.agents.acting.padded import Run, fixed_passes
from lram.agents.adapters.actions import Choose
from lram.agents.api import Action, Agent, AgentInfo, Episode, Observation, TaskSpec
from lram.agents.compute import Compute
from lram.agents.experts.noise import GENERATOR_BYTES


def safe_rows(compute: Compute) -> int:
    """Return how many lanes share a pass of a network whose layers are of any size.

    One, on a processor: PyTorch's products of 8 rows by a layer of 6 inputs and 8 outputs were found to
    depend on where in the pass a row stands. Sizes of 64 and more were not, but nobody promises it.
    """
    return 1 if compute.device == "cpu" else compute.rows


@dataclass(frozen=True, slots=True)
class Memory:
    """What a recurrent network remembers of one lane in one array.

    Attributes:
        shape: Of one lane's.
        dtype: NumPy's name of its type.
        initial: What all its numbers are when an episode begins.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    initial: float = 0.0


@dataclass(slots=True)
class AdaptedState:
    """What the lanes remember.

    Attributes:
        memories: One array (lanes, ...) for each :class:`Memory` of the policy.
        generators: By lane, where actions are drawn.
    """

    memories: list[npt.NDArray[Any]]
    generators: dict[int, np.random.Generator] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PolicyShape:
    """The tasks that a policy can play.

    Attributes:
        shape: Of an observation.
        image: Whether observations are images (uint8), or numbers (float32).
        action: Kind of the actions.
        size: Number of discrete actions, or of continuous dimensions.
    """

    shape: tuple[int, ...]
    image: bool
    action: Literal["discrete", "continuous"]
    size: int

    def describe(self) -> str:
        """Return in words what the policy sees and gives."""
        return _describe(self.image, self.shape, self.action, self.size)

    def refuses(self, task: TaskSpec) -> str | None:
        """Tell where ``task`` shows or takes something else; None where it fits."""
        asked = (task.observation == "image", tuple(task.observation_shape), task.action, task.action_size)
        if asked == (self.image, self.shape, self.action, self.size):
            return None
        return f"{task.id} has {_describe(*asked)}, and the policy knows {self.describe()}"


class AdaptedPolicy(Agent):
    """An agent around a function from observations, and from what it remembers, to answers.

    Args:
        run: Maps observations (n, ...) and one array (n, ...) a memory to answers (n, ...) and the new
            memories. It must not change with the order of calls, and draw nothing.
        choose: Makes an action of one answer.
        fit: Tasks that it plays.
        info: What reports say of it.
        rows: Lanes of every pass.
        memories: What is remembered of a lane.
        draws: Whether ``choose`` is given a generator, which begins with the episode's seed.
    """

    def __init__(
        self,
        run: Run,
        choose: Choose,
        *,
        fit: PolicyShape,
        info: AgentInfo,
        rows: int,
        memories: Sequence[Memory] = (),
        draws: bool = False,
    ) -> None:
        self._run, self._choose, self._fit, self._info = fixed_passes(run, rows), choose, fit, info
        self._memories, self._draws = tuple(memories), draws
        self.rows = rows
        """Lanes 0 .. rows - 1 share a pass, and so on: the harness asks for those of one at a time."""

    @property
    def info(self) -> AgentInfo:
        """What a report says of this agent."""
        return self._info

    def refuses(self, task: TaskSpec) -> str | None:
        """Tell where the task shows or takes something else than the policy knows."""
        return self._fit.refuses(task)

    def start(self, lanes: int) -> AdaptedState:
        """Return memories as they are when an episode begins."""
        return AdaptedState([np.full((lanes, *one.shape), one.initial, one.dtype) for one in self._memories])

    def reset(self, state: AdaptedState, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Put the lanes' memories back, and begin their draws with the episodes' seeds."""
        for array, one in zip(state.memories, self._memories, strict=True):
            array[list(lanes)] = one.initial
        if self._draws:
            for lane, episode in zip(lanes, episodes, strict=True):
                state.generators[lane] = np.random.default_rng(episode.seed)

    def act(
        self,
        state: AdaptedState,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], AdaptedState]:
        """Ask the policy, ``rows`` lanes a pass."""
        places = list(lanes)
        answers, *memories = self._run([np.stack(observations), *(one[places] for one in state.memories)])
        for array, new in zip(state.memories, memories, strict=True):
            array[places] = new
        pairs = zip(answers, lanes, strict=True)
        return [self._choose(answer, state.generators.get(lane)) for answer, lane in pairs], state

    def took(self, state: AdaptedState, lanes: Sequence[int], actions: Sequence[Action]) -> None:
        """Do nothing: a network does not read its past actions."""

    def state_bytes(self, state: AdaptedState) -> int:
        """Return the bytes of memories and generators."""
        generators = GENERATOR_BYTES * len(state.generators)
        return sum(array.nbytes for array in state.memories) + generators


def _describe(image: bool, shape: tuple[int, ...], action: str, size: int) -> str:
    seen = f"images {shape}" if image else f"observations {shape}"
    return f"{seen} and {size} {action} actions"
