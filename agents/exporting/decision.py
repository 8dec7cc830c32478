"""One decision of an action model as a graph: what it is given and gives, all of it explicit.

The graph decides for a single lane, in plain PyTorch, with the arithmetic of
:class:`lram.agents.acting.model_agent.ModelAgent`: it adds up the rewards (float64, as the agent does), asks
for what is left of the target return, embeds the tokens that are there, advances the backbone's step, and
takes the likeliest class that the task has. Only the weights that a task needs are in it: of the head
those of the task's classes, of the encoders those of its kind of observation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import AgentError, TaskSpec
from lram.agents.backbones.states import State, tensors
from lram.agents.model.tokens import (
    ACTION_DIMS,
    CLASSES,
    DISCRETE_ACTIONS,
    action_to_classes,
    classes_to_action,
)

NEW = "new_"
"""A state's output is called as its input, after this."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the graph.

    Attributes:
        name: Its name.
        dtype: As numpy names it.
        shape: Its shape; nothing of it is dynamic.
        meaning: For people.
        initial: Of a state: what all its numbers are before an episode's first decision. Otherwise None.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    meaning: str
    initial: float | None = None

    def example(self) -> Tensor:
        """Return a tensor of that type and shape: what a fresh episode has, or zeros."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return torch.full(self.shape, self.initial or 0, dtype=dtype)


class OneDecision(nn.Module):
    """See the module's text. ``inputs`` and ``outputs`` name what ``forward`` takes and returns, in order.

    Raises:
        AgentError: The model refuses the task, or its step cannot be a graph of fixed shapes.
    """

    def __init__(self, agent: ModelAgent, task: TaskSpec) -> None:
        super().__init__()
        model, config = agent.model, agent.model.config
        reason = agent.refuses(task) or why_not(agent)
        if reason is not None:
            raise AgentError(reason)
        self.task, self.config = task, config
        self.target_return = agent.asks_for(task)
        self.backbone, self.norm = model.backbone, model.encoders.norm
        self.image = model.encoders.image if task.observation == "image" else None
        if self.image is None:
            size = int(np.prod(task.observation_shape))
            # The rest of an observation is zeros, whose weights say nothing.
            self.state_weight = _kept(model.encoders.state.weight[:, :size])
            self.state_bias = _kept(model.encoders.state.bias)
        self.return_to_go, self.reward = model.encoders.return_to_go, model.encoders.reward
        self.action = model.encoders.action
        weight = model.head.weight.view(ACTION_DIMS, CLASSES, -1)
        bias = model.head.bias.view(ACTION_DIMS, CLASSES)
        if task.action == "discrete":
            part: tuple[slice | int, slice] = (0, slice(task.action_size))
        else:
            part = (slice(task.action_size), slice(DISCRETE_ACTIONS, CLASSES))
        self.head_weight, self.head_bias = _kept(weight[part].flatten(0, -2)), _kept(bias[part].flatten())
        bins = classes_to_action(np.arange(DISCRETE_ACTIONS, CLASSES), config.decode)
        self.register_buffer("bins", torch.from_numpy(bins), persistent=False)
        self._past, past = _named_state(model.backbone.initial_state(1))
        shape, size = task.observation_shape, task.action_size
        self.given = [
            Port("observation", "uint8" if self.image else "float32", shape, "what the task shows"),
            Port("reward", "float64", (1,), "what the last action earned, unscaled; not read with first"),
            Port("first", "bool", (1,), "whether this is an episode's first decision"),
        ]
        if self.return_to_go is not None:
            self.given.append(
                Port("target_return", "float64", (1,), "the return to ask for in an episode, unscaled")
            )
        self.state = [Port("earned", "float64", (1,), "sum of the episode's rewards so far", 0.0), *past]
        if self.action is not None:
            still = float(action_to_classes(0.0))
            self.state.append(
                Port("last_classes", "int64", (1, ACTION_DIMS), "classes of the last action", still)
            )
        logits: tuple[int, ...] = (size,)
        action = Port("action", "int64", (1,), "the action")
        if task.action == "continuous":
            action = Port("action", "float32", (size,), "the action, each number in [-1, 1]")
            logits = (size, CLASSES - DISCRETE_ACTIONS)
        self.gives = [action, Port("logits", "float32", logits, "of the classes that the task has")]

    @property
    def inputs(self) -> list[Port]:
        """What ``forward`` takes."""
        return [*self.given, *self.state]

    @property
    def outputs(self) -> list[Port]:
        """What ``forward`` returns."""
        states = [Port(NEW + one.name, one.dtype, one.shape, one.meaning) for one in self.state]
        return [*self.gives, *states]

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Decide; takes and returns what ``inputs`` and ``outputs`` say."""
        by_name = dict(zip((port.name for port in self.inputs), given, strict=True))
        first, scale = by_name["first"], self.task.reward_scale
        reward = torch.where(first, torch.zeros_like(by_name["reward"]), by_name["reward"])
        earned = torch.where(first, torch.zeros_like(reward), by_name["earned"] + reward)
        tokens: list[Tensor] = []
        there: list[Tensor] = []  # whether each token is
        if self.action is not None:
            tokens += list(self.action(by_name["last_classes"]).unbind(dim=1))
            read = 1 if self.task.action == "discrete" else ACTION_DIMS
            there += [~first] * read + [torch.zeros_like(first)] * (ACTION_DIMS - read)
        if self.reward is not None:
            tokens.append(self.reward((reward / scale).float().unsqueeze(-1)))
            there.append(~first)
        tokens.append(self._observe(by_name["observation"]))
        there.append(torch.ones_like(first))
        if self.return_to_go is not None:
            to_go = (by_name["target_return"] - earned) / scale
            tokens.append(self.return_to_go(to_go.float().unsqueeze(-1)))
            there.append(torch.ones_like(first))
        x = self.norm(torch.stack(tokens, dim=1))
        # The step may write over the state that it is given, and a graph's inputs are not to change.
        kept = iter([by_name[port.name].clone() for port in self.state if port.name.startswith("past")])
        past = _filled(self._past, kept)
        hidden, past = self.backbone.step(x, past, torch.stack(there, dim=1))
        logits = F.linear(hidden[:, -1], self.head_weight, self.head_bias)[0]
        logits = logits.view(self.gives[1].shape)
        best = logits.argmax(dim=-1)
        if self.task.action == "discrete":
            action, classes = best.view(1), best.view(1)
        else:
            action, classes = self.get_buffer("bins")[best], best + DISCRETE_ACTIONS
        found = [action, logits, earned, *tensors(past)]
        if self.action is not None:
            rest = torch.full((ACTION_DIMS - len(classes),), int(action_to_classes(0.0)))
            found.append(torch.cat([classes, rest]).view(1, -1))
        return tuple(found)

    def _observe(self, seen: Tensor) -> Tensor:
        if self.image is not None:
            token: Tensor = self.image(seen.unsqueeze(0))
            return token
        return F.linear(seen.reshape(1, -1), self.state_weight, self.state_bias)


def why_not(agent: ModelAgent) -> str | None:
    """Return what keeps a model's decision from being a graph of fixed shapes, or None."""
    past = agent.model.config.past
    if past.cache == "full":
        return (
            f"{agent.model.config.describe()} keeps a cache that grows with the episode, and a graph has "
            'fixed shapes; train one with cache = "ring" or "recompute" in [model.transformer] of its recipe'
            " and export that"
        )
    types = {parameter.dtype for parameter in agent.model.parameters()}
    if types != {torch.float32} or agent.model.backbone.device.type != "cpu":
        return "a model is exported in float32 from the processor; load it with precision float32 on cpu"
    return None


def _kept(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach().clone(), requires_grad=False)


def _named_state(state: State) -> tuple[State, list[Port]]:
    """Return the layout of a state of one row, with names in place of tensors, and what these are."""
    ports: list[Port] = []

    def name(part: State, path: Sequence[object]) -> State:
        if isinstance(part, Tensor):
            value = float(part.flatten()[0]) if part.numel() else 0.0
            title = "_".join(map(str, path))
            if not bool((part == value).all()):
                raise AgentError(
                    "the backbone's initial state is not one number throughout, which an exported folder "
                    "cannot say; export a model of another kind"
                )
            dtype = str(part.dtype).removeprefix("torch.")
            ports.append(Port(title, dtype, tuple(part.shape), "what the backbone keeps of the past", value))
            return title
        if isinstance(part, dict):
            return {key: name(value, [*path, key]) for key, value in part.items()}
        return type(part)(name(value, [*path, place]) for place, value in enumerate(part))

    return name(state, ["past"]), ports


def _filled(layout: State, values: Iterator[Tensor]) -> State:
    """Return ``layout`` with the next of ``values`` in place of each name."""
    if isinstance(layout, str):
        return next(values)
    if isinstance(layout, dict):
        return {key: _filled(value, values) for key, value in layout.items()}
    return type(layout)(_filled(value, values) for value in layout)
