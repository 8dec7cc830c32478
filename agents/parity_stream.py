"""Parity of the whole model: what an agent does against what ``ActionModel.forward`` makes of it.

An agent plays episodes by its public contract, while the outputs of its step are noted; then the
finished trajectories, with the rewards that were truly given, are read as in training. See
:mod:`lram.agents.parity`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lram.agents.api import AgentError, Episode, TaskSpec
from lram.agents.backbone import State
from lram.agents.check import IMAGE_TASK, VECTOR_TASK, Check, Status, guarded
from lram.agents.model import ActionModel, Prediction
from lram.agents.model_agent import ModelAgent
from lram.agents.parity_basis import NOISE, allowance
from lram.agents.tokens import ACTION_DIMS, DISCRETE_ACTIONS, RETURN_TO_GO, action_to_classes

DECISIONS = 6
VECTOR_LANES, IMAGE_LANES = 4, 2

# Observations, returns-to-go, rewards and classes of actions, as ``ActionModel.forward`` takes them.
_Stream: TypeAlias = tuple[
    npt.NDArray[Any], npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]
]

_STREAM = "acting reads the stream of training"
_LIKELIEST = "actions are the likeliest"
_OWN_REWARD = "a decision does not see its own reward"


def no_decision_sees_its_reward(model: ActionModel, window: int | None, seed: int) -> list[Check]:
    """Two trajectories whose rewards part at one decision must agree up to it, by ``forward``."""

    def check() -> list[Check]:
        steps = _timesteps(model, window, 4)
        if steps < 2:
            reason = f"a window of {window} tokens holds no second decision"
            return [Check(_OWN_REWARD, f"{steps} timestep", "skipped", "", "", reason)]
        rng = np.random.default_rng([seed, 2])
        observations = rng.standard_normal((1, steps, model.config.state_width)).repeat(2, axis=0)
        rewards = np.ones((2, steps))
        rewards[1, steps - 2 :] = -1.0
        actions = np.full((2, steps, ACTION_DIMS), action_to_classes(0.0))
        stream = (observations, np.ones((2, steps)), rewards, actions)
        read = _forward(model, *stream)
        limit, reason = allowance(model.head.weight.dtype, _sensitivity(model, stream, read))
        logits = read.logits.float()
        scale = float(logits.abs().max())
        gap = (logits[0] - logits[1]).abs().amax(dim=(1, 2)) / scale  # (T,)
        before, after = float(gap[:-1].max()), float(gap[-1])
        return [
            Check(
                name=_OWN_REWARD,
                subject=f"{steps} timesteps",
                status="passed" if before <= limit else "failed",
                measured=f"{before:.1e} of the logits' scale up to it, {after:.1e} after it",
                allowed=f"{limit:.1g} up to it",
                reason=f"{reason}; the reward follows the action in the stream",
            )
        ]

    return guarded(_OWN_REWARD, "", check)


def acting_follows_training(agent: ModelAgent, window: int | None, seed: int) -> list[Check]:
    """Play some lanes, and read the finished trajectories with their true rewards by ``forward``."""

    def check() -> list[Check]:
        # With a window, each pass costs as much as the whole of it.
        steps = _timesteps(agent.model, window, DECISIONS if window is None else DECISIONS // 2)
        shape = (min(VECTOR_TASK.observation_shape[0], agent.model.config.state_width),)
        vector = replace(VECTOR_TASK, observation_shape=shape, action_size=ACTION_DIMS)
        made_up = [vector] * VECTOR_LANES + [IMAGE_TASK] * IMAGE_LANES
        tasks = [task for task in made_up if agent.refuses(task) is None]
        if not tasks or not steps:
            reason = "the agent refuses the made-up tasks" if steps else "the window holds no decision"
            return [Check(name, "", "skipped", "", "", reason) for name in (_STREAM, _LIKELIEST)]
        lanes: list[_Lane] = []
        for first in range(0, len(tasks), agent.rows):
            lanes += _play(agent, tasks[first : first + agent.rows], steps, seed + first)
        readings = [
            _read(agent.model, [lane for lane in lanes if lane.task == t]) for t in dict.fromkeys(tasks)
        ]
        scale = max(reading.scale for reading in readings)
        apart, blind = (max(getattr(r, name) for r in readings) / scale for name in ("apart", "blind"))
        regret = max(reading.regret for reading in readings) / max(r.logit_scale for r in readings)
        subject = f"{len(tasks)} lanes, {steps} decisions"
        weights = agent.model.head.weight.dtype
        allowed = allowance(weights, max(reading.sensitivity for reading in readings))
        told = f"{apart:.1e} of the output's scale ({scale:.3g}); {blind:.1e} if the rewards were 0"
        below = f"{regret:.1e} of the logits' scale below the best"
        return [
            _limited(_STREAM, subject, apart, allowed, told),
            _limited(_LIKELIEST, subject, regret, allowance(weights, 0.0), below),
        ]

    return guarded(_STREAM, "", check)


@dataclass(slots=True)
class _Lane:
    """An episode as it was played: what was shown and earned, done, and made of it at each decision."""

    task: TaskSpec
    observations: list[Any]
    rewards: npt.NDArray[np.float64]
    actions: list[Any]
    hidden: list[Tensor]


@dataclass(frozen=True, slots=True)
class _Reading:
    """How ``forward`` differs from what was done.

    Attributes:
        apart: Greatest difference of the outputs that actions are read from.
        blind: Greatest difference that rewards of 0 would have made to them.
        scale: Greatest of those outputs.
        sensitivity: See :func:`lram.agents.parity_basis.allowance`.
        regret: Greatest distance of a chosen class's logit, read from what was noted at the decision,
            below the best that the task has.
        logit_scale: Greatest logit.
    """

    apart: float
    blind: float
    scale: float
    sensitivity: float
    regret: float
    logit_scale: float


def _timesteps(model: ActionModel, window: int | None, most: int) -> int:
    return most if window is None else min(most, window // model.config.pass_tokens)


def _play(agent: ModelAgent, tasks: Sequence[TaskSpec], steps: int, seed: int) -> list[_Lane]:
    """Play one lane a task, all in one block of rows."""
    outputs: list[Tensor] = []

    def noted(x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        y, state = agent.stepper.call(x, state, valid)
        outputs.append(y[:, -1].to("cpu", torch.float32, copy=True))
        return y, state

    player = copy.copy(agent)  # shares the weights, and leaves the agent as it is
    player.stepper = replace(agent.stepper, call=noted)
    rng = np.random.default_rng([seed, 1])
    numbers = list(range(len(tasks)))
    state = player.start(len(tasks))
    lanes: list[_Lane] = []
    # What is played first must be forgotten at the second reset.
    for length in (max(1, steps // 3), steps):
        outputs.clear()
        player.reset(state, numbers, [Episode(task, seed) for task in tasks])
        lanes = [_Lane(task, [], _rewards(task, length, rng), [], []) for task in tasks]
        for step in range(length):
            shown = [_observation(task, rng) for task in tasks]
            # The first has no meaning after a reset.
            rewards = [float(lane.rewards[step - 1]) if step else 1e3 for lane in lanes]
            actions, state = player.act(state, shown, rewards, numbers)
            if len(outputs) != step + 1:
                raise AgentError(f"{len(outputs)} passes for {step + 1} decisions went through agent.stepper")
            for number, lane in enumerate(lanes):
                lane.observations.append(shown[number])
                lane.actions.append(actions[number])
                lane.hidden.append(outputs[-1][number])
    return lanes


def _rewards(task: TaskSpec, count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Both signs: a LayerNorm may hide a reward's size."""
    return task.reward_scale * rng.choice([-1.0, 1.0], count) * rng.uniform(0.5, 2.0, count)


def _read(model: ActionModel, lanes: Sequence[_Lane]) -> _Reading:
    """Read the episodes of one task by ``forward``."""
    task = lanes[0].task
    assert task.target_return is not None
    rewards = np.array([lane.rewards for lane in lanes])
    earned = np.cumsum(rewards, axis=1) - rewards
    observations = np.array([lane.observations for lane in lanes])
    if task.observation == "vector":
        missing = model.config.state_width - observations.shape[-1]
        observations = np.pad(observations, [(0, 0), (0, 0), (0, missing)])
    classes = _classes(task, [lane.actions for lane in lanes])
    returns_to_go, rewards = (task.target_return - earned) / task.reward_scale, rewards / task.reward_scale
    stream = (observations, returns_to_go, rewards, classes)
    read = _forward(model, *stream)
    without = _forward(model, observations, returns_to_go, 0 * rewards, classes)
    hidden, blind = (_decisions(one.hidden, rewards.shape[1]) for one in (read, without))
    acted = torch.stack([torch.stack(lane.hidden) for lane in lanes])
    weight = model.head.weight
    logits = model.action_logits(acted.to(weight.device, weight.dtype)).float().cpu()
    regret, logit_scale = _regret(logits, classes, task)
    return _Reading(
        apart=float((acted - hidden).abs().max()),
        blind=float((blind - hidden).abs().max()),
        scale=float(hidden.abs().max()),
        sensitivity=_sensitivity(model, stream, read),
        regret=regret,
        logit_scale=logit_scale,
    )


def _decisions(hidden: Tensor, steps: int) -> Tensor:
    """Pick the tokens that actions are read at: (lanes, steps x tokens, D) -> (lanes, steps, D)."""
    return hidden.view(len(hidden), steps, -1, hidden.shape[-1])[:, :, RETURN_TO_GO].float().cpu()


def _observation(task: TaskSpec, rng: np.random.Generator) -> Any:
    if task.observation == "image":
        return rng.integers(0, 256, task.observation_shape, dtype=np.uint8)
    return rng.standard_normal(task.observation_shape).astype(np.float32)


def _classes(task: TaskSpec, actions: list[list[Any]]) -> npt.NDArray[np.int64]:
    """Return actions as classes: (lanes, steps, 1) or (lanes, steps, 8)."""
    if task.action == "discrete":
        return np.array(actions, dtype=np.int64)[..., None]
    return action_to_classes(np.array(actions))


def _forward(
    model: ActionModel,
    observations: npt.NDArray[Any],
    returns_to_go: npt.NDArray[np.float64],
    rewards: npt.NDArray[np.float64],
    classes: npt.NDArray[np.int64],
) -> Prediction:
    device = model.backbone.device
    if observations.dtype != np.uint8:
        observations = observations.astype(np.float32)
    prediction: Prediction = model(
        torch.from_numpy(observations).to(device),
        torch.from_numpy(returns_to_go.astype(np.float32)).to(device),
        torch.from_numpy(rewards.astype(np.float32)).to(device),
        torch.from_numpy(classes).to(device) if model.config.actions_in_context else None,
    )
    return prediction


def _sensitivity(model: ActionModel, stream: _Stream, read: Prediction) -> float:
    """Return what part of its outputs ``forward`` changes when the tokens are a little noisy."""
    generator = torch.Generator().manual_seed(0)

    def disturb(backbone: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs
        return (x * (1 + NOISE * torch.randn(x.shape, generator=generator).to(x.device, x.dtype)),)

    hook = model.backbone.register_forward_pre_hook(disturb)
    try:
        noisy = _forward(model, *stream).hidden
    finally:
        hook.remove()
    return float((noisy - read.hidden).abs().max() / read.hidden.abs().max())


def _regret(logits: Tensor, chosen: npt.NDArray[np.int64], task: TaskSpec) -> tuple[float, float]:
    """Return how far a chosen class lies below the best that the task has, and the logits' scale."""
    if task.action == "discrete":
        logits = logits[:, :, :1, : task.action_size]
        index = torch.from_numpy(chosen)
    else:
        logits = logits[:, :, : task.action_size, DISCRETE_ACTIONS:]
        index = torch.from_numpy(chosen)[:, :, : task.action_size] - DISCRETE_ACTIONS
    regret = logits.amax(dim=-1) - logits.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    return float(regret.max()), float(logits.abs().max())


def _limited(name: str, subject: str, part: float, allowed: tuple[float, str], measured: str) -> Check:
    difference = part if np.isfinite(part) else None
    limit, reason = allowed
    good = part <= limit  # false for NaN
    status: Status = "passed" if good else "failed"
    return Check(name, subject, status, measured, f"{limit:.1g}", reason, difference, limit)
