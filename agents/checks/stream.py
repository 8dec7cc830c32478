"""Equivalence of the whole model: what an agent does against what ``ActionModel.forward`` makes of it.

An agent plays episodes by its public contract, while the inputs and outputs of its step are noted; then
the finished trajectories, with the rewards that were truly given, are read as in training. The tokens
that the step was handed are compared too: they must be nearly the same in any precision, so that an
agent that drops rewards is found also where the rounding of the outputs would hide it. See
:mod:`lram.agents.checks.equivalence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import TaskSpec
from lram.agents.checks.basis import BFLOAT16, FLOAT32, NOISE, allowance
from lram.agents.checks.contract import Check, Status, guarded
from lram.agents.checks.play import DECISIONS, PlayedLane, made_up_lanes, play
from lram.agents.model.network import ActionModel
from lram.agents.model.tokens import ACTION_DIMS, DISCRETE_ACTIONS, action_to_classes

# Observations, returns-to-go, rewards and classes of actions, as ``ActionModel.forward`` takes them.
_Stream: TypeAlias = tuple[
    npt.NDArray[Any], npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]
]

# What is said of tokens, and which of a timestep's they are.
_KINDS = {"observations": "state", "returns-to-go": "return-to-go", "rewards": "reward", "actions": "action"}
_BLIND = {"rewards": "if they were 0", "returns-to-go": "if they stayed as they were"}

STREAM = "acting reads the stream of training"
TOKENS = "the step is handed the tokens of training"
LIKELIEST = "actions are the likeliest"
OWN_REWARD = "a decision does not see its own reward"

SCALARS = {torch.float32: FLOAT32, torch.bfloat16: 1e-2}
"""What embedded rewards, returns-to-go and actions may differ by, as a part of the tokens' scale: two
steps of the type, at most, for they are rounded once before the LayerNorm and once in it."""

TELLING = {torch.float32: FLOAT32, torch.bfloat16: 2e-2}
"""What is allowed of the outputs is lowered to a third of what blindness for rewards does, where that third
is above this. Measured (presets of 1M and 16M, bfloat16): so short an episode differs by 1.0e-2 at most."""


def no_decision_sees_its_reward(model: ActionModel, window: int | None, seed: int) -> list[Check]:
    """Two trajectories whose rewards part at one decision must agree up to it, by ``forward``."""

    def check() -> list[Check]:
        steps = _timesteps(model, window, 4)
        if not model.config.rewards_in_context:
            reason = "the model has no rewards in context"
            return [Check(OWN_REWARD, f"{steps} timesteps", "skipped", "", "", reason)]
        if steps < 2:
            reason = f"a window of {window} tokens holds no second decision"
            return [Check(OWN_REWARD, f"{steps} timestep", "skipped", "", "", reason)]
        rng = np.random.default_rng([seed, 2])
        observations = rng.standard_normal((1, steps, model.config.state_width)).repeat(2, axis=0)
        rewards = np.ones((2, steps))
        rewards[1, steps - 2 :] = -1.0
        actions = np.full((2, steps, ACTION_DIMS), action_to_classes(0.0))
        read = _forward(model, (observations, np.ones((2, steps)), rewards, actions))
        limit, reason = allowance(model.head.weight.dtype, _sensitivity(model, read))
        logits = read.logits.float()
        scale = float(logits.abs().max())
        gap = (logits[0] - logits[1]).abs().amax(dim=(1, 2)) / scale  # (T,)
        before, after = float(gap[:-1].max()), float(gap[-1])
        return [
            Check(
                name=OWN_REWARD,
                subject=f"{steps} timesteps",
                status="passed" if before <= limit else "failed",
                measured=f"{before:.1e} of the logits' scale up to it, {after:.1e} after it",
                allowed=f"{limit:.1g} up to it",
                reason=f"{reason}; the reward follows the action in the stream",
            )
        ]

    return guarded(OWN_REWARD, "", check)


def acting_follows_training(agent: ModelAgent, window: int | None, seed: int) -> list[Check]:
    """Play some lanes, and read the finished trajectories with their true rewards by ``forward``."""

    def check() -> list[Check]:
        # With a window, each pass costs as much as the whole of it.
        steps = _timesteps(agent.model, window, DECISIONS if window is None else DECISIONS // 2)
        tasks = made_up_lanes(agent, window)
        if not tasks or not steps:
            reason = "the agent refuses the made-up tasks" if steps else "the window holds no decision"
            return [Check(name, "", "skipped", "", "", reason) for name in (STREAM, LIKELIEST, TOKENS)]
        lanes = play(agent, tasks, steps, seed)
        kinds = dict.fromkeys(tasks.values())
        readings = [_read(agent.model, [lane for lane in lanes if lane.task == task]) for task in kinds]
        subject = f"{len(tasks)} lanes, {steps} decisions"
        weights = agent.model.head.weight.dtype
        regret = max(reading.regret for reading in readings) / max(r.logit_scale for r in readings)
        below = f"{regret:.1e} of the logits' scale below the best"
        return [
            _outputs_follow(readings, subject, weights),
            _limited(LIKELIEST, subject, regret, allowance(weights, 0.0), below),
            *_tokens_follow(readings, subject, weights),
        ]

    return guarded(STREAM, "", check)


@dataclass(frozen=True, slots=True)
class _Apart:
    """How some of the tokens that the step was handed differ from those of training.

    Attributes:
        gap: Greatest difference; None when there are fewer or more.
        blind: Greatest difference that being blind for their numbers would have made, where that is known.
        instead: What being blind would be.
    """

    gap: float | None
    blind: float | None = None
    instead: str = ""


@dataclass(frozen=True, slots=True)
class _Reading:
    """How ``forward`` differs from what was done.

    Attributes:
        apart: Greatest difference of the outputs that actions are read from.
        blind: Greatest difference that rewards of 0 would have made to them; of a model that reads none,
            what returns-to-go that stay as they were would have made; of one that reads neither, nothing.
        scale: Greatest of those outputs.
        sensitivity: See :func:`lram.agents.checks.basis.allowance`.
        regret: Greatest distance of a chosen class's logit, read from what was noted at the decision,
            below the best that the task has.
        logit_scale: Greatest logit.
        tokens: What the step was handed, by kind.
        token_scale: Greatest number of a token.
    """

    apart: float
    blind: dict[str, float]
    scale: float
    sensitivity: float
    regret: float
    logit_scale: float
    tokens: dict[str, _Apart]
    token_scale: float


def _outputs_follow(readings: Sequence[_Reading], subject: str, weights: torch.dtype) -> Check:
    scale = max(reading.scale for reading in readings)
    apart = max(reading.apart for reading in readings) / scale
    sensitivity = max(reading.sensitivity for reading in readings)
    limit, reason = allowance(weights, sensitivity)
    measured = f"{apart:.1e} of the output's scale ({scale:.3g})"
    if not readings[0].blind:
        return _limited(STREAM, subject, apart, (limit, reason), measured)
    (name,) = readings[0].blind
    blind = max(reading.blind[name] for reading in readings) / scale
    measured += f"; {blind:.1e} " + _BLIND[name].replace("they", f"the {name}")
    if blind > 3 * max(TELLING.get(weights, BFLOAT16), 2 * sensitivity if weights == torch.float32 else 0.0):
        if blind / 3 < limit:
            limit, reason = blind / 3, "a third of what an agent that is blind for rewards would differ by"
    else:
        measured += ", too little to tell from rounding"
    return _limited(STREAM, subject, apart, (limit, reason), measured)


def _tokens_follow(readings: Sequence[_Reading], subject: str, weights: torch.dtype) -> list[Check]:
    scale = max(reading.token_scale for reading in readings)
    checks = []
    for kind in dict.fromkeys(kind for reading in readings for kind in reading.tokens):
        found = [reading.tokens[kind] for reading in readings if kind in reading.tokens]
        seen = f"{kind}, {subject}"
        if any(one.gap is None for one in found):
            measured = "more or fewer tokens than training has"
            checks.append(Check(TOKENS, seen, "failed", measured, "the same tokens"))
            continue
        gap = max(one.gap for one in found if one.gap is not None) / scale
        limit, reason = allowance(weights, 0.0)
        if kind != "observations":
            limit = SCALARS.get(weights, limit)
        amount = f"{gap:.1e} of the tokens' scale ({scale:.3g})"
        blind = max((one.blind for one in found if one.blind is not None), default=None)
        if blind is not None:
            amount += f"; {blind / scale:.1e} {found[0].instead}"
            if blind / scale <= 3 * limit:
                amount += ", too little to tell from rounding"
        checks.append(_limited(TOKENS, seen, gap, (limit, reason), amount))
    return checks


def _timesteps(model: ActionModel, window: int | None, most: int) -> int:
    return most if window is None else min(most, window // model.config.pass_tokens)


@dataclass(frozen=True, slots=True)
class _Read:
    """What the model reads, x (B, S, D), and makes of it: hidden (B, S, D), logits (B, T, 8, 274)."""

    x: Tensor
    hidden: Tensor
    logits: Tensor


def _read(model: ActionModel, lanes: Sequence[PlayedLane]) -> _Reading:
    """Read the episodes of one task by ``forward``."""
    task = lanes[0].task
    assert task.target_return is not None
    rewards = np.array([lane.rewards for lane in lanes])
    earned = np.zeros_like(rewards)
    earned[:, 1:] = np.cumsum(rewards, axis=1)[:, :-1]
    observations = np.array([lane.observations for lane in lanes])
    if task.observation == "vector":
        missing = model.config.state_width - observations.shape[-1]
        observations = np.pad(observations, [(0, 0), (0, 0), (0, missing)])
    classes = _classes(task, [lane.actions for lane in lanes])
    returns_to_go, rewards = (task.target_return - earned) / task.reward_scale, rewards / task.reward_scale
    read = _forward(model, (observations, returns_to_go, rewards, classes))

    x = read.x.view(*rewards.shape, -1, read.x.shape[-1])  # (B, T, tokens of a timestep, D)
    instead, places, encode = x.clone(), model.config.token_places(x.shape[2]), model.encoders
    hidden = _decisions(model, read.hidden.view(x.shape))
    asked = task.target_return / task.reward_scale
    blind: dict[str, float] = {}
    for name, encoder, value in (
        ("rewards", encode.reward, 0.0),
        ("returns-to-go", encode.return_to_go, asked),
    ):
        if encoder is not None:
            instead[:, :, places[_KINDS[name]]] = _scalar_token(model, encoder, value)
            if not blind:
                without = model.backbone(instead.flatten(1, 2)).view(x.shape)
                blind[name] = float((_decisions(model, without) - hidden).abs().max())
    acted = torch.stack([torch.stack(lane.hidden) for lane in lanes])
    weight = model.head.weight
    logits = model.action_logits(acted.to(weight.device, weight.dtype)).float().cpu()
    regret, logit_scale = _regret(logits, classes, task)
    return _Reading(
        apart=float((acted - hidden).abs().max()),
        blind=blind,
        scale=float(hidden.abs().max()),
        sensitivity=_sensitivity(model, read),
        regret=regret,
        logit_scale=logit_scale,
        tokens=_compare_tokens(model, lanes, x.float().cpu(), instead.float().cpu()),
        token_scale=float(x.abs().max()),
    )


def _scalar_token(model: ActionModel, encoder: nn.Linear, value: float) -> Tensor:
    values = torch.full((1,), value, device=model.backbone.device)
    token: Tensor = model.encoders.norm(model.encoders.scalar(encoder, values))
    return token


def _compare_tokens(
    model: ActionModel, lanes: Sequence[PlayedLane], x: Tensor, instead: Tensor
) -> dict[str, _Apart]:
    """Compare what the step was handed with x (B, T, n, D); ``instead`` is for blind agents."""
    tokens = x.shape[2]
    places = model.config.token_places(tokens)
    # What follows the last decision was not read by anybody.
    read = x.shape[1] * tokens - (tokens - model.config.fresh_tokens)
    if any(sum(map(len, lane.tokens)) != read for lane in lanes):
        return {"all": _Apart(None)}
    given = torch.stack([torch.cat(lane.tokens) for lane in lanes])
    gaps, blind = (
        (one - x.flatten(1, 2)[:, :read]).abs() for one in (given, instead.flatten(1, 2)[:, :read])
    )
    found = {}
    for name, kind in _KINDS.items():
        here = torch.isin(torch.arange(read) % tokens, torch.arange(tokens)[places[kind]])
        if not here.any():
            continue
        gap = float(gaps[:, here].max())
        words = _BLIND.get(name)
        found[name] = _Apart(gap, float(blind[:, here].max()), words) if words else _Apart(gap)
    return found


def _decisions(model: ActionModel, hidden: Tensor) -> Tensor:
    """Pick the tokens that actions are read at: (lanes, steps, tokens, D) -> (lanes, steps, D)."""
    return hidden[:, :, model.config.decided_at].float().cpu()


def _classes(task: TaskSpec, actions: list[list[Any]]) -> npt.NDArray[np.int64]:
    """Return actions as classes: (lanes, steps, 1) or (lanes, steps, 8)."""
    if task.action == "discrete":
        return np.array(actions, dtype=np.int64)[..., None]
    return action_to_classes(np.array(actions))


def _forward(model: ActionModel, stream: _Stream) -> _Read:
    observations, returns_to_go, rewards, classes = stream
    device = model.backbone.device
    if observations.dtype != np.uint8:
        observations = observations.astype(np.float32)
    inputs: list[Tensor] = []
    hook = model.backbone.register_forward_pre_hook(lambda backbone, given: inputs.append(given[0]))
    try:
        hidden_and_logits = model(
            torch.from_numpy(observations).to(device),
            torch.from_numpy(returns_to_go.astype(np.float32)).to(device),
            torch.from_numpy(rewards.astype(np.float32)).to(device),
            torch.from_numpy(classes).to(device) if model.config.actions_in_context else None,
        )
    finally:
        hook.remove()
    return _Read(inputs[0], hidden_and_logits.hidden, hidden_and_logits.logits)


def _sensitivity(model: ActionModel, read: _Read) -> float:
    """Return what part of its outputs the model changes when the tokens are a little noisy."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(read.x.shape, generator=generator).to(read.x.device, read.x.dtype)
    noisy = model.backbone(read.x * (1 + NOISE * noise))
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
