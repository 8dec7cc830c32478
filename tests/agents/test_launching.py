"""What a model launches: the same bits as ``act``, whatever is launched, reset and taken in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import AgentError, Episode, TaskSpec
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.compute import Compute
from lram.agents.experts.noise import Noise, NoisyAgent
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model

TASK = TaskSpec("toy/reach", "toy", "vector", (4,), "continuous", 2, 1.0, 1.0)
BACKBONES = {
    "xlstm": XLSTMConfig(slstm_at=(1,)),
    "mamba": MambaConfig(),
    "transformer": TransformerConfig(heads=4, positions="rotary", window=12, cache="ring"),
}


def agent_of(backbone: Any) -> ModelAgent:
    config = ModelConfig(32, 2, backbone=backbone, actions_in_context=True)
    model = build_model(config, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # else a model chooses the same whatever it is shown
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return ModelAgent(model, trained=False, description="t", digest="", compute=Compute(step="torch"))


class Play:
    """An agent with 16 lanes in two passes, of which 1, 2 and 9 play; the same observations each time."""

    def __init__(self, agent: ModelAgent | NoisyAgent) -> None:
        self.agent, self.rng = agent, np.random.default_rng(0)
        self.state: Any = agent.start(16)
        self.reset([1, 2, 9], 0)

    def reset(self, lanes: list[int], seed: int) -> None:
        self.agent.reset(self.state, lanes, [Episode(TASK, seed + lane) for lane in lanes])

    def shown(self, lanes: list[int]) -> tuple[list[Any], list[float], list[int]]:
        seen = [self.rng.standard_normal(4).astype(np.float32) for _ in lanes]
        return seen, [float(one[0]) for one in seen], lanes

    def act(self, lanes: list[int]) -> Any:
        actions, self.state = self.agent.act(self.state, *self.shown(lanes))
        return actions

    def launch(self, lanes: list[int]) -> Any:
        seen, rewards, lanes = self.shown(lanes)
        given = list(lanes)
        pending, self.state = self.agent.launch(self.state, seen, rewards, given)
        for one in seen:
            one[:] = np.nan  # what is given may change
        given.clear()
        return pending


@pytest.mark.parametrize("name", BACKBONES)
def test_what_is_launched_and_taken_later_is_what_act_gives(name: str) -> None:
    agent = agent_of(BACKBONES[name])
    assert not agent.launches, "a processor computes at once"
    waited, launched = Play(agent), Play(agent)
    chosen = []
    for number in range(4):
        first, second = waited.act([2, 1]), waited.act([9])
        pendings = [launched.launch([2, 1]), launched.launch([9])]
        for pending in reversed(pendings):
            pending.wait()
        taken = [pending.actions() for pending in reversed(pendings)]
        assert np.array_equal(taken[1], first)
        assert np.array_equal(taken[0], second)
        chosen += [*first, *second]
        if number == 1:
            for play in (waited, launched):
                play.reset([9], 50)
    # A lane of another pass begins anew before the actions of this one are taken.
    first = waited.act([1])
    waited.reset([9], 70)
    pending = launched.launch([1])
    launched.reset([9], 70)
    pending.wait()
    assert np.array_equal(pending.actions(), first)
    both = launched.launch([9, 1])
    both.wait()
    assert np.array_equal(waited.act([9, 1]), both.actions())
    assert len(np.unique(np.array(chosen), axis=0)) > 3, "what was chosen does not tell the lanes apart"


def test_noise_falls_on_what_is_launched_as_on_what_act_gives() -> None:
    """The model reads what was taken instead, for its next decision: actions are in its context."""
    waited, launched = (Play(NoisyAgent(agent_of(MambaConfig()), Noise(0.5, 2))) for _ in range(2))
    assert not launched.agent.launches, "a processor computes at once"
    for number in range(8):
        first, second = waited.act([2, 1]), waited.act([9])
        pendings = [launched.launch([2, 1]), launched.launch([9])]
        for pending in reversed(pendings):
            pending.wait()
        assert np.array_equal(pendings[1].actions(), second)
        assert np.array_equal(pendings[0].actions(), first)
        if number == 3:
            for play in (waited, launched):
                play.reset([9], 50)


def test_a_launch_without_an_episode_is_refused_as_act_refuses_it() -> None:
    agent = agent_of(MambaConfig())
    with pytest.raises(AgentError, match="lane 3 holds no episode"):
        agent.launch(agent.start(8), [np.zeros(4, np.float32)], [0.0], [3])
