"""Reading recorded timesteps into an action model's state, many at a time and without deciding.

A long context is reached in a fraction of the time that as many decisions would take, and is the same
up to rounding: observations, rewards and actions go through the same encoders in the same order of
tokens, and the backbone's own ``step`` reads them. What differs is how many tokens a pass has::

    encoded = encode(agent, observations)                 # (timesteps, width), once
    prefill(agent, state, lanes, encoded[:, None], rewards, actions)

``tests/agents/test_latency_prefill.py`` holds it to as many calls of ``act``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lram.agents.acting.actions import past_classes
from lram.agents.acting.lanes import LaneStates, return_to_go, tokens_there
from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import Action, AgentError, Observation
from lram.agents.backbones.states import State
from lram.agents.model.encoders import IMAGE_SHAPE
from lram.agents.model.tokens import ACTION_DIMS

_IMAGES = 32  # encoded at once
_FUSED_TOKENS = 150  # of all rows together in a pass of fused kernels: beyond, they gain nothing
_CACHED_TOKENS = 30  # of each row, at least, where a pass reads a long cache: few passes read it seldom
_PLAIN_TOKENS = 384  # likewise of the plain step, which has more to start for each pass


def encode(agent: ModelAgent, observations: Sequence[Observation]) -> Tensor:
    """Return the state tokens (timesteps, width) of observations of one task, before the norm."""
    config, device = agent.model.config, agent.model.backbone.device
    parts = []
    with torch.inference_mode():
        for first in range(0, len(observations), _IMAGES):
            part = np.stack(observations[first : first + _IMAGES])
            if part.shape[1:] != IMAGE_SHAPE:
                vectors = np.zeros((len(part), config.state_width), dtype=np.float32)
                vectors[:, : part[0].size] = part.reshape(len(part), -1)
                part = vectors
            parts.append(agent.model.encoders.observation(torch.from_numpy(part).to(device)))
    return torch.cat(parts)


def prefill(
    agent: ModelAgent,
    state: LaneStates,
    lanes: Sequence[int],
    encoded: Tensor,
    rewards: npt.NDArray[np.float64],
    actions: Sequence[Sequence[Action]],
) -> None:
    """Read T timesteps of ``lanes`` into ``state``, as T calls of ``act`` and of ``took`` would.

    Args:
        agent: Whose state it is.
        state: Every lane holds an episode; other lanes are untouched.
        lanes: Distinct.
        encoded: What :func:`encode` gave for each timestep and lane, (T, lanes, width).
        rewards: Given with each observation, unscaled, (T, lanes); the first of a fresh lane is not read.
        actions: Taken at each timestep, by lane.

    Raises:
        AgentError: A lane holds no episode.
    """
    read, tokens = _reader(agent)
    chunk = max(1, tokens // agent.model.config.pass_tokens)
    with torch.inference_mode():
        for first in range(0, len(encoded), chunk):
            part = slice(first, first + chunk)
            for block, x, valid in embed(agent, state, lanes, encoded[part], rewards[part], actions[part]):
                state.blocks[block] = read(x, state.blocks[block], valid)
            for place, lane in enumerate(lanes):
                task = state.tasks[lane]
                assert task is not None
                state.last_classes[lane] = past_classes(actions[part][-1][place], task)
                state.fresh[lane] = False


def embed(
    agent: ModelAgent,
    state: LaneStates,
    lanes: Sequence[int],
    encoded: Tensor,
    rewards: npt.NDArray[np.float64],
    actions: Sequence[Sequence[Action]],
    *,
    whole: bool = False,
) -> list[tuple[int, Tensor, Tensor | None]]:
    """Embed the next T timesteps; the rewards are counted as earned, the rest of ``state`` is not touched.

    Takes what :func:`prefill` takes; of ``actions`` only those before the last timestep are read.

    Args:
        whole: Keep the tokens that no row has, as a decision's pass does: discrete actions stand in one
            of eight.

    Returns:
        Of each block that has one of ``lanes``: its number, tokens (rows, tokens, width) without those
        that no row has, and which are there (None: all).
    """
    model, rows = agent.model, agent.rows
    steps, pass_tokens = len(encoded), model.config.pass_tokens
    device = model.backbone.device
    blocks = []
    for block in sorted({lane // rows for lane in lanes}):
        states = torch.zeros(rows, steps, encoded.shape[-1], dtype=encoded.dtype, device=device)
        returns_to_go = np.zeros((rows, steps), dtype=np.float32)
        scaled = np.zeros((rows, steps), dtype=np.float32)
        classes = np.zeros((rows, steps, ACTION_DIMS), dtype=np.int64)
        valid = np.zeros((rows, steps, pass_tokens), dtype=np.bool_)
        for place, lane in enumerate(lanes):
            if lane // rows != block:
                continue
            row, task = lane % rows, state.tasks[lane]
            if task is None:
                raise AgentError(f"lane {lane} holds no episode; reset it before it reads")
            given = rewards[:, place].astype(np.float64)
            if state.fresh[lane]:
                given[0] = 0.0
            earned = np.cumsum(np.concatenate([state.earned[lane : lane + 1], given]))[1:]
            state.earned[lane] = earned[-1]
            states[row] = encoded[:, place]
            scaled[row] = given / task.reward_scale
            returns_to_go[row] = return_to_go(task, earned)
            classes[row, 0] = state.last_classes[lane]
            for step in range(1, steps):
                classes[row, step] = past_classes(actions[step - 1][place], task)
            valid[row] = tokens_there(model.config, task, fresh=False)
            valid[row, 0] = tokens_there(model.config, task, fresh=bool(state.fresh[lane]))
        x = model.decision_tokens(
            states.flatten(0, 1),
            torch.from_numpy(returns_to_go).flatten().to(device),
            torch.from_numpy(scaled).flatten().to(device),
            torch.from_numpy(classes).flatten(0, 1).to(device) if model.config.actions_in_context else None,
        ).view(rows, steps * pass_tokens, -1)
        there = valid.reshape(rows, -1)
        some = there.any(axis=0)
        if not whole and not some.all():
            kept = np.flatnonzero(some)  # their number is known here: a GPU need not be asked
            x, there = x.index_select(1, torch.from_numpy(kept).to(device)), there[:, some]
        blocks.append((block, x, None if there.all() else torch.from_numpy(there).to(device)))
    return blocks


def model_step(agent: ModelAgent, x: Tensor, past: State, valid: Tensor | None) -> tuple[Tensor, State]:
    """Read one decision's tokens and return its logits (rows, 8, 274) and the state: no host, no encoder."""
    with torch.inference_mode():
        hidden, past = agent.stepper.call(x, past, valid)
        return agent.reader.action_head(hidden[:, -1]), past


def _reader(agent: ModelAgent) -> tuple[Callable[[Tensor, State, Tensor | None], State], int]:
    """Return what reads a part of the past, and how many tokens of a row it is given at once."""
    past, backbone = agent.model.config.past, agent.model.backbone
    if past.anew and past.tokens is not None:
        return backbone.remember, past.tokens
    if agent.stepper.form == "fused":
        least = 1 if past.recurrent else _CACHED_TOKENS
        call = agent.stepper.call
        return lambda x, state, valid: call(x, state, valid)[1], max(least, _FUSED_TOKENS // agent.rows)
    # Compiled steps are made for one shape, and each other one would be compiled anew.
    return backbone.remember, max(1, _PLAIN_TOKENS // agent.rows)
