"""Limited contexts: what a window and a reset leave of the past, and that lanes do not meet in them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from lram.agents.acting.context_agent import ContextAgent
from lram.agents.acting.contexts import Context, parse_context, split_context
from lram.agents.acting.lanes import LaneStates
from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import Action, AgentError, Episode, TaskSpec
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.compute import Compute, StepForm
from lram.agents.factory import create_agent
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import ActionModel, build_model

ARM = TaskSpec("metaworld/push", "metaworld", "vector", (39,), "continuous", 4, 1000.0, 200.0)
GAME = TaskSpec("procgen/maze", "procgen", "image", (3, 64, 64), "discrete", 15, 10.0, 1.0)
CONFIGS = {
    "xlstm": ModelConfig(64, 2, backbone=XLSTMConfig(slstm_at=(1,))),
    "mamba": ModelConfig(64, 2, backbone=MambaConfig()),
    "transformer, ring": ModelConfig(
        64, 2, backbone=TransformerConfig(heads=4, positions="rotary", window=12, cache="ring")
    ),
    "transformer, full": ModelConfig(
        64, 2, backbone=TransformerConfig(heads=4, positions="rotary", window=None, cache="full")
    ),
    "transformer, window": ModelConfig(64, 2, backbone=TransformerConfig(heads=4, window=12)),
    "actions in context": ModelConfig(64, 2, backbone=XLSTMConfig(), actions_in_context=True),
    "states alone": ModelConfig(
        64, 2, backbone=MambaConfig(), returns_in_context=False, rewards_in_context=False
    ),
}
Logits = dict[int, npt.NDArray[np.float32]]


def _model(config: ModelConfig) -> ActionModel:
    model = build_model(config, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def _agent(
    config: ModelConfig, context: Context | None = None, rows: int = 8, step: StepForm = "auto"
) -> ModelAgent:
    plain = ModelAgent(
        _model(config), trained=False, description="test", digest="d", compute=Compute(rows=rows, step=step)
    )
    return plain if context is None else ContextAgent(plain, context)


class _Play:
    """One lane's episode of made-up observations and rewards; what is noted are the logits."""

    def __init__(self, agent: ModelAgent, task: TaskSpec, lanes: int = 1, lane: int = 0) -> None:
        self.agent, self.task, self.lane = agent, task, lane
        self.state: LaneStates = agent.start(lanes)
        agent.reset(self.state, [lane], [Episode(task, 0)])
        self.seen: Logits = {}
        read = agent._read_block

        def recorded(state: LaneStates, block: int, rows: Any, *rest: Any) -> Any:
            logits = read(state, block, rows, *rest)
            self.seen.update({block * agent.rows + row: logits[row].numpy().copy() for row in rows})
            return logits

        agent._read_block = recorded  # type: ignore[method-assign]

    def decide(self, seen: Any, reward: float) -> tuple[Action, npt.NDArray[np.float32]]:
        (action,), self.state = self.agent.act(self.state, [seen], [reward], [self.lane])
        return action, self.seen[self.lane]


def _inputs(task: TaskSpec, count: int, seed: int = 7) -> list[tuple[Any, float]]:
    rng = np.random.default_rng(seed)

    def see() -> Any:
        if task.observation == "image":
            return rng.integers(0, 256, task.observation_shape, dtype=np.uint8)
        return rng.standard_normal(task.observation_shape).astype(np.float32)

    return [(see(), float(rng.normal())) for _ in range(count)]


def _logits(play: _Play, inputs: list[tuple[Any, float]]) -> list[npt.NDArray[np.float32]]:
    return [play.decide(*one)[1] for one in inputs]


def _close(one: Any, other: Any) -> None:
    np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * np.abs(other).max())


@pytest.mark.slow
@pytest.mark.parametrize("task", [ARM, GAME], ids=["arm", "game"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("mode", ["window", "reset"])
def test_within_the_context_a_limited_agent_decides_as_the_plain_one(
    config: ModelConfig, task: TaskSpec, mode: Any
) -> None:
    inputs = _inputs(task, 6)
    plain = _logits(_Play(_agent(config), task), inputs)
    limited = _logits(_Play(_agent(config, Context(mode, 6)), task), inputs)
    for one, other in zip(limited, plain, strict=True):
        if mode == "reset":
            np.testing.assert_array_equal(one, other)
        else:
            _close(one, other)


# Every model in either form and on either task; each form on both tasks.
@pytest.mark.parametrize(
    ("config", "task", "step"),
    [
        pytest.param(config, task, ("torch", "auto")[(row + column) % 2], id=f"{name}-{task.domain}")
        for row, (name, config) in enumerate(CONFIGS.items())
        for column, task in enumerate((ARM, GAME))
    ],
)
def test_beyond_it_a_window_reads_its_timesteps_as_an_episode_with_what_was_earned_before(
    config: ModelConfig, task: TaskSpec, step: StepForm
) -> None:
    inputs, length = _inputs(task, 7), 3
    limited = _Play(_agent(config, Context("window", length), step=step), task)
    found = [limited.decide(*one) for one in inputs]
    for end in range(length, len(inputs) + 1):
        fresh = _Play(_agent(config, step=step), task)
        start = end - length
        # The rewards of decisions 0 .. start - 1 come with the decisions after them.
        fresh.state.earned[0] = sum(reward for _, reward in inputs[1 : start + 1])
        for place in range(start, end):
            if place > start:  # the actions that were taken, not those that this agent would take
                fresh.agent.took(fresh.state, [0], [found[place - 1][0]])
            _, logits = fresh.decide(*inputs[place])
        _close(found[end - 1][1], logits)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_reset_begins_as_an_episode_does_and_the_return_to_go_goes_on(config: ModelConfig) -> None:
    inputs, every = _inputs(ARM, 9), 4
    limited = _Play(_agent(config, Context("reset", every)), ARM)
    found = [limited.decide(*one) for one in inputs]
    for start in range(0, len(inputs), every):
        fresh = _Play(_agent(config), ARM)
        fresh.state.earned[0] = sum(reward for _, reward in inputs[1 : start + 1])
        for place in range(start, min(start + every, len(inputs))):
            if place > start:
                fresh.agent.took(fresh.state, [0], [found[place - 1][0]])
            _, logits = fresh.decide(*inputs[place])
            _close(found[place][1], logits)


@pytest.mark.parametrize("mode", ["window", "reset"])
def test_what_lies_before_the_context_plays_no_part(mode: Any) -> None:
    # Without returns-to-go: they are what continues.
    config = replace(CONFIGS["xlstm"], returns_in_context=False)
    one, other = _inputs(ARM, 8, seed=1), _inputs(ARM, 8, seed=2)
    other[4:] = one[4:]
    last = [_logits(_Play(_agent(config, Context(mode, 4)), ARM), inputs)[-1] for inputs in (one, other)]
    np.testing.assert_array_equal(*last)
    carried = [_logits(_Play(_agent(config), ARM), inputs)[-1] for inputs in (one, other)]
    assert not np.allclose(*carried, rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("mode", ["window", "reset"])
@pytest.mark.parametrize("name", ["xlstm", "mamba", "transformer, ring"])
def test_a_lane_s_bits_do_not_depend_on_other_lanes(name: str, mode: Any, rows: int) -> None:
    def trace(lanes: int, lane: int) -> list[bytes]:
        agent = _agent(CONFIGS[name], Context(mode, 3), rows=rows)
        play = _Play(agent, ARM, lanes, lane)
        other = np.random.default_rng(lane)
        neighbours = [n for n in range(lanes) if n != lane]
        if neighbours:
            agent.reset(play.state, neighbours, [Episode(ARM, 0)] * len(neighbours))
        found = []
        for seen, reward in _inputs(ARM, 8):
            ready = [lane, *(n for n in neighbours if other.random() < 0.6)]
            if neighbours and other.random() < 0.3:
                agent.reset(play.state, neighbours[:1], [Episode(ARM, 0)])
            views = [seen, *(other.standard_normal(39).astype(np.float32) for _ in ready[1:])]
            _, play.state = agent.act(play.state, views, [reward, *[0.5] * (len(ready) - 1)], ready)
            found.append(play.seen[lane].tobytes())
        return found

    alone = trace(1, 0)
    assert trace(11, 0) == alone
    assert trace(11, 9) == alone


@pytest.mark.parametrize("mode", ["window", "reset"])
def test_a_new_episode_begins_fresh_in_the_middle_of_a_context(mode: Any) -> None:
    agent = _agent(CONFIGS["xlstm"], Context(mode, 4))
    play = _Play(agent, ARM)
    _logits(play, _inputs(ARM, 6, seed=1))
    agent.reset(play.state, [0], [Episode(ARM, 0)])
    again = _logits(play, _inputs(ARM, 6))
    first = _logits(_Play(_agent(CONFIGS["xlstm"], Context(mode, 4)), ARM), _inputs(ARM, 6))
    assert [one.tobytes() for one in again] == [one.tobytes() for one in first]


def test_a_limited_agent_says_what_it_is_and_is_another_one() -> None:
    plain = create_agent("xlstm[7:1]-1M")
    window, reset = (create_agent(f"xlstm[7:1]-1M@{mode}=50") for mode in ("window", "reset"))
    assert len({agent.info.digest for agent in (plain, window, reset)}) == 3
    assert window.info.description.endswith("; the last 50 timesteps read anew at each decision")
    assert dict(reset.info.details)["context"] == "its state made fresh every 50 decisions"
    assert create_agent("xlstm[7:1]-1M@carry").info == plain.info


def test_a_window_longer_than_the_models_own_says_so() -> None:
    for timesteps, told in ((4, False), (5, True)):
        info = _agent(CONFIGS["transformer, window"], Context("window", timesteps)).info
        words = "of which the model reads no more than its own window of 12 tokens"
        assert (words in info.description, words in dict(info.details)["context"]) == (told, told)


def test_noise_goes_over_a_context_and_tells_it_what_was_taken() -> None:
    config = CONFIGS["actions in context"]
    agent = _agent(config, Context("window", 3))
    play = _Play(agent, ARM)
    inputs = _inputs(ARM, 3)
    _logits(play, inputs[:2])
    agent.took(play.state, [0], [np.full(4, 0.9, np.float32)])
    told = play.decide(*inputs[2])[1]
    untold = _logits(_Play(_agent(config, Context("window", 3)), ARM), inputs)[-1]
    assert not np.array_equal(told, untold)
    assert "random" in create_agent("xlstm[7:1]-1M@reset=4~0.1").info.description


def test_a_limited_agent_takes_another_model_with_its_context() -> None:
    limited = _agent(CONFIGS["mamba"], Context("window", 3))
    other = limited.with_model(build_model(CONFIGS["mamba"], seed=9))
    assert isinstance(other, ContextAgent)
    assert (other.context, other.info) == (limited.context, limited.info)
    one, two = (_logits(_Play(agent, ARM), _inputs(ARM, 5)) for agent in (limited, other))
    assert not np.array_equal(one, two)
    # Only the last 3 timesteps are read, whatever was before them.
    inputs = _inputs(ARM, 5)
    assert np.array_equal(
        _logits(_Play(other, ARM), inputs)[-1],
        _logits(_Play(other, ARM), [(inputs[0][0] + 1, *inputs[0][1:]), *inputs[1:]])[-1],
    )


def test_a_limited_agent_survives_pickling() -> None:
    for mode in ("window", "reset"):
        agent = _agent(CONFIGS["mamba"], Context(mode, 3))  # type: ignore[arg-type]
        twin = pickle.loads(pickle.dumps(agent))
        one, other = (_logits(_Play(a, ARM), _inputs(ARM, 5)) for a in (twin, agent))
        assert [a.tobytes() for a in one] == [a.tobytes() for a in other]


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("small-mamba@window=50", ("small-mamba", "window=50")),
        ("runs@home/checkpoint", ("runs@home/checkpoint", "")),
        ("runs@home/checkpoint@carry", ("runs@home/checkpoint", "carry")),
        ("small-mamba", ("small-mamba", "")),
    ],
)
def test_a_context_is_told_from_a_path(spec: str, parts: tuple[str, str]) -> None:
    assert split_context(spec) == parts


@pytest.mark.parametrize("suffix", ["window", "window=0", "reset=x", "carry=4", "window=-3", "full"])
def test_other_words_are_no_context(suffix: str) -> None:
    with pytest.raises(AgentError, match="is no context"):
        parse_context(suffix)


@pytest.mark.parametrize("spec", ["random@window=5", "scripted@reset=5"])
def test_only_models_have_a_context_to_limit(spec: str) -> None:
    with pytest.raises(AgentError, match="goes with action models"):
        create_agent(spec)


@pytest.mark.parametrize("name", ["xlstm", "transformer, full", "transformer, window", "actions in context"])
@pytest.mark.parametrize("mode", ["window", "reset"])
def test_where_a_gpu_computes_it_is_the_same_without_asking_which_rows_are_ready(
    name: str, mode: Any
) -> None:
    """The form that asks nothing, on a processor, beside the one that asks."""
    config, draw = CONFIGS[name], torch.Generator().manual_seed(3)
    agent = _agent(config, Context(mode, 3), step="torch")
    backbone: Any = agent.model.backbone
    tokens, past = config.pass_tokens, config.pass_tokens - config.fresh_tokens
    with torch.inference_mode():
        ours, plain = (backbone.initial_state(4) for _ in range(2))
        for number in range(11):
            x = torch.randn(4, tokens, config.width, generator=draw)
            ready = torch.rand(4, generator=draw) < 0.7
            valid = ready.unsqueeze(1).repeat(1, tokens)
            valid[:, :past] &= torch.tensor([number > 0, number > 0, number != 5, False]).unsqueeze(1)
            if number == 5:
                for state in (ours, plain):
                    backbone.reset(state, [2])
            if mode == "reset":
                late = ready & (ours["count"] == 3)
                y, ours = backbone._step_unasked(x, ours, valid.clone(), late)
            else:
                size = min(3 * tokens, backbone.most or 3 * tokens)
                y, ours = backbone._step_together(x, ours, valid, size)
            expected, plain = backbone.step(x, plain, valid)
            seen = torch.zeros_like(valid)
            seen[ready, past:] = True
            _close(y[seen].numpy(), expected[seen].numpy() if ready.any() else 0)
            count = "count" if mode == "reset" else "there"
            assert torch.equal(ours[count], plain[count])
