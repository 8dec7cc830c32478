"""An agent at a context that it has really read, ready to decide.

* A recurrent state continues from decision to decision; its time does not depend on how much it has read.
  Before the decisions it is put on disk, so that the next context is reached from there, and so that no
  second copy of it counts as memory.
* A Transformer is taken back to its context after each decision: the last one's tokens are forgotten by
  setting the count of tokens back. A full cache is made just as long as the context and one decision
  need, and a window that is read anew too (or both are left as the model has them, and a cache that has no
  room then continues and starts again when it is full).
* Any other agent is a black box: it reads the context by as many real decisions, and continues.

The past of an action model is read from the recording, whose timesteps lanes share. What decisions are shown
is the view's to say.
"""

from __future__ import annotations

import tempfile
import weakref
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from lram.agents.acting.lanes import LaneStates
from lram.agents.acting.model_agent import ModelAgent
from lram.agents.acting.prefill import embed, encode, model_step, prefill
from lram.agents.api import Action, Agent, Episode, Observation
from lram.agents.backbones.captured import CapturedStep
from lram.agents.backbones.states import State, tensors
from lram.harness.timing.facts import agent_facts, model_facts
from lram.harness.timing.fitting import fit_agent, grows
from lram.harness.timing.inputs import Inputs, Shown

_GATHERED = 200  # timesteps whose tokens are copied at once on the way to a context


class TimedAgent(Protocol):
    """An agent that is timed.

    Attributes:
        held: Whether the context is the same at every decision.
        facts: How it is computed, by name.
        weight_bytes: Of a model; 0 where that is not known.
    """

    held: bool
    facts: dict[str, str]
    weight_bytes: int

    def reach(self, context: int) -> int:
        """Read the timesteps up to ``context``; return how many were read before the next decision."""
        ...

    def ready(self) -> None:
        """Take the context back to what was reached, where it is held."""
        ...

    def act(self, observations: Sequence[Observation], rewards: Sequence[float]) -> list[Action]:
        """Decide for all lanes."""
        ...

    def model_step(
        self, observations: Sequence[Observation], rewards: Sequence[float]
    ) -> Callable[[], object] | None:
        """Return a model step on prepared tokens of what is shown; None where there is none."""
        ...

    def state_bytes(self) -> int:
        """Return what all lanes keep."""
        ...

    def leave(self) -> None:
        """Go back to what was reached, to reach further from there."""
        ...


def make_timed_agent(
    agent: Agent,
    episodes: Sequence[Episode],
    inputs: Inputs,
    shown: Callable[[int], Shown],
    *,
    fitted: bool,
    longest: int,
) -> TimedAgent:
    """Return ``agent`` as one that is timed.

    Args:
        agent: Nobody has played with it yet.
        episodes: One a lane.
        inputs: What was recorded; the past of an action model is read from it.
        shown: What other agents are shown at a timestep on the way to a context.
        fitted: Whether a Transformer's cache, or its window that is read anew, is made to fit.
        longest: The longest context that it will reach.
    """
    if type(agent) is ModelAgent:
        return TimedModel(agent, episodes, inputs, fitted=fitted, longest=longest)
    return SteppedAgent(agent, episodes, shown)


class TimedModel:
    """An action model; see :class:`TimedAgent` and the module's text."""

    def __init__(
        self, agent: ModelAgent, episodes: Sequence[Episode], inputs: Inputs, *, fitted: bool, longest: int
    ) -> None:
        self.episodes, self._inputs, self._fitted = episodes, inputs, fitted
        self._lanes = list(range(len(episodes)))
        self._agent, self._longest = agent, longest
        config = agent.model.config
        self._anew = config.past.anew
        self._fits = fitted and grows(config)
        self._kept: tuple[Callable[[], State], npt.NDArray[Any], npt.NDArray[Any]] | None = None
        self._file: IO[bytes] | None = None
        self._encoded = encode(agent, list(inputs.observations))
        self.weight_bytes = agent.weight_bytes
        self.held = False
        self.facts: dict[str, str] = {}
        self._state: LaneStates | None = None
        self._read = 0

    def _start(self, context: int) -> LaneStates:
        if self._fits:
            self._agent = fit_agent(self._agent, context, self._longest)
        state = self._agent.start(len(self._lanes))
        self._agent.reset(state, self._lanes, self.episodes)
        self._read = 0
        return state

    def reach(self, context: int) -> int:
        """See :class:`TimedAgent`."""
        if self._anew and self._fits:
            self._state = self._start(context)  # its window is another one at each context
        state = self._state = self._state or self._start(self._longest)
        self._kept = None
        batch = len(self._lanes)
        for first in range(self._read, context, _GATHERED):
            timesteps = range(first, min(first + _GATHERED, context))
            places = np.stack([self._inputs.places(timestep, batch) for timestep in timesteps])
            actions = [[self._inputs.action(place) for place in row] for row in places]
            encoded = self._encoded[torch.from_numpy(places).to(self._encoded.device)]
            prefill(self._agent, state, self._lanes, encoded, self._inputs.rewards[places], actions)
        self._read = max(context, self._read)
        self._keep(state)
        self.ready()
        self.facts = model_facts(self._agent, fitted=self._fitted, held=self.held)
        return self._read

    def _keep(self, state: LaneStates) -> None:
        """Hold the context, or put the state on disk."""
        model = self._agent.model
        rewind = model.backbone.rewinder(state.blocks[0], model.config.pass_tokens, trim=True)
        self.held = rewind is not None
        if rewind is not None:
            self._kept = rewind, state.earned.copy(), state.last_classes.copy()
            return
        # A copy in memory would count as the agent's. The file has no name, so it is gone with its process.
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed with this object
            weakref.finalize(self, self._file.close)
        self._file.seek(0)
        self._file.truncate()
        torch.save(state, self._file)

    def ready(self) -> None:
        """See :class:`TimedAgent`."""
        if self._kept is not None:
            rewind, earned, last_classes = self._kept
            state = self.reached
            state.blocks[0] = rewind()
            state.earned[:], state.last_classes[:] = earned, last_classes

    def act(self, observations: Sequence[Observation], rewards: Sequence[float]) -> list[Action]:
        """See :class:`TimedAgent`."""
        actions, self._state = self._agent.act(self.reached, observations, rewards, self._lanes)
        return actions

    def model_step(
        self, observations: Sequence[Observation], rewards: Sequence[float]
    ) -> Callable[[], object]:
        """See :class:`TimedAgent`."""
        encoded = encode(self._agent, observations)
        none: list[list[Action]] = [[]]  # of one timestep no action is read
        state = self.reached
        with torch.inference_mode():
            ((_, x, valid),) = embed(
                self._agent,
                state,
                self._lanes,
                encoded.unsqueeze(0),
                np.array([rewards]),
                none,
                whole=True,
            )

        def step() -> object:
            logits, state.blocks[0] = model_step(self._agent, x, state.blocks[0], valid)
            return logits

        return step

    def state_bytes(self) -> int:
        """See :class:`TimedAgent`."""
        return self._agent.state_bytes(self.reached)

    @property
    def reached(self) -> LaneStates:
        """The state at the context, or after the decisions since."""
        assert self._state is not None, "no context was reached yet"
        return self._state

    def leave(self) -> None:
        """See :class:`TimedAgent`."""
        if not self.held and self._file is not None:
            if isinstance(self._agent.stepper.call, CapturedStep):
                self._reload()
                return
            self.reached.blocks.clear()  # so that there are never two
            self._file.seek(0)
            with torch.inference_mode():
                self._state = torch.load(self._file, weights_only=False)
        self.ready()

    def _reload(self) -> None:
        """Read the state from disk to where it is: what was recorded for it is for its addresses."""
        assert self._file is not None
        self._file.seek(0)
        with torch.inference_mode():
            kept: LaneStates = torch.load(self._file, weights_only=False, map_location="cpu")
            for one, other in zip(self.reached.blocks, kept.blocks, strict=True):
                for target, source in zip(tensors(one), tensors(other), strict=True):
                    target.copy_(source)
        self._state = replace(kept, blocks=self.reached.blocks)


class SteppedAgent:
    """Any agent, which reads by real decisions; see :class:`TimedAgent` and the module's text.

    Attributes:
        read: Decisions since its episodes began.
    """

    held = False
    weight_bytes = 0

    def __init__(self, agent: Agent, episodes: Sequence[Episode], shown: Callable[[int], Shown]) -> None:
        """Take what its lanes are ``shown`` at a timestep on the way to a context."""
        self._agent, self.episodes, self._shown = agent, episodes, shown
        self._lanes = list(range(len(episodes)))
        self.facts = agent_facts(agent)
        self._state: Any = None
        self._begun = False
        self.read = 0

    def reach(self, context: int) -> int:
        """See :class:`TimedAgent`. It continues from where it stands, unless that is beyond ``context``."""
        if not self._begun or self.read > context:
            self._state = self._agent.start(len(self._lanes))
            self._agent.reset(self._state, self._lanes, self.episodes)
            self._begun, self.read = True, 0
        while self.read < context:
            self.act(*self._shown(self.read))
        return self.read

    def ready(self) -> None:
        """Nothing can be taken back."""

    def act(self, observations: Sequence[Observation], rewards: Sequence[float]) -> list[Action]:
        """See :class:`TimedAgent`."""
        actions, self._state = self._agent.act(self._state, observations, rewards, self._lanes)
        self.read += 1
        return actions

    def model_step(self, observations: Sequence[Observation], rewards: Sequence[float]) -> None:
        """There is no model to look into."""

    def state_bytes(self) -> int:
        """See :class:`TimedAgent`."""
        return self._agent.state_bytes(self._state)

    def leave(self) -> None:
        """The next context is read from its beginning."""
        self._state, self._begun = None, False


def digest_of(actions: Sequence[Sequence[Action]]) -> str:
    """Return the CRC-32 of several decisions' actions, eight hex digits."""
    value = 0
    for decision in actions:
        for action in decision:
            kind = np.int64 if isinstance(action, int | np.integer) else np.float32
            value = zlib.crc32(np.asarray(action, kind).tobytes(), value)
    return f"{value:08x}"
