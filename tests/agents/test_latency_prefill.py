"""Reading a recorded past in long passes is the same as living through it, decision by decision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.acting.prefill import embed, encode, prefill
from lram.agents.api import AgentError, Episode, TaskSpec
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.states import tensors
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.compute import Compute, StepForm
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model

ARM = TaskSpec("metaworld/push", "metaworld", "vector", (39,), "continuous", 4, 1000.0, 200.0)
GAME = TaskSpec("procgen/maze", "procgen", "image", (3, 64, 64), "discrete", 15, 10.0, 1.0)
CONFIGS = {
    "xlstm": ModelConfig(64, 2, backbone=XLSTMConfig()),
    "xlstm with slstm": ModelConfig(64, 2, backbone=XLSTMConfig(slstm_at=(1,))),
    "mamba": ModelConfig(64, 2, backbone=MambaConfig()),
    "ring": ModelConfig(
        64, 2, backbone=TransformerConfig(heads=4, positions="rotary", window=60, cache="ring")
    ),
    "full": ModelConfig(64, 2, backbone=TransformerConfig(heads=4, window=400, cache="full")),
    "window": ModelConfig(64, 2, backbone=TransformerConfig(heads=4, window=33)),
}
LANES = [0, 2, 3]


def _agent(config: ModelConfig, rows: int, step: StepForm) -> ModelAgent:
    model = build_model(config, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    compute = Compute(rows=rows, step=step)
    return ModelAgent(model, trained=False, description="test", digest="", compute=compute)


def _lived(task: TaskSpec, steps: int) -> tuple[list[list[Any]], Any, list[list[Any]]]:
    """Observations, rewards and actions of every timestep, by lane."""
    rng = np.random.default_rng(5)
    shape = (steps, len(LANES))
    if task.observation == "image":
        seen = [list(rng.integers(0, 256, (len(LANES), 3, 64, 64), dtype=np.uint8)) for _ in range(steps)]
    else:
        seen = [list(rng.standard_normal((len(LANES), 39)).astype(np.float32)) for _ in range(steps)]
    actions: list[list[Any]] = [
        [int(a) for a in rng.integers(0, task.action_size, len(LANES))]
        if task.action == "discrete"
        else list(rng.uniform(-1, 1, (len(LANES), task.action_size)).astype(np.float32))
        for _ in range(steps)
    ]
    return seen, rng.uniform(0, 2, shape), actions


HOW: dict[str, tuple[TaskSpec, int, StepForm]] = {
    "vector, 1": (ARM, 1, "auto"),
    "vector, 8": (ARM, 8, "auto"),
    "vector, 8, torch": (ARM, 8, "torch"),
    "image, 8": (GAME, 8, "auto"),
}


@pytest.mark.slow
# Every model in each of these ways; each of either with actions in context and without.
@pytest.mark.parametrize(
    ("name", "how", "acts"),
    [
        pytest.param(name, how, (row + column) % 2 == 0, id=f"{name}-{how}")
        for row, name in enumerate(CONFIGS)
        for column, how in enumerate(HOW)
    ],
)
def test_prefill_equals_as_many_decisions(name: str, how: str, acts: bool) -> None:
    task, rows, step = HOW[how]
    agent = _agent(replace(CONFIGS[name], actions_in_context=acts), rows, step)
    steps = 40 if task is ARM else 12
    seen, rewards, actions = _lived(task, steps)

    lived, read = agent.start(4), agent.start(4)
    for state in (lived, read):
        agent.reset(state, [0, 1, 2, 3], [Episode(task, 0)] * 4)
    for t in range(steps - 1):
        _, lived = agent.act(lived, seen[t], list(rewards[t]), LANES)
        agent.took(lived, LANES, actions[t])
    encoded = encode(agent, [one for step in seen for one in step]).unflatten(0, (steps, len(LANES)))
    # In two parts, as contexts are reached one after the other.
    for part in (slice(0, 7), slice(7, steps - 1)):
        prefill(agent, read, LANES, encoded[part], rewards[part], actions[part])

    np.testing.assert_allclose(lived.earned, read.earned, rtol=1e-12)
    assert (lived.last_classes == read.last_classes).all()
    assert (lived.fresh == read.fresh).all()
    for one, other in zip(lived.blocks, read.blocks, strict=True):
        for theirs, ours in zip(tensors(one), tensors(other), strict=True):
            assert theirs.dtype == ours.dtype
            if theirs.shape == ours.shape:  # a cache's spare slots may have grown otherwise
                torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-4)
    mine, _ = agent.act(read, seen[-1], list(rewards[-1]), LANES)
    theirs_too, _ = agent.act(lived, seen[-1], list(rewards[-1]), LANES)
    for a, b in zip(mine, theirs_too, strict=True):
        np.testing.assert_allclose(a, b, atol=0.02)


@pytest.mark.parametrize("acts", [False, True], ids=["", "actions in context"])
@pytest.mark.parametrize("task", [ARM, GAME], ids=["vector", "image"])
@pytest.mark.parametrize("rows", [1, 8])
def test_a_decision_has_the_tokens_that_act_reads(task: TaskSpec, acts: bool, rows: int) -> None:
    agent = _agent(replace(CONFIGS["xlstm"], actions_in_context=acts), rows, "torch")
    seen, rewards, actions = _lived(task, 3)
    encoded = encode(agent, [one for step in seen for one in step]).unflatten(0, (3, len(LANES)))
    lanes, places = ([0, 2, 3], slice(None)) if rows > 1 else ([0], slice(0, 1))
    state = agent.start(4)
    agent.reset(state, [0, 1, 2, 3], [Episode(task, 0)] * 4)
    for t in range(2):
        part = [step[places] for step in actions[t : t + 1]]
        prefill(agent, state, lanes, encoded[t : t + 1, places], rewards[t : t + 1, places], part)
    earned = state.earned.copy()
    last = encoded[2:, places], rewards[2:, places], [step[places] for step in actions[2:]]
    ((_, x, valid),) = embed(agent, state, lanes, *last, whole=True)

    state.earned[:] = earned
    read: list[tuple[Any, Any]] = []
    stepper = agent.stepper

    def noted(x: Any, past: Any, valid: Any) -> Any:
        read.append((x, valid))
        return stepper.call(x, past, valid)

    agent = agent.with_stepper(replace(stepper, call=noted))
    agent.act(state, seen[2][places], list(rewards[2, places]), lanes)
    ((theirs, their_valid),) = read
    assert x.shape == theirs.shape == (rows, agent.model.config.pass_tokens, 64)
    assert (valid is None) == (their_valid is None)
    there = slice(None) if valid is None else valid
    torch.testing.assert_close(x[there], theirs[there], rtol=1e-4, atol=1e-5)
    if valid is not None:
        assert torch.equal(valid, their_valid)


def test_a_reward_that_is_left_out_shows() -> None:
    agent = _agent(CONFIGS["mamba"], 1, "torch")
    seen, rewards, actions = _lived(ARM, 10)
    encoded = encode(agent, [step[0] for step in seen]).unsqueeze(1)
    states = []
    for change in (0.0, 100.0):
        state = agent.start(1)
        agent.reset(state, [0], [Episode(ARM, 0)])
        rewards[4, 0] += change
        prefill(agent, state, [0], encoded, rewards[:, :1], [step[:1] for step in actions])
        states.append(tensors(state.blocks[0]))
    assert not torch.allclose(states[0][0], states[1][0], rtol=1e-3)


def test_a_lane_without_an_episode_is_named() -> None:
    agent = _agent(CONFIGS["mamba"], 1, "torch")
    seen, rewards, actions = _lived(ARM, 2)
    encoded = encode(agent, [step[0] for step in seen]).unsqueeze(1)
    with pytest.raises(AgentError, match="lane 0 holds no episode"):
        prefill(agent, agent.start(1), [0], encoded, rewards[:, :1], [step[:1] for step in actions])
