"""The action model as an agent: many lanes of any domains, read in passes of a fixed size.

Why a fixed size: a lane's actions must not depend on its neighbours, but the rounding of a matrix
product depends on the number of its rows. So lanes live in blocks of ``rows`` rows, each lane in a
place of its own, and a block with any ready lane is read whole, the other rows masked. Every matrix
product then has the same shape whichever lanes are ready and however many there are. Measured with
float32 on x86 processors (AVX-512, MKL, one thread): all backbones give a lane the same bits at every
place of a block and beside any neighbours; with 1, 2 or 3 rows they give other bits than with 4 and
more; with two threads a Transformer's bits depend on the place, because the work is split elsewhere.
So a run that is to be repeated bit for bit needs one thread. ``tests/agents/test_model_agent.py``
holds this.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lram.agents.acting.actions import choose_action, past_classes
from lram.agents.acting.captured_decision import PassInputs, filled_up
from lram.agents.acting.lanes import LaneStates, PassLayout
from lram.agents.acting.launching import LaunchedDecision, fetch_later
from lram.agents.acting.reader import IMAGES, PassReader, make_reader
from lram.agents.acting.room import no_room_for_lanes, no_room_for_pass
from lram.agents.api import (
    Action,
    AgentError,
    AgentInfo,
    Episode,
    LaunchingAgent,
    Observation,
    TaskSpec,
)
from lram.agents.backbones.states import State, state_bytes
from lram.agents.backbones.stepping import Stepper
from lram.agents.checkpoints.known_tasks import KnownTasks
from lram.agents.compute import Compute
from lram.agents.memory import is_lack
from lram.agents.model.config import ModelConfig
from lram.agents.model.encoders import IMAGE_SHAPE
from lram.agents.model.network import ActionModel
from lram.agents.model.rounding import model_bytes
from lram.agents.model.tokens import (
    ACTION_DIMS,
    DISCRETE_ACTIONS,
)
from lram.agents.transfer import fetch, row_numbers, send


class ModelAgent(LaunchingAgent):
    """An :class:`lram.agents.api.Agent` that acts by an action model, taking the likeliest class.

    Args:
        model: The model; it acts on the device that holds its weights.
        trained: Whether its weights were trained.
        description: One line for reports.
        digest: Hash of configuration and weights.
        target_returns: Return to ask for by task id, where it is not the task's own.
        known: The tasks that it was trained on.
        compute: Form of the step, and rows of a pass (results of different ``rows`` may differ by
            rounding; 1 is for measuring the latency of a single lane). Device and type of the weights are
            the model's; a precision of rounded weights is one that the model's are rounded to
            (:func:`lram.agents.model.rounding.round_model`).
        reader: What computes a pass; None: it is made of the model, as ``compute`` says.
        details: Details to report of it besides the model's own, for :class:`lram.agents.api.AgentInfo`.

    Attributes:
        model: The model. Its weights must not change while the agent acts.
        rows: Rows of a pass.
        reader: What computes a pass.
    """

    rows: int

    def __init__(
        self,
        model: ActionModel,
        *,
        trained: bool,
        description: str,
        digest: str,
        target_returns: Mapping[str, float] | None = None,
        known: KnownTasks = KnownTasks(None),  # noqa: B008 - a tuple
        compute: Compute | None = None,
        reader: PassReader | None = None,
        details: Sequence[tuple[str, str]] = (),
    ) -> None:
        compute = compute or Compute()
        self.target_returns = dict(target_returns or {})
        self.model = model.eval()
        self.rows = rows = compute.rows if reader is None else reader.rows
        self.reader = reader or make_reader(model, compute.step, rows, compute.narrow)
        self._info = AgentInfo(
            kind="model",
            description=description,
            trained=trained,
            parameters=model.parameter_count,
            digest=digest,
            training_tasks=known.tasks,
            training_tasks_complete=known.complete,
            details=(
                ("blocks", _blocks(model.config)),
                ("actions in context", str(model.config.actions_in_context).lower()),
                ("returns in context", str(model.config.returns_in_context).lower()),
                ("rewards in context", str(model.config.rewards_in_context).lower()),
                ("continuous actions decode to", f"{model.config.decode} of the bin"),
                ("return asked for", self._asked_for()),
                ("rows a pass", str(rows)),
                ("step", self.stepper.detail),
                ("precision", self.precision),
                *(() if self.reader.here else (("device", str(self.reader.device)),)),
                *details,
            ),
        )

    @property
    def _passes(self) -> PassLayout:
        return PassLayout(self.model.config, self.rows)

    @property
    def precision(self) -> str:
        """The type of the model's weights, or what the weights of its products are rounded to."""
        return self.reader.weights or str(next(self.model.parameters()).dtype).removeprefix("torch.")

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.reader.device

    @property
    def weight_bytes(self) -> int:
        """The bytes of the model's weights, as its step and head read them."""
        fused = self.stepper.form == "fused"
        return model_bytes(self.model, self.reader.weights if fused else None)

    @property
    def stepper(self) -> Stepper:
        """What reads a pass's tokens."""
        return self.reader.stepper

    def with_stepper(self, stepper: Stepper) -> Self:
        """Return this agent, of the same description and weights, reading its passes by ``stepper``."""
        return self.with_reader(self.reader.with_stepper(stepper))

    def with_reader(self, reader: PassReader) -> Self:
        """Return this agent, of the same description and weights, its passes computed by ``reader``."""
        twin = copy.copy(self)
        twin.reader = reader
        return twin

    def with_rows(self, rows: int) -> Self:
        """Return this agent with passes of ``rows`` rows, read by the plain step, which is soon made."""
        twin = copy.copy(self)
        twin.rows = rows
        twin.reader = make_reader(self.model, "torch", rows, self.reader.weights)
        return twin

    def with_model(self, model: ActionModel) -> Self:
        """Return this agent, of the same description, acting by ``model``."""
        twin = copy.copy(self)
        twin.model = model.eval()
        twin.reader = make_reader(model, self.reader.form, self.rows, self.reader.weights)
        return twin

    @property
    def info(self) -> AgentInfo:
        """See :class:`lram.agents.api.Agent`."""
        return self._info

    def refuses(self, task: TaskSpec) -> str | None:
        """Return why the model cannot play ``task``: no return to ask for, or sizes that do not fit."""
        if self._target(task) is None and self.model.config.returns_in_context:
            return f"{task.id} names no target return, and the model acts towards one"
        if task.observation == "image" and task.observation_shape != IMAGE_SHAPE:
            return f"{task.id} shows images of {task.observation_shape}, and the model reads {IMAGE_SHAPE}"
        width = self.model.config.state_width
        if task.observation == "vector" and np.prod(task.observation_shape) > width:
            return f"{task.id} has observations wider than the model's {width}"
        most = DISCRETE_ACTIONS if task.action == "discrete" else ACTION_DIMS
        if task.action_size > most:
            return f"{task.id} has {task.action_size} {task.action} actions, and the model knows {most}"
        return None

    def start(self, lanes: int) -> LaneStates:
        """See :class:`lram.agents.api.Agent`."""
        try:
            blocks = self.blocks_of(-(-lanes // self.rows))
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, AgentError) or not is_lack(error):
                raise
            raise no_room_for_lanes(self, error, lanes) from error
        return LaneStates.empty(lanes, blocks)

    def blocks_of(self, count: int) -> list[State]:
        """Return the states of ``count`` passes, in which no lane holds an episode yet."""
        with torch.inference_mode():
            return [self.model.backbone.initial_state(self.rows) for _ in range(count)]

    def reset(self, state: LaneStates, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """See :class:`lram.agents.api.Agent`. AgentError for a task that the model refuses."""
        for episode in episodes:
            reason = self.refuses(episode.task)
            if reason is not None:
                raise AgentError(reason)
        for lane, episode in zip(lanes, episodes, strict=True):
            state.begin(lane, replace(episode.task, target_return=self._target(episode.task)))
        with torch.inference_mode():
            for block, rows in self._passes.by_block(lanes):
                self.model.backbone.reset(state.blocks[block], rows)

    def act(
        self,
        state: LaneStates,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], LaneStates]:
        """See :class:`lram.agents.api.Agent`.

        Raises:
            AgentError: The model's output is not finite; or memory ran out, and the sentence tells how many
                rows fit.
        """
        try:
            return self.decide(state, observations, rewards, lanes)
        except (RuntimeError, MemoryError) as error:
            if (failure := self._explained(error, state, observations, lanes)) is error:
                raise
            raise failure from error

    def decide(
        self,
        state: LaneStates,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], LaneStates]:
        """Decide as :meth:`act` does; whatever PyTorch raises where memory runs out is raised."""
        tasks = [state.task(lane) for lane in lanes]
        given = state.earn(rewards, lanes)

        with torch.inference_mode():
            logits = self._arrived(self._read(state, observations, given, lanes))
        pairs = zip(lanes, tasks, strict=True)
        return [
            self._choose(state, lane, task, logits[lane // self.rows][lane % self.rows])
            for lane, task in pairs
        ], state

    @property
    def launches(self) -> bool:
        """Whether a GPU computes, which need not be waited for."""
        return self.device.type == "cuda"

    def launch(
        self,
        state: LaneStates,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[LaunchedDecision, LaneStates]:
        """See :class:`lram.agents.api.LaunchingAgent`; raises as :meth:`act`."""
        lanes = list(lanes)
        tasks = [state.task(lane) for lane in lanes]
        given = state.earn(rewards, lanes)
        try:
            with torch.inference_mode():
                read = self._read(state, observations, given, lanes)
                fetching = fetch_later(list(read.values()))
        except (RuntimeError, MemoryError) as error:
            if (failure := self._explained(error, state, observations, lanes)) is error:
                raise
            raise failure from error
        place = {block: number for number, block in enumerate(read)}

        def choose(logits: npt.NDArray[np.float32]) -> list[Action]:
            return [
                self._choose(state, lane, task, logits[place[lane // self.rows], lane % self.rows])
                for lane, task in zip(lanes, tasks, strict=True)
            ]

        return LaunchedDecision(fetching, choose), state

    def _read(
        self,
        state: LaneStates,
        observations: Sequence[Observation],
        given: dict[int, float],
        lanes: Sequence[int],
    ) -> dict[int, Tensor]:
        """Read a timestep of ``lanes`` into the state; return the logits of each block, on the device."""
        seen = dict(zip(lanes, observations, strict=True))
        read: dict[int, Tensor] = {}
        left = []
        for block, rows in self._passes.by_block(lanes):
            at_once = self._read_at_once(state, block, rows, seen, given)
            if at_once is None:
                left.append((block, rows))
            else:
                read[block] = at_once
        encoded = self._encode(seen, state, left)
        for block, rows in left:
            read[block] = self._read_block(state, block, rows, encoded[block], given)
        return read

    def _read_at_once(
        self,
        state: LaneStates,
        block: int,
        rows: Sequence[int],
        seen: dict[int, Observation],
        rewards: dict[int, float],
    ) -> Tensor | None:
        """Read one pass of one block by one recording; None where there is none of it."""
        if self.reader.decision is None:
            return None
        vectors, images, shown = self._passes.seen(seen, state, block, rows)
        numbers = self._passes.numbers(rewards, state, block, rows)
        size = min(IMAGES, self.rows)
        filled = filled_up(images, shown, size, self.rows) if images else (None, None)
        done = self.reader.decision(PassInputs(vectors, *numbers, *filled), state.blocks[block])
        if done is None:
            return None
        logits, state.blocks[block] = done
        return logits

    def _choose(
        self, state: LaneStates, lane: int, task: TaskSpec, logits: npt.NDArray[np.float32]
    ) -> Action:
        """Return the action of a lane, which is remembered for its next decision."""
        action, state.last_classes[lane] = choose_action(logits, task, self.model.config.decode)
        state.fresh[lane] = False
        return action

    def _explained(
        self,
        error: RuntimeError | MemoryError,
        state: LaneStates,
        observations: Sequence[Observation],
        lanes: Sequence[int],
    ) -> RuntimeError | MemoryError:
        """Return ``error``, or what to say of it where memory ran out."""
        if isinstance(error, AgentError) or not is_lack(error):
            return error
        episodes = [Episode(state.task(lane), 0) for lane in lanes]
        return no_room_for_pass(self, error, episodes, observations)

    def took(self, state: LaneStates, lanes: Sequence[int], actions: Sequence[Action]) -> None:
        """Take note that ``lanes`` took other actions than those that ``act`` gave last."""
        for lane, action in zip(lanes, actions, strict=True):
            state.last_classes[lane] = past_classes(action, state.task(lane))

    def asks_for(self, task: TaskSpec) -> float | None:
        """Return the return, in unscaled reward, that the model's returns-to-go of ``task`` start from; None
        where it reads none.
        """
        return self._target(task) if self.model.config.returns_in_context else None

    def _target(self, task: TaskSpec) -> float | None:
        return self.target_returns.get(task.id, task.target_return)

    def _asked_for(self) -> str:
        if not self.model.config.returns_in_context:
            return "none"
        own = len(self.target_returns)
        table = "the task table's"
        return f"its own for {own} task{'s' * (own != 1)}, else {table}" if own else table

    def state_bytes(self, state: LaneStates) -> int:
        """See :class:`lram.agents.api.Agent`; the unused rows of the last block count too."""
        return sum(state_bytes(block) for block in state.blocks)

    def _encode(
        self, observations: dict[int, Observation], state: LaneStates, blocks: Sequence[tuple[int, list[int]]]
    ) -> dict[int, Tensor]:
        """Encode what the lanes see: a tensor (rows, width) for each block that has a ready lane."""
        encoders = self.model.encoders
        encoded: dict[int, Tensor] = {}
        images: list[Observation] = []
        shown: dict[int, list[int]] = {}  # rows of a block that see images
        for block, rows in blocks:
            vectors, seen, shown_rows = self._passes.seen(observations, state, block, rows)
            if seen:
                images += seen
                shown[block] = shown_rows
            encoded[block] = encoders.observation(self._given(vectors))
        if images:
            size = min(IMAGES, self.rows)
            batches = [images[first : first + size] for first in range(0, len(images), size)]
            tokens = torch.cat([self.reader.images(self._given(_stacked(batch, size))) for batch in batches])
            first = 0
            for block, rows in shown.items():
                places = row_numbers(rows, self.reader.device)
                encoded[block].index_copy_(0, places, tokens[first : first + len(rows)])
                first += len(rows)
        return encoded

    def _read_block(
        self, state: LaneStates, block: int, rows: Sequence[int], encoded: Tensor, rewards: dict[int, float]
    ) -> Tensor:
        """Read one pass of one block; return logits (rows, 8, 274), where the model computes."""
        returns_to_go, last_rewards, valid, classes = self._passes.numbers(rewards, state, block, rows)
        x = self.model.decision_tokens(
            encoded,
            self._given(returns_to_go),
            self._given(last_rewards),
            None if classes is None else self._given(classes),
        )
        mask = None if valid is None else self._given(valid)
        hidden, state.blocks[block] = self.reader.stepper.call(x, state.blocks[block], mask)
        return self.reader.action_head(hidden[:, -1])

    def _given(self, values: npt.NDArray[Any]) -> Tensor:
        """Return ``values`` where the model computes; it is read before they change."""
        tensor = torch.from_numpy(values)
        return tensor if self.reader.here else send(tensor, self.reader.device)

    def _arrived(self, read: Mapping[int, Tensor]) -> dict[int, npt.NDArray[np.float32]]:
        """Return what was read of each block, here: all of it waited for once."""
        here = [one.float() for one in read.values()] if self.reader.here else fetch(list(read.values()))
        return {block: one.numpy() for block, one in zip(read, here, strict=True)}


def _stacked(images: Sequence[Observation], size: int) -> npt.NDArray[np.uint8]:
    """Return ``size`` images, those that are not given black."""
    batch = np.empty((size, *IMAGE_SHAPE), dtype=np.uint8)
    for place, image in enumerate(images):
        batch[place] = image
    batch[len(images) :] = 0
    return batch


def _blocks(config: ModelConfig) -> str:
    more = config.spec.blocks(config)
    return f"{config.layers} of width {config.width}" + (f", {more}" if more else "")
